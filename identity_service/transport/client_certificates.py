"""The client certificate of a connection as the domain knows it, by the same rules for gRPC and HTTP.

The module verifies no chain: a handshake has done that.
"""

import hashlib
import re
import ssl
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from identity_service.domain.origin import PeerCertificate
from identity_service.domain.principals import is_certificate_name, normalize_certificate_name
from identity_service.jose.certificates import alternative_names, certificates_in, has_sound_key

OF_ENVOY: Final = b"x-forwarded-client-cert"
"""The header in which Envoy passes the certificate of a connection on to the application inside it."""
_CERTIFICATE: Final = re.compile(rb'(?:^|;)Cert="([A-Za-z0-9%._~-]+)"')


def peer_certificate(pem: bytes, uris: Sequence[bytes], hosts: Sequence[bytes]) -> PeerCertificate | None:
    """Return a certificate with the names that can prove a client; None if its key is weak.

    An attacker that computes the private key of a weak one can present the certificate, too.

    Args:
        pem: the certificate, which the handshake has verified.
        uris: the URIs among its subject alternative names.
        hosts: the DNS names among them.
    """
    if not has_sound_key(pem):
        return None
    sha256 = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem.decode())).digest()
    names = {f"sha256:{sha256.hex()}"}
    found = _texts(uris)
    if len(found) == 1:  # with several URIs it is not an X.509-SVID and must not count as one
        names |= {uri for uri in map(normalize_certificate_name, found) if uri.startswith("spiffe://")}
    names |= {normalize_certificate_name(f"dns:{name}") for name in _texts(hosts)}
    return PeerCertificate(
        sha256=sha256, names=frozenset(name for name in names if is_certificate_name(name))
    )


@lru_cache(maxsize=256)
def certificate_in(pem: bytes) -> PeerCertificate | None:
    """Return what `peer_certificate` returns for a certificate and the names in it."""
    names = alternative_names(pem)
    return peer_certificate(pem, names.uris, names.hosts)


def has_expired(pem: bytes) -> bool:
    """Return whether a certificate has expired.

    The handshake of a resumed session does not verify the certificate again. New client authorities end the
    sessions that were made under the former ones, but time passes without a new handshake.
    """
    return certificates_in(pem)[0].expire_time <= datetime.now(UTC)


def pem_from_envoy(scope: Mapping[str, Any]) -> bytes | None:
    """Return the client certificate in the ASGI scope of a request, as Envoy passes it on; None without one.

    Envoy must set the header itself on every request, in place of any that a client sends
    (forward_client_cert_details SANITIZE_SET, or SANITIZE if the port requests no certificate). Only the
    certificate is read from it: the names in that header are not quoted, so a client whose authority lets it
    choose a name could forge others.
    """
    if scope.get("scheme") != "https":
        return None
    value = next((value for name, value in scope["headers"] if name == OF_ENVOY), b"")
    found = _CERTIFICATE.search(value)
    return unquote_to_bytes(found[1]) if found is not None else None


def _texts(values: Sequence[bytes]) -> list[str]:
    """Decode names of a certificate; a byte that is not ASCII becomes U+FFFD.

    An authority can sign names that are not ASCII. After the replacement they are not valid names, and prove
    nothing.
    """
    return [value.decode("ascii", "replace") for value in values]
