"""Audit events are read back as they were written; an event of a newer version is refused."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from identity_service.domain.audit import AuditEvent, AuditOutcome, AuditType
from identity_service.storage import codec

TEXTS = st.text(st.characters(codec="utf-8"), max_size=20)
EVENTS = st.builds(
    AuditEvent,
    type=st.sampled_from(AuditType),
    outcome=st.sampled_from(AuditOutcome),
    actor=TEXTS,
    target=TEXTS,
    peer=TEXTS,
    request_id=TEXTS,
    reason=TEXTS,
    details=st.dictionaries(TEXTS, TEXTS, max_size=3),
)


@given(EVENTS)
def test_an_event_is_read_back_as_it_was_written(event: AuditEvent) -> None:
    assert codec.decode_event(codec.encode_event(event)) == event


@given(EVENTS)
def test_an_encoded_event_is_one_json_object_in_utf_8(event: AuditEvent) -> None:
    assert isinstance(json.loads(codec.encode_event(event).encode()), dict)


@pytest.mark.parametrize(("member", "value"), [("type", "mind_read"), ("outcome", "perhaps")])
def test_an_event_with_a_value_of_a_newer_version_is_refused(member: str, value: str) -> None:
    data = json.loads(codec.encode_event(AuditEvent(type=AuditType.TOKEN_REVOKED)))

    with pytest.raises(ValueError, match=value):
        codec.decode_event(json.dumps(data | {member: value}))
