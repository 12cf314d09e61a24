"""The client closes a connection whose server answers no ping, such as one that has lost its power."""

import socket
from datetime import timedelta
from typing import Any

import grpc
import pytest

from identity_client import ClientOptions, options
from identity_client.connection import open_channel
from tests.abuse import frames
from tests.patience import PATIENCE


def test_a_connection_whose_server_answers_no_ping_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The intervals are a hundredth of the usual ones; without pings, gRPC would wait a minute or more."""
    usual: timedelta = options._PING_TIMEOUT
    assert usual.total_seconds() == 20, "what docs/watching.md says"
    monkeypatch.setattr(options, "_PING_TIMEOUT", timedelta(seconds=0.2))
    quick = ClientOptions(keepalive=timedelta(seconds=0.3), max_attempts=1)
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        open_channel(f"127.0.0.1:{server.getsockname()[1]}", quick, own_connection=True) as channel,
    ):
        method: Any = channel.unary_unary("/any/Method")
        call = method.future(b"", timeout=PATIENCE)
        connection, _ = server.accept()
        with connection:
            connection.settimeout(PATIENCE)
            connection.sendall(frames.settings({}) + frames.frame(frames.SETTINGS, frames.ACK, 0))
            received = b""
            while data := connection.recv(4096):
                received += data
        assert frames.frame(frames.PING, 0, 0)[3:5] in received
        assert call.code() is grpc.StatusCode.UNAVAILABLE
        assert "ping timeout" in (call.details() or "").lower()
