"""The open calls of one grpcio server: counted, received without a thread, then served in one.

The module uses the private interface of grpcio (`grpc._server` and its Cython core). pyproject.toml keeps
grpcio below the next minor version, and `check.py` tests at start that the interface works.
"""

from collections import deque
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from enum import Enum, auto
from typing import Any, Final

import grpc
import grpc._server as internals
import structlog
from grpc._cython import cygrpc  # type: ignore[attr-defined]

from identity_service.domain.errors import IdentityError, ServerBusyError, ShuttingDownError
from identity_service.grpc_api.compression import FIRST_BYTES, Decompressor, WireError
from identity_service.grpc_api.core.memory import FreedMemory
from identity_service.grpc_api.engine import Instant
from identity_service.grpc_api.errors import RpcStatus, to_status
from identity_service.grpc_api.threads import Threads
from identity_service.transport.limits import Limits

_RECEIVE: Final = "receive_message"
_NO_MESSAGE: Final = RpcStatus(
    grpc.StatusCode.UNIMPLEMENTED, "the method takes exactly one request message", ()
)


class Phase(Enum):
    """The event for which an open call waits."""

    RECEIVING = auto()
    """The client sends the request, within `request_timeout`, or `RECEIVE_GRACE` beyond a limit."""
    RUNNING = auto()
    """The handler returns."""
    STREAMING = auto()
    """There is a message to send; the sender of the stream measures the time of each message."""
    SENDING = auto()
    """The client reads one of several responses, within `send_timeout`."""
    ENDING = auto()
    """The client reads the response and the status, within `send_timeout`."""
    ABANDONED = auto()
    """The handler returns, although the client has left.

    The call still counts, because it occupies a thread or waits for one.
    """
    ENDED = auto()
    """No event: the call has ended."""


class OpenCall:
    """One call from the arrival of its headers to its end."""

    __slots__ = ("address", "beyond", "event", "phase", "since", "state")

    def __init__(self, event: Any, state: Any, address: str, since: float) -> None:
        """Create a call that is receiving since `since`; `event` and `state` are objects of grpcio."""
        self.beyond = False
        """True if its address exceeded the bound on unfinished requests when the call came."""
        self.event = event
        self.state = state
        self.address = address
        self.phase = Phase.RECEIVING
        self.since = since

    def abort(self, status: RpcStatus) -> None:
        """End the call with this status unless it has a status; does not wait."""
        state = self.state
        with state.condition:
            if not internals._is_rpc_state_active(state):
                return
            state.code, state.trailing_metadata = status.code, status.trailing_metadata
            state.details = status.details.encode()
            internals._abort(state, self.event.call, cygrpc.StatusCode.unknown, b"")

    def refuse(self, error: IdentityError) -> None:
        """End the call with the status of an error unless it has a status; does not wait."""
        self.abort(to_status(error))

    def receive(self, received: Callable[[bytes | None], None]) -> None:
        """Start to receive one message; `received` gets it, or None if the client sends no more.

        `received` must not wait: it runs in grpcio's serving thread, which serves all calls.
        """
        state = self.state

        def completed(event: Any) -> Any:
            message = event.batch_operations[0].message()
            with state.condition:
                ended = internals._possibly_finish_call(state, _RECEIVE)
            received(message)
            return ended

        with state.condition:
            if internals._is_rpc_state_active(state):
                operations = (cygrpc.ReceiveMessageOperation(0),)
                self.event.call.start_server_batch(operations, completed)
                state.due.add(_RECEIVE)


