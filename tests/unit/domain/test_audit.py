"""Audit events: their content, the ring buffer that keeps them, and the filters that select them."""

from datetime import timedelta
from typing import Any

import pytest

from identity_service.domain.audit import (
    AUDIT_ENTRIES,
    MAX_DETAIL_CHARS,
    AuditEvent,
    AuditFilter,
    AuditKind,
    AuditOutcome,
    AuditType,
    RingSizes,
    StoredEvent,
)
from identity_service.domain.ids import PrincipalId
from identity_service.domain.origin import Origin
from tests.unit.domain.samples import MOMENT, START

ORIGIN = Origin(peer="192.0.2.1:1", request_id="r", actor=PrincipalId("ops"))
EVENT = AuditEvent.of(AuditType.CLIENT_CREATED, ORIGIN, target="shop", subject="u_alice", client_id="portal")


def a_stored(event: AuditEvent = EVENT) -> StoredEvent:
    return StoredEvent(event_id="1", time=START, event=event)


@pytest.mark.parametrize("type_", list(AuditType))
def test_each_type_belongs_to_one_ring(type_: AuditType) -> None:
    assert type_.kind in AuditKind


def test_an_event_names_the_caller_the_peer_and_the_request() -> None:
    assert (EVENT.actor, EVENT.peer, EVENT.request_id) == ("ops", "192.0.2.1:1", "r")
    assert EVENT.outcome is AuditOutcome.DONE


def test_an_event_of_the_process_itself_names_no_actor() -> None:
    assert AuditEvent.of(AuditType.KEY_CREATED).actor == ""


@pytest.mark.parametrize("actor", ["u_alice", ""])
def test_an_actor_that_is_given_replaces_the_caller(actor: str) -> None:
    assert AuditEvent.of(AuditType.TOKEN_ISSUED, ORIGIN, actor=actor).actor == actor


def test_the_details_are_texts_and_leave_out_the_unknown() -> None:
    event = AuditEvent.of(AuditType.TOKEN_ISSUED, count=3, revoke=True, forced=False, session=None)

    assert event.details == {"count": "3", "revoke": "true", "forced": "false"}


def test_each_text_is_cut_after_512_characters() -> None:
    long = "x" * 600

    event = AuditEvent.of(AuditType.TOKEN_ISSUED, target=long, reason=long, detail=long)

    cut = (event.target, event.reason, event.details["detail"])
    assert {len(text) for text in cut} == {512} == {MAX_DETAIL_CHARS}


@pytest.mark.parametrize("principal", ["", "ops", "shop", "u_alice", "portal"])
def test_a_filter_finds_an_event_by_each_principal_that_it_names(principal: str) -> None:
    assert AuditFilter(principal=principal).accepts(a_stored())


@pytest.mark.parametrize(
    ("accepted", "conditions"),
    [
        (True, {}),
        (False, {"principal": "another"}),
        (True, {"types": ("client_deleted", "client_created")}),
        (False, {"types": ("client_deleted",)}),
        (True, {"start_time": START}),
        (False, {"start_time": START + MOMENT}),
        (True, {"end_time": START + MOMENT}),
        (False, {"end_time": START}),
        (True, {"start_time": START - MOMENT, "end_time": START + MOMENT, "principal": "ops"}),
        (False, {"start_time": START - MOMENT, "end_time": START + MOMENT, "principal": "another"}),
        (False, {"start_time": START - 2 * MOMENT, "end_time": START - MOMENT, "principal": "ops"}),
    ],
    ids=str,
)
def test_a_filter_accepts_an_event_that_fulfils_all_conditions(
    accepted: bool, conditions: dict[str, Any]
) -> None:
    assert AuditFilter(**conditions).accepts(a_stored()) is accepted


@pytest.mark.parametrize(
    ("types", "only_changes"),
    [
        ((), False),
        (("client_created",), True),
        (("client_created", "token_issued"), False),
        (("token_issued",), False),
    ],
)
def test_a_filter_needs_the_ring_of_traffic_unless_it_names_types_of_changes_only(
    types: tuple[str, ...], only_changes: bool
) -> None:
    assert AuditFilter(types=types).is_about_changes is only_changes


def test_each_ring_keeps_100_000_events_unless_the_settings_say_otherwise() -> None:
    assert RingSizes() == RingSizes(changes=100_000, traffic=100_000)
    assert AUDIT_ENTRIES == 100_000


def test_an_event_is_in_time_by_the_clock_of_the_store() -> None:
    late = StoredEvent(event_id="2", time=START + timedelta(days=1), event=EVENT)

    assert not AuditFilter(end_time=START + timedelta(hours=1)).accepts(late)
