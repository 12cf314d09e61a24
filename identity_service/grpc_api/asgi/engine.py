"""The ASGI engine: an ASGI application that serves handlers.

The ASGI server must support HTTP/2 with trailers (extension http.response.trailers). It listens, terminates
TLS and limits connections. The event loop answers a call if the response is cached or takes a fraction of a
millisecond; all other calls run in the same threads as in the grpcio engine.
"""

import asyncio
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import grpc

from identity_service.domain.errors import (
    IdentityError,
    RequestTimeoutError,
    ServerBusyError,
    ShuttingDownError,
)
from identity_service.grpc_api.asgi.calls import (
    AsgiCall,
    ClientGoneError,
    answer_known,
    arrived,
    await_client,
    receive_from,
    refuse,
    serve_unary,
)
from identity_service.grpc_api.asgi.context import AbortedError, AsgiContext, log_bug, start_telling
from identity_service.grpc_api.asgi.streams import AsgiStream, converse
from identity_service.grpc_api.asgi.wire import PREFIX_BYTES, Message, Unframer, opened, window_of
from identity_service.grpc_api.compression import WireError
from identity_service.grpc_api.engine import (
    MAX_METADATA_BYTES,
    ConversationHandler,
    Handler,
    InstantResponse,
    StreamHandler,
    UnaryHandler,
)
from identity_service.grpc_api.errors import RpcStatus, to_status
from identity_service.transport.asgi import Event, Receive, Send
from identity_service.transport.limits import Limits


