"""Streaming calls of the ASGI engine: streams that servicers write to, and answers message by message."""

import asyncio
import contextvars
from collections.abc import Callable
from typing import Any

import grpc

from identity_service.grpc_api.asgi.calls import Call, GoneError, Method, in_thread, stopping, within
from identity_service.grpc_api.asgi.context import AbortedError
from identity_service.grpc_api.errors import RpcStatus


class AsgiStream:
    """Implements `ResponseStream`. `_write`, `_end` and `_set_ended` are called on the event loop alone."""

    def __init__(
        self, call: Call, address: str, loop: asyncio.AbstractEventLoop, send_timeout: float
    ) -> None:
        """
        Args:
            call: whose answer the stream is.
            address: that the client counts for; empty if exempt.
            loop: that serves the call.
            send_timeout: seconds for what was sent last, once the stream has been ended.
        """
        self.address = address
        self._call = call
        self._loop = loop
        self._send_timeout = send_timeout
        self._writing: asyncio.Task[None] | None = None
        self._ended: asyncio.Future[BaseException | None] = loop.create_future()
        call.context.on_initial_metadata(self._begin)
        call.context.on_cancel(self._abort)

    def send(self, message: bytes, taken: Callable[[], None]) -> None:
        if not self._on_loop(self._write, message, taken):
            taken()

    def end(self, status: RpcStatus | None) -> None:
        self._on_loop(self._end, status)

    def cancel(self) -> None:
        self._call.context.cancel()

    def _abort(self) -> None:
        self._on_loop(self._set_ended, AbortedError())

    def _begin(self) -> None:
        self._on_loop(self._write, b"", _nothing)

    def is_active(self) -> bool:
        return self._call.context.is_active()

    def on_end(self, callback: Callable[[], None]) -> bool:
        return self._call.context.add_callback(callback)

    async def serve(self, method: Method, message: bytes) -> None:
        """Run the method, and return when the stream has ended.

        Raises what ended it, TimeoutError, and as `serve_unary` does.
        """
        context = self._call.context
        request = message if method.parse is None else method.parse(message)
        run = contextvars.copy_context().run
        opening = in_thread(method.pool, run, method.behaviour, request, context, self)
        opening.add_done_callback(self._opened)
        try:
            await self._call.until(self._ended)
        except (TimeoutError, GoneError) as gave_up:
            self._set_ended(gave_up)
        opening.cancel()  # if it still waits for a thread
        error = self._ended.result()
        # What is being written is not cancelled: the ASGI server may still say what came of it.
        if error is not None:
            raise error
        if self._writing is not None:
            _, late = await asyncio.wait({self._writing}, timeout=self._send_timeout)
            if late:
                raise AbortedError
        await self._call.finish(context.code() or grpc.StatusCode.OK, context.details())

    def _on_loop(self, function: Callable[..., None], *args: Any) -> bool:
        """Have the event loop call this function soon; returns False if the loop has ended."""
        try:
            self._loop.call_soon_threadsafe(function, *args)
        except RuntimeError:
            return False
        return True

    def _opened(self, opening: "asyncio.Future[Any]") -> None:
        """End the stream if the method could not open it."""
        if opening.cancelled():  # by the pool, unless the stream has ended
            self._set_ended(stopping())
        elif (error := opening.exception()) is not None:
            self._set_ended(error)

    def _write(self, message: bytes, taken: Callable[[], None]) -> None:
        if self._ended.done():
            taken()
            return
        before = self._writing
        writing = self._call.write(message) if message else self._call.begin()
        self._writing = task = self._loop.create_task(_after(before, writing))
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
            self._ended.set_result(error)


async def _after(before: "asyncio.Task[None] | None", writing: Any) -> None:
    """Write once the write before is done: the initial metadata may still be on its way."""
    if before is not None:
        await asyncio.wait({before})
    await writing


def _nothing() -> None:
    """Nobody waits for the initial metadata to be taken."""


async def converse(method: Method, call: Call, message: bytes, send_timeout: float) -> None:
    """Answer the client's messages one by one, until it sends no more.

    Raises WireError, and as `serve_unary` does.
    """
    context = call.context
    run = contextvars.copy_context().run
    following: bytes | None = message
    answer = await _result(method, context, run, method.behaviour, context)
    while following is not None:
        response = await _result(method, context, run, answer, following)
        await within(call.write(response), _sooner(context.time_remaining(), send_timeout))
        following = await within(call.read(), context.time_remaining())
    await call.finish(grpc.StatusCode.OK)


async def _result(method: Method, context: Any, run: Any, function: Any, *args: Any) -> Any:
    """What the function returns, called by a thread of the method's pool."""
    try:
        return await within(in_thread(method.pool, run, function, *args), context.time_remaining())
    except asyncio.CancelledError:
        call = asyncio.current_task()
        if call is not None and call.cancelling():
            raise
        raise stopping() from None  # the pool was shut down before it had a thread for it


def _sooner(one: float | None, other: float) -> float:
    return other if one is None else min(one, other)
