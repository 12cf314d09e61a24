"""Items of a backup are read back as they were written; sessions are never part of a backup."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from identity_service.domain.copying import (
    CopiedEvent,
    CopiedItem,
    CopiedSession,
)
from identity_service.storage.copy_codec import decode_item, decode_items, encode_item, encode_items
from tests.conformance.samples import TIME, a_session, an_event
from tests.unit.storage.strategies import ITEMS


@given(st.lists(ITEMS, max_size=5))
def test_items_are_read_as_they_were(items: list[CopiedItem]) -> None:
    assert decode_items(encode_items([encode_item(item) for item in items])) == items


def test_a_backup_takes_neither_sessions_nor_audit_events() -> None:
    from identity_service.domain.audit import StoredEvent

    event = StoredEvent(event_id="1", time=TIME, event=an_event())
    for item in (CopiedSession(session=a_session()), CopiedEvent(event=event)):
        with pytest.raises(ValueError, match="no sessions"):
            encode_item(item)


@pytest.mark.parametrize("text", ['{"k":"session"}', '{"k":"record","kind":"robot","value":{}}', '{"k":1}'])
def test_an_item_of_a_newer_version_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"unknown|robot"):
        decode_item(json.loads(text))
