"""What it takes to fetch from a server: authorities that its certificate may come from, and a token for it.

The operator names both for each server, in the settings. A record of an issuer cannot: who may write records
could otherwise have any file of this machine sent to a server of their own.
"""

import re
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from urllib3.util import Url, parse_url

from identity_service.adapters.remote_keys.files import read_file, state_of
from identity_service.domain.errors import ConfigurationError

_MAX_TOKEN_BYTES: Final = 16 * 1024
_TOKEN: Final = re.compile(r"[\x21-\x7e]+")
_UNKNOWN_AUTHORITY: Final = frozenset({2, 18, 19, 20, 21})
"""Results of OpenSSL (`X509_STORE_CTX_get_error`) after which other authorities may help."""
_PORTS: Final = {"https": 443, "http": 80}


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyServer:
    """One entry of the setting `jwks_servers`."""

    url: str
    """Scheme, host and port; what else it says does not count."""
    ca_file: Path | None = None
    """PEM: the authorities of this server, in place of all others."""
    token_file: Path | None = None
    """Its content is sent as `Authorization: Bearer` (RFC 6750), without blanks around it."""


class KeyServers:
    """Answers for each URL how to fetch from there. Reads the files each time: they may be renewed."""

    def __init__(self, ca_file: Path | None = None, servers: Sequence[KeyServer] = ()) -> None:
        """Read all files once. Raises ConfigurationError, which names the setting and the file.

        Args:
            ca_file: PEM, the authorities of all servers that name none; None = those of the system.
            servers: at most one for each scheme, host and port.
        """
        self._ca_file = ca_file
        self._servers = {_server_of(parse_url(server.url)): server for server in servers}
        if ca_file is not None:
            _tls("issuer_ca_file", ca_file)
        for url in map(parse_url, (server.url for server in servers)):
            self.tls_for(url)
            self.headers_for(url)

    def server_for(self, url: Url) -> KeyServer | None:
        """Return the entry of `jwks_servers` for this URL, or None."""
        return self._servers.get(_server_of(url))

    def tls_for(self, url: Url) -> ssl.SSLContext:
        """The TLS client side for this URL. Raises ConfigurationError."""
        server = self.server_for(url)
        if server is not None and server.ca_file is not None:
            return _tls(f"jwks_servers: ca_file of {server.url}", server.ca_file)
        return _tls("issuer_ca_file", self._ca_file)

    def cure_for(self, url: Url, refused: ssl.SSLCertVerificationError) -> str:
        """Say what may help if the server's certificate is from no known authority; else empty."""
        if refused.verify_code not in _UNKNOWN_AUTHORITY:
            return ""
        server = self.server_for(url)
        if server is not None and server.ca_file is not None:
            return f"put the authority of its certificate into {server.ca_file}"
        if self._ca_file is not None:
            return f"set ca_file for this server in jwks_servers, or put its authority into {self._ca_file}"
        return "set ca_file for this server in jwks_servers"

    def headers_for(self, url: Url) -> Mapping[str, str]:
        """What to send with a request to this URL. Raises ConfigurationError."""
        server = self.server_for(url)
        if server is None or server.token_file is None:
            return {}
        setting = f"jwks_servers: token_file of {server.url}"
        try:
            content, _ = read_file(server.token_file, _MAX_TOKEN_BYTES)
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise ConfigurationError(f"{setting}: {server.token_file} cannot be read: {why}") from None
        token = content.decode("latin-1").strip()
        if not _TOKEN.fullmatch(token):
            raise ConfigurationError(
                f"{setting}: {server.token_file} must hold one token, in visible ASCII characters"
            )
        return {"authorization": f"Bearer {token}"}


def _tls(setting: str, ca_file: Path | None) -> ssl.SSLContext:
    try:
        if ca_file is not None:
            state_of(ca_file.stat())  # to open a pipe would wait for a writer
        context = ssl.create_default_context(cafile=ca_file)
    except ssl.SSLError:
        raise ConfigurationError(f"{setting}: {ca_file} cannot be read: it holds no certificate") from None
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise ConfigurationError(f"{setting}: {ca_file} cannot be read: {why}") from None
    # The same on each version of Python. From 3.13 on the defaults refuse the authorities of many clusters,
    # which have no key identifiers, and believe an intermediate authority without its root.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def _server_of(url: Url) -> tuple[str | None, str | None, int | None]:
    """Scheme, host and port. The library has written scheme and host in lower case."""
    return url.scheme, url.host, url.port or _PORTS.get(url.scheme or "")
