"""One call of grpcio's server, received and answered by completions of gRPC's core.

Uses the private interface of grpcio (`grpc._server` and its Cython core). pyproject.toml keeps grpcio below
the next minor version, and `check.py` tries it out at start.
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
    """What an open call waits for."""

    RECEIVING = auto()
    """Its client to send the request, for at most `request_timeout`, or `RECEIVE_GRACE`."""
    RUNNING = auto()
    """Its handler."""
    STREAMING = auto()
    """Something to send; the sender of the stream keeps the time of each message."""
    SENDING = auto()
    """Its client to read one of several answers, for at most `send_timeout`."""
    ENDING = auto()
    """Its client to read the answer and the status, for at most `send_timeout`."""
    ABANDONED = auto()
    """Its handler, although its client has left: it still counts, for it has a thread or waits for one."""
    ENDED = auto()
    """Nothing."""


class OpenCall:
    """One call from its headers to its end."""

    __slots__ = ("address", "beyond", "event", "phase", "since", "state")

    def __init__(self, event: Any, state: Any, address: str, since: float) -> None:
        """`event` and `state` are grpcio's; `since` is when the phase began."""
        self.beyond = False
        """Whether its address had more unfinished requests than its bound when the call came."""
        self.event = event
        self.state = state
        self.address = address
        self.phase = Phase.RECEIVING
        self.since = since

    def abort(self, status: RpcStatus) -> None:
        """End the call with this status unless it has one; waits for nothing."""
        state = self.state
        with state.condition:
            if not internals._is_rpc_state_active(state):
                return
            state.code, state.trailing_metadata = status.code, status.trailing_metadata
            state.details = status.details.encode()
            internals._abort(state, self.event.call, cygrpc.StatusCode.unknown, b"")

    def receive(self, received: Callable[[bytes | None], None]) -> None:
        """Begin to receive one message; `received` gets it, or None if the client sends no more.

        It is called by the one thread that serves all calls, and must not wait.
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
    """Implements `ResponseStream` by completions of gRPC's core."""

    def __init__(self, call: OpenCall, ending: Callable[[OpenCall], None]) -> None:
        """`ending` is called when the handler has ended the stream."""
        self._call = call
        self._ending = ending

    @property
    def address(self) -> str:
        return self._call.address

    def send(self, message: bytes, taken: Callable[[], None]) -> None:
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
        if status is not None:
            self._call.abort(status)
        else:
            with self._call.state.condition:
                if internals._is_rpc_state_active(self._call.state):
                    internals._status(self._call.event, self._call.state, None)
        self._ending(self._call)

    def cancel(self) -> None:
        self._call.event.call.cancel()

    def is_active(self) -> bool:
        with self._call.state.condition:
            return bool(internals._is_rpc_state_active(self._call.state))

    def on_end(self, callback: Callable[[], None]) -> bool:
        with self._call.state.condition:
            callbacks = self._call.state.callbacks
            if callbacks is not None:
                callbacks.append(callback)
            return callbacks is not None
