"""Serves every kind of method through the completion queue of gRPC's core, and ends calls of slow clients.

No call holds a thread while its client is slow. `calls.py` receives the calls.
"""

from collections.abc import Callable
from typing import Any, Final

import grpc
import grpc._server as internals
from grpc._cython import cygrpc  # type: ignore[attr-defined]

from identity_service.grpc_api.compression import Decompressor, WireError
from identity_service.grpc_api.core.calls import OpenCall, OpenCalls, Phase, Receiver
from identity_service.grpc_api.engine import ConversationHandler, StreamHandler, UnaryHandler
from identity_service.grpc_api.errors import RpcStatus
from identity_service.grpc_api.threads import Threads
from identity_service.process.background import BackgroundThread, every
from identity_service.transport.limits import Limits

_SEND: Final = "send_message"
_CHECK_INTERVAL: Final = 0.1
"""Seconds between two checks for calls with slow clients; a check takes 0.2 ms per 1,000 calls."""
_CLIENT_READS: Final = (Phase.SENDING, Phase.ENDING)
"""The phases that end when the client has read the sent message."""


class CoreStream:
    """A `ResponseStream` that sends through the completion queue of gRPC's core."""

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


class StreamReceiver(Receiver):
    """The receiver of methods that get a `ResponseStream` and leave it open."""

    def _serve(self, call: OpenCall, message: bytes, run: Any, _: Any, *rest: Any) -> None:
        self._calls.streaming(call)
        stream = CoreStream(call, self._calls.ending)
        _, opened = run(internals._call_behavior, call.event, call.state, rest[0], message, None, stream)
        if not opened:
            self._calls.ending(call)


class ConversationReceiver(Receiver):
    """The receiver of bidirectional methods that answer each message by itself.

    The behaviour gets the context and returns the function that answers one message.
    """

    def _serve(self, call: OpenCall, message: bytes, run: Any, _: Any, *rest: Any) -> None:
        def open_(data: bytes, context: grpc.ServicerContext) -> Callable[[bytes], bytes]:  # noqa: ARG001
            answer: Callable[[bytes], bytes] = rest[0](context)
            return answer

        self._calls.streaming(call)
        answer, opened = run(internals._call_behavior, call.event, call.state, open_, b"", None)
        if opened:
            self._answer(call, message, run, answer)
        else:
            self._calls.ending(call)

    def _serve_compressed(self, call: OpenCall, message: bytes, *rest: Any) -> None:
        self._serve(call, message, *rest)  # each message is decompressed when it is answered

    def _answer(self, call: OpenCall, message: bytes, run: Any, answer: Callable[[bytes], bytes]) -> None:
        def respond(data: bytes, context: grpc.ServicerContext) -> bytes:
            try:
                opened = self._decompressor.opened(data)
            except WireError as error:
                context.abort(error.code, str(error))
            return answer(opened)

        stream = CoreStream(call, self._calls.ending)
        response, answered = run(internals._call_behavior, call.event, call.state, respond, message, None)

        def received(following: bytes | None) -> None:
            if following is None:
                stream.end(None)
            else:
                self._start(call, self._answer, call, following, run, answer)

        def taken() -> None:
            self._calls.streaming(call)
            call.receive(received)

        if answered:
            self._calls.sending(call)
            stream.send(response, taken)
        else:
            self._calls.ending(call)


class SlowClients:
    """A checker of the open calls of one server. One thread at a time calls `check`."""

    def __init__(self, calls: OpenCalls, limits: Limits) -> None:
        self._calls = calls
        self._limits = limits
        self._request_timeout = limits.config.request_timeout.total_seconds()
        self._send_timeout = limits.config.send_timeout.total_seconds()

    def check(self) -> None:
        """End the calls whose time is over, and return freed memory to the system."""
        self._calls.memory.release()
        now = self._limits.monotonic()
        self._refuse_waiting(now)
        for call in self._calls.open:
            if call.phase is Phase.RECEIVING:
                timeout = self._limits.receive_grace if call.beyond else self._request_timeout
                if now - call.since > timeout:
                    self._stop_receiving(call)
            elif call.phase in _CLIENT_READS and now - call.since > self._send_timeout:
                self._limits.hit("send_timeout", call.address)
                call.event.call.cancel()

    def _refuse_waiting(self, now: float) -> None:
        waiting = self._calls.waiting
        while waiting and waiting[0][0] <= now:
            _, call, error = waiting.popleft()
            call.refuse(error)
            self._calls.memory.note()

    def _stop_receiving(self, call: OpenCall) -> None:
        with call.state.condition:
            if self._calls.received(call):
                call.refuse(self._limits.late_request(call.address, beyond=call.beyond))
                self._calls.ending(call)
                self._calls.memory.note()


class CompletionServing:
    """A server of methods that uses the completion queue of gRPC's core."""

    def __init__(self, limits: Limits, max_message_bytes: int, *, at_once: bool) -> None:
        """Create a server.

        Args:
            limits: the bounds on the calls and streams that clients may hold open.
            max_message_bytes: the longest message, even after it is decompressed.
            at_once: whether calls that need no waiting are answered in grpcio's serving thread.
        """
        self._calls = OpenCalls(limits)
        check = SlowClients(self._calls, limits).check
        self._checking = BackgroundThread("identity-calls", every(_CHECK_INTERVAL, check))
        self._max_message_bytes = max_message_bytes
        self._at_once = at_once
        unused = Threads(1, "identity-unused")
        self.default = Receiver(self._calls, unused, self._decompressor(None))
        """The receiver for grpcio's server; unused, because each method has its own."""

    @property
    def max_calls(self) -> int | None:
        """Return None: grpcio's server need not limit the calls, because `OpenCalls` counts them."""
        return None

    @property
    def is_busy(self) -> bool:
        """Return whether a call is in progress."""
        return bool(self._calls.open)

    def start(self) -> None:
        """Start checking for slow clients."""
        self._checking.start()

    def close(self) -> None:
        """Stop checking for slow clients."""
        self._checking.close()

    def unary(self, handler: UnaryHandler) -> Any:
        """Return the behaviour with which grpcio serves this handler."""
        decompressor = self._decompressor(handler.max_bytes)
        instant = handler.instant if self._at_once else None
        receiver = Receiver(self._calls, handler.threads, decompressor, instant)
        return _received_by(receiver, handler.answer)

    def stream(self, handler: StreamHandler) -> Any:
        """Return the behaviour with which grpcio serves this handler."""
        receiver = StreamReceiver(self._calls, handler.threads, self._decompressor(handler.max_bytes))
        return _received_by(receiver, handler.open)

    def conversation(self, handler: ConversationHandler) -> Any:
        """Return the behaviour with which grpcio serves this handler."""
        receiver = ConversationReceiver(self._calls, handler.threads, self._decompressor(handler.max_bytes))
        return _received_by(receiver, handler.open)

    def _decompressor(self, enough: int | None) -> Decompressor:
        return Decompressor(max_bytes=self._max_message_bytes, enough=enough)


def _received_by(receiver: Receiver, behaviour: Any) -> Any:
    # grpcio finds the pool of a method only in this attribute of its behaviour.
    behaviour.experimental_thread_pool = receiver
    return behaviour
