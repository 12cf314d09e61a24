"""The methods of AdminService on audit events: a page of stored events, or a stream of new ones."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from identity_service.domain.audit import AuditFilter, AuditType, StoredEvent
from identity_service.domain.errors import InvalidRequestError
from identity_service.domain.store import AuditStore
from identity_service.grpc_api.audit_tails import AuditTails
from identity_service.grpc_api.calls import Call
from identity_service.grpc_api.engine import ResponseStream
from identity_service.grpc_api.paging import Page
from identity_service.grpc_api.senders import Senders
from identityapi.v1 import admin_service_pb2 as pb
from identityapi.v1 import audit_pb2

_TYPES: Final = frozenset(AuditType)
_MAX_TYPES: Final = 20


class AuditHandlers:
    """The servicer of the methods of AdminService on audit events."""

    def __init__(self, store: AuditStore, senders: Senders) -> None:
        self._store = store
        self._tails = AuditTails(store, senders, _tailed)

    def list_events(self, request: pb.ListAuditEventsRequest, _call: Call) -> pb.ListAuditEventsResponse:
        """Return a page of the events that match, the newest first. Raises InvalidRequestError."""
        page = Page.asked("ListAuditEvents", request.page_size, request.page_token)
        with _reject_unknown_event_id("page_token"):
            events, last = self._store.list_newest(_filter(request), before=page.after, limit=page.limit)
        next_token = page.token_after(last) if last else ""
        return pb.ListAuditEventsResponse(
            events=[from_stored_event(event) for event in events], next_page_token=next_token
        )

    def tail(self, request: pb.TailAuditEventsRequest, call: Call, stream: ResponseStream) -> None:
        """Hand the stream over to `AuditTails`, which sends the events after `resume_after`.

        Without `resume_after` the stream begins after the newest stored event. Raises InvalidRequestError,
        UnavailableError.
        """
        after = request.resume_after
        if not after:
            last = self._store.read_after(None, 1)
            after = last[-1].event_id if last else ""
        else:
            with _reject_unknown_event_id("resume_after"):
                self._store.read_after(after, 1)
        try:
            call.context.send_initial_metadata(())  # tells the caller that no later event will be missed
        except grpc.RpcError as error:  # the client has left
            # grpcio keeps the error with the call: with its traceback, it would form a cycle with the call.
            error.__traceback__ = None
            return
        self._tails.add(after, stream, call.request_id)


def from_stored_event(stored: StoredEvent) -> audit_pb2.AuditEvent:
    """Convert a stored audit event."""
    event = stored.event
    return audit_pb2.AuditEvent(
        event_id=stored.event_id,
        time=stored.time,
        type=event.type.value,
        outcome=f"AUDIT_OUTCOME_{event.outcome.name}",
        actor=event.actor,
        target=event.target,
        peer=event.peer,
        request_id=event.request_id,
        reason=event.reason,
        details=dict(event.details),
    )


def _tailed(events: Sequence[StoredEvent]) -> bytes:
    shown = [from_stored_event(event) for event in events]
    return pb.TailAuditEventsResponse(events=shown).SerializeToString()


def _filter(request: pb.ListAuditEventsRequest) -> AuditFilter:
    if len(request.types) > _MAX_TYPES:
        raise InvalidRequestError.of("types", f"must have at most {_MAX_TYPES} entries")
    unknown = sorted(set(request.types) - _TYPES)
    if unknown:
        raise InvalidRequestError.of("types", f"{unknown[0][:64]!r} is not an event type; see docs/audit.md")
    if len(request.principal) > 256:
        raise InvalidRequestError.of("principal", "must have at most 256 characters")
    return AuditFilter(
        principal=request.principal,
        types=tuple(request.types),
        start_time=_time("start_time", request.start_time) if request.HasField("start_time") else None,
        end_time=_time("end_time", request.end_time) if request.HasField("end_time") else None,
    )


def _time(field: str, value: Timestamp) -> datetime:
    try:
        return value.ToDatetime(UTC)
    except (ValueError, OverflowError):
        raise InvalidRequestError.of(field, "must be a time between the years 1 and 9999") from None


@contextmanager
def _reject_unknown_event_id(field: str) -> Iterator[None]:
    """Turn the ValueError of a store that does not know an event id into an InvalidRequestError for `field`.

    Only the store can tell its own event ids from others.
    """
    try:
        yield
    except ValueError:
        raise InvalidRequestError.of(field, "must be the value that an earlier answer returned") from None
