"""gRPC-Web for the browsers of some origins: an ASGI application in front of the ASGI engine.

gRPC-Web needs neither HTTP/2 nor trailers. The engine behind it sees calls of gRPC.
"""

import asyncio
import base64
from collections.abc import Collection, Mapping
from typing import Any, Final

from identity_service.grpc_api.asgi.web_wire import Base64Decoder, content_type, is_text, trailers_frame
from identity_service.grpc_api.asgi.wire import Headers
from identity_service.transport.asgi import AsgiApp, Event, Receive, Send
from identity_service.transport.client_certificates import OF_ENVOY
from identity_service.transport.web import MAX_AGE, METHOD, PATHS, REQUEST_HEADERS, RESPONSE_HEADERS

_REPLACED: Final = frozenset(
    {
        b"content-type",
        b"content-length",
        b"te",
        # Only an Envoy that runs the service may set it; here there is none, so a client has sent it.
        OF_ENVOY,
    }
)
_AS_GRPC: Final = [(b"content-type", b"application/grpc"), (b"te", b"trailers")]
_CLOSE: Final = (b"connection", b"close")
_FRAMING: Final = (b"content-length", b"transfer-encoding")
_COMMON: Final = [
    (b"vary", b"origin"),
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
]
_PREFLIGHT: Final = [
    (b"access-control-allow-methods", METHOD.encode()),
    (b"access-control-allow-headers", ", ".join(REQUEST_HEADERS).encode()),
    (b"access-control-max-age", str(MAX_AGE).encode()),
]
_EXPOSED: Final = (b"access-control-expose-headers", ", ".join(RESPONSE_HEADERS).encode())
_ENDED: Final[Event] = {"type": "http.request", "body": b"", "more_body": False}


class GrpcWebApp:
    """An ASGI application that serves gRPC-Web, and passes all other requests on to another application."""

    def __init__(self, engine: AsgiApp, others: AsgiApp, origins: Collection[str]) -> None:
        """Create the application.

        Args:
            engine: the ASGI engine. It must bound the time that a request takes to arrive.
            others: serves the requests that are not gRPC-Web, and refuses malformed ones.
            origins: the origins whose pages may call. A request without the header Origin is not a browser's.
        """
        self._engine = engine
        self._others = others
        self._origins = frozenset(origin.encode() for origin in origins)

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """Serve one request."""
        names = {name for name, _ in scope["headers"]}
        of_call = is_text(_first(scope["headers"], b"content-type"))
        is_preflight = scope["method"] == "OPTIONS" and b"access-control-request-method" in names
        if (
            not scope["path"].startswith(PATHS)
            or (of_call is None and not is_preflight)
            or names.issuperset(_FRAMING)
        ):
            await self._others(scope, receive, send)
            return
        origins = {value for name, value in scope["headers"] if name == b"origin"}
        if not origins <= self._origins or (is_preflight and not origins):
            await _refuse(send, 403, b"this origin is not one of the setting web_origins")
            return
        allowed = [(b"access-control-allow-origin", origin) for origin in origins][:1]
        if is_preflight or of_call is None:
            await _answer(
                send, 204, [*allowed, *_PREFLIGHT, *(() if names.isdisjoint(_FRAMING) else (_CLOSE,))]
            )
            return
        exchange = _Exchange(scope, receive, send, allowed, text=of_call)
        await exchange.serve(self._engine)


class _Exchange:
    """One call between gRPC-Web and gRPC. Its coroutines run only on the event loop."""

    def __init__(
        self, scope: Mapping[str, Any], receive: Receive, send: Send, allowed: Headers, *, text: bool
    ) -> None:
        headers = scope["headers"]
        self._scope = {**scope, "headers": [*(h for h in headers if h[0] not in _REPLACED), *_AS_GRPC]}
        self._receive = receive
        self._send = send
        self._allowed = allowed
        self._decoder = Base64Decoder() if text else None
        accepted = is_text(_first(headers, b"accept"))
        self._answers_text = text if accepted is None else accepted
        length = _first(headers, b"content-length")
        self._left = int(length) if length.isdigit() else None
        """Bytes of the body that are to arrive; None = unknown."""
        self._gone: asyncio.Task[None] | None = None
        """Waits for the client to disconnect, from the end of the request."""
        self._started = self._malformed = self._trailers = False

    async def serve(self, engine: AsgiApp) -> None:
        """Have the engine serve the call."""
        try:
            await engine(self._scope, self.receive, self.send)
        finally:
            if self._gone is not None:
                self._gone.cancel()
        if self._malformed and not self._started:
            await _refuse(self._send, 400, b"the body is not base64")

    async def receive(self) -> Event:
        """Return the next event; once the request has arrived, say at once whether the client is there.

        Raises ValueError if the body is not base64.
        """
        if self._gone is not None:
            return {"type": "http.disconnect"} if self._gone.done() else _ENDED
        event = await self._receive()
        if event["type"] != "http.request":
            return event
        body, more = event.get("body", b""), event.get("more_body", False)
        if self._left is not None:
            # The end of the body is known before the server reports it, and the connection can be kept.
            self._left -= len(body)
            more = more and self._left > 0
        if not more:
            self._gone = asyncio.create_task(_disconnected(self._receive))
        return {"type": "http.request", "body": self._decoded(body, more=more), "more_body": more}

    def _decoded(self, body: bytes, *, more: bool) -> bytes:
        if self._decoder is None:
            return body
        try:
            decoded = self._decoder.feed(body)
            if not more:
                self._decoder.end()
        except ValueError:
            self._malformed = True
            raise
        return decoded

    async def send(self, event: Event) -> None:
        """Send one event of the response; trailers become the last part of the body."""
        match event["type"]:
            case "http.response.start":
                self._started, self._trailers = True, event.get("trailers", False)
                await self._send({"type": event["type"], "status": 200, "headers": self._headers(event)})
            case "http.response.body":
                more = self._trailers or event.get("more_body", False)
                await self._send_body(event.get("body", b""), more=more)
            case _:  # http.response.trailers
                await self._send_body(trailers_frame(event["headers"]), more=False)

    def _headers(self, event: Event) -> Headers:
        kept = [h for h in event["headers"] if h[0] not in (b"content-type", b"grpc-accept-encoding")]
        kind = (b"content-type", content_type(text=self._answers_text))
        exposed = [*self._allowed, _EXPOSED] if self._allowed else []
        # Otherwise the unread rest of the body would be taken for the client's next request.
        closing = [] if self._gone is not None else [_CLOSE]
        return [kind, *kept, *_COMMON, *exposed, *closing]

    async def _send_body(self, data: bytes, *, more: bool) -> None:
        if data or not more:
            encoded = base64.b64encode(data) if self._answers_text else data
            await self._send({"type": "http.response.body", "body": encoded, "more_body": more})


async def _disconnected(receive: Receive) -> None:
    """Wait until the client has disconnected."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _refuse(send: Send, status: int, reason: bytes) -> None:
    """Refuse a request, whose body has not been read, with a text that says why."""
    await _answer(send, status, [(b"content-type", b"text/plain"), _CLOSE], reason)


async def _answer(send: Send, status: int, headers: Headers, body: bytes = b"") -> None:
    length = (b"content-length", str(len(body)).encode())
    sized = [] if status == 204 else [length]
    await send({"type": "http.response.start", "status": status, "headers": [*headers, *_COMMON, *sized]})
    await send({"type": "http.response.body", "body": body})


def _first(headers: Headers, wanted: bytes) -> bytes:
    """Return the first value of a header; empty if there is none."""
    return next((value for name, value in headers if name == wanted), b"")
