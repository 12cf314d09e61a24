"""Fetching a document from an issuer: one GET over https, bounded in time and size. Reads no key.

No redirect is followed, since it would lead to somebody whom no administrator has named, and no proxy of
the environment is used: where one is needed, a file that something else keeps up to date does as well.
"""

import re
import socket
import ssl
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import Any, Final, Self

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError
from urllib3.util import Url

from identity_service.adapters.remote_keys.servers import KeyServers
from identity_service.domain.errors import ConfigurationError
from identity_service.process.thread_limit import REFUSED

_STEP_SECONDS: Final = 3.0
"""For connecting to one address, and for each part of the answer."""
_HEADERS: Final = {
    # A kube-apiserver answers with 406 if its own type of a key set is not among those that are asked for.
    "accept": "application/jwk-set+json, application/json, */*;q=0.1",
    # Asked for as it is, and not unpacked if it comes otherwise: a small answer could be a large one.
    "accept-encoding": "identity",
    "connection": "close",
}
_CHUNK_BYTES: Final = 16 * 1024
_MAX_AGE: Final = re.compile(r"(?:^|,)\s*max-age\s*=\s*\"?(\d{1,9})\b", re.IGNORECASE)
_NO_CACHE: Final = re.compile(r"(?:^|,)\s*no-(?:cache|store)\b", re.IGNORECASE)


class FetchError(Exception):
    """There is no document; the text says why, in words for an operator."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """What was fetched."""

    body: bytes
    max_age: timedelta | None = None
    """How long it may be kept, where the answer says so."""


class HttpsFetcher:
    """Fetches from any issuer. Any thread may call it."""

    def __init__(self, servers: KeyServers, *, max_bytes: int, max_seconds: float = 10.0) -> None:
        """
        Args:
            servers: authorities and tokens.
            max_bytes: of one document.
            max_seconds: from the first connection to the last byte, however steadily they come. To find the
                addresses of a name is left to the system, which has a limit of its own.
        """
        self._servers = servers
        self._max_bytes = max_bytes
        self._max_seconds = max_seconds

    def __call__(self, url: str) -> Document:
        """Raises FetchError."""
        with _Deadline(self._max_seconds) as deadline:
            try:
                found = self._fetch(url, deadline)
            except ConfigurationError as error:
                raise FetchError(str(error)) from None
            except (HTTPError, OSError, ValueError) as error:
                deadline.require()
                # Only the kind of error: its text may hold all of the URL.
                raise FetchError(self._why(error, url)) from None
            deadline.require()  # an answer without a length ends where its connection was cut
            return found

    def _fetch(self, url: str, deadline: "_Deadline") -> Document:
        parts = urllib3.util.parse_url(url)
        # A connection for each request: issuers are asked a few times an hour.
        options: dict[str, Any] = {"timeout": _STEP_SECONDS, "retries": False, "deadline": deadline}
        pool = (
            _HttpsPool(parts.host or "", parts.port, ssl_context=self._servers.tls_for(parts), **options)
            if parts.scheme == "https"
            else _HttpPool(parts.host or "", parts.port, **options)
        )
        with pool:
            own_headers = self._servers.headers_for(parts)
            response = pool.urlopen(
                "GET",
                parts.request_uri,
                headers={**_HEADERS, **own_headers},
                redirect=False,
                preload_content=False,
                decode_content=False,
            )
            try:
                if response.status in (401, 403):
                    raise FetchError(f"it answers with status {response.status}; {self._token_advice(parts)}")
                return self._read(response)
            finally:
                response.close()

    def _token_advice(self, url: Url) -> str:
        server = self._servers.server_for(url)
        if server is None or server.token_file is None:
            return "set a token_file for it in jwks_servers"
        return (
            f"it refuses the token in {server.token_file}: that may have expired, or be of an account that "
            "may not read the keys"
        )

    def _why(self, error: BaseException, url: str) -> str:
        """The names of what happened, outermost first; of a certificate what is wrong and what to do."""
        names, refused = _causes(error)
        cure = self._servers.cure_for(urllib3.util.parse_url(url), refused) if refused is not None else ""
        return f"it cannot be reached: {', '.join(names)}{f'; {cure}' if cure else ''}"

    def _read(self, response: urllib3.BaseHTTPResponse) -> Document:
        if response.status != 200:
            raise FetchError(f"it answers with status {response.status}")
        body = b""
        while chunk := response.read1(_CHUNK_BYTES):
            body += chunk
            if len(body) > self._max_bytes:
                raise FetchError(f"its answer is longer than {self._max_bytes} bytes")
        return Document(body=body, max_age=_max_age(response.headers.get("cache-control", "")))


class _Deadline:
    """Ends one request after so many seconds by cutting its connection.

    The timeouts of the library are for one step each: a server that sends a byte now and then meets them all.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._end = time.monotonic() + seconds
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._passed = False
        self._timer = threading.Timer(seconds, self._cut)
        self._timer.daemon = True

    def __enter__(self) -> Self:
        """Begin to count. Raises FetchError if the system gives no thread for it."""
        try:
            self._timer.start()
        except RuntimeError:
            raise FetchError(f"it cannot be asked: {REFUSED}") from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()

    def require(self) -> None:
        """Raises FetchError once the time is over."""
        if self._passed:
            raise FetchError(f"its answer takes longer than {self._seconds} seconds")

    def connect(self, host: str, port: int) -> socket.socket:
        """Try the addresses of the host one after the other. Raises OSError."""
        failure: OSError = TimeoutError()
        for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            left = self._end - time.monotonic()
            if left <= 0:
                break
            connected = socket.socket(family, kind, protocol)
            try:
                connected.settimeout(min(_STEP_SECONDS, left))
                connected.connect(address)
            except OSError as error:
                connected.close()
                failure = error
            else:
                return connected
        raise failure

    def watch(self, connected: socket.socket) -> None:
        """Cut this connection when the time is over, or at once if it is over."""
        with self._lock:
            self._socket = connected
        if self._passed:
            self._cut()

    def _cut(self) -> None:
        self._passed = True
        with self._lock, suppress(OSError):
            if self._socket is not None:
                self._socket.shutdown(socket.SHUT_RDWR)


class _Http(HTTPConnection):
    """A connection that ends at the deadline of its request."""

    def __init__(self, *args: Any, deadline: _Deadline, **options: Any) -> None:
        super().__init__(*args, **options)
        self._deadline = deadline

    def _new_conn(self) -> socket.socket:
        return self._deadline.connect(self._dns_host, self.port)

    def connect(self) -> None:
        super().connect()
        self._deadline.watch(self.sock)


class _Https(_Http, HTTPSConnection):
    """The same over TLS."""


class _HttpPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Http


class _HttpsPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _Https


def _max_age(cache_control: str) -> timedelta | None:
    if _NO_CACHE.search(cache_control):
        return timedelta(0)
    found = _MAX_AGE.search(cache_control)
    return timedelta(seconds=int(found[1])) if found else None


def _causes(error: BaseException) -> tuple[list[str], ssl.SSLCertVerificationError | None]:
    """The kinds of error, outermost first, of which the last may be what is wrong with a certificate."""
    names: list[str] = []
    cause: object = error
    while isinstance(cause, BaseException) and len(names) < 4:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return [*names, cause.verify_message], cause
        names.append(type(cause).__name__)
        cause = getattr(cause, "reason", None) or next(iter(cause.args), None)
    return names, None
