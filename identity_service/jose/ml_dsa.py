"""ML-DSA in JOSE (RFC 9964: `kty` AKP), on the ML-DSA of `cryptography` (FIPS 204).

The class `MlDsa` has the interface of PyJWT's algorithms, among which there is no ML-DSA. It does not check
the permitted uses of a key.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final, cast

from cryptography.hazmat.primitives.asymmetric import mldsa
from jwt.algorithms import Algorithm

from identity_service.domain.ids import base64url
from identity_shared.strict import JsonObject, decode_base64url

PrivateKey = mldsa.MLDSA44PrivateKey | mldsa.MLDSA65PrivateKey
PublicKey = mldsa.MLDSA44PublicKey | mldsa.MLDSA65PublicKey
SEED_BYTES: Final = 32


class MlDsa(Algorithm):
    """A parameter set of ML-DSA; each of its keys has its name as `alg`, as AKP demands."""

    def __init__(self, name: str, private: Any, public: Any) -> None:
        """Create the set with this `alg` from the classes of its keys."""
        self.name = name
        self._private, self._public = private, public

    def generate(self) -> PrivateKey:
        """Return a new private key."""
        return cast("PrivateKey", self._private.generate())

    def prepare_key(self, key: Any) -> Any:
        """Return the key unchanged."""
        return key

    def sign(self, msg: bytes, key: Any) -> bytes:
        """Return the signature of a message, with an empty context (RFC 9964 section 4)."""
        return cast("bytes", key.sign(msg))

    def verify(self, msg: bytes, key: Any, sig: bytes) -> bool:
        """Return True if a signature is valid. Raises InvalidSignature otherwise."""
        key.verify(sig, msg)
        return True

    def to_jwk(self, key_obj: PrivateKey, as_dict: bool = False) -> Any:  # type: ignore[override]
        """Return a private key as a JWK; `priv` is the seed."""
        jwk = {
            "kty": "AKP",
            "alg": self.name,
            "pub": base64url(key_obj.public_key().public_bytes_raw()),
            "priv": base64url(key_obj.private_bytes_raw()),
        }
        return jwk if as_dict else json.dumps(jwk)

    def from_jwk(self, jwk: JsonObject) -> PrivateKey | PublicKey:  # type: ignore[override]
        """Return the private key in a JWK, or the public key if there is no `priv`. Raises ValueError."""
        if jwk.get("alg") != self.name:
            raise ValueError("an AKP key names its `alg`")
        public = self._public.from_public_bytes(_bytes(jwk, "pub"))
        if "priv" not in jwk:
            return cast("PublicKey", public)
        seed = _bytes(jwk, "priv")
        if len(seed) != SEED_BYTES:
            raise ValueError("`priv` is not a seed")
        private = self._private.from_seed_bytes(seed)
        if private.public_key() != public:
            raise ValueError("`pub` is not that of `priv`")
        return cast("PrivateKey", private)


ML_DSA_44: Final = MlDsa("ML-DSA-44", mldsa.MLDSA44PrivateKey, mldsa.MLDSA44PublicKey)
ML_DSA_65: Final = MlDsa("ML-DSA-65", mldsa.MLDSA65PrivateKey, mldsa.MLDSA65PublicKey)


def thumbprint(jwk: Mapping[str, Any]) -> str:
    """Return the RFC 7638 thumbprint, of the members that RFC 9964 section 6 names: `alg`, `kty`, `pub`."""
    members = {name: jwk[name] for name in ("alg", "kty", "pub")}
    return base64url(hashlib.sha256(json.dumps(members, separators=(",", ":")).encode()).digest())


def _bytes(jwk: JsonObject, name: str) -> bytes:
    value = jwk.get(name)
    if not isinstance(value, str):
        raise ValueError(f"an AKP key has `{name}`")  # noqa: TRY004  # what the caller of load expects
    return decode_base64url(value)
