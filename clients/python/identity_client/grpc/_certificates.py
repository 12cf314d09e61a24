"""The client certificate of a connection to a gRPC server."""

import hashlib
import ssl
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, Protocol, cast

from cryptography import x509

_PEM: Final = "x509_pem_cert"
_RESUMED: Final = "ssl_session_reused"


class _Context(Protocol):
    def auth_context(self) -> Mapping[str, object]: ...


def certificate_sha256(context: _Context) -> bytes:
    """Return the SHA-256 of the DER of the client's certificate; b"" = the connection has none.

    A certificate that has expired counts as none if the TLS session was resumed: that handshake does not
    verify it again.
    """
    # The type stubs differ, but every value is a list of bytes.
    properties = cast("Mapping[str, Sequence[bytes]]", context.auth_context())
    pem = next(iter(properties.get(_PEM, ())), None)
    if pem is None:
        return b""
    if next(iter(properties.get(_RESUMED, ())), b"") == b"true":
        expires = x509.load_pem_x509_certificate(pem).not_valid_after_utc
        if expires <= datetime.now(UTC):
            return b""
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem.decode("ascii"))).digest()
