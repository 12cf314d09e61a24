"""Calls that never wait: on several cores, grpcio's serving thread answers them without a work thread."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import grpc
import grpc._server as internals
import pytest

from identity_service.grpc_api.engine import Context, InstantResponse, UnaryHandler
from identity_service.grpc_api.grpcio_engine import GrpcioConfig, GrpcioEngine
from identity_service.grpc_api.threads import Threads
from identity_service.transport.limits import Limits, LimitsConfig
from tests.fakes.event_logs import RecordingEventLog
from tests.patience import PATIENCE, until

METHOD = "/test.Service/Method"
Call = Callable[..., bytes]


class Method:
    """A method that answers requests beginning with "now" without waiting, and counts calls per thread."""

    def __init__(self) -> None:
        self.by_thread: list[str] = []
        self.release = threading.Event()
        self.running = threading.Event()

    def answer(self, data: bytes, context: Context) -> bytes:
        self.by_thread.append(threading.current_thread().name)
        self.running.set()
        if data == b"block":
            assert self.release.wait(PATIENCE)
        return b"thread: " + data

    def instant(self, data: bytes, context: Context) -> InstantResponse | None:
        if data == b"abort":
            context.abort(grpc.StatusCode.NOT_FOUND, "not here")
        if data == b"fail":
            raise KeyError(data)
        return (b"instant: " + data, True) if data.startswith(b"now") else None


@pytest.fixture
def method() -> Iterator[Method]:
    method = Method()
    yield method
    method.release.set()


@contextmanager
def serving(method: Method, monkeypatch: pytest.MonkeyPatch, cores: int) -> Iterator[tuple[Limits, Call]]:
    """Serve the method with one work thread on a machine of `cores` cores.

    Yields the limits, and a function that calls the method.
    """
    monkeypatch.setattr("identity_service.process.cores.available", lambda: cores)
    events = RecordingEventLog()
    limits = Limits(LimitsConfig(), events)
    engine = GrpcioEngine(GrpcioConfig(listen="127.0.0.1:0"), limits, events)
    threads = Threads(1, "method")
    engine.register(
        METHOD, UnaryHandler(threads=threads, answer=partial(method.answer), instant=method.instant)
    )
    try:
        with grpc.insecure_channel(f"127.0.0.1:{engine.start()}") as channel:
            yield limits, channel.unary_unary(METHOD)
    finally:
        method.release.set()
        engine.stop(PATIENCE)
        threads.shutdown()


@pytest.fixture
def served(method: Method, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Limits, Call]]:
    with serving(method, monkeypatch, cores=2) as served:
        yield served


def test_an_instant_answer_needs_no_thread(method: Method, served: tuple[Limits, Any]) -> None:
    _, call = served
    blocked = call.future(b"block", timeout=PATIENCE)
    assert method.running.wait(PATIENCE)

    assert call(b"now", timeout=PATIENCE) == b"instant: now"

    method.release.set()
    assert blocked.result() == b"thread: block"


def test_on_one_core_threads_answer_all(method: Method, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(method, monkeypatch, cores=1) as (_, call):
        assert call(b"now", timeout=PATIENCE) == b"thread: now"


def test_a_call_that_is_not_instant_runs_in_a_thread(method: Method, served: tuple[Limits, Call]) -> None:
    _, call = served

    assert call(b"later", timeout=PATIENCE) == b"thread: later"
    assert method.by_thread == ["method-1"]


def test_a_compressed_request_is_decompressed_in_a_thread(
    method: Method, served: tuple[Limits, Call]
) -> None:
    _, call = served

    answer = call(b"now" * 1000, timeout=PATIENCE, compression=grpc.Compression.Gzip)

    assert answer == b"thread: " + b"now" * 1000
    assert method.by_thread == ["method-1"]


def test_a_call_that_is_aborted_at_once_gets_its_status(served: tuple[Limits, Call]) -> None:
    _, call = served

    with pytest.raises(grpc.RpcError) as aborted:
        call(b"abort", timeout=PATIENCE)

    error: Any = aborted.value
    assert (error.code(), error.details()) == (grpc.StatusCode.NOT_FOUND, "not here")


@pytest.mark.parametrize("broken", ["the method", "grpcio"])
def test_an_error_ends_one_call_and_not_the_thread_that_serves_all(
    served: tuple[Limits, Call], monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    _, call = served
    with monkeypatch.context() as patch:
        if broken == "grpcio":
            patch.setattr(internals, "_status", None)
        with pytest.raises(grpc.RpcError):
            call(b"fail" if broken == "the method" else b"now", timeout=PATIENCE)

    assert call(b"now", timeout=PATIENCE) == b"instant: now"


def test_instant_answers_are_counted_until_they_end(served: tuple[Limits, Call]) -> None:
    limits, call = served

    for request in (b"now", b"later", b"now"):
        assert call(request, timeout=PATIENCE)

    until(lambda: limits.calls.open == 0)
    assert limits.receives.open == 0
