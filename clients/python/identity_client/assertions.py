"""Client assertions: JWTs that a client signs with its own key to authenticate itself (RFC 7523).

from identity_client import AssertionSigner, IdentityClient

signer = AssertionSigner.from_file("reports", "reports.pem")
with IdentityClient() as client:
    tokens = client.issue_with_assertion(signer, audiences=["api"])
"""

import base64
import hashlib
import json
import secrets
import time
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, Self

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from identity_shared.key_members import check_members, check_rsa, check_use

SERVICE_ISSUER: Final = "identity-service"
"""The default of the service's setting `issuer`, which is the audience of client assertions."""

_CURVES: Final = {"secp256r1": "ES256", "secp384r1": "ES384"}
_THUMBPRINT_MEMBERS: Final = {
    "EC": ("crv", "kty", "x", "y"),
    "OKP": ("crv", "kty", "x"),
    "RSA": ("e", "kty", "n"),
}


class AssertionSigner:
    """A callable that returns a new client assertion at each call. Any thread may call it."""

    def __init__(
        self,
        client_id: str,
        private_key: Any,
        *,
        algorithm: str | None = None,
        key_id: str | None = None,
        audience: str = SERVICE_ISSUER,
        lifetime: timedelta = timedelta(minutes=1),
    ) -> None:
        """Create a signer for a client and its key.

        Args:
            client_id: the client that authenticates itself.
            private_key: a key of the library `cryptography`: EC on P-256 or P-384, Ed25519, or RSA.
            algorithm: the JWS algorithm; None = ES256, ES384, EdDSA or RS256, according to the key.
            key_id: the `kid` under which the key is registered; None = its thumbprint (RFC 7638, SHA-256).
            audience: the service's setting `issuer`.
            lifetime: the lifetime of one assertion, at most an hour.

        Raises ValueError for any other kind of key, and for an RSA key that is too short, too long or weak.
        """
        if isinstance(private_key, rsa.RSAPrivateKey):
            numbers = private_key.public_key().public_numbers()
            check_rsa(numbers.n, numbers.e)
        self._client_id = client_id
        self._key = private_key
        self._algorithm = algorithm or _algorithm_of(private_key)
        self._audience = audience
        self._lifetime = lifetime
        public = jwt.get_algorithm_by_name(self._algorithm).to_jwk(private_key.public_key(), as_dict=True)
        self._public = {name: value for name, value in public.items() if name != "key_ops"}
        self._key_id = key_id or _thumbprint(self._public)

    @classmethod
    def from_file(cls, client_id: str, path: str | Path, **options: Any) -> Self:
        """Create a signer with the private key in a file: unencrypted PEM, or a JWK.

        `options` are the keyword arguments of the constructor; `key_id` and `algorithm` default to `kid` and
        `alg` of a JWK. Raises OSError if the file cannot be read, ValueError if it holds no usable key.
        """
        data = Path(path).read_bytes()
        if not data.lstrip().startswith(b"{"):
            return cls(client_id, _from_pem(data, path), **options)
        jwk = json.loads(data)
        try:
            check_use(jwk, "sig", {"sign"})
            check_members(jwk)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        try:
            key = jwt.PyJWK(jwk, options.get("algorithm")).key
        except (jwt.PyJWTError, NotImplementedError):  # the second for the algorithm `none`
            raise ValueError(f"{path}: is not a JWK that can sign") from None
        if not hasattr(key, "private_numbers") and not isinstance(key, ed25519.Ed25519PrivateKey):
            raise ValueError(f"{path}: is a public key; signing needs the private one")
        named = {"algorithm": jwk.get("alg"), "key_id": jwk.get("kid")}
        return cls(client_id, key, **{**named, **options})

    def __call__(self) -> str:
        """Return a new assertion; the service accepts it once, within its lifetime."""
        now = int(time.time())
        claims = {
            "iss": self._client_id,
            "sub": self._client_id,
            "aud": self._audience,
            "iat": now,
            "exp": now + int(self._lifetime.total_seconds()),
            "jti": secrets.token_urlsafe(16),
        }
        headers = {"kid": self._key_id, "typ": "client-authentication+jwt"}
        return jwt.encode(claims, self._key, self._algorithm, headers)

    def public_jwk(self) -> str:
        """Return the public key as a JWK (JSON text), for `public_keys` of the client at the service."""
        return json.dumps(self._public | {"kid": self._key_id, "alg": self._algorithm, "use": "sig"})

    def __repr__(self) -> str:
        return f"AssertionSigner({self._client_id!r}, key_id={self._key_id!r})"


def _from_pem(data: bytes, path: str | Path) -> Any:
    try:
        return load_pem_private_key(data, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ValueError(f"{path}: holds no private key that can be read without a password") from None


def _algorithm_of(key: Any) -> str:
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name in _CURVES:
        return _CURVES[key.curve.name]
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return "EdDSA"
    if isinstance(key, rsa.RSAPrivateKey):
        return "RS256"
    raise ValueError("the key must be a private one: EC on P-256 or P-384, Ed25519, or RSA")


def _thumbprint(jwk: dict[str, Any]) -> str:
    """Return the key's SHA-256 thumbprint (RFC 7638), base64url."""
    members = {name: jwk[name] for name in _THUMBPRINT_MEMBERS[jwk["kty"]]}
    digest = hashlib.sha256(json.dumps(members, separators=(",", ":"), sort_keys=True).encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
