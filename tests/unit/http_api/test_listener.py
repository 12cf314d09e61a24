"""The HTTP listener: the socket options of the connections that it accepts."""

import socket
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any

import pytest

from identity_service.http_api.app import HttpApp
from identity_service.http_api.connection import HttpConnection
from identity_service.http_api.listener import HttpListener, HttpListenerConfig
from identity_service.transport.limits import Limits, LimitsConfig
from tests.fakes.event_logs import RecordingEventLog
from tests.patience import PATIENCE


def test_the_end_of_an_answer_does_not_wait_until_the_client_acknowledges_its_beginning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nagle's algorithm would hold back the last segment for 40 ms, until a delayed acknowledgement."""
    options: SimpleQueue[int] = SimpleQueue()
    made = HttpConnection.connection_made

    def note(connection: HttpConnection, transport: Any) -> None:
        accepted = transport.get_extra_info("socket")
        options.put(accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        made(connection, transport)

    monkeypatch.setattr(HttpConnection, "connection_made", note)

    limits = Limits(LimitsConfig(), RecordingEventLog())
    with ThreadPoolExecutor(1) as threads:
        app = HttpApp([], threads, limits)
        listener = HttpListener(app, HttpListenerConfig(listen="127.0.0.1:0"), limits)
        port = int(listener.start().rpartition(":")[2])
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE):
                assert options.get(timeout=PATIENCE) == 1
        finally:
            listener.close(PATIENCE)
