"""One call of grpcio's server, received and answered by completions of gRPC's core.

Uses the private interface of grpcio (`grpc._server` and its Cython core). pyproject.toml keeps grpcio below
the next minor version, and `check.py` tests at start that the interface works.
"""

from collections.abc import Callable
from enum import Enum, auto
from typing import Any, Final

import grpc._server as internals
from grpc._cython import cygrpc  # type: ignore[attr-defined]

from identity_service.grpc_api.errors import RpcStatus

_RECEIVE: Final = "receive_message"
_SEND: Final = "send_message"


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
    """None: the call has ended."""


class OpenCall:
    """One call from the arrival of its headers to its end."""

    __slots__ = ("address", "beyond", "event", "phase", "since", "state")

    def __init__(self, event: Any, state: Any, address: str, since: float) -> None:
        """Create a call that is receiving since `since`; `event` and `state` are objects of grpcio."""
        self.beyond = False
        """Whether its address exceeded the bound on unfinished requests when the call came."""
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


class CoreStream:
    """A `ResponseStream` that sends by completions of gRPC's core."""

    def __init__(self, call: OpenCall, ending: Callable[[OpenCall], None]) -> None:
        """Create a stream of a call; `ending` is called when the handler has ended the stream."""
        self._call = call
        self._ending = ending

    @property
    def address(self) -> str:
        """Return the address under which the client counts; empty if exempt."""
        return self._call.address

    def send(self, message: bytes, taken: Callable[[], None]) -> None:
        """Start to send one message; `taken` is called when the core has taken it or the call has ended."""
        state = self._call.state

        def completed(_: Any) -> Any:
            with state.condition:
                ended = internals._possibly_finish_call(state, _SEND)
            taken()
            return ended

        with state.condition:
            active = internals._is_rpc_state_active(state)
            if active:
                operations = [cygrpc.SendMessageOperation(message, 0)]
                if state.initial_metadata_allowed:
                    operations.insert(0, internals._get_initial_metadata_operation(state, None))
                    state.initial_metadata_allowed = False
                self._call.event.call.start_server_batch(operations, completed)
                state.due.add(_SEND)
        if not active:
            taken()

    def end(self, status: RpcStatus | None) -> None:
        """End the stream with this status; None = OK."""
        if status is not None:
            self._call.abort(status)
        else:
            with self._call.state.condition:
                if internals._is_rpc_state_active(self._call.state):
                    internals._status(self._call.event, self._call.state, None)
        self._ending(self._call)

    def cancel(self) -> None:
        """End the call at once."""
        self._call.event.call.cancel()

    def is_active(self) -> bool:
        """Return whether the call is still open."""
        with self._call.state.condition:
            return bool(internals._is_rpc_state_active(self._call.state))

    def on_end(self, callback: Callable[[], None]) -> bool:
        """Register a callback that runs when the call ends; return False if it has ended already."""
        with self._call.state.condition:
            callbacks = self._call.state.callbacks
            if callbacks is not None:
                callbacks.append(callback)
            return callbacks is not None
