"""One connection of the HTTP listener, over a pair of sockets with small buffers."""

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from uvicorn.server import ServerState

from identity_service.http_api.app import HttpApp, HttpRoute
from identity_service.http_api.connection import HttpConnection
from identity_service.http_api.listener import uvicorn_config
from identity_service.http_api.messages import HttpResponse
from identity_service.transport.limits import Limits, LimitsConfig
from tests.fakes.event_logs import RecordingEventLog
from tests.patience import PATIENCE
from tests.tls import Certifier, Holder

LONG = 40_000
"""A length in bytes that fills the sockets' buffers, but is below asyncio's default high-water mark."""
MAX_AGE = timedelta(hours=1)
"""A maximum age that no connection of these tests reaches."""


class Conversation:
    """Sends bytes to a connection, and records what asyncio would log."""

    def __init__(self, limits: Limits, threads: ThreadPoolExecutor) -> None:
        body = LONG * b"a"
        route = HttpRoute(
            path="/",
            methods=("GET",),
            endpoint=lambda _: HttpResponse(status=200, body=body),
            is_instant=True,
        )
        self._config = uvicorn_config(HttpApp([route], threads, limits))
        self._limits = limits
        self.problems: list[dict[str, Any]] = []

    async def hold(self, sent: bytes, *more: bytes, reads: bool) -> bytes:
        """Send these messages one after the other; return what was received until the connection closed."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, problem: self.problems.append(problem))
        ours, theirs = socket.socketpair()
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        for each in (ours, theirs):
            each.setblocking(False)  # has no keyword
        connection = HttpConnection(self._config, ServerState(), self._limits, MAX_AGE)
        await loop.connect_accepted_socket(lambda: connection, theirs)
        found = b""
        with ours:
            for part in (sent, *more):
                await loop.sock_sendall(ours, part)
                if reads:
                    found += await asyncio.wait_for(loop.sock_recv(ours, 2 * LONG), PATIENCE)
            await asyncio.wait_for(connection.lost.wait(), PATIENCE)
        return found


def conversation(threads: ThreadPoolExecutor, **timeouts: timedelta) -> tuple[Conversation, Limits]:
    limits = Limits(LimitsConfig(**timeouts), RecordingEventLog())  # type: ignore[arg-type]
    return Conversation(limits, threads), limits


def test_a_client_that_does_not_read_is_disconnected_and_counted() -> None:
    with ThreadPoolExecutor(1) as threads:
        talk, limits = conversation(threads, send_timeout=timedelta(milliseconds=50))
        asyncio.run(talk.hold(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", reads=False))

    assert limits.refusals["send_timeout"] == 1
    assert not talk.problems


def test_a_malformed_body_after_the_answer_ends_the_connection_without_a_log_line_of_asyncio() -> None:
    head = b"POST /nowhere HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    with ThreadPoolExecutor(1) as threads:
        talk, _ = conversation(threads)
        found = asyncio.run(talk.hold(head, b"not a chunk\r\n", reads=True))

    assert found.count(b"HTTP/1.1 ") == 1
    assert not talk.problems


class _Transport(asyncio.Transport):
    """The transport of a TLS connection."""

    def __init__(self, shown: Holder, *, is_resumed: bool) -> None:
        super().__init__({"ssl_object": self})
        self.session_reused = is_resumed
        self.is_aborted = False
        self._shown = shown

    def getpeercert(self, binary_form: bool) -> bytes:
        return self._shown.der

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def abort(self) -> None:
        self.is_aborted = True


@pytest.mark.parametrize("is_resumed", [True, False])
@pytest.mark.parametrize("lifetime", [timedelta(minutes=-5), timedelta(days=1)])
def test_a_session_is_not_resumed_after_its_certificate_has_expired(
    tmp_path: Path, is_resumed: bool, lifetime: timedelta
) -> None:
    """A full handshake verifies the certificate; a resumed TLS session does not."""
    shown = Certifier(tmp_path).client("c", "c.example", lifetime=lifetime)
    transport = _Transport(shown, is_resumed=is_resumed)

    async def connect() -> None:
        limits = Limits(LimitsConfig(), RecordingEventLog())
        with ThreadPoolExecutor(1) as threads:
            config = uvicorn_config(HttpApp([], threads, limits))
        HttpConnection(config, ServerState(), limits, MAX_AGE).connection_made(transport)

    asyncio.run(connect())

    assert transport.is_aborted is (is_resumed and lifetime < timedelta())


def test_headers_that_are_too_long_are_refused_before_they_are_parsed_also_if_they_arrive_at_once() -> None:
    head = b"GET / HTTP/1.1\r\nHost: a\r\n" + 20_000 * b"a:\r\n" + b"\r\n"
    with ThreadPoolExecutor(1) as threads:
        talk, _ = conversation(threads)
        found = asyncio.run(talk.hold(head, reads=True))

    assert found.startswith(b"HTTP/1.1 400 ")
    assert not talk.problems
