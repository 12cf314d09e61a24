"""A service that uses the client, with methods of each kind, for threads and for asyncio.

Its streams send what the tests publish. The module asserts nothing.
"""

import asyncio
import queue
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

import grpc

from identity_client.caller import caller, caller_or_none
from tests.patience import PATIENCE

SERVICE = "reports.v1.Reports"
AUDIENCE = "reports"
READ, ADMIN = "reports.read", "reports.admin"
KINDS = {
    "Get": (False, False),
    "Total": (True, False),
    "Follow": (False, True),
    "Chat": (True, True),
    "Delete": (False, False),
    "Hours": (False, False),
    "Unlisted": (False, False),
    "Blocked": (False, True),
    "Stubborn": (False, True),
    "Slow": (False, False),
    "Written": (False, True),
    "Endless": (False, True),
}
"""For each method, whether its requests are a stream, and whether its responses are."""


def name(method: str) -> str:
    return f"/{SERVICE}/{method}"


class Reports:
    """The events that handlers of the service `Reports` report to the tests, or wait for."""

    def __init__(self) -> None:
        self.ended: queue.Queue[tuple[str, str]] = queue.Queue()
        """The subject and the reason of each call that was ended because of its token."""
        self.entered: queue.Queue[str] = queue.Queue()
        """The name of each method whose handler was reached."""
        self.release = threading.Event()
        """Set by the test to let `Slow` answer."""
        self.left: queue.Queue[str] = queue.Queue()
        """The `repr` of the caller when the handler of `Endless` is left."""

    def note_end(self) -> None:
        subject = caller().subject
        caller().on_ended(lambda reason: self.ended.put((subject, reason)))


