"""Verifies client certificates that no handshake with this service has verified: a proxy forwards them.

The rules are those of a handshake, and not those that `cryptography` has for the certificates of web servers:
an authority that `openssl req -x509` makes, for instance, has no key usage.
"""

from functools import lru_cache
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import (
    Criticality,
    ExtensionPolicy,
    Policy,
    PolicyBuilder,
    Store,
    VerificationError,
)

from identity_service.jose.certificates import UNREADABLE

_MALFORMED: Final = (
    *UNREADABLE,
    UnsupportedAlgorithm,
    x509.UnsupportedGeneralNameType,
    x509.DuplicateExtension,
)


def pem_of_der(der: bytes) -> bytes:
    """Return a certificate in PEM. Raises ValueError unless the bytes are exactly one certificate."""
    try:
        return x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM)
    except UNREADABLE as error:
        raise ValueError("not a certificate") from error


def pem_of_text(text: bytes) -> bytes:
    """Return the only certificate in a PEM text, in PEM. Raises ValueError if it has none, or several."""
    try:
        (certificate,) = x509.load_pem_x509_certificates(text)
    except UNREADABLE as error:
        raise ValueError("not one certificate") from error
    return certificate.public_bytes(Encoding.PEM)


def is_of(pem: bytes, authorities: bytes) -> bool:
    """Return whether one of these authorities has issued a certificate, for clients, and both are valid now.

    The certificate must be signed by one of them directly: intermediates count if they are among them.
    """
    verifier = (
        PolicyBuilder()
        .store(_store(authorities))
        .extension_policies(ca_policy=_AUTHORITY, ee_policy=_CLIENT)
        .build_client_verifier()
    )
    try:
        verifier.verify(x509.load_pem_x509_certificate(pem), [])
    except (VerificationError, *_MALFORMED):
        return False
    return True


@lru_cache(maxsize=4)
def _store(authorities: bytes) -> Store:
    return Store(x509.load_pem_x509_certificates(authorities))


def _require_authority(_: Policy, __: x509.Certificate, found: x509.BasicConstraints) -> None:
    if not found.ca:
        raise ValueError("not an authority")


def _require_signing(_: Policy, __: x509.Certificate, found: x509.KeyUsage | None) -> None:
    if found is not None and not found.key_cert_sign:
        raise ValueError("not for signing certificates")


def _require_handshakes(_: Policy, __: x509.Certificate, found: x509.KeyUsage | None) -> None:
    if found is not None and not (found.digital_signature or found.key_agreement):
        raise ValueError("not for handshakes")


def _require_clients(_: Policy, __: x509.Certificate, found: x509.ExtendedKeyUsage | None) -> None:
    if found is not None and ExtendedKeyUsageOID.CLIENT_AUTH not in found:
        raise ValueError("not for clients")


_EVERY: Final = ExtensionPolicy.permit_all().may_be_present(
    x509.ExtendedKeyUsage, Criticality.AGNOSTIC, _require_clients
)
_CLIENT: Final = _EVERY.may_be_present(x509.KeyUsage, Criticality.AGNOSTIC, _require_handshakes)
_AUTHORITY: Final = _EVERY.require_present(
    x509.BasicConstraints, Criticality.AGNOSTIC, _require_authority
).may_be_present(x509.KeyUsage, Criticality.AGNOSTIC, _require_signing)
