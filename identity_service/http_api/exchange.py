"""One request and its answer, between ASGI and the values of `messages.py`."""

import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from identity_service.domain.origin import Origin
from identity_service.http_api.messages import HttpRequest, HttpResponse
from identity_service.http_api.peers import certificate_of, grpc_peer
from identity_service.telemetry.call_ids import REQUEST_ID, request_id
from identity_service.transport.asgi import Send
from identity_service.transport.quotas import Peers, endpoint_of

_COMMON: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
)
_NO_STORE: Final = (b"cache-control", b"no-store")
_CLOSE: Final = (b"connection", b"close")
_WITHOUT_LENGTH: Final = (204, 304)
"""The statuses of answers without a body, whose length is not sent (RFC 9110 section 8.6)."""


class Exchange:
    """The client of one request, and the answer to it; adds the headers that every answer has."""

    def __init__(self, scope: Mapping[str, Any], send: Send, peers: Peers) -> None:
        """Read the sender of a request; `peers` tells for which client a trusted proxy forwards it."""
        self._send = send
        self._is_head = scope["method"] == "HEAD"
        self._is_http1 = scope["http_version"] not in ("2", "3")  # a client may name any, such as 9.9
        self.headers = headers = [(n.decode("latin-1"), v.decode("latin-1")) for n, v in scope["headers"]]
        """The headers of the request."""
        self.header_bytes = sum(len(name) + len(value) + 32 for name, value in headers)
        """The length of the headers as HTTP/2 counts it (RFC 9113 section 6.5.2). 32 KiB have room for 6,500
        empty headers, which took 45 ms of the event loop; so counted, they are a thousand at most."""
        names = {name for name, _ in headers}
        self.has_two_lengths = names >= {"transfer-encoding", "content-length"}
        """True if the request gives the length of its body twice. A proxy in front may have gone by the other
        length; it would then take a request of one client for a part of another's (RFC 9112 section 6.1)."""
        self.request_id = request_id(value for name, value in headers if name == REQUEST_ID)
        peer = grpc_peer(scope["client"])
        client = peers.client_of(peer, lambda: headers)
        self.peer = client or endpoint_of(peer)
        """The client as host:port; empty if it has no network address."""
        self.address = peers.address_of_client(peer, client)
        """The address under which the request counts; empty if it is exempt."""
        self.certificate = peers.certificate_of(peer, lambda: headers, lambda: certificate_of(scope))
        """The client certificate, of the connection or as a trusted proxy forwards it; None = none."""
        self.status: int | None = None
        """The status of the answer; None until it is sent."""
        self.path: str | None = None
        """The path of the route; None if there is none."""
        self.reason = ""
        """The reason of the error by which the request ended; empty if an endpoint has answered."""
        self.is_quiet = False
        """True if the request is logged at level debug only, unless it fails."""
        # A client that is refused before it was asked for its body may send its next request instead. The
        # beginning of that request would be read as the body (RFC 9110 section 10.1.1).
        self.closes = "expect" in names
        """True if the connection ends with the answer, since the request has not been read."""
        self._started_at = time.perf_counter()

    @property
    def milliseconds(self) -> float:
        """Return the time since the request began."""
        return round((time.perf_counter() - self._started_at) * 1000, 3)

    async def send(self, answer: HttpResponse) -> None:
        """Send the answer; do nothing if the client has disconnected."""
        self.status = answer.status
        headers, body = self._headers(answer), b"" if self._is_head else answer.body
        with suppress(Exception):  # ASGI servers have no common error for a client that has disconnected
            await self._send({"type": "http.response.start", "status": answer.status, "headers": headers})
            await self._send({"type": "http.response.body", "body": body})

    def _headers(self, answer: HttpResponse) -> list[tuple[bytes, bytes]]:
        headers = [(name.lower().encode(), value.encode()) for name, value in answer.headers]
        headers += (*_COMMON, (REQUEST_ID.encode(), self.request_id.encode()))
        if answer.status not in _WITHOUT_LENGTH:
            headers.append((b"content-length", str(len(answer.body)).encode()))
        if all(name != _NO_STORE[0] for name, _ in headers):
            headers.append(_NO_STORE)
        if self.closes and self._is_http1:
            headers.append(_CLOSE)
        return headers


def to_message(scope: Mapping[str, Any], body: bytes, exchange: Exchange) -> HttpRequest:
    """Return a request that has arrived completely as a value."""
    headers: dict[str, tuple[str, ...]] = {}
    for name, value in exchange.headers:
        headers[name] = (*headers.get(name, ()), value)
    return HttpRequest(
        method=scope["method"],
        path=scope["path"],
        query=scope["query_string"],
        headers=headers,
        body=body,
        origin=Origin(peer=exchange.peer, request_id=exchange.request_id, certificate=exchange.certificate),
    )
