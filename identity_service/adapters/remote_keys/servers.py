"""Per-server settings for fetching keys: the trusted authorities, and a bearer token to send.

The operator names both files in the settings. An issuer's record cannot name them: otherwise a principal that
may write records could have any file of this machine sent to a server of its choice.
"""

import re
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from identity_service.adapters.remote_keys.files import read_file, state_of
from identity_service.domain.errors import ConfigurationError

if TYPE_CHECKING:
    from urllib3.util import Url

_MAX_TOKEN_BYTES: Final = 16 * 1024
_TOKEN: Final = re.compile(r"[\x21-\x7e]+")
_UNKNOWN_AUTHORITY: Final = frozenset({2, 18, 19, 20, 21})
"""OpenSSL verification errors (`X509_STORE_CTX_get_error`) that other trusted authorities may remedy."""
_PORTS: Final = {"https": 443, "http": 80}


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyServer:
    """One entry of the setting `jwks_servers`."""

    url: str
    """A URL that identifies the server by scheme, host and port; the rest of it is ignored."""
    ca_file: Path | None = None
    """The authorities that are trusted for this server, in PEM; None = those of all other servers."""
    token_file: Path | None = None
    """A file whose content, without surrounding blanks, is sent as `Authorization: Bearer` (RFC 6750)."""


class KeyServers:
    """The authorities and tokens of all servers. Reads the files for each request: they may be renewed."""

    def __init__(self, ca_file: Path | None = None, servers: Sequence[KeyServer] = ()) -> None:
        """Read all files once. Raises ConfigurationError, which names the setting and the file.

        Args:
            ca_file: the authorities, in PEM, of servers without their own; None = those of the system.
            servers: the entries of `jwks_servers`, at most one for each scheme, host and port.
        """
        self._ca_file = ca_file
        urls = [_parse(server.url) for server in servers]
        self._servers = dict(zip(map(_server_of, urls), servers, strict=True))
        if ca_file is not None:
            _tls("issuer_ca_file", ca_file)
        for url in urls:
            self.tls_for(url)
            self.headers_for(url)

    def server_for(self, url: "Url") -> KeyServer | None:
        """Return the entry of `jwks_servers` for this URL, or None."""
        return self._servers.get(_server_of(url))

    def tls_for(self, url: "Url") -> ssl.SSLContext:
        """Return the TLS client context for this URL. Raises ConfigurationError if a file is not usable."""
        server = self.server_for(url)
        if server is not None and server.ca_file is not None:
            return _tls(f"jwks_servers: ca_file of {server.url}", server.ca_file)
        return _tls("issuer_ca_file", self._ca_file)

    def cure_for(self, url: "Url", refused: ssl.SSLCertVerificationError) -> str:
        """Return advice for an operator if the server's certificate is from an unknown authority, else ''."""
        if refused.verify_code not in _UNKNOWN_AUTHORITY:
            return ""
        server = self.server_for(url)
        if server is not None and server.ca_file is not None:
            return f"put the authority of its certificate into {server.ca_file}"
        if self._ca_file is not None:
            return f"set ca_file for this server in jwks_servers, or put its authority into {self._ca_file}"
        return "set ca_file for this server in jwks_servers"

    def headers_for(self, url: "Url") -> Mapping[str, str]:
        """Return the headers that authenticate a request to this URL; empty if the server has no token.

        Raises ConfigurationError if the file of the token is not usable.
        """
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
    """Return a context that trusts these authorities, or those of the system. Raises ConfigurationError."""
    try:
        if ca_file is not None:
            state_of(ca_file.stat())  # opening a pipe would wait for a writer
        context = ssl.create_default_context(cafile=ca_file)
    except ssl.SSLError:
        raise ConfigurationError(f"{setting}: {ca_file} cannot be read: it holds no certificate") from None
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise ConfigurationError(f"{setting}: {ca_file} cannot be read: {why}") from None
    # The same rules on every version of Python. From 3.13 on, the defaults refuse the authorities of many
    # Kubernetes clusters, which have no key identifiers, and trust an intermediate one without its root.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def _parse(url: str) -> "Url":
    # Imported here, since a process that fetches no keys does not need it.
    from urllib3.util import parse_url

    return parse_url(url)


def _server_of(url: "Url") -> tuple[str | None, str | None, int | None]:
    """Return scheme, host, and the port or its default. urllib3 has lower-cased scheme and host."""
    return url.scheme, url.host, url.port or _PORTS.get(url.scheme or "")
