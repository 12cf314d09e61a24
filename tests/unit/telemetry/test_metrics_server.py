"""The HTTP server of the metrics: clients that keep connections open use up neither threads nor files."""

import socket
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest
from prometheus_client import CollectorRegistry

from identity_service.telemetry import metrics_server
from identity_service.telemetry.metrics_server import MetricsServer
from tests.patience import PATIENCE, until

PLACES = 3


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[MetricsServer]:
    monkeypatch.setattr(metrics_server, "_MAX_CONNECTIONS", PLACES)
    server = MetricsServer("127.0.0.1", 0, CollectorRegistry())
    server.start()
    yield server
    server.close()


def connect(server: MetricsServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), PATIENCE)


def is_answered(server: MetricsServer) -> bool:
    url = f"http://127.0.0.1:{server.port}/metrics"
    with suppress(OSError), urllib.request.urlopen(url, timeout=PATIENCE) as answer:
        return bool(answer.status == 200)
    return False


def is_closed_by_the_server(server: MetricsServer) -> bool:
    with connect(server) as connection:
        return connection.recv(1) == b""


def test_connections_beyond_the_bound_are_closed_until_others_end(server: MetricsServer) -> None:
    before = threading.active_count()
    with ExitStack() as stack:
        for _ in range(PLACES):
            stack.enter_context(connect(server))
        until(lambda: threading.active_count() == before + PLACES)

        assert all(is_closed_by_the_server(server) for _ in range(20))
        assert threading.active_count() == before + PLACES
    until(lambda: is_answered(server))


def test_a_client_that_sends_nothing_is_disconnected(
    server: MetricsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics_server._Handler, "timeout", 0.1)

    assert is_closed_by_the_server(server)


def test_a_client_that_sends_a_byte_now_and_then_is_disconnected(
    server: MetricsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics_server, "_LONGEST", 0.1)

    with connect(server) as connection:
        connection.settimeout(0.05)

        def is_closed() -> bool:
            try:
                connection.sendall(b"G")
                return connection.recv(1) == b""
            except TimeoutError:
                return False
            except ConnectionError:
                return True

        until(is_closed)


def test_it_listens_on_an_ipv6_address() -> None:
    try:
        server = MetricsServer("::1", 0, CollectorRegistry())
    except OSError:
        pytest.skip("this machine has no IPv6")
    server.start()
    with socket.create_connection(("::1", server.port), PATIENCE):
        pass
    server.close()
