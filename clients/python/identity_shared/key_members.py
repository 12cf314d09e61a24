"""Checks of the members of a JWK and of the numbers of its key, for which the JOSE libraries are too lenient.

The rules are those of RFC 7517 section 4, RFC 7518 section 6 and RFC 8037 section 2. No message holds any
part of a key.
"""

from collections.abc import Mapping, Set
from math import gcd, isqrt, prod
from typing import Any, Final

from identity_shared.strict import decode_base64url

MIN_RSA_BITS: Final = 2048
MAX_RSA_BITS: Final = 8192
MAX_EXPONENT_BITS: Final = 64
"""The longest public exponent. With the longest modulus and exponent a verification takes 2 ms; with 2,048
bits and the exponent 65,537 it takes 0.1 ms."""

_FIELD_BYTES: Final = {"P-256": 32, "P-384": 48, "P-521": 66, "Ed25519": 32, "X25519": 32}
_COORDINATES: Final = {"EC": ("x", "y", "d"), "OKP": ("x", "d")}
_RSA_PRIVATE: Final = ("d", "p", "q", "dp", "dq", "qi")


def _powers(prime: int) -> frozenset[int]:
    """Return the powers of 65,537 modulo a prime."""
    found, power = set[int](), 1
    while power not in found:
        found.add(power)
        power = power * 65537 % prime
    return frozenset(found)


_PRIMES: Final = tuple(n for n in range(3, 1000, 2) if all(n % d for d in range(3, int(n**0.5) + 1, 2)))
_PRODUCT: Final = prod(_PRIMES)
_ROCA_PRIMES: Final = tuple(prime for prime in _PRIMES if prime < 168)
_ROCA_POWERS: Final = {prime: _powers(prime) for prime in _ROCA_PRIMES}
_ROCA_PRODUCT: Final = prod(_ROCA_PRIMES)
_SQUARES: Final = {prime: frozenset(n * n % prime for n in range(prime)) for prime in _ROCA_PRIMES}


def check_members(jwk: Mapping[str, Any], *, max_rsa_bits: int = MAX_RSA_BITS) -> None:
    """Check the members of an RSA, EC or OKP key before a library computes anything with them.

    Other key types and unknown curves pass: the caller refuses those that it does not support. Raises
    ValueError, which names the member and says what to do.
    """
    kind = jwk.get("kty")
    if kind == "RSA":
        _check_rsa_members(jwk, max_rsa_bits)
    elif kind in ("EC", "OKP"):
        curve = jwk.get("crv")
        length = _FIELD_BYTES.get(curve) if isinstance(curve, str) else None
        if length is not None:
            for name in _COORDINATES[kind]:
                if name != "d" or name in jwk:
                    _check_length(jwk, name, length)


def check_rsa(modulus: int, exponent: int, *, max_bits: int = MAX_RSA_BITS) -> None:
    """Check the public numbers of an RSA key. Raises ValueError, which says what to do.

    The checks take 0.02 ms with 2,048 bits and 0.06 ms with 8,192.
    """
    if not MIN_RSA_BITS <= modulus.bit_length() <= max_bits:
        raise ValueError(_size_message(max_bits))
    if modulus % 2 == 0:
        raise ValueError("the RSA modulus (`n`) is even and can be factored; make a new key")
    if gcd(modulus % _PRODUCT, _PRODUCT) != 1:
        raise ValueError(
            "the RSA modulus (`n`) has a prime factor below 1,000 and can be factored; make a new key"
        )
    if _is_square(modulus):
        raise ValueError(
            "the RSA modulus (`n`) is the square of a number and can be factored; make a new key"
        )
    if exponent % 2 == 0 or exponent < 3 or exponent.bit_length() > MAX_EXPONENT_BITS:
        raise ValueError(_EXPONENT_MESSAGE)
    if has_roca_fingerprint(modulus):
        raise ValueError(
            "the RSA modulus (`n`) is one of a faulty key generator (ROCA, CVE-2017-15361) and can be "
            "factored; make a new key with other software, or on another device"
        )


