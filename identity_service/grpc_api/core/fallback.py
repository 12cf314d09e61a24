"""What serves instead of `receivers.py` if an unknown version of grpcio does not work with it.

Then threads wait for clients after all: for a request to arrive, and for each message of a stream to be read.
There may be many of them, so that a handful of calls does not hold them all, and few of them work at once.
"""

import threading
from collections.abc import Callable, Iterator
from typing import Any, Final

import grpc

from identity_service.domain.errors import NotReadyError
from identity_service.grpc_api.errors import RpcStatus, new_request_id, to_status
from identity_service.grpc_api.limits import Limits
from identity_service.grpc_api.threads import Threads

_THREADS: Final = 1000
"""Threads that may wait for clients."""


class BlockingStream:
    """Implements `ResponseStream` on grpcio's own function that sends, which waits for the client."""

    def __init__(self, send: Callable[[Any], None], context: grpc.ServicerContext, threads: Threads) -> None:
        """`threads` wait for the client while a message is sent."""
        self._send = send
        self._context = context
        self._threads = threads
        self._ended = threading.Lock()

    def send(self, message: bytes, taken: Callable[[], None]) -> None:
        def send() -> None:
            self._send(message)
            taken()

        try:
            self._threads.start(send)
        except RuntimeError:  # the process is stopping
            self.cancel()
            taken()
        except NotReadyError as error:
            self.end(to_status(error, new_request_id()))
            taken()

    def end(self, status: RpcStatus | None) -> None:
        if not self._ended.acquire(blocking=False) or not self._context.is_active():
            return
        if status is not None:
            self._context.set_code(status.code)
            self._context.set_details(status.details)
            self._context.set_trailing_metadata(status.trailing_metadata)
        self._send(None)

    def cancel(self) -> None:
        self._context.cancel()

    def is_active(self) -> bool:
        return self._context.is_active()

    def on_end(self, callback: Callable[[], None]) -> bool:
        return self._context.add_callback(callback)


class WaitingThreads:
    """Serves the methods of one server by threads of which many may wait."""

    def __init__(self) -> None:
        self.default = Threads(_THREADS, "identity-receiving")
        """For grpcio's server: runs every method."""
        self._sending = Threads(_THREADS, "identity-sending")
        self._at_once: dict[Threads, threading.Semaphore] = {}

    def at_most(self, limits: Limits) -> int | None:
        """How many calls grpcio's server may admit."""
        return limits.config.calls.total

    @property
    def is_busy(self) -> bool:
        """Return True: what is open is not known here."""
        return True

    def start(self) -> None:
        """Make the first threads; others are made when calls come. Raises ConfigurationError."""
        self.default.start_first()
        self._sending.start_first()

    def close(self) -> None:
        """Let the threads end when they have nothing more to do."""
        self.default.shutdown(wait=False)
        self._sending.shutdown(wait=False)

    def unary(self, behaviour: Any, threads: Threads) -> Any:
        """A method that answers once; only as many of its threads work at once as `threads` has."""
        at_once = self._of(threads)

        def limited(data: bytes, context: grpc.ServicerContext) -> Any:
            with at_once:
                return behaviour(data, context)

        return limited

    def stream(self, behaviour: Any, threads: Threads) -> Any:
        """A method that is given a `ResponseStream`."""
        at_once = self._of(threads)

        def opening(data: bytes, context: grpc.ServicerContext, send: Callable[[Any], None]) -> None:
            with at_once:
                behaviour(data, context, BlockingStream(send, context, self._sending))

        opening.experimental_non_blocking = True  # type: ignore[attr-defined]
        return opening

    def conversation(self, behaviour: Any, threads: Threads) -> Any:
        """A method that answers each message by itself."""
        at_once = self._of(threads)

        def answering(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[Any]:
            answer = behaviour(context)
            for data in requests:
                with at_once:
                    response = answer(data)
                yield response

        return answering

    def _of(self, threads: Threads) -> threading.Semaphore:
        """The semaphore that takes the place of these threads."""
        return self._at_once.setdefault(threads, threading.Semaphore(threads.count))
