"""The ASGI engine, called without a network: it runs servicers in the threads of their pools."""

import asyncio
import contextvars
import gc
import gzip
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import grpc
import pytest

from identity_service.grpc_api.asgi.engine import AsgiEngine
from identity_service.grpc_api.asgi.wire import Message, frame, opened
from identity_service.grpc_api.engine import (
    Context,
    InstantResponse,
    ResponseStream,
    StreamHandler,
    UnaryHandler,
)
from identity_service.grpc_api.threads import Threads
from identity_service.transport.limits import Bound, Limits, LimitsConfig
from tests.fakes.event_logs import RecordingEventLog
from tests.patience import PATIENCE, until

BOUND: contextvars.ContextVar[str] = contextvars.ContextVar("BOUND", default="nothing")
HEADERS = [(b"te", b"trailers"), (b"content-type", b"application/grpc")]


@pytest.fixture
def engine() -> AsgiEngine:
    config = LimitsConfig(calls=Bound(total=2, per_peer=2))
    return AsgiEngine(Limits(config, RecordingEventLog()), max_message_bytes=1000)


def register(engine: AsgiEngine, answer: Callable[[bytes, Context], bytes]) -> None:
    engine.register("/test.Service/Method", UnaryHandler(threads=Threads(1, "test-asgi"), answer=answer))


async def call(
    engine: AsgiEngine,
    message: bytes = b"",
    path: str = "/test.Service/Method",
    *,
    body: bytes | None = None,
    headers: Sequence[tuple[bytes, bytes]] = (),
    sent: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Make one call; return the status and the body of its response.

    `body` replaces the framed message. `sent` is called when the engine begins to send the response.
    """
    answer: dict[str, Any] = {"body": b""}

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": frame(message) if body is None else body, "more_body": False}

    async def send(event: Any) -> None:
        if event["type"] == "http.response.start":
            sent()
        answer.update({name.decode(): value.decode() for name, value in event.get("headers", ())})
        answer["body"] += event.get("body", b"")

    scope = {"type": "http", "method": "POST", "path": path, "scheme": "http"}
    await engine(scope | {"headers": [*HEADERS, *headers]}, receive, send)
    return answer


def test_context_variables_of_a_call_are_not_seen_by_the_next_call_of_its_thread(engine: AsgiEngine) -> None:
    def handler(request: bytes, context: Context) -> bytes:
        before = BOUND.get()
        BOUND.set("by an earlier call")
        return before.encode()

    register(engine, handler)

    answers = [asyncio.run(call(engine)) for _ in range(2)]

    assert [answer["body"] for answer in answers] == [frame(b"nothing")] * 2


def test_the_text_of_a_servicers_exception_is_not_shown(
    engine: AsgiEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    def handler(request: bytes, context: Context) -> bytes:
        raise ValueError("hidden from everybody")

    register(engine, handler)

    answer = asyncio.run(call(engine))

    assert answer["grpc-status"] == str(grpc.StatusCode.UNKNOWN.value[0])
    assert "hidden" not in str(answer) + "".join(capsys.readouterr())


def test_servicers_set_a_status_as_with_grpcio(engine: AsgiEngine) -> None:
    def handler(request: bytes, context: Context) -> bytes:
        if request == b"0":
            context.set_code(grpc.StatusCode.NOT_FOUND)
            context.set_details("no such number")
        return request

    register(engine, handler)

    found, missing = asyncio.run(call(engine, b"1")), asyncio.run(call(engine, b"0"))

    assert (found["body"], found["grpc-status"]) == (frame(b"1"), "0")
    assert (missing["grpc-status"], missing["grpc-message"]) == ("5", "no such number")


@pytest.mark.parametrize(
    ("is_cached", "order"), [(True, "find send find send"), (False, "find find send send")]
)
def test_the_calls_that_are_ready_are_computed_before_a_response_is_sent(
    engine: AsgiEngine, *, is_cached: bool, order: str
) -> None:
    happened: list[str] = []

    def instant(request: bytes, context: Context) -> InstantResponse:
        happened.append("find")
        return request, is_cached

    async def both() -> None:
        await asyncio.gather(*(call(engine, sent=lambda: happened.append("send")) for _ in range(2)))

    threads = Threads(1, "test-asgi")
    handler = UnaryHandler(threads=threads, answer=lambda request, _: request, instant=instant)
    engine.register("/test.Service/Method", handler)

    asyncio.run(both())

    assert " ".join(happened) == order


def test_a_long_compressed_message_is_opened_in_the_thread_that_serves_it(
    engine: AsgiEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Decompressing it takes long, and the event loop must serve all other calls meanwhile."""
    names: list[str] = []

    def noting(message: Message) -> bytes:
        names.append(threading.current_thread().name)
        return opened(message)

    monkeypatch.setattr("identity_service.grpc_api.asgi.calls.opened", noting)
    register(engine, lambda request, context: request)
    data = gzip.compress(b"x" * 900)
    body = b"\1" + len(data).to_bytes(4, "big") + data

    answer = asyncio.run(call(engine, body=body, headers=[(b"grpc-encoding", b"gzip")]))

    assert answer["body"] == frame(b"x" * 900)
    assert names == ["test-asgi-1"]


def test_a_refused_request_is_not_kept_in_memory(engine: AsgiEngine) -> None:
    class Parsed:
        """A parsed request; the test checks that nothing refers to it any more."""

    kept: list[weakref.ref[Parsed]] = []

    def refuse(request: bytes, context: Context) -> bytes:
        parsed = Parsed()
        kept.append(weakref.ref(parsed))
        try:
            return bytes([256])
        except ValueError:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no")

    register(engine, refuse)
    gc.disable()
    try:
        assert asyncio.run(call(engine))["grpc-status"] == "3"
        until(lambda: kept[0]() is None)
    finally:
        gc.enable()


def test_a_method_that_is_not_registered_is_unimplemented(engine: AsgiEngine) -> None:
    unknown = asyncio.run(call(engine, path="/test.Other/Missing"))

    assert unknown["grpc-status"] == str(grpc.StatusCode.UNIMPLEMENTED.value[0])


def test_calls_beyond_the_most_are_refused_and_a_stop_waits_for_those_before(engine: AsgiEngine) -> None:
    async def run() -> tuple[list[str], bool, bool]:
        loop = asyncio.get_running_loop()
        go_on = asyncio.Event()

        def handler(request: bytes, context: Context) -> bytes:
            asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result()
            return b""

        register(engine, handler)
        waiting = [asyncio.create_task(call(engine)) for _ in range(2)]
        await asyncio.sleep(0)  # both have begun
        refused = await call(engine)
        too_early = await asyncio.to_thread(engine.stop, 0)
        go_on.set()
        done = await asyncio.to_thread(engine.stop, 10)
        statuses = [refused["grpc-status"], *[(await task)["grpc-status"] for task in waiting]]
        return statuses, too_early, done

    statuses, too_early, done = asyncio.run(run())

    # The third was one too many; both others had been admitted before the engine stopped.
    assert statuses == [str(grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]), "0", "0"]
    assert (too_early, done) == (False, True)
    assert asyncio.run(call(engine))["grpc-status"] == str(grpc.StatusCode.UNAVAILABLE.value[0])


