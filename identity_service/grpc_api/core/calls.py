"""The open calls of one grpcio server: received by completions, counted, and ended if their clients are slow.

The module uses the private interface of grpcio (`grpc._server` and its Cython core). pyproject.toml keeps
grpcio below the next minor version, and `check.py` tests at start that the interface works.
"""

from collections import deque
from collections.abc import Callable
from enum import Enum, auto
from typing import Any, Final

import grpc._server as internals
from grpc._cython import cygrpc  # type: ignore[attr-defined]

from identity_service.domain.errors import IdentityError, RequestTimeoutError, ServerBusyError
from identity_service.grpc_api.core.memory import FreedMemory
from identity_service.grpc_api.errors import RpcStatus, to_status
from identity_service.process.background import BackgroundThread, every
from identity_service.transport.limits import Limits

_RECEIVE: Final = "receive_message"
_CHECK_INTERVAL: Final = 0.1
"""Seconds between two checks for calls with slow clients; a check takes 0.2 ms per 1,000 calls."""


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


_CLIENT_READS: Final = (Phase.SENDING, Phase.ENDING)
"""The phases that end when the client has read the sent message."""


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
        self._request_timeout = limits.config.request_timeout.total_seconds()
        self._send_timeout = limits.config.send_timeout.total_seconds()
        # Only grpcio's serving thread adds and removes calls.
        self._open: set[OpenCall] = set()
        self._waiting = deque[tuple[float, OpenCall, ServerBusyError]]()
        """The calls that are not counted and wait to be refused, with the time of their turn."""
        self._memory = FreedMemory(limits.monotonic)
        self.thread = BackgroundThread("identity-calls", every(_CHECK_INTERVAL, self._check))
        """The thread that ends the calls of slow clients, from its start until it is closed."""

    @property
    def are_any(self) -> bool:
        """Return whether any call is open."""
        return bool(self._open)

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
                self._waiting.append((call.since + delay, call, error.with_traceback(None)))
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

    def note_unfinished(self) -> None:
        """Record that a client ended its request early, which may leave memory of a large message."""
        self._memory.note()

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
            self._memory.note()
        if phase is not Phase.RUNNING:
            self._limits.calls.release(call.address)

    def _check(self) -> None:
        self._memory.release()
        now = self._monotonic()
        self._refuse_waiting(now)
        for call in self._open.copy():
            if call.phase is Phase.RECEIVING:
                timeout = self._limits.receive_grace if call.beyond else self._request_timeout
                if now - call.since > timeout:
                    self._stop_receiving(call)
            elif call.phase in _CLIENT_READS and now - call.since > self._send_timeout:
                self._limits.hit("send_timeout", call.address)
                call.event.call.cancel()

    def _refuse_waiting(self, now: float) -> None:
        while self._waiting and self._waiting[0][0] <= now:
            _, call, error = self._waiting.popleft()
            call.refuse(error)
            self._memory.note()

    def _stop_receiving(self, call: OpenCall) -> None:
        with call.state.condition:
            if self.received(call):
                call.refuse(self._timeout_error(call))
                self.ending(call)
                self._memory.note()

    def _timeout_error(self, call: OpenCall) -> IdentityError:
        if call.beyond:
            return self._limits.end_grace(call.address)
        self._limits.hit("request_timeout", call.address)
        return RequestTimeoutError(self._request_timeout)