def check_use(jwk: Mapping[str, Any], use: str, operations: Set[str]) -> None:
    """Check `use` and `key_ops` (RFC 7517 sections 4.2 and 4.3); a key without them may be used for anything.

    `key_ops` must allow at least one of the operations. Raises ValueError, which says what to do.
    """
    if "use" in jwk and jwk["use"] != use:
        raise ValueError(f'the `use` of the key must be "{use}", or absent; give a key that is for this')
    if "key_ops" not in jwk:
        return
    allowed = jwk["key_ops"]
    if not isinstance(allowed, list) or not all(isinstance(one, str) for one in allowed):
        raise ValueError("the `key_ops` of the key must be a list of texts, or absent; export the key again")
    if len(set(allowed)) != len(allowed):
        raise ValueError("the `key_ops` of the key name an operation twice; export the key again")
    if operations.isdisjoint(allowed):
        names = " or ".join(sorted(operations))
        raise ValueError(
            f"the `key_ops` of the key must hold {names}, or be absent; give a key that is for this"
        )


def has_roca_fingerprint(modulus: int) -> bool:
    """Return whether a modulus has the ROCA fingerprint (Nemec et al., CCS 2017).

    That is: it is a power of 65,537 modulo each prime from 3 to 167. Every modulus of the faulty generator
    is, and one in 240 million of all others.
    """
    rest = modulus % _ROCA_PRODUCT
    return all(rest % prime in powers for prime, powers in _ROCA_POWERS.items())


def _is_square(modulus: int) -> bool:
    """Return whether an odd modulus is a square.

    A square is also a square modulo 8 and modulo each prime. Few other numbers are, so the integer root,
    which takes 0.15 ms with 8,192 bits, is hardly ever computed.
    """
    rest = modulus % _ROCA_PRODUCT
    if modulus % 8 != 1 or any(rest % prime not in squares for prime, squares in _SQUARES.items()):
        return False
    return isqrt(modulus) ** 2 == modulus


_EXPONENT_MESSAGE: Final = (
    f"the RSA exponent (`e`) must be odd, at least 3, and have at most {MAX_EXPONENT_BITS} bits; "
    "make a new key with the exponent 65537"
)


def _size_message(max_bits: int) -> str:
    return f"the RSA modulus (`n`) must have {MIN_RSA_BITS} to {max_bits} bits; make a new key"


def _check_rsa_members(jwk: Mapping[str, Any], max_bits: int) -> None:
    modulus = _number(jwk, "n", max_bits, _size_message(max_bits))
    exponent = _number(jwk, "e", MAX_EXPONENT_BITS, _EXPONENT_MESSAGE)
    check_rsa(modulus, exponent, max_bits=max_bits)
    for name in _RSA_PRIVATE:
        if name in jwk:
            _decode(jwk, name)


def _number(jwk: Mapping[str, Any], name: str, max_bits: int, too_long: str) -> int:
    """Read a Base64urlUInt (RFC 7518 section 2); a text of more than `max_bits` + 8 bits is not decoded."""
    data = _decode(jwk, name, max_chars=(max_bits + 13) // 6, too_long=too_long)
    if not data or data[0] == 0:
        raise ValueError(
            f"`{name}` must not begin with zero octets (RFC 7518 section 2); export the key again"
        )
    return int.from_bytes(data)


def _check_length(jwk: Mapping[str, Any], name: str, length: int) -> None:
    """Check that a coordinate or scalar has the length of its field (RFC 7518 section 6.2, RFC 8037)."""
    message = f"`{name}` must have exactly {length} octets, as the curve has; export the key again"
    if len(_decode(jwk, name, max_chars=2 * length, too_long=message)) != length:
        raise ValueError(message)


def _decode(jwk: Mapping[str, Any], name: str, *, max_chars: int | None = None, too_long: str = "") -> bytes:
    text = jwk.get(name)
    if not isinstance(text, str):
        raise ValueError(f"`{name}` must be a text in base64url; export the key again")  # noqa: TRY004  # a value of a key
    if max_chars is not None and len(text) > max_chars:
        raise ValueError(too_long)
    try:
        return decode_base64url(text)
    except ValueError:
        raise ValueError(f"`{name}` must be base64url without padding; export the key again") from None
