"""Streaming calls of the ASGI engine: server streams, and streams of one response to each request."""

import asyncio
import contextvars
from collections.abc import Callable
from typing import Any

from identity_service.domain.errors import ShuttingDownError
from identity_service.grpc_api.asgi.calls import AsgiCall, ClientGoneError, in_thread
from identity_service.grpc_api.asgi.context import AbortedError
from identity_service.grpc_api.asgi.wire import opened
from identity_service.grpc_api.engine import ConversationHandler, StreamHandler
from identity_service.grpc_api.errors import RpcStatus
from identity_service.transport.asgi import within


class AsgiStream:
    """An implementation of `ResponseStream` over ASGI.

    `_write`, `_end` and `_set_ended` are called only on the event loop.
    """

    def __init__(
        self, call: AsgiCall, address: str, loop: asyncio.AbstractEventLoop, send_timeout: float
    ) -> None:
        """Open a stream for the responses of a call.

        Args:
            call: the call that the stream answers.
            address: the client's address for limits; empty if it is exempt.
            loop: the event loop that serves the call.
            send_timeout: seconds that the last message may take to be sent after the stream has been ended.
        """
        self.address = address
        self._call = call
        self._loop = loop
        self._send_timeout = send_timeout
        self._writing: asyncio.Task[None] | None = None
        self._ended: asyncio.Future[None] = loop.create_future()
        self._error: BaseException | None = None
        """The error that has ended the stream, until it is raised."""
        call.context.on_initial_metadata(self._begin)
        call.context.on_cancel(self._abort)

    def send(self, message: bytes, taken: Callable[[], None]) -> None:
        """Begin to send one message; `taken` is called when the ASGI server has taken it."""
        if not self._on_loop(self._write, message, taken):
            taken()

    def end(self, status: RpcStatus | None) -> None:
        """End the stream with this status, or with OK, after the messages sent so far."""
        self._on_loop(self._end, status)

    def cancel(self) -> None:
        """End the call at once."""
        self._call.context.cancel()

    def _abort(self) -> None:
        self._on_loop(self._set_ended, AbortedError())

    def _begin(self) -> None:
        self._on_loop(self._write, b"", _ignore)

    def is_active(self) -> bool:
        """Return whether the call is still open."""
        return self._call.context.is_active()

    def on_end(self, callback: Callable[[], None]) -> bool:
        """Register a callback for the end of the call; return False if the call has ended already."""
        return self._call.context.add_callback(callback)

    async def serve(self, handler: StreamHandler, message: bytes) -> None:
        """Run the handler, wait until the stream has ended, and send the status.

        Raises the errors of `serve_unary`, and the error that ended the stream. Raises AbortedError if the
        last message is not sent within the timeout.
        """
        context = self._call.context
        run = contextvars.copy_context().run
        opening = in_thread(handler.threads, run, handler.open, message, context, self)
        opening.add_done_callback(self._opened)
        try:
            await self._call.until(self._ended)
        except (TimeoutError, ClientGoneError) as gave_up:
            self._set_ended(gave_up)
        opening.cancel()  # if it still waits for a thread
        error, self._error = self._error, None
        # A message that is being sent is not cancelled: the ASGI server may still complete or refuse it.
        if error is not None:
            try:
                raise error
            finally:
                del error, opening  # otherwise the error and this frame would form a cycle
        if self._writing is not None:
            _, late = await asyncio.wait({self._writing}, timeout=self._send_timeout)
            if late:
                raise AbortedError
        await self._call.finish()

    def _on_loop(self, function: Callable[..., None], *args: Any) -> bool:
        """Schedule a call of this function on the event loop; return False if the loop is closed."""
        try:
            self._loop.call_soon_threadsafe(function, *args)
        except RuntimeError:
            return False
        return True

    def _opened(self, opening: "asyncio.Future[Any]") -> None:
        """End the stream if the handler could not open it."""
        if opening.cancelled():  # the pool was shut down, unless the stream has ended
            self._set_ended(ShuttingDownError())
        elif (error := opening.exception()) is not None:
            self._set_ended(error)

    def _write(self, message: bytes, taken: Callable[[], None]) -> None:
        if self._ended.done():
            taken()
            return
        before = self._writing
        writing = self._call.write(message) if message else self._call.begin()
        self._writing = task = self._loop.create_task(_send_after(before, writing))
        task.add_done_callback(lambda done: self._written(done, taken))

    def _written(self, done: "asyncio.Task[None]", taken: Callable[[], None]) -> None:
        if self._writing is done:
            self._writing = None
        if not done.cancelled() and (error := done.exception()) is not None:
            self._set_ended(error)
        taken()

    def _end(self, status: RpcStatus | None) -> None:
        if not self._ended.done():
            if status is not None:
                self._call.context.set_status(status)
            self._set_ended(None)

    def _set_ended(self, error: BaseException | None) -> None:
        if not self._ended.done():
            self._error = error
            self._ended.set_result(None)


async def _send_after(before: "asyncio.Task[None] | None", writing: Any) -> None:
    """Send after the previous send, which may be that of the initial metadata, is done."""
    if before is not None:
        await asyncio.wait({before})
    await writing


def _ignore() -> None:
    """Do nothing, since no sender waits until the initial metadata has been sent."""


async def converse(handler: ConversationHandler, call: AsgiCall, message: bytes, send_timeout: float) -> None:
    """Serve a bidirectional stream: send one response to each message, until the client sends no more.

    Raises the errors of `serve_unary`, TimeoutError if a response is not sent within `send_timeout` seconds,
    and WireError if a message is malformed.
    """
    context = call.context
    run = contextvars.copy_context().run
    following: bytes | None = message
    answer = await _result(handler, context, run, handler.open, context)
    while following is not None:
        response = await _result(handler, context, run, answer, following)
        await within(call.write(response), _shorter(context.time_remaining(), send_timeout))
        message_after = await within(call.read(), context.time_remaining())
        following = None if message_after is None else opened(message_after)
    await call.finish()


async def _result(handler: ConversationHandler, context: Any, run: Any, function: Any, *args: Any) -> Any:
    """Call the function in a thread of the handler, and return its result. Raises as `serve_unary`."""
    try:
        return await within(in_thread(handler.threads, run, function, *args), context.time_remaining())
    except asyncio.CancelledError:
        call = asyncio.current_task()
        if call is not None and call.cancelling():
            raise
        raise ShuttingDownError() from None  # the pool was shut down before a thread began the call


def _shorter(one: float | None, other: float) -> float:
    """Return the shorter of two timeouts; None = no limit."""
    return other if one is None else min(one, other)
