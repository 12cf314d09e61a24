"""A trusted issuer's HTTP server on loopback, which publishes keys and records the requests it gets."""

import ssl
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from tests.jwts import PartyKey, key_set
from tests.patience import PATIENCE
from tests.ports import reserve_port


@dataclass(kw_only=True)
class IssuerServer:
    """An HTTP server that answers every GET with `body`.

    While the event `open` is cleared, requests wait. A test overrides `answer` if its server must answer
    differently.
    """

    body: bytes = b'{"keys": []}'
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    tls: ssl.SSLContext | None = None
    open: threading.Event = field(default_factory=threading.Event)
    requests: list[str] = field(default_factory=list)
    """The paths of the requests, in the order of their arrival."""
    seen_headers: list[Mapping[str, str]] = field(default_factory=list)

    def answer(self, path: str, headers: Mapping[str, str]) -> tuple[int, Mapping[str, str], bytes]:
        """Return status, headers and body of the response to a GET.

        The names of the request's `headers` are in lower case.
        """
        return self.status, self.headers, self.body

    def publish(self, *keys: PartyKey) -> None:
        self.body = key_set(*(key.public() for key in keys)).encode()

    @property
    def origin(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self._port}"

    @property
    def url(self) -> str:
        return f"{self.origin}/keys"

    def __enter__(self) -> Self:
        self.open.set()
        self._port = reserve_port()
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.open.set()
        self.stop()

    def start(self) -> None:
        """Start to listen; after `stop`, listen on the same port again."""
        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), self._handler())
        if self.tls is not None:
            self._server.socket = self.tls.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Close the port."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.requests.append(self.path)
                seen = {name.lower(): value for name, value in self.headers.items()}
                issuer.seen_headers.append(seen)
                issuer.open.wait(PATIENCE)
                status, headers, body = issuer.answer(self.path, seen)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Discard the log line, so that it does not mix with the output of the tests."""

        return Handler
