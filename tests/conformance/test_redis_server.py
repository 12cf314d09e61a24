"""The Redis server of the suite has the features that the tests of crashes and outages need."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.redis_server import RedisServer, ask, packaged_server


@pytest.fixture(params=["that of the run", "the packaged one"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RedisServer]:
    program = packaged_server() if request.param == "the packaged one" else None
    server = RedisServer(tmp_path, program=program)
    server.start()
    yield server
    server.stop()


def test_an_acknowledged_write_survives_a_kill(server: RedisServer) -> None:
    port = server.port
    assert ask(port, b"SET place here\r\n") == b"+OK\r\n"
    server.kill()
    server.start()
    assert server.port == port
    assert ask(port, b"GET place\r\n") == b"$4\r\nhere\r\n"


def test_flushing_empties_it(server: RedisServer) -> None:
    ask(server.port, b"SET place here\r\n")
    server.flush()
    assert ask(server.port, b"DBSIZE\r\n") == b":0\r\n"


def test_a_paused_server_keeps_connections_and_does_not_answer(server: RedisServer) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=0.1) as connection:
        server.pause()
        connection.sendall(b"PING\r\n")
        with pytest.raises(TimeoutError):
            connection.recv(1024)
        server.resume()
        connection.settimeout(10)
        assert connection.recv(1024) == b"+PONG\r\n"


def test_a_paused_server_can_be_stopped(server: RedisServer) -> None:
    server.pause()
    server.stop()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", server.port), timeout=10)


def test_the_server_of_a_run_is_looked_up_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test run keeps its server program if another one is installed, or if a test changes PATH."""
    (tmp_path / "redis-server").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "redis-server").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    server = RedisServer(tmp_path)

    server.start()

    assert ask(server.port, b"PING\r\n") == b"+PONG\r\n"
    server.stop()
