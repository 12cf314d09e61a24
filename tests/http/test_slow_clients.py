"""HTTP clients that send or read slowly, or that hold too many connections or requests open."""

import socket
import ssl
from contextlib import ExitStack
from datetime import timedelta

import pytest

from tests.http.conftest import StartSite
from tests.http.site import FORM, Site
from tests.patience import PATIENCE, until
from tests.tls import Certifier

SOON = timedelta(milliseconds=300)


def connected(site: Site, stack: ExitStack) -> socket.socket:
    return stack.enter_context(socket.create_connection(site.address, timeout=PATIENCE))


def received(connection: socket.socket) -> bytes:
    """Return all bytes that arrive until the service closes the connection."""
    parts = []
    try:
        while part := connection.recv(65536):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def count(site: Site, setting: str) -> int:
    return site.world.service._apis.limits.refusals[setting]


def test_a_client_that_sends_its_headers_slowly_is_told_so_and_disconnected(start: StartSite) -> None:
    site = start(request_timeout=SOON)
    with ExitStack() as stack:
        connection = connected(site, stack)
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: a\r\n")

        assert received(connection).startswith(b"HTTP/1.1 408 ")

    assert count(site, "request_timeout") == 1


def test_a_client_that_sends_a_part_of_its_next_request_ahead_has_no_more_time_for_it(
    start: StartSite,
) -> None:
    site = start(request_timeout=SOON)
    with ExitStack() as stack:
        connection = connected(site, stack)
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\nGET /livez HTTP/1.1\r\n")
        answers = received(connection)

    assert answers.startswith(b"HTTP/1.1 200 ")
    assert b"HTTP/1.1 408 " in answers
    assert count(site, "request_timeout") == 1


def test_a_connection_counts_no_more_when_a_body_that_was_refused_has_arrived(start: StartSite) -> None:
    site = start(request_timeout=timedelta(seconds=PATIENCE))
    limits = site.world.service._apis.limits
    with ExitStack() as stack:
        connection = connected(site, stack)
        connection.sendall(b"POST /nowhere HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n")
        until(lambda: limits.calls.open == 0)
        connection.sendall(b"a")
        until(lambda: limits.receives.open == 1)
        connection.sendall(b"a")

        until(lambda: limits.receives.open == 0)


def test_a_client_that_sends_nothing_is_disconnected(start: StartSite) -> None:
    site = start(request_timeout=SOON)
    with ExitStack() as stack:
        assert received(connected(site, stack)) == b""


def test_a_client_that_sends_its_body_slowly_is_told_so_and_disconnected(start: StartSite) -> None:
    site = start(request_timeout=SOON)
    with ExitStack() as stack:
        connection = connected(site, stack)
        connection.sendall(b"POST /oauth2/token HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\ngrant")
        answer = received(connection)

    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"request_timeout"' in answer
    assert count(site, "request_timeout") == 1


def test_a_body_that_arrives_in_parts_and_in_time_is_served(start: StartSite) -> None:
    site = start()
    limits = site.world.service._apis.limits
    secret = site.world.new_client().credential.client_secret
    body = f"grant_type=client_credentials&client_id={secret.client_id}&client_secret={secret.client_secret}"
    head = f"POST /oauth2/token HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: {FORM}\r\n"
    with ExitStack() as stack:
        connection = connected(site, stack)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for part in (head, f"Content-Length: {len(body)}\r\n\r\n", body[:9], body[9:50]):
            connection.sendall(part.encode())
            until(lambda: limits.receives.open == 1)
        connection.sendall(body[50:].encode())

        assert received(connection).startswith(b"HTTP/1.1 200 ")
    until(lambda: limits.receives.open == 0)


def test_a_header_of_several_lines_reaches_no_answer(start: StartSite) -> None:
    """A header that is folded over several lines must not add a header to the response.

    RFC 9112 section 5.2 lets a server join the lines. The joined request id contains a blank, so the service
    ignores it.
    """
    with ExitStack() as stack:
        connection = connected(start(), stack)
        head = b"GET /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
        connection.sendall(head + b"X-Request-Id: a\r\n Set-Cookie: b=c\r\n\r\n")

        assert b"Set-Cookie" not in received(connection)


def test_a_client_that_goes_on_with_a_body_that_was_refused_is_disconnected(start: StartSite) -> None:
    site = start(request_timeout=SOON)
    with ExitStack() as stack:
        connection = connected(site, stack)
        connection.sendall(b"POST /nowhere HTTP/1.1\r\nHost: a\r\nContent-Length: 999999\r\n\r\na")
        until(lambda: site.world.service._apis.limits.calls.open == 0)
        connection.sendall(b"a")
        answer = received(connection)

    assert answer.startswith(b"HTTP/1.1 404 ")
    assert answer.count(b"HTTP/1.1") == 1


def test_a_client_that_never_shakes_hands_is_disconnected(start: StartSite, certifier: Certifier) -> None:
    site = start(request_timeout=SOON, **certifier.server().settings())
    with ExitStack() as stack:
        assert received(connected(site, stack)) == b""


def test_an_address_may_have_so_many_unfinished_requests(start: StartSite) -> None:
    site = start(limits_exempt=(), max_receives_per_peer=2)
    with ExitStack() as stack:
        for _ in range(2):
            connected(site, stack).sendall(b"GET / HTTP/1.1\r\n")
        until(lambda: site.world.service._apis.limits.receives.open == 2)
        third = connected(site, stack)
        third.sendall(b"GET / HTTP/1.1\r\n")

        assert received(third).startswith(b"HTTP/1.1 429 ")
        assert count(site, "max_receives_per_peer") == 1

    until(lambda: site.world.service._apis.limits.receives.open == 0)


def test_a_connection_beyond_the_limit_is_closed_at_once(start: StartSite) -> None:
    site = start(max_connections=1)
    with ExitStack() as stack:
        first = connected(site, stack)
        first.sendall(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n")
        assert first.recv(1000).startswith(b"HTTP/1.1 200 ")

        assert received(connected(site, stack)) == b""
        assert count(site, "max_connections") == 1


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /livez HTTP/1.1\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: a\r\nHost : b\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: a\r\nX-Request-Id: a\rb\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: a\r\nX-Request-Id: a\0b\r\n\r\n",
        b"GET /livez\rSet-Cookie: a=b HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"POST /oauth2/token HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + 1025 * b"1\r\na\r\n",
        b"GET /livez HTTP/1.1\r\nHost: a\r\nX: " + 40_000 * b"a",
        b"GET /livez HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
)
def test_malformed_http_is_refused_and_disturbs_no_other_request(start: StartSite, sent: bytes) -> None:
    site = start()
    with ExitStack() as stack:
        connection = connected(site, stack)
        connection.sendall(sent)

        assert received(connection).startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 431 "))

    assert site.get("/livez").status == 200


def test_a_body_may_have_1024_chunks(start: StartSite) -> None:
    with ExitStack() as stack:
        connection = connected(start(), stack)
        head = b"GET /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
        connection.sendall(head + 1024 * b"1\r\na\r\n" + b"0\r\n\r\n")

        assert received(connection).startswith(b"HTTP/1.1 200 ")


def test_a_client_without_tls_disturbs_no_other(start: StartSite, certifier: Certifier) -> None:
    site = start(**certifier.server().settings())
    with ExitStack() as stack:
        connection = connected(site, stack)
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n")
        received(connection)

    trusting = Site(site.world, site.target, ssl.create_default_context(cafile=certifier.file))
    assert trusting.get("/livez").status == 200
