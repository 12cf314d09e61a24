"""Fetches a document from an issuer by one GET request, bounded in time and size.

The module does not parse keys. Redirects are not followed, since they could lead to a server that no
administrator has named. Proxies of the environment are not used: if one is needed, another program can fetch
the keys into a file (`jwks_file`).
"""

import re
import socket
import ssl
import threading
import time
from contextlib import suppress
from datetime import timedelta
from typing import Any, Final, Self

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError
from urllib3.util import Url

from identity_service.adapters.remote_keys.documents import FetchError, KeyDocument
from identity_service.adapters.remote_keys.servers import KeyServers
from identity_service.domain.errors import ConfigurationError
from identity_service.process.thread_limit import REFUSED

_STEP_SECONDS: Final = 3.0
"""The timeout, in seconds, of connecting to one address, and of each read of the response."""
_HEADERS: Final = {
    # A kube-apiserver responds with 406 unless its own media type of a key set is accepted.
    "accept": "application/jwk-set+json, application/json, */*;q=0.1",
    # Compression is refused, and a compressed response is not decompressed: it could become very large.
    "accept-encoding": "identity",
    "connection": "close",
}
_CHUNK_BYTES: Final = 16 * 1024
_MAX_AGE: Final = re.compile(r"(?:^|,)\s*max-age\s*=\s*\"?(\d{1,9})\b", re.IGNORECASE)
_NO_CACHE: Final = re.compile(r"(?:^|,)\s*no-(?:cache|store)\b", re.IGNORECASE)


class HttpsFetcher:
    """A fetcher of documents from issuers. Any thread may call it."""

    def __init__(self, servers: KeyServers, *, max_bytes: int, max_seconds: float = 10.0) -> None:
        """Create a fetcher.

        Args:
            servers: the authorities to trust and the tokens to send, per server.
            max_bytes: the longest document.
            max_seconds: the limit from the first connection to the last byte. Resolving the host name is
                bounded by the system's resolver instead.
        """
        self._servers = servers
        self._max_bytes = max_bytes
        self._max_seconds = max_seconds

    def __call__(self, url: str) -> KeyDocument:
        """Return the document at this URL. Raises FetchError."""
        with _Deadline(self._max_seconds) as deadline:
            try:
                found = self._fetch(url, deadline)
            except ConfigurationError as error:
                raise FetchError(str(error)) from None
            except (HTTPError, OSError, ValueError) as error:
                deadline.require()
                # Only the types of the errors: their texts may hold the whole URL.
                raise FetchError(self._describe(error, url)) from None
            deadline.require()  # a response without Content-Length looks complete if its connection was cut
            return found

    def _fetch(self, url: str, deadline: "_Deadline") -> KeyDocument:
        parts = urllib3.util.parse_url(url)
        # One connection per request, since each issuer is asked only a few times an hour.
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
                    raise FetchError(
                        f"the server answers with status {response.status}; {self._token_advice(parts)}"
                    )
                return self._read(response)
            finally:
                response.close()

    def _token_advice(self, url: Url) -> str:
        """Tell the operator what to do after status 401 or 403."""
        server = self._servers.server_for(url)
        if server is None or server.token_file is None:
            return "set a token_file for it in jwks_servers"
        return (
            f"replace the token in {server.token_file}: it may have expired, or its service account may not "
            "read the keys"
        )

    def _describe(self, error: BaseException, url: str) -> str:
        """Return the reason of a failure for an operator: the types of the nested errors, outermost first.

        If the server's certificate was refused, the reason says why, and what to do if that is known.
        """
        names, refused = _causes(error)
        cure = self._servers.cure_for(urllib3.util.parse_url(url), refused) if refused is not None else ""
        return f"the server cannot be reached: {', '.join(names)}{f'; {cure}' if cure else ''}"

    def _read(self, response: urllib3.BaseHTTPResponse) -> KeyDocument:
        """Return the document. Raises FetchError if the status is not 200 or the body exceeds `max_bytes`."""
        if response.status != 200:
            raise FetchError(f"the server answers with status {response.status}")
        body = b""
        while chunk := response.read1(_CHUNK_BYTES):
            body += chunk
            if len(body) > self._max_bytes:
                raise FetchError(f"the answer of the server is longer than {self._max_bytes} bytes")
        return KeyDocument(body=body, max_age=_max_age(response.headers.get("cache-control", "")))


class _Deadline:
    """The time limit of one request, enforced by shutting down its connection.

    The timeouts of urllib3 are for one step each: a server that sends a byte now and then exceeds none.
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
        """Start the timer. Raises FetchError if the system gives no thread for it."""
        try:
            self._timer.start()
        except RuntimeError:
            raise FetchError(f"the server cannot be asked: {REFUSED}") from None
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    def require(self) -> None:
        """Raise FetchError if the time is over."""
        if self._passed:
            raise FetchError(f"the answer of the server takes longer than {self._seconds} seconds")

    def connect(self, host: str, port: int) -> socket.socket:
        """Connect to the first address of the host that accepts. Raises the OSError of the last attempt."""
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
        """Shut this connection down when the time is over, or at once if it is over already."""
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
    """An HTTP connection that is shut down at the deadline of its request."""

    def __init__(self, *args: Any, deadline: _Deadline, **options: Any) -> None:
        super().__init__(*args, **options)
        self._deadline = deadline

    def _new_conn(self) -> socket.socket:
        return self._deadline.connect(self._dns_host, self.port)

    def connect(self) -> None:
        super().connect()
        self._deadline.watch(self.sock)


class _Https(_Http, HTTPSConnection):
    """An HTTPS connection that is shut down at the deadline of its request."""


class _HttpPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Http


class _HttpsPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _Https


def _max_age(cache_control: str) -> timedelta | None:
    """Return how long a response may be cached: 0 for `no-cache` and `no-store`, None if it does not say."""
    if _NO_CACHE.search(cache_control):
        return timedelta(0)
    found = _MAX_AGE.search(cache_control)
    return timedelta(seconds=int(found[1])) if found else None


def _causes(error: BaseException) -> tuple[list[str], ssl.SSLCertVerificationError | None]:
    """Return the types of up to four nested errors, outermost first.

    If one of them is the refusal of a certificate, the list ends with OpenSSL's message, and the error is
    returned as well.
    """
    names: list[str] = []
    cause: object = error
    while isinstance(cause, BaseException) and len(names) < 4:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return [*names, cause.verify_message], cause
        names.append(type(cause).__name__)
        cause = getattr(cause, "reason", None) or next(iter(cause.args), None)
    return names, None
