"""Decrypts access tokens that were encrypted to an audience (RFC 7516), with the audience's private key.

from identity_client import DecryptionKey, IdentityClient

key = DecryptionKey.from_file("api.pem")
with IdentityClient(decryption_keys=[key]) as client:
    outcome = client.verify(token, audiences=["api"])

A decrypted token is a signed token that is not yet verified. The algorithm is taken from the key, never from
the token. The module needs joserfc: install `identity-client[encryption]`.
"""

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Self

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from identity_shared.key_members import check_members, check_rsa, check_use
from identity_shared.strict import decode_base64url, parse_object

_CONTENT: Final = "A256GCM"
_MAX_TOKEN_CHARS: Final = 8 * 1024
_MAX_HEADER_CHARS: Final = 1024
_IV_BYTES: Final = 12
_TAG_BYTES: Final = 16
_MAX_RSA_BITS: Final = 4096
_AGREEMENTS: Final = {"ECDH-ES": 0, "ECDH-ES+A128KW": 40, "ECDH-ES+A256KW": 40}
"""A map from algorithms to the length of the encrypted key in bytes: 0, or that of a 256-bit content key
under AES Key Wrap."""
_COORDINATE_BYTES: Final = {"P-256": 32, "P-384": 48, "P-521": 66, "X25519": 32}
_ALGORITHMS: Final = {"RSA": ["RSA-OAEP-256"], "EC": [*_AGREEMENTS], "OKP": [*_AGREEMENTS]}
_DEFAULTS: Final = {"RSA": "RSA-OAEP-256", "EC": "ECDH-ES+A256KW", "OKP": "ECDH-ES+A256KW"}
_OPERATIONS: Final = {
    "RSA": {"unwrapKey", "decrypt"},
    "EC": {"deriveKey", "deriveBits"},
    "OKP": {"deriveKey", "deriveBits"},
}
_HEADER: Final = frozenset({"alg", "enc", "kid", "typ", "cty"})


class NotOpenableError(ValueError):
    """The token cannot be decrypted with this key.

    It gives no reason: the sender of the token could use the reason to find out about the key or the content.
    """

    def __init__(self) -> None:
        super().__init__("the token cannot be opened with this key")


