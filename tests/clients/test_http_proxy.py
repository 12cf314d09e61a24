"""Proxies in the environment: connections use one only if the options of the caller say so."""

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import grpc
import pytest

from identity_client import ClientOptions, IdentityClient, Rejected, UnavailableError
from identity_client.connection import open_channel
from identity_client.grpc import secure_channel
from tests.clients.echo import ONE, stub
from tests.e2e.process import Installation
from tests.patience import PATIENCE

_PROXIES = ("http_proxy", "https_proxy", "grpc_proxy", "all_proxy")


class RefusingProxy:
    """A proxy that refuses every request, and keeps the requests."""

    def __init__(self, server: socket.socket) -> None:
        self._server = server
        self.url = f"http://127.0.0.1:{server.getsockname()[1]}"
        self.asked: list[str] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._thread.join(PATIENCE)

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._server.accept()
                with connection:
                    self.asked.append(connection.recv(1000).decode().partition("\r\n")[0])
                    connection.sendall(b"HTTP/1.1 403 Forbidden\r\n\r\n")


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[RefusingProxy]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        proxy = RefusingProxy(server)
        for name in _PROXIES:
            monkeypatch.setenv(name, proxy.url)
        for name in ("no_proxy", "no_grpc_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        yield proxy
        proxy.close()


def test_the_proxy_of_the_environment_is_left_alone_by_clients_and_commands(
    tmp_path: Path, proxy: RefusingProxy
) -> None:
    installation = Installation(tmp_path, f"sqlite:///{tmp_path}/identity.db")
    installation.init()
    with installation.serve() as service:
        options = ClientOptions(timeout=timedelta(seconds=PATIENCE))
        with IdentityClient(service.target, options=options) as client:
            assert isinstance(client.verify("no token", any_audience=True), Rejected)
        assert service.json("client", "list")
    assert proxy.asked == []


@pytest.mark.parametrize("target", ["reports.example:443", "127.0.0.1:1"])
def test_no_token_goes_through_the_proxy_without_tls(proxy: RefusingProxy, target: str) -> None:
    channel = secure_channel(target, FixedToken(), allow_plaintext=True)
    with channel, pytest.raises(grpc.RpcError):
        stub(channel, ONE)(b"", timeout=PATIENCE)
    assert proxy.asked == []


class FixedToken:
    """A source that always returns the same token."""

    def __call__(self, timeout: float | None = None) -> str:
        return "token"

    def token_id(self, token: str) -> str:
        return ""

    def invalidate(self, token: str) -> bool:
        return False


def test_a_client_that_asks_for_the_proxy_connects_through_it(proxy: RefusingProxy) -> None:
    """The error of the proxy shows that the client has used it."""
    target = "identity.example:50051"
    options = ClientOptions(http_proxy=True, max_attempts=1, allow_plaintext=True)
    with open_channel(target, options, own_connection=True) as channel:
        client = IdentityClient(options=options, channel=channel)
        with pytest.raises(UnavailableError):
            client.verify("no token", any_audience=True)
    assert proxy.asked
    assert set(proxy.asked) == {f"CONNECT {target} HTTP/1.1"}


def test_a_command_that_asks_for_the_proxy_connects_through_it(tmp_path: Path, proxy: RefusingProxy) -> None:
    installation = Installation(tmp_path, f"sqlite:///{tmp_path}/identity.db")
    environ = {
        "IDENTITY_HTTP_PROXY": "1",
        "IDENTITY_TARGET": "identity.example:50051",
        "IDENTITY_ALLOW_PLAINTEXT": "1",
    }
    done = installation.run("token", "verify", "no token", "--any-audience", **environ)
    assert done.returncode != 0
    assert set(proxy.asked) == {"CONNECT identity.example:50051 HTTP/1.1"}
