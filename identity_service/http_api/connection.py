"""One connection of the HTTP listener: uvicorn's, with limits on slow clients.

uvicorn bounds neither how long a client may take to send its headers, nor how long it may take to read.
"""

import asyncio
import re
import ssl
from collections.abc import Callable
from datetime import timedelta
from email.utils import formatdate
from typing import Any, Final

import h11
import structlog
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from identity_service.domain.errors import ServerBusyError
from identity_service.http_api.peers import grpc_peer, with_certificate
from identity_service.transport.client_certificates import certificate_in, has_expired
from identity_service.transport.limits import Limits

_MAX_CHUNKS: Final = 1024
"""The largest number of chunks of a body. A chunk of 6 bytes takes about as much time of the event loop as a
longer one: without a limit, eight clients that sent such chunks kept all others waiting for a minute."""
_PIECE: Final = 16 * 1024
"""Bytes that are parsed at once, so that long headers are refused before they are parsed."""
_ORIGIN: Final = re.compile(rb"https?://[^/?#@]+", re.IGNORECASE)
"""The beginning of a request target in the absolute form, up to its path."""
_LATE: Final = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
_BUSY: Final = (
    b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 1\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
)


class _Parser(h11.Connection):
    """h11's parser of requests, which limits the number of chunks, and reads targets in the absolute form."""

    def __init__(self, max_header_bytes: int | None) -> None:
        super().__init__(h11.SERVER, max_header_bytes or _PIECE)
        self._chunks = 0

    def next_event(self) -> Any:
        """Return the next event. Raises RemoteProtocolError if it is malformed, or one chunk too many."""
        event = super().next_event()
        if isinstance(event, h11.Request):
            self._chunks = 0
            return _in_origin_form(event)
        if isinstance(event, h11.Data):
            self._chunks += event.chunk_start
            if self._chunks > _MAX_CHUNKS:
                raise h11.RemoteProtocolError(f"the body has more than {_MAX_CHUNKS} chunks")
        return event


def _in_origin_form(request: h11.Request) -> h11.Request:
    """Return a request whose target is a path and a query.

    A server must accept the absolute form, such as `http://host/path`, as well (RFC 9112 section 3.2.2). The
    host that a client names has no meaning here, in neither form.
    """
    origin = _ORIGIN.match(request.target)
    if origin is None:
        return request
    rest = request.target[origin.end() :]
    return h11.Request(
        method=request.method,
        headers=request.headers,
        target=rest if rest.startswith(b"/") else b"/" + rest,
        http_version=request.http_version,
    )


