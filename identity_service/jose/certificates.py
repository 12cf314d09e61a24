"""X.509 certificates in PEM for TLS: checks whether they are usable, and returns their names and times.

The module issues no certificates. No message holds any part of a key.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Final, TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from identity_service.domain.visible import escape
from identity_shared.key_members import MAX_RSA_BITS, MIN_RSA_BITS, check_rsa

E = TypeVar("E", bound=x509.ExtensionType)
UNREADABLE: Final = (ValueError, x509.InvalidVersion)
"""The errors of the library for bytes that are not a certificate, or whose version number is unknown."""
_CURVES: Final = (ec.SECP256R1, ec.SECP384R1)
"""The curves that every gRPC client offers; a handshake with Ed25519 or P-521 fails."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateFacts:
    """The names and the times of a certificate, for operators."""

    names: tuple[str, ...]
    """Its subject alternative names: hosts, addresses, URIs; if it has none that can be read, its subject."""
    start_time: datetime
    expire_time: datetime


def check_pair(certificate: bytes, key: bytes) -> CertificateFacts:
    """Return the facts of a chain's first certificate, after checking that the key belongs to it.

    Raises ValueError, which says what is wrong. A weak key of any other certificate of the chain is an error,
    too: an attacker can sign for an authority whose key can be factored.
    """
    (leaf, *others), private = _read_certificates(certificate), _read_key(key)
    same = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if leaf.public_key().public_bytes(*same) != private.public_key().public_bytes(*same):
        raise ValueError("the key does not belong to the certificate")
    for number, other in enumerate(others, start=2):
        try:
            _check_public_key(other)
        except ValueError as error:
            raise ValueError(
                f"certificate {number} of the chain ({_subject(other)}) has a key that is refused: {error}"
            ) from None
    return _facts(leaf)


def check_authorities(bundle: bytes) -> Sequence[CertificateFacts]:
    """Return the facts of CA certificates. Raises ValueError if one of them is not a CA certificate."""
    certificates = _read_certificates(bundle)
    if not all(_is_authority(certificate) for certificate in certificates):
        raise ValueError("contains a certificate that is not a CA certificate")
    for certificate in certificates:
        try:
            _check_public_key(certificate)
        except ValueError as error:
            raise ValueError(f"contains a CA certificate whose key is refused: {error}") from None
    return [_facts(certificate) for certificate in certificates]


def certificates_in(pem: bytes) -> Sequence[CertificateFacts]:
    """Return the facts of the certificates in a file, at least one. Raises ValueError if it holds none."""
    return [_facts(certificate) for certificate in _read_certificates(pem)]


def _read_certificates(pem: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except UNREADABLE:
        raise ValueError("contains no complete certificate in PEM") from None


def _read_key(pem: bytes) -> PrivateKeyTypes:
    try:
        key = load_pem_private_key(pem, password=None)
    except TypeError:
        raise ValueError(
            "the key is encrypted; store it without a passphrase, in a file of mode 0600"
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        # The message of the library may hold a part of the file.
        raise ValueError("the key file contains no complete private key in PEM") from None
    usable = (isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, _CURVES)) or (
        isinstance(key, rsa.RSAPrivateKey) and MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS
    )
    if not usable:
        raise ValueError(f"the key must be of P-256, P-384, or RSA of {MIN_RSA_BITS} to {MAX_RSA_BITS} bits")
    _check_rsa(key.public_key())
    return key


def _check_public_key(certificate: x509.Certificate) -> None:
    """Refuse an RSA key that can be factored or is too long. Raises ValueError."""
    try:
        key = certificate.public_key()
    except UnsupportedAlgorithm:
        return  # a key of another type, which TLS accepts or refuses
    _check_rsa(key)


def _check_rsa(key: object) -> None:
    if isinstance(key, rsa.RSAPublicKey):
        numbers = key.public_numbers()
        check_rsa(numbers.n, numbers.e)


def _is_authority(certificate: x509.Certificate) -> bool:
    constraints = _extension(certificate, x509.BasicConstraints)
    return constraints is not None and constraints.ca


def _extension(certificate: x509.Certificate, kind: type[E]) -> E | None:
    """Return the extension of this kind; None if there is none, or if the extensions cannot be read.

    The library refuses, with errors of several classes, what TLS accepts: an EDI party name, for instance.
    """
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        return None


def _subject(certificate: x509.Certificate) -> str:
    return escape(certificate.subject.rfc4514_string()) or "without a subject"


def _facts(certificate: x509.Certificate) -> CertificateFacts:
    found = _extension(certificate, x509.SubjectAlternativeName) or ()
    names = tuple(str(name.value) for name in found) or (certificate.subject.rfc4514_string(),)
    return CertificateFacts(
        names=names, start_time=certificate.not_valid_before_utc, expire_time=certificate.not_valid_after_utc
    )


@lru_cache(maxsize=256)
def has_sound_key(pem: bytes) -> bool:
    """Return whether a certificate's key is strong enough to authenticate; False if it cannot be read.

    The handshake has verified the certificate, but not whether others can compute its private key (ROCA). A
    gateway may also send bytes that no handshake accepts.
    """
    try:
        _check_public_key(x509.load_pem_x509_certificate(pem))
    except UNREADABLE:
        return False
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class AlternativeNames:
    """The subject alternative names that can identify a workload (RFC 5280 section 4.2.1.6)."""

    uris: tuple[bytes, ...] = ()
    hosts: tuple[bytes, ...] = ()


def alternative_names(pem: bytes) -> AlternativeNames:
    """Return the names of a certificate that a handshake has verified; none if they cannot be read."""
    try:
        found = _extension(x509.load_pem_x509_certificate(pem), x509.SubjectAlternativeName)
    except UNREADABLE:
        found = None
    if found is None:
        return AlternativeNames()
    return AlternativeNames(
        uris=tuple(uri.encode() for uri in found.get_values_for_type(x509.UniformResourceIdentifier)),
        hosts=tuple(host.encode() for host in found.get_values_for_type(x509.DNSName)),
    )
