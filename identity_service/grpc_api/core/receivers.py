"""Replacements for the thread pools of grpcio's server: they receive the request before they take a thread.

grpcio's server hands each call to a thread, which then waits for the request and, in a stream, for the client
to read each message. A few clients that neither send nor read would occupy every thread, and no public option
changes that. grpcio's server hands over a call by calling `submit` of a thread pool; that is why these
classes are executors.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import grpc
import grpc._server as internals
from grpc._cython import cygrpc  # type: ignore[attr-defined]

from identity_service.domain.errors import IdentityError, NotReadyError, ShuttingDownError
from identity_service.grpc_api.compression import FIRST_BYTES, Decompressor, WireError
from identity_service.grpc_api.core.calls import OpenCall, OpenCalls
from identity_service.grpc_api.engine import ConversationHandler, StreamHandler, UnaryHandler
from identity_service.grpc_api.errors import RpcStatus
from identity_service.grpc_api.threads import Threads
from identity_service.transport.limits import Limits

_SEND: Final = "send_message"
_NO_MESSAGE: Final = RpcStatus(
    grpc.StatusCode.UNIMPLEMENTED, "the method takes exactly one request message", ()
)


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


class Receiver(ThreadPoolExecutor):
    """The executor to which grpcio's server submits the calls of a method."""

    def __init__(self, calls: OpenCalls, threads: Threads, decompressor: Decompressor) -> None:
        super().__init__(1)  # the base class starts no thread, since no job is submitted to it
        self._calls = calls
        self._pool = threads
        self._decompressor = decompressor

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
            self._calls.note_unfinished()
            call.abort(_NO_MESSAGE)
            self._calls.ending(call)
            return
        serve = self._serve_compressed if message[:1] in FIRST_BYTES else self._serve
        self._start(call, serve, call, message, run, handle, *rest)

    def _start(self, call: OpenCall, function: Callable[..., None], *args: Any) -> None:
        try:
            self._pool.start(function, *args)
        except RuntimeError:
            self._refuse(call, ShuttingDownError("this process is stopping; reconnect"))
        except NotReadyError as error:
            self._refuse(call, error)

    def _refuse(self, call: OpenCall, error: IdentityError) -> None:
        call.refuse(error)
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
        raise NotImplementedError


class UnaryReceiver(Receiver):
    """The receiver of methods that answer once."""

    def _serve(self, call: OpenCall, message: bytes, run: Any, handle: Any, *rest: Any) -> None:
        behaviour, _, parse, serialize = rest
        try:
            run(handle, call.event, call.state, behaviour, lambda: message, parse, serialize)
        finally:
            self._calls.ending(call)


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


class CompletionServing:
    """A server of methods by completions of gRPC's core."""

    def __init__(self, limits: Limits, max_message_bytes: int) -> None:
        """Create a server; `max_message_bytes` bounds messages, also after they are decompressed."""
        self._calls = OpenCalls(limits)
        self._max_message_bytes = max_message_bytes
        unused = Threads(1, "identity-unused")
        self.default = UnaryReceiver(self._calls, unused, self._decompressor(None))
        """The receiver for grpcio's server; unused, because each method has its own."""

    @property
    def max_calls(self) -> int | None:
        """Return None: grpcio's server need not limit the calls, because `OpenCalls` counts them."""
        return None

    @property
    def is_busy(self) -> bool:
        """Return whether a call is in progress."""
        return self._calls.are_any

    def start(self) -> None:
        """Start checking for slow clients."""
        self._calls.thread.start()

    def close(self) -> None:
        """Stop checking for slow clients."""
        self._calls.thread.close()

    def unary(self, handler: UnaryHandler) -> Any:
        """Return the behaviour with which grpcio serves this handler."""
        receiver = UnaryReceiver(self._calls, handler.threads, self._decompressor(handler.max_bytes))
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