class DecryptionKey:
    """The private key of an audience, which decrypts tokens. Any thread may use it."""

    def __init__(
        self, private_jwk: Mapping[str, Any], *, algorithm: str | None = None, key_id: str | None = None
    ) -> None:
        """Create a key from a private JWK (RFC 7517).

        Args:
            private_jwk: a key for RSA of 2,048 to 4,096 bits; EC on P-256, P-384 or P-521; or X25519.
            algorithm: the JWE algorithm; None = `alg` of the JWK, or RSA-OAEP-256 or ECDH-ES+A256KW without
                one.
            key_id: `kid` under which the key is registered; None = `kid` of the JWK, or its thumbprint
                (RFC 7638).

        Raises ValueError for any other kind of key, and for one whose `use` or `key_ops` forbid decryption.
        Raises ImportError if joserfc is not installed.
        """
        library = _library()
        kind = str(private_jwk.get("kty"))
        self.algorithm = algorithm or private_jwk.get("alg") or _DEFAULTS.get(kind, "")
        if self.algorithm not in _ALGORITHMS.get(kind, ()):
            raise ValueError("the key must be RSA, EC or X25519, and its alg one to encrypt with")
        self._curve = private_jwk.get("crv")
        if kind != "RSA" and self._curve not in _COORDINATE_BYTES:
            raise ValueError("the key must be on P-256, P-384, P-521 or X25519")
        _check_permissions(private_jwk, kind)
        try:
            check_members(private_jwk, max_rsa_bits=_MAX_RSA_BITS)
        except ValueError as error:
            raise ValueError(f"the key is not well-formed: {error}") from None
        members = {n: v for n, v in private_jwk.items() if n not in ("use", "key_ops", "alg", "kid")}
        try:
            self._key = library.jwk.JWKRegistry.import_key(members)
            self._public: dict[str, Any] = self._key.as_dict(private=False)
        except (library.errors.JoseError, TypeError, KeyError, ValueError):
            raise ValueError("the key is not well-formed") from None
        if not self._key.is_private:
            raise ValueError("the key is a public one; opening needs the private one")
        self.key_id: str = key_id or private_jwk.get("kid") or self._key.thumbprint()
        rsa_bytes = len(decode_base64url(private_jwk["n"])) if kind == "RSA" else 0
        self._wrapped_bytes = rsa_bytes or _AGREEMENTS[self.algorithm]

    @classmethod
    def from_file(cls, path: str | Path, **options: Any) -> Self:
        """Create a key from the private key in a file: unencrypted PEM, or a JWK.

        `options` are the keyword arguments of the constructor. Raises OSError if the file cannot be read,
        ValueError if it holds no usable key.
        """
        data = Path(path).read_bytes()
        if data.lstrip().startswith(b"{"):
            try:
                jwk = json.loads(data)
            except ValueError:
                raise ValueError(f"{path}: is not JSON") from None
            return cls(jwk, **options)
        return cls(_from_pem(data, path), **options)

    def decrypt(self, token: str) -> str:
        """Return the signed token inside an encrypted one; it is not verified. Raises NotOpenableError."""
        if not self._is_for_this(token):
            raise NotOpenableError
        library = _library()
        try:
            opened = library.jwe.decrypt_compact(token, self._key, algorithms=[self.algorithm, _CONTENT])
            return (opened.plaintext or b"").decode("ascii")
        except (library.errors.JoseError, ValueError):
            raise NotOpenableError from None

    def public_jwk(self) -> str:
        """Return the public key as a JWK (JSON text), for `encryption_key` of the client at the service."""
        public = {name: value for name, value in self._public.items() if name != "key_ops"}
        return json.dumps(public | {"kid": self.key_id, "alg": self.algorithm, "use": "enc"})

    def _is_for_this(self, token: str) -> bool:
        """Return whether the token has exactly the form in which the service encrypts for this key."""
        parts = token.split(".")
        if len(token) > _MAX_TOKEN_CHARS or len(parts) != 5 or len(parts[0]) > _MAX_HEADER_CHARS:
            return False
        try:
            header = parse_object(decode_base64url(parts[0]))
            wrapped, iv, content, tag = map(decode_base64url, parts[1:])
        except ValueError:
            return False
        sizes = len(wrapped), len(iv), len(tag)
        if sizes != (self._wrapped_bytes, _IV_BYTES, _TAG_BYTES) or not content:
            return False
        return self._is_header(header)

    def _is_header(self, header: Mapping[str, Any]) -> bool:
        """Return whether the JOSE header has exactly the expected members, and the algorithm of this key.

        Any other member, such as `zip`, `crit`, `jwk`, `apu` or `p2c`, is refused.
        """
        agreed = self.algorithm in _AGREEMENTS
        if header.keys() != (_HEADER | {"epk"} if agreed else _HEADER):
            return False
        said = (header["alg"], header["enc"], header["kid"], header["typ"], header["cty"])
        if said != (self.algorithm, _CONTENT, self.key_id, "at+jwt", "JWT"):
            return False
        return not agreed or self._is_ephemeral(header["epk"])

    def _is_ephemeral(self, epk: object) -> bool:
        """Return whether the ephemeral public key names the curve of this key and has its length.

        The library refuses a point that is not on the curve (RFC 8725 section 3.4).
        """
        names = ("x",) if self._curve == "X25519" else ("x", "y")
        kind = "OKP" if self._curve == "X25519" else "EC"
        if not isinstance(epk, dict) or epk.keys() != {"kty", "crv", *names}:
            return False
        size = _COORDINATE_BYTES[str(self._curve)]
        try:
            fits = all(isinstance(epk[n], str) and len(decode_base64url(epk[n])) == size for n in names)
        except ValueError:
            return False
        return fits and (epk["kty"], epk["crv"]) == (kind, self._curve)

    def __repr__(self) -> str:
        return f"DecryptionKey({self.key_id!r}, algorithm={self.algorithm!r})"


def _library() -> Any:
    """Import joserfc, which only programs that decrypt tokens need. Raises ImportError."""
    try:
        import joserfc.errors
        import joserfc.jwe
        import joserfc.jwk
    except ImportError as error:
        raise ImportError(
            "opening encrypted tokens needs joserfc: install identity-client[encryption]"
        ) from error
    return joserfc


def _from_pem(data: bytes, path: str | Path) -> dict[str, Any]:
    library = _library()
    try:
        private = load_pem_private_key(data, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ValueError(f"{path}: holds no private key that can be read without a password") from None
    kind = library.jwk.ECKey if isinstance(private, ec.EllipticCurvePrivateKey) else library.jwk.OKPKey
    if isinstance(private, rsa.RSAPrivateKey):
        numbers = private.public_key().public_numbers()
        check_rsa(numbers.n, numbers.e, max_bits=_MAX_RSA_BITS)  # before the library warns about weak keys
        kind = library.jwk.RSAKey
    try:
        jwk: dict[str, Any] = kind.import_key(data).as_dict(private=True)
    except (library.errors.JoseError, ValueError, TypeError, KeyError):
        raise ValueError(f"{path}: holds no private key that can open tokens") from None
    return jwk


def _check_permissions(jwk: Mapping[str, Any], kind: str) -> None:
    """Raise ValueError if `use` or `key_ops` forbid decryption (RFC 7517 sections 4.2 and 4.3)."""
    try:
        check_use(jwk, "enc", _OPERATIONS[kind])
    except ValueError as error:
        raise ValueError(f"the key is not for decryption: {error}") from None


def opened(token: str, keys: Iterable[DecryptionKey]) -> str:
    """Return the signed token inside if one of the keys decrypts the token; otherwise the token unchanged."""
    if token.count(".") == 4:
        for key in keys:
            with suppress(NotOpenableError):
                return key.decrypt(token)
    return token