class OpenCalls:
    """The open calls of one server."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._monotonic = limits.monotonic
        # Only grpcio's serving thread adds and removes calls.
        self._open: set[OpenCall] = set()
        self.waiting = deque[tuple[float, OpenCall, ServerBusyError]]()
        """The calls that are not counted and wait to be refused, with the time of their turn."""
        self.memory = FreedMemory(limits.monotonic)
        """The object that is notified when memory of a large message may be freed."""

    @property
    def open(self) -> Collection[OpenCall]:
        """Return the calls that are open now."""
        return self._open.copy()

    def admit(self, event: Any, state: Any) -> OpenCall | None:
        """Count a new call and return it; if a limit refuses it, return None and end it with an error."""
        limits = self._limits
        peer = event.call.peer().decode()
        address = limits.peers.address_of_call(peer, lambda: event.invocation_metadata)
        call = OpenCall(event, state, address, self._monotonic())
        try:
            limits.calls.acquire(address)
            try:
                call.beyond = limits.receives.acquire(address)
            except ServerBusyError:
                limits.calls.release(address)
                raise
        except ServerBusyError as error:
            if delay := limits.seconds_until_refused(error):
                # Without the traceback: it refers to frames, and thousands of calls may wait.
                self.waiting.append((call.since + delay, call, error.with_traceback(None)))
            else:
                call.refuse(error)
            return None
        self._open.add(call)
        state.callbacks.append(lambda: self._finished(call))
        return call

    def received(self, call: OpenCall) -> bool:
        """Record that the request of a call has arrived; return False if the call had ended before."""
        with call.state.condition:
            if call.phase is not Phase.RECEIVING:
                return False
            call.phase = Phase.RUNNING
        self._limits.receives.release(call.address)
        return True

    def streaming(self, call: OpenCall) -> None:
        """Record that the call is an open stream that waits for the next message to send."""
        with call.state.condition:
            if not call.state.statused and not self._abandoned(call):
                call.phase = Phase.STREAMING

    def sending(self, call: OpenCall) -> None:
        """Record that a message is sent; the client has `send_timeout` to read it."""
        with call.state.condition:
            if not call.state.statused and not self._abandoned(call):
                call.since, call.phase = self._monotonic(), Phase.SENDING

    def ending(self, call: OpenCall) -> None:
        """Record that the handler has answered; the client has `send_timeout` to read the answer."""
        with call.state.condition:
            if call.phase is not Phase.ENDING and not self._abandoned(call):
                # Set the time first: the checking thread reads the phase without the lock.
                call.since, call.phase = self._monotonic(), Phase.ENDING

    def _abandoned(self, call: OpenCall) -> bool:
        """Return whether the call has ended; stop counting it if it only waited for its handler."""
        if call.phase is Phase.ABANDONED:
            call.phase = Phase.ENDED
            self._limits.calls.release(call.address)
        return call.phase is Phase.ENDED

    def _finished(self, call: OpenCall) -> None:
        with call.state.condition:
            phase = call.phase
            call.phase = Phase.ABANDONED if phase is Phase.RUNNING else Phase.ENDED
        self._open.discard(call)
        if phase is Phase.RECEIVING:
            self._limits.receives.release(call.address)
            self.memory.note()
        if phase is not Phase.RUNNING:
            self._limits.calls.release(call.address)


class Receiver(ThreadPoolExecutor):
    """The executor to which grpcio's server submits the calls of a method, here of one that answers once.

    grpcio's server hands each call to a thread of a pool, which then waits for the request and, in a stream,
    for the client to read each message. A few clients that neither send nor read would occupy every thread,
    and no public option changes that. The server hands over a call by calling `submit` of a thread pool;
    that is why this class is an executor.
    """

    def __init__(
        self, calls: OpenCalls, threads: Threads, decompressor: Decompressor, instant: Instant | None = None
    ) -> None:
        """Create a receiver.

        Args:
            calls: the open calls of the server.
            threads: run the calls.
            decompressor: decompresses the requests.
            instant: the function of `UnaryHandler`, which answers some calls in grpcio's serving thread;
                None = a thread answers all.
        """
        super().__init__(1)  # the base class starts no thread, since no job is submitted to it
        self._calls = calls
        self._pool = threads
        self._decompressor = decompressor
        self._instant = instant

    def submit(self, run: Any, handle: Any, event: Any, state: Any, *rest: Any) -> Any:  # type: ignore[override]
        """Take over a call from grpcio's server; return None, which the server treats as "not queued".

        Args:
            run: runs a function in the context of the call (contextvars).
            handle: the function of grpcio's server that serves the call.
            event: grpcio's event of the new call.
            state: grpcio's state of the call.
            rest: the behaviour, the function that returns its request, and the functions that parse and
                serialize messages.
        """
        call = self._calls.admit(event, state)
        if call is not None:
            call.receive(lambda message: self._received(call, message, run, handle, *rest))

    def _received(self, call: OpenCall, message: bytes | None, run: Any, handle: Any, *rest: Any) -> None:
        if not self._calls.received(call):
            return
        if message is None:
            self._calls.memory.note()
            call.abort(_NO_MESSAGE)
            self._calls.ending(call)
            return
        if message[:1] in FIRST_BYTES:
            self._start(call, self._serve_compressed, call, message, run, handle, *rest)
        elif self._instant is None or not self._answered(call, message, run, self._instant):
            self._start(call, self._serve, call, message, run, handle, *rest)

    def _answered(self, call: OpenCall, message: bytes, run: Any, instant: Instant) -> bool:
        """Answer a call in grpcio's serving thread if that takes no time; return whether it has ended."""
        try:
            found, alive = run(internals._call_behavior, call.event, call.state, instant, message, None)
            if alive:
                if found is None:
                    return False
                internals._status(call.event, call.state, found[0])
        except Exception as error:  # noqa: BLE001  # it would end the serving thread
            structlog.get_logger().error("thread_bug", error=type(error).__name__)
            call.event.call.cancel()
        self._calls.ending(call)
        return True

    def _start(self, call: OpenCall, function: Callable[..., None], *args: Any) -> None:
        try:
            self._pool.put((function, args))
        except RuntimeError:
            call.refuse(ShuttingDownError())
            self._calls.ending(call)

    def _serve_compressed(self, call: OpenCall, message: bytes, *rest: Any) -> None:
        """Decompress a request in the thread of its call, and serve it."""
        try:
            opened = self._decompressor.opened(message)
        except WireError as error:
            call.abort(RpcStatus(error.code, str(error), ()))
            self._calls.ending(call)
        else:
            self._serve(call, opened, *rest)

    def _serve(self, call: OpenCall, message: bytes, run: Any, handle: Any, *rest: Any) -> None:
        behaviour, _, parse, serialize = rest
        try:
            run(handle, call.event, call.state, behaviour, lambda: message, parse, serialize)
        finally:
            self._calls.ending(call)
