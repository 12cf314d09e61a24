"""Followers of the audit trail (TailAuditEvents) when reading it fails: each stream ends with an error."""

import threading
from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import grpc
import pytest

from identity_service.domain.errors import NotReadyError, StoreUnavailableError
from identity_service.grpc_api.audit import AuditHandlers
from identity_service.grpc_api.audit_tails import AuditTails
from identity_service.grpc_api.errors import RpcStatus
from identity_service.grpc_api.senders import Senders
from identity_service.transport.limits import Limits, LimitsConfig
from identityapi.v1 import admin_service_pb2 as pb
from tests.fakes.event_logs import RecordingEventLog
from tests.patience import PATIENCE

PATIENT = timedelta(seconds=PATIENCE)


def patient() -> Limits:
    return Limits(LimitsConfig(send_timeout=PATIENT), RecordingEventLog())


class Stream:
    """A response stream that keeps what was sent."""

    address = "192.0.2.1"

    def __init__(self) -> None:
        self.status: RpcStatus | None = None
        self.ended = threading.Event()

    def send(self, message: bytes, taken: Callable[[], None]) -> None:
        taken()

    def end(self, status: RpcStatus | None) -> None:
        self.status = status
        self.ended.set()

    def cancel(self) -> None:
        self.ended.set()

    def is_active(self) -> bool:
        return not self.ended.is_set()

    def on_end(self, callback: Callable[[], None]) -> bool:
        return True


class LeftContext:
    """The context of a call whose client has left; like grpcio, it keeps the error that it raises."""

    def __init__(self) -> None:
        self.errors: list[grpc.RpcError] = []

    def send_initial_metadata(self, _: object) -> None:
        self.errors.append(grpc.RpcError())
        raise self.errors[0]


class Store:
    """The part of a store that the streams read from."""

    def __init__(self, error: Exception | None = None) -> None:
        self._error = error

    def read_after(self, after: str, limit: int) -> Any:
        if self._error is not None:
            raise self._error
        return [type("Event", (), {"event_id": "1"})]


class LateSenders(Senders):
    """Sender threads that take over a stream only after it was ended, or after one second."""

    def __init__(self) -> None:
        super().__init__(limits=patient(), max_age=PATIENT, heartbeat=PATIENT, send_heartbeats=lambda: None)
        self._was_ended = threading.Event()

    def add(self, *args: Any) -> None:
        self._was_ended.wait(1)
        super().add(*args)

    def end(self, source: Any, error: Exception) -> None:
        super().end(source, error)
        self._was_ended.set()


def test_a_tail_whose_reading_fails_before_its_stream_is_taken_over_is_ended() -> None:
    stream = Stream()
    tails = AuditTails(Store(StoreUnavailableError("it is gone")), LateSenders(), lambda events: b"")  # type: ignore[arg-type]

    tails.add("", stream, "id")

    assert stream.ended.wait(10)
    assert stream.status is not None
    assert stream.status.code is grpc.StatusCode.UNAVAILABLE


def test_a_page_that_cannot_be_rendered_ends_its_tail_and_no_other() -> None:
    failing = iter([ValueError("not to be rendered")])

    def render(_: Any) -> bytes:
        for error in failing:
            raise error
        rendered.set()
        return b""

    rendered = threading.Event()
    senders = Senders(limits=patient(), max_age=PATIENT, heartbeat=PATIENT, send_heartbeats=lambda: None)
    tails = AuditTails(Store(), senders, render)  # type: ignore[arg-type]
    first, second = Stream(), Stream()

    tails.add("", first, "1")
    tails.add("", second, "2")

    assert rendered.wait(10)
    assert first.ended.wait(10) or second.ended.wait(10)


def test_a_tail_without_a_thread_is_refused_and_the_next_one_asks_for_a_thread_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    senders = Senders(limits=patient(), max_age=PATIENT, heartbeat=PATIENT, send_heartbeats=lambda: None)
    tails = AuditTails(Store(StoreUnavailableError("it is gone")), senders, lambda events: b"")  # type: ignore[arg-type]
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(NotReadyError, match="ulimit -u"):
            tails.add("", Stream(), "id")

    stream = Stream()
    tails.add("", stream, "id")

    assert stream.ended.wait(PATIENCE)  # it was read for, and that failed


def test_a_call_that_its_client_has_left_is_not_kept_by_its_own_error() -> None:
    context = LeftContext()
    store: Any = Store()
    senders: Any = None  # the stream is not added
    call: Any = SimpleNamespace(context=context, request_id="r1")

    AuditHandlers(store, senders).tail(pb.TailAuditEventsRequest(), call, Stream())

    assert [error.__traceback__ for error in context.errors] == [None]
