"""One call on its way: reads the request, runs the method, sends the answer and the status.

Every call of ASGI's `receive` and `send` is made on the event loop; methods that run in threads reach it
through `Stream`.
"""

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import grpc

from identity_service.domain.errors import RequestTimeoutError, ShuttingDownError
from identity_service.grpc_api.asgi.context import AbortedError, AsgiContext
from identity_service.grpc_api.asgi.wire import (
    ACCEPTED,
    Unframer,
    WireError,
    frame,
    from_metadata,
    status_headers,
)

Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]

_HEADERS: Final = [(b"content-type", b"application/grpc"), (b"grpc-accept-encoding", ACCEPTED)]
START: Final[Event] = {"type": "http.response.start", "status": 200, "headers": _HEADERS, "trailers": True}
GOOD: Final[Event] = {"type": "http.response.trailers", "headers": [(b"grpc-status", b"0")]}
T = TypeVar("T")
_FIRST_LOOK: Final = 0.05
_LOOKS: Final = 1.0
"""Seconds between two looks whether the client is still there: the ASGI server does not tell by itself."""


class GoneError(Exception):
    """The client has left; nothing more can be told to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """A method as it was registered."""

    behaviour: Callable[..., Any]
    parse: Callable[[bytes], Any] | None
    serialize: Callable[[Any], bytes] | None
    pool: Executor
    takes_stream: bool = False
    gives_stream: bool = False
    instant: Callable[[bytes, AsgiContext], bytes | None] | None = None
    """The answer, where it is known without waiting for anything."""


class Call:
    """Receives and sends for one call. Its coroutines run on the event loop alone."""

    def __init__(self, context: AsgiContext, receive: Receive, send: Send, unframer: Unframer) -> None:
        self.context = context
        self._receive = receive
        self._send = send
        self._unframer = unframer
        self._received = False
        self._started = False

    async def read(self) -> bytes | None:
        """The next message, None after the last one. Raises GoneError, WireError."""
        while (message := self._unframer.next()) is None:
            if self._received:
                return None
            self.received(await receive_from(self._receive))
        return message

    def received(self, event: Event) -> None:
        """Take what `receive` gave. Raises GoneError."""
        if event["type"] != "http.request":
            raise GoneError
        self._unframer.feed(event["body"])
        self._received = not event["more_body"]

    async def read_first(self, event: Event, timeout: float) -> bytes:
        """The first message, which begins with what `receive` gave first.

        Raises GoneError, WireError; RequestTimeoutError after `timeout` s, TimeoutError at the deadline.
        """
        self.received(event)
        message = self._unframer.next()
        if message is None and not self._received:
            left = self.context.time_remaining()
            try:
                message = await within(self.read(), timeout if left is None else min(left, timeout))
            except TimeoutError:
                if left is not None and left <= timeout:
                    raise
                raise RequestTimeoutError(timeout) from None
        if message is None:
            raise WireError(grpc.StatusCode.UNIMPLEMENTED, "the method takes exactly one message")
        return message

    async def has_gone(self) -> bool:
        """Whether the client has left; asked only once all of the request is here."""
        return self._received and (await receive_from(self._receive))["type"] == "http.disconnect"

    async def until(self, ended: "asyncio.Future[Any]") -> None:
        """Wait for it. Raises TimeoutError at the deadline, GoneError where the client has left."""
        patience = _FIRST_LOOK
        while not ended.done():
            left = self.context.time_remaining()
            await asyncio.wait({ended}, timeout=patience if left is None else min(left, patience))
            if ended.done():
                return
            if not self.context.is_active():
                raise TimeoutError
            if await self.has_gone():
                raise GoneError
            patience = min(2 * patience, _LOOKS)

    async def begin(self) -> None:
        """Send the headers, with no message yet. Raises GoneError."""
        if not self._started:
            await self._pass_on(b"")

    async def write(self, message: bytes) -> None:
        """One message of several; returns once the transport has taken it. Raises GoneError."""
        await self._pass_on(frame(message))

    async def _pass_on(self, data: bytes) -> None:
        try:
            if not self._started:
                self._started = True
                await self._send(self._start())
            await self._send({"type": "http.response.body", "body": data, "more_body": True})
        except Exception as error:  # ASGI servers have no common error for it
            raise GoneError from error

    async def answer(self, message: bytes) -> None:
        """The one message of an answer, and the status OK. Raises GoneError."""
        body: Event = {"type": "http.response.body", "body": frame(message)}
        await send_all(self._send, self._start(), body, self._trailers(grpc.StatusCode.OK))

    async def finish(self, code: grpc.StatusCode, details: str = "") -> None:
        """The status. Without any message before it, it goes out alone (Trailers-Only). Raises GoneError."""
        if not self._started and code is not grpc.StatusCode.OK:
            await refuse(self._send, code, details, self.context)
            return
        start = () if self._started else (self._start(),)
        end: Event = {"type": "http.response.body", "body": b""}
        await send_all(self._send, *start, end, self._trailers(code, details))

    def _start(self) -> Event:
        initial = self.context.initial
        return {**START, "headers": _HEADERS + from_metadata(initial)} if initial else START

    def _trailers(self, code: grpc.StatusCode, details: str = "") -> Event:
        metadata = self.context.trailing_metadata()
        if code is grpc.StatusCode.OK and not metadata:
            return GOOD
        return {"type": "http.response.trailers", "headers": status_headers(code, details, metadata)}


async def within(waiting: Awaitable[T], seconds: float | None) -> T:
    """Wait so long for it. Raises TimeoutError, and leaves it be then: an ASGI server may still fulfil it."""
    if seconds is None:
        return await waiting
    future = asyncio.ensure_future(waiting)
    if not (await asyncio.wait({future}, timeout=seconds))[0]:
        future.add_done_callback(_retrieved)
        raise TimeoutError
    try:
        return future.result()
    finally:
        del future  # else the error would refer to itself by this frame, and keep the request in memory


async def receive_from(receive: Receive) -> Event:
    """What `receive` gives. Raises GoneError if it raises anything: the client has left."""
    try:
        return await receive()
    except Exception as error:  # ASGI servers have no common error for it
        raise GoneError from error


async def refuse(send: Send, code: grpc.StatusCode, details: str, context: AsgiContext) -> None:
    """A status alone (Trailers-Only). Raises GoneError."""
    headers = (
        _HEADERS + from_metadata(context.initial) + status_headers(code, details, context.trailing_metadata())
    )
    start: Event = {"type": "http.response.start", "status": 200, "headers": headers}
    await send_all(send, start, {"type": "http.response.body", "body": b""})


async def answer_known(send: Send, message: bytes) -> None:
    """An answer without metadata, and the status OK. Raises GoneError."""
    await send_all(send, START, {"type": "http.response.body", "body": frame(message)}, GOOD)


async def send_all(send: Send, *events: Event) -> None:
    """Raises GoneError if the client has left."""
    try:
        for event in events:
            await send(event)
    except Exception as error:  # ASGI servers have no common error for it
        raise GoneError from error


def in_thread(pool: Executor, function: Callable[..., T], *args: Any) -> "asyncio.Future[T]":
    """Have a thread of this pool call this function.

    Raises ShuttingDownError if the pool takes nothing more; NotReadyError if the system gives it no thread.
    """
    try:
        return asyncio.get_running_loop().run_in_executor(pool, function, *args)
    except RuntimeError as error:
        raise stopping() from error


def stopping() -> ShuttingDownError:
    """What a call ends with that this process does not carry out any more."""
    return ShuttingDownError("this process is stopping; reconnect")


async def serve_unary(method: Method, call: Call, message: bytes) -> None:
    """Run a method that gives one answer, in its pool.

    Raises GoneError, AbortedError, TimeoutError, what `in_thread` raises, and ShuttingDownError if the pool
    is shut down before it has a thread for the call.
    """
    context = call.context
    request = message if method.parse is None else method.parse(message)
    loop = asyncio.get_running_loop()
    # A context of its own, as grpcio gives each call: what is bound for log lines must not stay behind.
    run = contextvars.copy_context().run
    future = in_thread(method.pool, run, method.behaviour, request, context)
    ended = loop.create_future()
    future.add_done_callback(lambda _: _set(ended))
    context.on_cancel(lambda: _from_anywhere(loop, ended))
    try:
        await call.until(ended)
        if not future.done():
            raise AbortedError
    finally:
        # It may still wait for a thread: then it is not carried out at all.
        if future.cancel() or not ended.done():
            future.add_done_callback(_retrieved)
    if future.cancelled():  # by the pool
        raise stopping()
    response = future.result()
    code = context.code()
    if code is not None and code is not grpc.StatusCode.OK:
        await call.finish(code, context.details())
    else:
        await call.answer(response if method.serialize is None else method.serialize(response))


def _retrieved(future: "asyncio.Future[Any]") -> None:
    """Whoever gives up waiting leaves a result behind that nobody asks for."""
    if not future.cancelled():
        future.exception()


def _from_anywhere(loop: asyncio.AbstractEventLoop, future: "asyncio.Future[None]") -> None:
    loop.call_soon_threadsafe(_set, future)


def _set(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)
