"""One request and its answer, between ASGI and the values of `messages.py`."""

import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from identity_service.domain.errors import ServerBusyError
from identity_service.domain.origin import Origin
from identity_service.http_api.messages import HttpRequest, HttpResponse
from identity_service.http_api.peers import certificate_of, grpc_peer
from identity_service.telemetry.call_ids import REQUEST_ID, request_id
from identity_service.transport.quotas import Peers, endpoint_of

Event = MutableMapping[str, Any]
Send = Callable[[Event], Awaitable[None]]
_COMMON: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
)
_NO_STORE: Final = (b"cache-control", b"no-store")
_CLOSE: Final = (b"connection", b"close")


class Exchange:
    """The client of one request, and the answer to it; adds the headers that every answer has."""

    def __init__(self, scope: Mapping[str, Any], send: Send, peers: Peers) -> None:
        """Read the sender of a request; `peers` tells for which client a trusted proxy forwards it."""
        self._send = send
        self._is_head = scope["method"] == "HEAD"
        self._is_http1 = scope["http_version"] not in ("2", "3")  # a client may name any, such as 9.9
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        self.header_bytes = sum(len(name) + len(value) + 4 for name, value in headers)
        names = {name for name, _ in headers}
        self.has_two_lengths = b"transfer-encoding" in names and b"content-length" in names
        """True if the request gives the length of its body twice. A proxy in front may have gone by the other
        length; it would then take a request of one client for a part of another's (RFC 9112 section 6.1)."""
        self.request_id = request_id(
            value.decode("latin-1") for name, value in headers if name == REQUEST_ID.encode()
        )
        peer = grpc_peer(scope["client"])

        def metadata() -> Iterable[tuple[str, str]]:
            return ((name.decode("latin-1"), value.decode("latin-1")) for name, value in headers)

        client = peers.client_of(peer, metadata)
        self.peer = client or endpoint_of(peer)
        """The client as host:port; empty if it has no network address."""
        self.address = peers.address_of_client(peer, client)
        """The address under which the request counts; empty if it is exempt."""
        self.certificate = peers.certificate_of(peer, metadata, lambda: certificate_of(scope))
        """The client certificate, of the connection or as a trusted proxy forwards it; None = none."""
        self.status: int | None = None
        """The status of the answer; None until it is sent."""
        self.path: str | None = None
        """The path of the route; None if there is none."""
        self.reason = ""
        """The reason of the error by which the request ended; empty if an endpoint has answered."""
        self.is_quiet = False
        """True if the request is logged at level debug only, unless it fails."""
        self.refused: ServerBusyError | None = None
        """The error with which the request is refused before its body has arrived; None unless it is."""
        # A client that is refused before it was asked for its body may send its next request instead. The
        # beginning of that request would be read as the body (RFC 9110 section 10.1.1).
        self.closes = b"expect" in names
        """True if the connection ends with the answer, since the request has not been read."""
        self._started_at = time.perf_counter()
        self._gone = False

    @property
    def milliseconds(self) -> float:
        """Return the time since the request began."""
        return round((time.perf_counter() - self._started_at) * 1000, 3)

    async def send(self, event: Event) -> None:
        """Send one event of the answer; do nothing if the client has disconnected."""
        if event["type"] == "http.response.start":
            self.status = event["status"]
            event = {**event, "headers": self._completed(event["headers"])}
        elif self._is_head:
            event = {**event, "body": b""}
        if self._gone:
            return
        try:
            await self._send(event)
        except Exception:  # noqa: BLE001  # ASGI servers have no common error for a client that has disconnected
            self._gone = True

    def _completed(self, headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        added = [*_COMMON, (REQUEST_ID.encode(), self.request_id.encode())]
        if all(name != _NO_STORE[0] for name, _ in headers):
            added.append(_NO_STORE)
        if self.closes and self._is_http1:
            added.append(_CLOSE)
        return [*headers, *added]


def to_message(request: Request, body: bytes, exchange: Exchange) -> HttpRequest:
    """Return a request that has arrived completely as a value."""
    headers: dict[str, tuple[str, ...]] = {}
    for name, value in request.headers.items():
        headers[name] = (*headers.get(name, ()), value)
    return HttpRequest(
        method=request.method,
        path=request.scope["path"],
        query=request.scope["query_string"],
        headers=headers,
        body=body,
        origin=Origin(peer=exchange.peer, request_id=exchange.request_id, certificate=exchange.certificate),
    )


def to_response(answer: HttpResponse) -> Response:
    """Return an answer as Starlette sends it.

    Raises ValueError if a header holds anything but visible ASCII characters and blanks: it could split the
    answer.
    """
    response = Response(answer.body, answer.status)
    for name, value in answer.headers:
        if not (value.isascii() and value.isprintable()):
            raise ValueError(f"the header {name} of an answer is not printable ASCII")
        response.headers.append(name, value)
    return response
