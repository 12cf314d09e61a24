"""Certificates for real Redis servers, and the TLS options of the servers and their clients.

The module does not start servers.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

import pytest

from identity_service.jose.authority import Authority

_LIFETIME: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """A certificate and its key, in files."""

    file: Path
    key_file: Path


class RedisTls:
    """A certificate authority, the certificate that its servers share, and one for their clients."""

    def __init__(
        self,
        folder: Path,
        *names: str,
        trusts: "RedisTls | None" = None,
        authority: Authority | None = None,
    ) -> None:
        """Issue the certificates.

        Args:
            folder: of the files; it is created.
            names: the hosts in the servers' certificate; none = 127.0.0.1.
            trusts: an authority that the servers trust beside their own.
            authority: an existing authority that issues the certificates; None = a new one.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._issuer = authority or Authority(folder.name, lifetime=_LIFETIME)
        self.authority = folder / "ca.pem"
        self.authority.write_bytes(self._issuer.certificate)
        self._believed = folder / "believed.pem"
        others = trusts.authority.read_bytes() if trusts else b""
        self._believed.write_bytes(self._issuer.certificate + others)
        self._server = self._issue("server", *(names or ("127.0.0.1",)))
        self.client = self._issue("client", "127.0.0.1")

    def of_host(self, folder: Path, *names: str) -> "RedisTls":
        """Return certificates of the same authority for servers on these hosts."""
        return RedisTls(folder, *names, authority=self._issuer)

    def believing(self, folder: Path, other: "RedisTls") -> "RedisTls":
        """Return certificates of the same authority, for servers that trust `other`'s authority as well."""
        return RedisTls(folder, trusts=other, authority=self._issuer)

    @property
    def server_options(self) -> Mapping[str, str]:
        """Return the options for redis.conf.

        By Redis's default, the server requires a certificate of its clients.
        """
        return {
            "tls-cert-file": str(self._server.file),
            "tls-key-file": str(self._server.key_file),
            "tls-ca-cert-file": str(self._believed),
            "tls-replication": "yes",
            "tls-cluster": "yes",
        }

    def query(self, *, authority: Path | None = None, client: Certificate | None = None) -> str:
        """Return the query of a store's URL with which a client uses this authority and this certificate."""
        shown = client or self.client
        files = {
            "ssl_ca_certs": authority or self.authority,
            "ssl_certfile": shown.file,
            "ssl_keyfile": shown.key_file,
        }
        return "?" + urlencode(files)

    def _issue(self, name: str, *names: str) -> Certificate:
        # Both sides of a connection: servers are clients of one another.
        pair = self._issuer.issue(name, names=names, lifetime=_LIFETIME, server=True, client=True)
        made = Certificate(file=self._folder / f"{name}.pem", key_file=self._folder / f"{name}.key")
        made.file.write_bytes(pair.certificate)
        made.key_file.write_bytes(pair.key)
        return made


@contextmanager
def skipped_without_tls() -> Iterator[None]:
    """Skip the test if the servers that the block starts were built without TLS."""
    try:
        yield
    except RuntimeError as error:
        if "Failed finding TLS support" in str(error):
            pytest.skip("this server was built without TLS; Debian's redis-server has it")
        raise
