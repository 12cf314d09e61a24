"""The responses of the ASGI engine while it stops, and for clients that have disconnected."""

import asyncio
import base64
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from identity_service.grpc_api.asgi.engine import AsgiEngine
from identity_service.grpc_api.asgi.wire import frame
from identity_service.grpc_api.engine import (
    Context,
    ConversationHandler,
    Handler,
    ResponseStream,
    StreamHandler,
    UnaryHandler,
)
from identity_service.grpc_api.threads import Threads
from identity_service.telemetry.call_ids import REQUEST_ID
from identity_service.transport.limits import Limits, LimitsConfig
from tests.fakes.event_logs import RecordingEventLog
from tests.patience import PATIENCE

HEADERS = [(b"te", b"trailers"), (b"content-type", b"application/grpc")]
REQUEST = {"type": "http.request", "body": frame(b"hello"), "more_body": False}


class ClientDisconnectedError(Exception):
    """The error that pyvoy raises, by this name, if the client has disconnected."""


def unary(request: bytes, context: Context) -> bytes:
    return request


def stream(request: bytes, context: Context, stream: ResponseStream) -> None:
    stream.end(None)


def conversation(context: Context) -> Callable[[bytes], bytes]:
    return bytes


HANDLERS: dict[str, Callable[[Threads], Handler]] = {
    "Unary": lambda threads: UnaryHandler(threads=threads, answer=unary),
    "Stream": lambda threads: StreamHandler(threads=threads, open=stream),
    "Conversation": lambda threads: ConversationHandler(threads=threads, open=conversation),
}
every_kind = pytest.mark.parametrize("method", HANDLERS)


class Site:
    """An engine with its thread pools and limits."""

    def __init__(self) -> None:
        self.threads = Threads(1, "test-asgi")
        self.limits = Limits(LimitsConfig(), RecordingEventLog())
        self.engine = AsgiEngine(self.limits, max_message_bytes=1000)
        for name, handler in HANDLERS.items():
            self.engine.register(f"/test.Service/{name}", handler(self.threads))
        self.engine.start()

    async def call(self, method: str, receive: Any = None, send: Any = None) -> dict[str, Any]:
        """Make one call; return the headers and trailers of its response."""
        answer: dict[str, Any] = {}

        async def received() -> dict[str, Any]:
            return REQUEST

        async def sent(event: Any) -> None:
            answer.update({name.decode(): value.decode() for name, value in event.get("headers", ())})

        path = f"/test.Service/{method}"
        scope = {"type": "http", "method": "POST", "path": path, "scheme": "http", "headers": HEADERS}
        await self.engine(scope, receive or received, send or sent)
        return answer


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    yield site
    site.threads.shutdown(cancel_futures=True)


@pytest.fixture
def logged(capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    return lambda: "".join(capsys.readouterr())


def reason(answer: dict[str, Any]) -> tuple[str, str]:
    """Return the name of the status code, and the reason in its details."""
    raw = answer["grpc-status-details-bin"]
    status = status_pb2.Status.FromString(base64.b64decode(raw + "=" * (-len(raw) % 4)))
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    code = next(code for code in grpc.StatusCode if code.value[0] == int(answer["grpc-status"]))
    return code.name, info.reason


@every_kind
def test_a_call_for_which_the_system_gives_no_thread_is_refused_by_the_error_table(
    site: Site, method: str, monkeypatch: pytest.MonkeyPatch, logged: Callable[[], str]
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)

    answer = asyncio.run(site.call(method))

    assert reason(answer) == ("UNAVAILABLE", "NOT_READY")
    assert answer[REQUEST_ID]
    assert "bug" not in logged()


@every_kind
def test_a_call_that_comes_after_the_threads_were_ended_is_refused_since_the_process_stops(
    site: Site, method: str, logged: Callable[[], str]
) -> None:
    site.threads.shutdown()

    assert reason(asyncio.run(site.call(method))) == ("UNAVAILABLE", "SHUTTING_DOWN")
    assert "bug" not in logged()


@contextmanager
def busy(threads: Executor) -> Iterator[None]:
    """Keep the only thread of the pool busy until the block ends."""
    begun, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        begun.set()
        go_on.wait(PATIENCE)

    threads.submit(hold)
    assert begun.wait(PATIENCE)
    try:
        yield
    finally:
        go_on.set()


@every_kind
def test_a_call_that_waits_for_a_thread_when_the_process_stops_is_refused_with_that_reason(
    site: Site, method: str, logged: Callable[[], str]
) -> None:
    async def run() -> dict[str, Any]:
        calling = asyncio.create_task(site.call(method))
        while not site.threads.waiting:
            await asyncio.sleep(0)
        site.threads.shutdown(cancel_futures=True)
        return await asyncio.wait_for(calling, PATIENCE)

    with busy(site.threads):
        answer = asyncio.run(run())

    assert reason(answer) == ("UNAVAILABLE", "SHUTTING_DOWN")
    assert "bug" not in logged()


@every_kind
@pytest.mark.parametrize("sent", [0, 1, 2])
def test_a_client_that_leaves_while_it_is_answered_is_no_bug(
    site: Site, method: str, sent: int, logged: Callable[[], str]
) -> None:
    left = iter(range(sent))

    async def send(_: Any) -> None:
        if next(left, None) is None:
            raise ClientDisconnectedError

    asyncio.run(site.call(method, send=send))

    assert "bug" not in logged()
    assert site.engine.stop(0)


@every_kind
@pytest.mark.parametrize("received", [0, 1])
def test_a_client_that_leaves_while_its_request_is_received_is_no_bug(
    site: Site, method: str, received: int, logged: Callable[[], str]
) -> None:
    pieces = iter([{"type": "http.request", "body": frame(b"hello")[:3], "more_body": True}][:received])

    async def receive() -> Any:
        found = next(pieces, None)
        if found is None:
            raise ClientDisconnectedError
        return found

    answer = asyncio.run(site.call(method, receive=receive))

    assert answer == {}
    assert "bug" not in logged()
    assert site.engine.stop(0)


def test_a_client_that_leaves_while_its_call_waits_for_a_thread_is_no_bug(
    site: Site, logged: Callable[[], str]
) -> None:
    requests = iter([REQUEST])

    async def receive() -> Any:
        found = next(requests, None)
        if found is None:
            raise ClientDisconnectedError
        return found

    with busy(site.threads):
        answer = asyncio.run(site.call("Unary", receive=receive))

    assert answer == {}
    assert "bug" not in logged()
