"""HTTP beside gRPC in real processes: several workers on one port, and Envoy with a single port for both."""

import json
import signal
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import installed
from tests.e2e.process import Installation, Running
from tests.patience import PATIENCE, until
from tests.ports import reserve_address, reserve_port

_LISTENS = "0A"
"""The state of a listening socket in /proc/net/tcp."""


@pytest.fixture
def embedded(tmp_path: Path) -> Any:
    with installed("sqlite", tmp_path) as installation:
        installation.init()
        installation.forked = True
        installation.environment["IDENTITY_ISSUER"] = "https://id.example"
        yield installation


def get(address: str, path: str) -> bytes:
    with urllib.request.urlopen(f"http://{address}{path}", timeout=PATIENCE) as answer:
        body: bytes = answer.read()
        return body


def listeners(address: str) -> int:
    """Return the number of sockets that listen at an address."""
    port = f":{int(address.rpartition(':')[2]):04X}"
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(line[1].endswith(port) and line[3] == _LISTENS for line in lines)


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="only Linux lists its sockets there")
def test_every_worker_serves_http_on_the_same_port(embedded: Installation) -> None:
    address = reserve_address()
    with embedded.serve("--workers", "2", "--http-listen", address) as service:
        until(lambda: listeners(address) == 2)
        for _ in range(10):
            assert get(address, "/readyz") == b"ready\n"

        assert service.terminate() == 0

    assert listeners(address) == 0


def test_envoy_serves_grpc_and_http_on_one_port(embedded: Installation) -> None:
    port = reserve_port()
    address = f"127.0.0.1:{port}"
    with Running(embedded, ("--engine", "envoy", "--http-listen", address), port) as service:
        assert json.loads(get(address, "/.well-known/jwks.json"))["keys"]
        assert service.json("client", "list")

        assert service.terminate() == 0


def test_dev_serves_http_and_says_where(tmp_path: Path) -> None:
    with installed("sqlite", tmp_path) as installation, installation.serve("--dev") as service:
        until(lambda: "HTTP on http://" in installation.log)
        address = installation.log.partition("HTTP on http://")[2].split()[0]

        assert get(address, "/livez") == b"alive\n"
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(PATIENCE) == 0


def test_a_port_that_is_taken_is_named_with_its_setting(embedded: Installation) -> None:
    address = reserve_address()
    with embedded.serve("--http-listen", address):
        refused = embedded.run("serve", "--listen", reserve_address(), "--http-listen", address)

    assert refused.returncode != 0
    assert address in refused.stderr
    assert "`http_listen`" in refused.stderr
