"""The replacement for `serving.py` if an unknown version of grpcio does not work with it.

Here threads do wait for clients: for a request to arrive, and for each message of a stream to be read. There
are up to 1,000 of them, so that a few slow calls do not occupy all, but only a few may run handlers at the
same time.
"""

import threading
from collections.abc import Callable, Iterator
from typing import Any, Final

from identity_service.domain.errors import NotReadyError
from identity_service.grpc_api.compression import Decompressor, WireError
from identity_service.grpc_api.engine import Context, ConversationHandler, StreamHandler, UnaryHandler
from identity_service.grpc_api.errors import RpcStatus, to_status
from identity_service.grpc_api.threads import Threads
from identity_service.transport.limits import Limits

_THREADS: Final = 1000
"""The largest number of threads that wait for clients, per pool."""


class BlockingStream:
    """A `ResponseStream` on grpcio's own function for sending, which waits for the client."""

    def __init__(self, send: Callable[[Any], None], context: Context, threads: Threads, address: str) -> None:
        """Create a stream.

        Args:
            send: grpcio's function for sending.
            context: the context of the call.
            threads: wait for the client while a message is sent.
            address: the client's address for limits; empty if it is exempt.
        """
        self.address = address
        self._send = send
        self._context = context
        self._threads = threads
        self._ended = threading.Lock()

    def send(self, message: bytes, taken: Callable[[], None]) -> None:
        """Send a message in another thread, which then calls `taken`."""

        def send() -> None:
            self._send(message)
            taken()

        try:
            self._threads.start(send)
        except RuntimeError:  # the process is stopping
            self.cancel()
            taken()
        except NotReadyError as error:
            self.end(to_status(error))
            taken()

    def end(self, status: RpcStatus | None) -> None:
        """End the stream with this status; None = OK."""
        if not self._ended.acquire(blocking=False) or not self._context.is_active():
            return
        if status is not None:
            self._context.set_code(status.code)
            self._context.set_details(status.details)
            self._context.set_trailing_metadata(status.trailing_metadata)
        self._send(None)

    def cancel(self) -> None:
        """End the call at once."""
        self._context.cancel()

    def is_active(self) -> bool:
        """Return whether the call is still open."""
        return self._context.is_active()

    def on_end(self, callback: Callable[[], None]) -> bool:
        """Register a callback that runs when the call ends; return False if it has ended already."""
        return self._context.add_callback(callback)


class BlockingServing:
    """A server that runs each call in one of many threads, which may wait for slow clients."""

    def __init__(self, limits: Limits, max_message_bytes: int) -> None:
        """Create a server; `max_message_bytes` bounds messages, even after they are decompressed."""
        self._limits = limits
        self._max_message_bytes = max_message_bytes
        self.default = Threads(_THREADS, "identity-receiving")
        """The pool for grpcio's server; it runs every method."""
        self._sending = Threads(_THREADS, "identity-sending")
        self._semaphores: dict[Threads, threading.Semaphore] = {}

    @property
    def max_calls(self) -> int | None:
        """Return the number of calls that grpcio's server may admit."""
        return self._limits.config.calls.total

    @property
    def is_busy(self) -> bool:
        """Return True: this class does not know the open calls."""
        return True

    def start(self) -> None:
        """Start the first threads; others start when calls come. Raises ConfigurationError."""
        self.default.start_first()
        self._sending.start_first()

    def close(self) -> None:
        """Let the threads end when they have no job left."""
        self.default.shutdown(wait=False)
        self._sending.shutdown(wait=False)

    def unary(self, handler: UnaryHandler) -> Any:
        """Return the behaviour for grpcio; at most `threads.count` calls of a pool run at the same time."""
        handler_slots = self._semaphore_of(handler.threads)

        def limited(data: bytes, context: Context) -> bytes:
            with handler_slots:
                return handler.answer(self._opened(data, handler.max_bytes, context), context)

        return limited

    def stream(self, handler: StreamHandler) -> Any:
        """Return the behaviour for grpcio, limited in the same way."""
        handler_slots = self._semaphore_of(handler.threads)

        def opening(data: bytes, context: Context, send: Callable[[Any], None]) -> None:
            address = self._limits.peers.address_of_call(context.peer(), context.invocation_metadata)
            with handler_slots:
                opened = self._opened(data, handler.max_bytes, context)
                handler.open(opened, context, BlockingStream(send, context, self._sending, address))

        # grpcio passes the function that sends only to a behaviour with this attribute.
        opening.experimental_non_blocking = True  # type: ignore[attr-defined]
        return opening

    def conversation(self, handler: ConversationHandler) -> Any:
        """Return the behaviour for grpcio, limited in the same way."""
        handler_slots = self._semaphore_of(handler.threads)

        def answering(requests: Iterator[bytes], context: Context) -> Iterator[bytes]:
            answer = handler.open(context)
            for data in requests:
                with handler_slots:
                    response = answer(self._opened(data, handler.max_bytes, context))
                yield response

        return answering

    def _opened(self, data: bytes, enough: int | None, context: Context) -> bytes:
        """Return a message, decompressed; abort the call if it cannot be decompressed, or is too long."""
        try:
            return Decompressor(max_bytes=self._max_message_bytes, enough=enough).opened(data)
        except WireError as error:
            context.abort(error.code, str(error))

    def _semaphore_of(self, threads: Threads) -> threading.Semaphore:
        """Return the semaphore that limits the handlers of this pool in place of its threads."""
        return self._semaphores.setdefault(threads, threading.Semaphore(threads.count))