class ThreadedReports(Reports):
    """The handlers for `grpc.server`."""

    def get(self, request: bytes, context: Any) -> bytes:
        self.entered.put("Get")
        return caller().subject.encode()

    def delete(self, request: bytes, context: Any) -> bytes:
        caller().require_scope(ADMIN)
        return b"deleted"

    def hours(self, request: bytes, context: Any) -> bytes:
        return repr(caller_or_none()).encode()

    def unlisted(self, request: bytes, context: Any) -> bytes:
        self.entered.put("Unlisted")
        return b""

    def total(self, requests: Iterator[bytes], context: Any) -> bytes:
        self.note_end()
        return f"{caller().subject} {sum(map(len, requests))}".encode()

    def follow(self, request: bytes, context: Any) -> Iterator[bytes]:
        """Send the caller's subject as often as the request says."""
        self.note_end()
        for _ in range(int(request)):
            yield caller().subject.encode()

    def chat(self, requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        """Answer each request with the caller's subject."""
        self.note_end()
        for _ in requests:
            yield caller().subject.encode()

    def blocked(self, request: bytes, context: Any) -> Iterator[bytes]:
        """Send one message, and then wait until the call ends."""
        self.note_end()
        over = threading.Event()
        context.add_callback(over.set)
        yield caller().subject.encode()
        over.wait(PATIENCE)

    def stubborn(self, request: bytes, context: Any) -> Iterator[bytes]:
        """Send another message after the call has ended, which must fail."""
        yield from self.blocked(request, context)
        yield b"too late"

    def endless(self, request: bytes, context: Any) -> Iterator[bytes]:
        """Send messages until the call ends."""
        try:
            while True:
                yield caller().subject.encode()
        finally:
            self.left.put(repr(caller_or_none()))

    def slow(self, request: bytes, context: Any) -> bytes:
        self.entered.put("Slow")
        self.release.wait(PATIENCE)
        return caller().subject.encode()

    written = follow


class AsyncReports(Reports):
    """The handlers for `grpc.aio.server`."""

    async def get(self, request: bytes, context: Any) -> bytes:
        self.entered.put("Get")
        return caller().subject.encode()

    async def delete(self, request: bytes, context: Any) -> bytes:
        caller().require_scope(ADMIN)
        return b"deleted"

    async def hours(self, request: bytes, context: Any) -> bytes:
        return repr(caller_or_none()).encode()

    async def unlisted(self, request: bytes, context: Any) -> bytes:
        self.entered.put("Unlisted")
        return b""

    async def total(self, requests: AsyncIterator[bytes], context: Any) -> bytes:
        self.note_end()
        total = 0
        async for request in requests:
            total += len(request)
        return f"{caller().subject} {total}".encode()

    async def follow(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        self.note_end()
        for _ in range(int(request)):
            yield caller().subject.encode()

    async def chat(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        self.note_end()
        async for _ in requests:
            yield caller().subject.encode()

    async def blocked(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        self.note_end()
        yield caller().subject.encode()
        await asyncio.Event().wait()

    async def stubborn(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        self.note_end()
        yield caller().subject.encode()
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        yield b"too late"

    async def endless(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        try:
            while True:
                yield caller().subject.encode()
        finally:
            self.left.put(repr(caller_or_none()))

    async def slow(self, request: bytes, context: Any) -> bytes:
        self.entered.put("Slow")
        await asyncio.to_thread(self.release.wait, PATIENCE)
        return caller().subject.encode()

    async def written(self, request: bytes, context: Any) -> None:
        self.note_end()
        for _ in range(int(request)):
            await context.write(caller().subject.encode())


_MAKERS: dict[tuple[bool, bool], Any] = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}


def handlers(reports: Reports) -> grpc.GenericRpcHandler:
    found = {method: _MAKERS[kind](getattr(reports, method.lower())) for method, kind in KINDS.items()}
    handler: grpc.GenericRpcHandler = grpc.method_handlers_generic_handler(SERVICE, found)
    return handler


class Client:
    """Calls the protected service; each method takes the metadata of the call."""

    def __init__(self, channel: grpc.Channel, reports: Reports, guard: Any, target: str) -> None:
        self.channel = channel
        self.reports = reports
        self.guard = guard
        self.target = target

    def call(self, method: str, metadata: Sequence[tuple[str, str]], *requests: bytes) -> list[bytes]:
        """Return all responses of one call; raise its error if it fails."""
        streams, responds = KINDS.get(method, (False, False))
        sent: Any = iter(requests) if streams else (requests or (b"1",))[0]
        answer = self.stub(method)(sent, metadata=metadata, timeout=PATIENCE)
        return list(answer) if responds else [answer]

    def stub(self, method: str) -> Any:
        kinds = {
            (False, False): self.channel.unary_unary,
            (True, False): self.channel.stream_unary,
            (False, True): self.channel.unary_stream,
            (True, True): self.channel.stream_stream,
        }
        return kinds[KINDS.get(method, (False, False))](method if method[:1] == "/" else name(method))


@contextmanager
def threaded(
    make: Callable[[], Any], credentials: grpc.ServerCredentials | None = None, before: Sequence[Any] = ()
) -> Iterator[Client]:
    """Run the service on `grpc.server`, with a new guard behind the interceptors `before`."""
    reports, guard = ThreadedReports(), make()
    server = grpc.server(ThreadPoolExecutor(16), interceptors=[*before, guard])
    server.add_generic_rpc_handlers((handlers(reports),))
    place = "127.0.0.1:0"
    port = server.add_secure_port(place, credentials) if credentials else server.add_insecure_port(place)
    server.start()
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield Client(channel, reports, guard, f"localhost:{port}")
    finally:
        server.stop(0).wait(PATIENCE)


@contextmanager
def in_loop(
    make: Callable[[], Any], credentials: grpc.ServerCredentials | None = None, before: Sequence[Any] = ()
) -> Iterator[Client]:
    """Run the service on `grpc.aio.server` in a thread's event loop, with a guard behind `before`."""
    reports, started = AsyncReports(), queue.Queue[tuple[int, Any]]()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def serve() -> None:
        guard = make()
        server = grpc.aio.server(interceptors=[*before, guard])
        server.add_generic_rpc_handlers((handlers(reports),))
        place = "127.0.0.1:0"
        port = server.add_secure_port(place, credentials) if credentials else server.add_insecure_port(place)
        await server.start()
        started.put((port, guard))
        await stop.wait()
        await server.stop(0)

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()), daemon=True)
    thread.start()
    port, guard = started.get(timeout=PATIENCE)
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield Client(channel, reports, guard, f"localhost:{port}")
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(PATIENCE)
        loop.close()
