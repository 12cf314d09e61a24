"""Serves one gRPC call over ASGI: reads the request, runs the method, sends the response and the status.

ASGI's `receive` and `send` are called only on the event loop. Streaming methods, which run in threads, send
through `AsgiStream`.
"""

import asyncio
import contextvars
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from contextlib import suppress
from typing import Any, Final, TypeVar

import grpc

from identity_service.domain.errors import RequestTimeoutError, ShuttingDownError
from identity_service.grpc_api.asgi.context import AbortedError, AsgiContext
from identity_service.grpc_api.asgi.wire import (
    ACCEPTED,
    Message,
    Unframer,
    frame,
    from_metadata,
    opened,
    status_headers,
)
from identity_service.grpc_api.compression import WireError
from identity_service.grpc_api.engine import UnaryHandler
from identity_service.transport.asgi import Event, Receive, Send, discard_outcome, within

_HEADERS: Final = [(b"content-type", b"application/grpc"), (b"grpc-accept-encoding", ACCEPTED)]
START: Final[Event] = {"type": "http.response.start", "status": 200, "headers": _HEADERS, "trailers": True}
GOOD: Final[Event] = {"type": "http.response.trailers", "headers": [(b"grpc-status", b"0")]}
T = TypeVar("T")
_FIRST_CHECK: Final = 0.05
_MAX_CHECK: Final = 1.0
"""Seconds between two checks whether the client is still connected; the ASGI server reports it only if asked.

The interval begins at the first value and doubles up to the second.
"""


class ClientGoneError(Exception):
    """The client has disconnected, so that no response can reach it."""


class AsgiCall:
    """The receiving and sending side of one call. Its coroutines run only on the event loop."""

    def __init__(self, context: AsgiContext, receive: Receive, send: Send, unframer: Unframer) -> None:
        self.context = context
        self._receive = receive
        self._send = send
        self._unframer = unframer
        self._received = False
        self._started = False

    async def read(self) -> Message | None:
        """Return the next message, or None after the last one. Raises ClientGoneError, WireError."""
        while (message := self._unframer.next()) is None:
            if self._received:
                return None
            self.received(await receive_from(self._receive))
        return message

    def received(self, event: Event) -> None:
        """Process one event of `receive`. Raises ClientGoneError unless it is a part of the request."""
        if event["type"] != "http.request":
            raise ClientGoneError
        self._unframer.feed(event["body"])
        self._received = not event["more_body"]

    async def read_first(self, event: Event, timeout: float) -> Message:
        """Return the first message of the request.

        Args:
            event: the first event that `receive` returned.
            timeout: seconds that the rest of the message may take to arrive.

        Raises:
            ClientGoneError: the client has disconnected.
            WireError: the request is malformed or too long, or has no message.
            RequestTimeoutError: the message was not complete after `timeout`.
            TimeoutError: the deadline of the call passed first.
        """
        self.received(event)
        message = self._unframer.next()
        if message is None and not self._received:
            message = await arrived(self.read(), timeout, self.context.time_remaining())
        if message is None:
            raise WireError(grpc.StatusCode.UNIMPLEMENTED, "the method takes exactly one message")
        return message

    async def has_gone(self) -> bool:
        """Return whether the client has disconnected; False until the whole request has been received."""
        return self._received and (await receive_from(self._receive))["type"] == "http.disconnect"

    async def until(self, ended: "asyncio.Future[Any]") -> None:
        """Wait for `ended`.

        Raises TimeoutError at the deadline, ClientGoneError if the client has disconnected.
        """
        patience = _FIRST_CHECK
        while not ended.done():
            left = self.context.time_remaining()
            await asyncio.wait({ended}, timeout=patience if left is None else min(left, patience))
            if ended.done():
                return
            if not self.context.is_active():
                raise TimeoutError
            if await self.has_gone():
                raise ClientGoneError
            patience = min(2 * patience, _MAX_CHECK)

    async def begin(self) -> None:
        """Send the response headers without a message unless they have been sent. Raises ClientGoneError."""
        if not self._started:
            await self._send_body(b"")

    async def write(self, message: bytes) -> None:
        """Send one message of a stream; return when the ASGI server has taken it. Raises ClientGoneError."""
        await self._send_body(frame(message))

    async def _send_body(self, data: bytes) -> None:
        try:
            if not self._started:
                self._started = True
                await self._send(self._start())
            await self._send({"type": "http.response.body", "body": data, "more_body": True})
        except Exception as error:  # ASGI servers have no common error for it
            raise ClientGoneError from error

    async def answer(self, message: bytes) -> None:
        """Send the only message of a response, and the status OK. Raises ClientGoneError."""
        body: Event = {"type": "http.response.body", "body": frame(message)}
        await send_all(self._send, self._start(), body, self._trailers(grpc.StatusCode.OK))

    async def finish(self) -> None:
        """Send the status of the context, which ends the call; unset = OK. Raises ClientGoneError.

        An error status before which nothing was sent is a Trailers-Only response.
        """
        code = self.context.code() or grpc.StatusCode.OK
        if not self._started and code is not grpc.StatusCode.OK:
            await refuse(self._send, self.context)
            return
        start = () if self._started else (self._start(),)
        end: Event = {"type": "http.response.body", "body": b""}
        await send_all(self._send, *start, end, self._trailers(code, self.context.details()))

    def _start(self) -> Event:
        initial = self.context.initial
        return {**START, "headers": _HEADERS + from_metadata(initial)} if initial else START

    def _trailers(self, code: grpc.StatusCode, details: str = "") -> Event:
        metadata = self.context.trailing_metadata()
        if code is grpc.StatusCode.OK and not metadata:
            return GOOD
        return {"type": "http.response.trailers", "headers": status_headers(code, details, metadata)}


