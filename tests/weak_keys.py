"""Weak RSA keys that libraries load but the service must refuse, as JWK, PEM and certificate.

The module asserts nothing.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from math import prod
from secrets import token_urlsafe
from typing import Any, Final, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from identity_service.domain.ids import base64url

_DAY: Final = timedelta(days=1)

# CVE-2017-15361: the primes of the faulty generator are k * M + (65537 ** a mod M), where M is the product of
# the first 126 primes for keys of this size (Nemec et al., "The Return of Coppersmith's Attack", CCS 2017).
_M: Final = prod([n for n in range(2, 702) if all(n % d for d in range(2, int(n**0.5) + 1))])
ROCA_P: Final = 0x1E7DD5E8D4FAFB * _M + pow(65537, 0x7C4F3D7D2C78718B, _M)
ROCA_Q: Final = 0x1F953E7C6C0544 * _M + pow(65537, 0xCC6534FBA2821D51, _M)
ROCA: Final = ROCA_P * ROCA_Q
"""A modulus of 2,048 bits with the fingerprint of the ROCA vulnerability (CVE-2017-15361)."""
ODD: Final = 2**2048 - 23
"""A number without a known factor, used as a modulus that is not weak."""


class Numbers(NamedTuple):
    """The public numbers of an RSA key."""

    n: int
    e: int = 65537


WEAK: Final[Mapping[str, Numbers]] = {
    "ROCA": Numbers(ROCA),
    "2,047 bits": Numbers(2**2047 - 1),
    "8,193 bits": Numbers(2**8192 + 1),
    "even": Numbers(2**2048 - 2),
    "a multiple of 3": Numbers(2**2048 - 1),
    "a multiple of 997": Numbers(2**2048 - 2**2048 % 1994 + 997),
    "a square": Numbers((2**1024 - 105) ** 2),
    "exponent of 65 bits": Numbers(ODD, 2**64 + 1),
}
"""Weak public keys, by their fault, that the library `cryptography` loads without an error."""


def base64url_number(number: int) -> str:
    return base64url(number.to_bytes((number.bit_length() + 7) // 8))


def rsa_jwk(numbers: Numbers, **more: Any) -> dict[str, Any]:
    return {
        "kty": "RSA",
        "n": base64url_number(numbers.n),
        "e": base64url_number(numbers.e),
        "kid": "k1",
    } | more


def public_key(numbers: Numbers) -> rsa.RSAPublicKey:
    return rsa.RSAPublicNumbers(numbers.e, numbers.n).public_key()


def roca_key() -> rsa.RSAPrivateKey:
    """Return the private key with the ROCA modulus; it signs like any other key."""
    p, q, public = ROCA_P, ROCA_Q, rsa.RSAPublicNumbers(65537, ROCA)
    d = pow(65537, -1, (p - 1) * (q - 1))
    crt = rsa.rsa_crt_dmp1(d, p), rsa.rsa_crt_dmq1(d, q), rsa.rsa_crt_iqmp(p, q)
    return rsa.RSAPrivateNumbers(p, q, d, *crt, public).private_key()


def roca_jwk(**more: Any) -> dict[str, Any]:
    """Return the private key with the ROCA modulus as a JWK, with `more` members."""
    numbers = roca_key().private_numbers()
    names = {"d": "d", "p": "p", "q": "q", "dp": "dmp1", "dq": "dmq1", "qi": "iqmp"}
    private = {name: base64url_number(getattr(numbers, member)) for name, member in names.items()}
    return rsa_jwk(Numbers(ROCA)) | private | more


def pem(key: rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


class Certified(NamedTuple):
    """A certificate in PEM, and the certificate of the authority that issued it."""

    authority: bytes
    certificate: bytes


def certify(key: rsa.RSAPublicKey, *names: str, authority: bool = False) -> Certified:
    """Issue a client's certificate with this key and these DNS names, or an authority's with this key."""
    # Of a name of its own: of two authorities of one name a verifier may try the wrong one only.
    own, name = ec.generate_private_key(ec.SECP256R1()), _name(token_urlsafe(8))
    made = x509.CertificateBuilder().issuer_name(name).not_valid_before(datetime.now(UTC) - _DAY)
    made = made.not_valid_after(datetime.now(UTC) + _DAY)
    ca = x509.BasicConstraints(ca=True, path_length=None)
    root = (
        made.subject_name(name)
        .public_key(own.public_key())
        .serial_number(1)
        .add_extension(ca, critical=True)
        .sign(own, hashes.SHA256())
    )
    extension = ca if authority else x509.SubjectAlternativeName([x509.DNSName(one) for one in names])
    leaf = (
        made.subject_name(_name("a weak one"))
        .public_key(key)
        .serial_number(2)
        .add_extension(extension, critical=authority)
        .sign(own, hashes.SHA256())
    )
    return Certified(root.public_bytes(Encoding.PEM), leaf.public_bytes(Encoding.PEM))


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])
