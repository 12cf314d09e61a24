"""A service that serves HTTP, and a plain HTTP client of it. The module asserts nothing."""

import http.client
import json
import ssl
from dataclasses import dataclass
from typing import Any, Self

from tests.patience import PATIENCE
from tests.rpc.world import World

FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True)
class Answer:
    """An HTTP response, with the names of its headers in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @classmethod
    def of(cls, response: http.client.HTTPResponse) -> Self:
        headers = {name.lower(): value for name, value in response.getheaders()}
        return cls(response.status, headers, response.read())

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Site:
    """A service with an HTTP listener, and an HTTP client of it."""

    world: World
    target: str
    """The address (host:port) of the HTTP listener."""
    authority: ssl.SSLContext | None = None
    """The TLS context of a client that trusts the certificate of the service; None = the listener has no
    TLS."""

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.target.rpartition(":")
        return host, int(port)

    def connect(self) -> http.client.HTTPConnection:
        host, port = self.address
        if self.authority is None:
            return http.client.HTTPConnection(host, port, timeout=PATIENCE)
        return http.client.HTTPSConnection("localhost", port, timeout=PATIENCE, context=self.authority)

    def request(self, method: str, path: str, body: str | bytes | None = None, **headers: str) -> Answer:
        """Send one request on a connection of its own. Underscores in names of headers become hyphens."""
        connection = self.connect()
        try:
            sent = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, sent)
            return Answer.of(connection.getresponse())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Answer:
        return self.request("GET", path, **headers)

    def post(self, path: str, body: str, **headers: str) -> Answer:
        return self.request("POST", path, body, **({"content_type": FORM} | headers))


def status_of(target: str, path: str) -> int | None:
    """Return the HTTP status of a GET at host:port, or None if the connection fails."""
    host, _, port = target.rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=PATIENCE)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except OSError:
        return None
    finally:
        connection.close()