def test_a_servicer_may_wait_for_the_loop_with_a_lock_that_a_callback_needs(engine: AsgiEngine) -> None:
    """The servicer holds a lock while it sends, and takes it again when it is notified of a call's end."""
    lock, notified = threading.Lock(), threading.Event()

    def ended() -> None:
        with lock:
            notified.set()

    def handler(request: bytes, context: Context, stream: ResponseStream) -> None:
        with lock:
            context.add_callback(ended)
            stream.send(b"is never taken", lambda: None)

    engine.register("/test.Service/Method", StreamHandler(threads=Threads(1, "test-asgi"), open=handler))

    async def run() -> None:
        sending = asyncio.Event()
        events = iter([{"type": "http.request", "body": frame(b""), "more_body": False}])

        async def receive() -> dict[str, Any]:
            found = next(events, None)
            if found is None:
                await sending.wait()
            return found or {"type": "http.disconnect"}

        async def send(event: Any) -> None:
            sending.set()
            await asyncio.Event().wait()

        scope = {"type": "http", "method": "POST", "path": "/test.Service/Method", "headers": HEADERS}
        await engine(scope, receive, send)

    loop = threading.Thread(target=asyncio.run, args=[run()], daemon=True)
    loop.start()

    assert notified.wait(PATIENCE)
    loop.join(PATIENCE)
    assert not loop.is_alive()