class HttpConnection(H11Protocol):
    """A connection whose client has `request_timeout` for its headers, and `send_timeout` to read.

    From the first byte of a request until its headers are complete, it counts toward `max_receives`; the
    application counts the rest of the request. At `max_age` it ends, after the answer that is being made.
    """

    def __init__(self, config: Config, state: ServerState, limits: Limits, max_age: timedelta) -> None:
        super().__init__(config=config, server_state=state, app_state={})
        self.conn = _Parser(config.h11_max_incomplete_event_size)
        self.lost = asyncio.Event()
        """Set when the connection has ended."""
        self._limits = limits
        self._max_age = max_age.total_seconds()
        self._aging: asyncio.TimerHandle | None = None
        """The timer that runs until the connection is too old."""
        self._address = ""
        self._reading: asyncio.TimerHandle | None = None
        """The timer that runs while the client has to send the headers of a request."""
        self._writing: asyncio.TimerHandle | None = None
        """The timer that runs while the client has to read."""
        self._is_counted = False
        self._is_brief = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._note_certificate(transport.get_extra_info("ssl_object"))
        # Any byte that the client does not read at once pauses the writing, and so starts the timer.
        transport.set_write_buffer_limits(high=1, low=0)
        self._address = self._limits.peers.connection_address_of(grpc_peer(self.client))
        self._reading = self._later(self._limits.config.request_timeout.total_seconds(), self._end_reading)
        self._aging = self._later(self._max_age, self.shutdown)

    def _note_certificate(self, tls: ssl.SSLObject | None) -> None:
        """Pass the client certificate on to the application."""
        shown = tls.getpeercert(binary_form=True) if tls is not None else None
        if tls is None or shown is None:
            return
        pem = ssl.DER_cert_to_PEM_cert(shown).encode()
        if tls.session_reused and has_expired(pem):
            self.transport.abort()
        self.app_state = with_certificate(self.app_state, certificate_in(pem))

    def data_received(self, data: bytes) -> None:
        """Read a part of a request; wait for the rest of its headers unless they are complete."""
        self.server_state.default_headers = [(b"date", formatdate(usegmt=True).encode())]
        for start in range(0, len(data), _PIECE):
            if not self.transport.is_closing():
                super().data_received(data[start : start + _PIECE])
        self._watch_reading()

    def on_response_complete(self) -> None:
        """Wait for the rest of a body that was refused, or of a next request that was sent ahead."""
        super().on_response_complete()
        self._watch_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """Release what the connection counts for."""
        super().connection_lost(exc)
        self._stop_waiting()
        if self._aging is not None:
            self._aging.cancel()
        self.resume_writing()
        self.lost.set()

    def pause_writing(self) -> None:
        """Begin to wait for the client to read."""
        super().pause_writing()
        if self._writing is None:
            self._writing = self._later(self._limits.config.send_timeout.total_seconds(), self._end_writing)

    def resume_writing(self) -> None:
        """Note that the client has read all that was sent."""
        super().resume_writing()
        if self._writing is not None:
            self._writing.cancel()
            self._writing = None

    def send_400_response(self, msg: str) -> None:
        """Answer a malformed request, if an answer is still possible, and close the connection."""
        log: Any = structlog.get_logger("identity.http")
        log.info("http", status=400, reason="MALFORMED_REQUEST")
        try:
            super().send_400_response(msg)
        except h11.LocalProtocolError:  # it has been answered already, or is being answered
            self.transport.close()

    def shutdown(self) -> None:
        """Close the connection, or let it end with the answer that is being made."""
        if self.transport.is_closing():
            return  # to close a transport of TLS twice makes `abort` do nothing, and its socket stays open
        try:
            super().shutdown()
        except h11.LocalProtocolError:
            self.transport.close()

    @property
    def _is_answering(self) -> bool:
        return bool(self.cycle) and not self.cycle.response_complete  # None before the first request

    @property
    def _is_idle(self) -> bool:
        """Return whether the client has sent no part of a request that is not answered."""
        return self.conn.their_state is h11.IDLE and not self.conn.trailing_data[0]

    def _watch_reading(self) -> None:
        """Limit the time for the rest of a request that has arrived in part, unless it is being answered."""
        if self.transport.is_closing() or self._is_answering or self._is_idle:
            self._stop_waiting()
        elif not self._is_counted:
            self._start_waiting()

    def _start_waiting(self) -> None:
        """Count a request whose headers are incomplete, or refuse it."""
        limits = self._limits
        try:
            self._is_brief = limits.receives.acquire(self._address)
        except ServerBusyError:
            self._close(_BUSY)
            return
        self._is_counted = True
        if self._is_brief:
            self._cancel_reading()
            self._reading = self._later(limits.receive_grace, self._end_reading)
        elif self._reading is None:
            self._reading = self._later(limits.config.request_timeout.total_seconds(), self._end_reading)

    def _stop_waiting(self) -> None:
        self._cancel_reading()
        if self._is_counted:
            self._is_counted = False
            self._limits.receives.release(self._address)

    def _end_reading(self) -> None:
        """Close the connection, whose request has not arrived in time."""
        answer = b""
        if self._is_counted:
            self._limits.late_request(self._address, beyond=self._is_brief)
            answer = _BUSY if self._is_brief else _LATE
        self._close(answer)

    def _end_writing(self) -> None:
        """Abort the connection, whose client has not read an answer in time."""
        self._limits.hit("send_timeout", self._address)
        self.transport.abort()

    def _close(self, answer: bytes) -> None:
        """Close the connection, after this answer unless the request has been answered already."""
        if answer and self.conn.their_state is h11.IDLE and not self.transport.is_closing():
            self.transport.write(answer)
        self.transport.close()

    def _cancel_reading(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None

    def _later(self, seconds: float, then: Callable[[], None]) -> asyncio.TimerHandle:
        return self.loop.call_later(seconds, then)