async def arrived(waiting: Awaitable[T], timeout: float | None, left: float | None) -> T:
    """Return what a client sends, once it has arrived.

    Args:
        waiting: returns it.
        timeout: seconds that it may take; None = the ASGI server bounds the time.
        left: seconds until the deadline of the call; None = it has none.

    Raises RequestTimeoutError after `timeout`, TimeoutError at the deadline.
    """
    if timeout is None and left is None:  # as a rule, inside Envoy
        return await waiting
    if timeout is None or (left is not None and left <= timeout):
        return await within(waiting, left)
    try:
        return await within(waiting, timeout)
    except TimeoutError:
        raise RequestTimeoutError(timeout) from None


async def receive_from(receive: Receive) -> Event:
    """Return the next event. Raises ClientGoneError if `receive` raises: the client has disconnected."""
    try:
        return await receive()
    except Exception as error:  # ASGI servers have no common error for it
        raise ClientGoneError from error


async def await_client(receive: Receive, seconds: float) -> None:
    """Wait at most `seconds` until the client has sent something or has disconnected."""
    waiting = asyncio.ensure_future(receive())
    waiting.add_done_callback(discard_outcome)
    await asyncio.wait({waiting}, timeout=seconds)


async def refuse(send: Send, context: AsgiContext) -> None:
    """Send the status of the context without messages (Trailers-Only). Raises ClientGoneError."""
    code = context.code() or grpc.StatusCode.UNKNOWN
    status = status_headers(code, context.details(), context.trailing_metadata())
    headers = _HEADERS + from_metadata(context.initial) + status
    start: Event = {"type": "http.response.start", "status": 200, "headers": headers}
    await send_all(send, start, {"type": "http.response.body", "body": b""})


async def answer_known(send: Send, message: bytes) -> None:
    """Send a response of one message without metadata, and the status OK. Raises ClientGoneError."""
    await send_all(send, START, {"type": "http.response.body", "body": frame(message)}, GOOD)


async def send_all(send: Send, *events: Event) -> None:
    """Send these events in order. Raises ClientGoneError if the client has disconnected."""
    try:
        for event in events:
            await send(event)
    except Exception as error:  # ASGI servers have no common error for it
        raise ClientGoneError from error


def in_thread(pool: Executor, function: Callable[..., T], *args: Any) -> "asyncio.Future[T]":
    """Call a function in a thread of this pool, and return a future of its result.

    Raises ShuttingDownError if the pool has been shut down; NotReadyError if the system gives it no thread.
    """
    try:
        return asyncio.get_running_loop().run_in_executor(pool, function, *args)
    except RuntimeError as error:
        raise ShuttingDownError() from error


async def serve_unary(handler: UnaryHandler, call: AsgiCall, message: Message) -> None:
    """Answer one request in a thread of the handler, and send the response.

    A compressed request is decompressed in that thread: many that wait for a thread take little memory.

    Raises:
        ClientGoneError: the client has disconnected.
        AbortedError: the handler or `cancel` has aborted the call.
        TimeoutError: the deadline has passed.
        ShuttingDownError: the pool was shut down before a thread began the call.
        NotReadyError: the system gives the pool no thread.
        WireError: the request cannot be decompressed.

    Any other exception of the handler is passed on.
    """
    context = call.context
    loop = asyncio.get_running_loop()
    # Each call has its own contextvars, as in grpcio: values bound for log lines must not leak.
    run = contextvars.copy_context().run
    future = in_thread(handler.threads, run, _answer, handler, message, context)
    ended = loop.create_future()
    future.add_done_callback(lambda _: _set(ended))
    context.on_cancel(lambda: _set_from_any_thread(loop, ended))
    try:
        await call.until(ended)
        if not future.done():
            raise AbortedError
    finally:
        # A call that still waits for a thread is cancelled, and never runs.
        if future.cancel() or not ended.done():
            future.add_done_callback(discard_outcome)
    if future.cancelled():  # the pool was shut down
        raise ShuttingDownError()
    try:
        response = future.result()
    finally:
        del future  # otherwise the error and this frame would form a cycle that keeps the request in memory
    code = context.code()
    if code is not None and code is not grpc.StatusCode.OK:
        await call.finish()
    else:
        await call.answer(response)


def _answer(handler: UnaryHandler, message: Message, context: AsgiContext) -> bytes:
    with suppress(AbortedError):
        return handler.answer(opened(message), context)
    # Another error, whose traceback does not refer to the request: it would stay in memory until the next
    # garbage collection, and many requests of 16 MiB would fill the memory before that.
    raise AbortedError


def _set_from_any_thread(loop: asyncio.AbstractEventLoop, future: "asyncio.Future[None]") -> None:
    """Complete a future of this loop from any thread."""
    loop.call_soon_threadsafe(_set, future)


def _set(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)