class AsgiEngine:
    """The ASGI application that serves the gRPC calls of one process."""

    def __init__(
        self,
        limits: Limits,
        *,
        max_message_bytes: int,
        server_bounds_requests: bool = True,
    ) -> None:
        """Create an engine without methods.

        Args:
            limits: the bounds on the calls and streams that clients may hold open.
            max_message_bytes: the longest message, decompressed; RESOURCE_EXHAUSTED beyond it.
            server_bounds_requests: whether the ASGI server bounds the time that a request takes to arrive, if
                no method has streams of requests.
        """
        self._limits = limits
        self._request_timeout = limits.config.request_timeout.total_seconds()
        self._send_timeout = limits.config.send_timeout.total_seconds()
        self._max_message_bytes = max_message_bytes
        self._first_timeout = None if server_bounds_requests else self._request_timeout
        """The number of seconds that the first part of a request may take to arrive.

        None = the ASGI server bounds it.
        """
        self._handlers: dict[str, Handler] = {}
        # A set, not a counter: an ASGI server may have several event loops, each in its own thread.
        self._calls: set[AsgiContext] = set()
        self._ended = threading.Condition()
        self._stopping = self._stopped = False

    def register(self, method: str, handler: Handler) -> None:
        """Serve a method, by its full name, with this handler."""
        self._handlers[method] = handler
        if isinstance(handler, ConversationHandler):
            self._first_timeout = self._request_timeout

    # The ASGI application

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """Serve one gRPC call."""
        context, quotas = AsgiContext(scope), self._limits
        address = quotas.peers.address_of_call(context.peer(), context.invocation_metadata)
        try:
            quotas.calls.acquire(address)
        except ServerBusyError as error:
            await self._refuse_in_turn(receive, send, error, context)
            return
        self._calls.add(context)
        refused: ServerBusyError | None = None
        try:
            await self._serve(scope, receive, send, context, address)
        except ClientGoneError:
            pass
        except ServerBusyError as error:
            refused = error.with_traceback(None)  # this frame is in it, and would form a cycle with the error
        finally:
            context.end()
            self._calls.discard(context)
            quotas.calls.release(address)
            if self._stopping:
                with self._ended:
                    self._ended.notify_all()
        if refused is not None:  # only after `release`: the refusal may wait for its turn
            await self._refuse_in_turn(receive, send, refused, context)

    async def _refuse_in_turn(
        self, receive: Receive, send: Send, error: ServerBusyError, context: AsgiContext
    ) -> None:
        """Refuse a call that is not counted, when its turn comes.

        A part of the request would occupy memory until then, so if one arrives, the call is refused at once.
        """
        with suppress(ClientGoneError):
            if delay := self._limits.seconds_until_refused(error):
                await await_client(receive, delay)
            context.set_status(to_status(error))
            await refuse(send, context)

    async def _serve(
        self, scope: Mapping[str, Any], receive: Receive, send: Send, context: AsgiContext, address: str
    ) -> None:
        """Receive the first message, run the handler, and send a status.

        Raises ClientGoneError; ServerBusyError, before a status is sent, if a limit is reached.
        """
        limits = self._limits
        try:
            handler, window = self._open(scope, context)
            beyond = limits.receives.acquire(address)
            until = limits.monotonic() + limits.receive_grace if beyond else None
            timeout = self._first_timeout if until is None else limits.receive_grace
            try:
                event = await arrived(receive_from(receive), timeout, context.time_remaining())
                known = self._instant_response(handler, window, event, context)
                if known is None:
                    unframer = Unframer(self._max_message_bytes, window, handler.max_bytes)
                    call = AsgiCall(context, receive, send, unframer)
                    left = self._request_timeout if until is None else max(0.0, until - limits.monotonic())
                    message = await call.read_first(event, left)
            finally:
                limits.receives.release(address)
        except RequestTimeoutError:
            context.set_status(to_status(limits.late_request(address, beyond=beyond)))
            await refuse(send, context)
        except (WireError, AbortedError, TimeoutError) as error:
            context.set_status(_status(error, context))
            await refuse(send, context)
        else:
            if known is None:
                await self._run(handler, call, message, scope["path"], address)
            else:
                response, is_cached = known
                if not is_cached:
                    # All calls that are ready are computed before the first response is sent: each response
                    # wakes the thread of the ASGI server, which would interrupt the computing (bar S2).
                    await asyncio.sleep(0)
                await answer_known(send, response)

    def _open(self, scope: Mapping[str, Any], context: AsgiContext) -> tuple[Handler, int]:
        """Check the headers of a call; return its handler, and the `ENCODINGS` value of its compression.

        Sets the deadline. Raises WireError if the call is refused. The content type is not checked, as gRPC's
        core does not check it either.
        """
        size, window, trailers = 0, 0, False
        for name, value in scope["headers"]:
            size += len(name) + len(value) + 32  # as HTTP/2 counts a header (RFC 9113 section 6.5.2)
            if name == b"te":
                trailers = value == b"trailers"
            elif name == b"grpc-timeout":
                context.limit(value)
            elif name == b"grpc-encoding":
                window = window_of(value)
        if not trailers or scope["method"] != "POST":
            raise WireError(grpc.StatusCode.INTERNAL, "gRPC needs POST and te: trailers")
        if size > MAX_METADATA_BYTES:
            raise WireError(grpc.StatusCode.RESOURCE_EXHAUSTED, "the metadata is longer than the limit")
        if self._stopped:
            raise WireError(grpc.StatusCode.UNAVAILABLE, ShuttingDownError.message)
        # The method is the path as it was sent, as in gRPC's core: a proxy in front may compare that.
        is_other = b"%" in (scope.get("raw_path") or b"") or scope.get("query_string")
        handler = None if is_other else self._handlers.get(scope["path"])
        if handler is None:
            raise WireError(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")
        return handler, window

    def _instant_response(
        self, handler: Handler, window: int, event: Event, context: AsgiContext
    ) -> InstantResponse | None:
        """Return the response if the handler has it at once, else None. Raises AbortedError.

        The handler is asked only if the first event is one whole, uncompressed message, as it nearly always
        is.
        """
        if not isinstance(handler, UnaryHandler) or handler.instant is None:
            return None
        if window or event.get("more_body", True):
            return None
        body = event["body"]
        length = len(body) - PREFIX_BYTES
        whole = 0 <= length <= self._max_message_bytes and body[:PREFIX_BYTES] == b"\0" + length.to_bytes(
            4, "big"
        )
        return handler.instant(body[PREFIX_BYTES:], context) if whole else None

    async def _run(self, handler: Handler, call: AsgiCall, message: Message, path: str, address: str) -> None:
        """Serve a call whose first message has arrived, and send its status. Raises ClientGoneError."""
        context = call.context
        try:
            match handler:
                case UnaryHandler():
                    await serve_unary(handler, call, message)
                case StreamHandler():
                    stream = AsgiStream(call, address, asyncio.get_running_loop(), self._send_timeout)
                    await stream.serve(handler, opened(message))
                case ConversationHandler():
                    await converse(handler, call, opened(message), self._send_timeout)
        except ClientGoneError:
            raise
        except Exception as error:  # noqa: BLE001  # an error of a servicer must not end other calls
            status = _status(error, context)
            if status.code is grpc.StatusCode.UNKNOWN:
                log_bug(path, error)
            context.set_status(status)
            context.end()
            with suppress(Exception):  # the client may have disconnected meanwhile
                await call.finish()

    # The interface of an engine

    def start(self) -> int:
        """Start the thread for callbacks, and return 0, since the ASGI server owns the port.

        Raises RuntimeError if the system gives no thread.
        """
        start_telling()
        return 0

    def stop(self, grace: float) -> bool:
        """Wait at most `grace` seconds until no call is in progress; return whether all have ended.

        Afterwards, new calls are refused. Must not be called from an event loop's thread.
        """
        self._stopping = True
        with self._ended:
            done = self._ended.wait_for(lambda: not self._calls, grace)
        self._stopped = True
        return done


def _status(error: Exception, context: AsgiContext) -> RpcStatus:
    """Return the status of a call that ended by this error.

    The text of an unexpected exception is not sent: it may hold values of the request.
    """
    trailing = context.trailing_metadata()
    if isinstance(error, TimeoutError) or context.time_remaining() == 0:
        return RpcStatus(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded", trailing)
    if isinstance(error, WireError):
        return RpcStatus(error.code, str(error), trailing)
    if isinstance(error, AbortedError):
        return RpcStatus(context.code() or grpc.StatusCode.UNKNOWN, context.details(), trailing)
    if isinstance(error, IdentityError):  # the call could not be handed to a thread
        return to_status(error)
    return RpcStatus(grpc.StatusCode.UNKNOWN, "Exception calling application", trailing)
