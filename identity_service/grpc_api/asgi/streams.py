"""Streaming calls: what threads use to receive and send on the event loop, and the life of a stream."""

import asyncio
import concurrent.futures
import contextlib
import contextvars
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar

import grpc

from identity_service.grpc_api.asgi.calls import Call, GoneError, Method
from identity_service.grpc_api.asgi.context import AbortedError
from identity_service.grpc_api.asgi.wire import WireError

T = TypeVar("T")


class ClientGoneError(grpc.RpcError):
    """The client went away while it was sending, as grpcio's server says it."""


class Stream:
    """One stream, as the threads that serve it see it."""

    def __init__(self, method: Method, call: Call, loop: asyncio.AbstractEventLoop) -> None:
        self._method = method
        self._call = call
        self._loop = loop
        self._writing: asyncio.Task[None] | None = None
        self._ended: asyncio.Future[BaseException | None] = loop.create_future()
        call.context.on_initial_metadata(lambda: self._deliver(call.begin()))
        call.context.on_cancel(lambda: self._end(AbortedError()))

    # For threads

    def send(self, response: Any) -> None:
        """Send a message, or None to end the stream; returns once the transport has taken it.

        After the end of the call it does nothing, as with grpcio.
        """
        if response is None:
            self._end(None)
        elif self._call.context.is_active():
            message = response if self._method.serialize is None else self._method.serialize(response)
            self._deliver(self._call.write(message))

    def requests(self) -> Iterator[Any]:
        """What the client sends, until it has sent all. Raises ClientGoneError."""
        parse = self._method.parse
        while True:
            try:
                message = self._on_loop(self._call.read())
            except (GoneError, concurrent.futures.CancelledError) as error:
                raise ClientGoneError from error
            except WireError as error:
                self._end(error)
                raise ClientGoneError from error
            if message is None:
                return
            yield message if parse is None else parse(message)

    def run(self, message: bytes | None) -> None:
        """The whole life of a method that blocks; `message` = its request where it takes one only."""
        try:
            self._run(message)
        except BaseException as error:  # noqa: BLE001  # whatever it is, it ends the stream
            self._end(error)

    def _run(self, message: bytes | None) -> None:
        method, context = self._method, self._call.context
        parse = method.parse or (lambda data: data)
        request = self.requests() if message is None else parse(message)
        if method.non_blocking:
            method.behaviour(request, context, self.send)
            return
        if not method.gives_stream:
            self.send(method.behaviour(request, context))
            self._end(None)
            return
        responses = method.behaviour(request, context)
        for response in responses:
            self.send(response)
            if not context.is_active():
                with contextlib.suppress(AttributeError):  # what is no generator has nothing to close
                    responses.close()
                return
        self._end(None)

    def _deliver(self, writing: Coroutine[Any, Any, None]) -> None:
        """Returns once it is written, or need not be any more."""
        try:
            self._on_loop(self._write(writing))
        except GoneError as error:
            self._end(error)
        except concurrent.futures.CancelledError:
            return

    def _on_loop(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _end(self, error: BaseException | None) -> None:
        """Any thread; the first one counts."""
        self._loop.call_soon_threadsafe(self._set_ended, error)

    # On the loop

    async def serve(self, message: bytes | None) -> None:
        """Run the method until the stream has ended. Raises what ended it, and TimeoutError."""
        context = self._call.context
        started = self._loop.run_in_executor(
            self._method.pool, contextvars.copy_context().run, self.run, message
        )
        try:
            await self._call.until(self._ended)
        except (TimeoutError, GoneError) as gave_up:
            self._set_ended(gave_up)
        started.cancel()  # where it still waits for a thread
        if self._writing is not None:
            self._writing.cancel()
        error = self._ended.result()
        if error is not None:
            raise error
        await self._call.finish(context.code() or grpc.StatusCode.OK, context.details())

    async def _write(self, writing: Coroutine[Any, Any, None]) -> None:
        self._writing = asyncio.current_task()
        await writing
        self._writing = None

    def _set_ended(self, error: BaseException | None) -> None:
        if not self._ended.done():
            self._ended.set_result(error)
