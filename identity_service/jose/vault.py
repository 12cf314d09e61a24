"""The key vault: generates the keys of this service, and opens those that the store holds sealed."""

import json
import secrets
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import TypeVar

from identity_service.domain.errors import ConfigurationError
from identity_service.domain.ids import KeyId, base64url
from identity_service.domain.keys import KeyPurpose, StoredKey
from identity_service.domain.ports import DecryptingKey, EncryptingKey, SigningKey, VerifyingKey
from identity_service.domain.secret import KEY_ID_BYTES
from identity_service.jose import encryption_keys, keys
from identity_service.jose.encryption import SERVICE_ALGORITHM
from identity_service.jose.sealing import Sealer

T = TypeVar("T")


class Vault:
    """A key vault that seals keys with `Sealer`; implements the port KeyVault."""

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer

    def make(self, purpose: KeyPurpose, algorithm: str, now: datetime) -> StoredKey:
        """Return a new random key, sealed, active from `now`.

        Raises ConfigurationError for an unknown algorithm.
        """
        match purpose:
            case KeyPurpose.SIGN:
                made = keys.generate(algorithm)
                key_id, private, public = made.key_id, made.private_jwk, made.public_jwk
            case KeyPurpose.REFRESH:
                key_id, public = KeyId(base64url(secrets.token_bytes(KEY_ID_BYTES))), None
                private = json.dumps({"kty": "oct", "k": base64url(secrets.token_bytes(32))})
            case KeyPurpose.ENCRYPT:
                if algorithm != SERVICE_ALGORITHM:
                    raise ConfigurationError(f"algorithm: keys that encrypt are for {SERVICE_ALGORITHM} only")
                made = encryption_keys.generate_service_key()
                key_id, private, public = made.key_id, made.private_jwk, made.public_jwk
        return StoredKey(
            key_id=key_id,
            purpose=purpose,
            algorithm=algorithm,
            public_jwk=public,
            sealed=self._sealer.seal(private, key_id),
            create_time=now,
            activate_time=now,
        )

    def open_signing(self, key: StoredKey) -> SigningKey:
        """Return the private key of a stored signing key."""
        return self._read(key, lambda: keys.load(self._private(key), key.algorithm, private=True))

    def open_verifying(self, key: StoredKey) -> VerifyingKey:
        """Return the verifying half of a stored signing key."""
        jwk = self._private(key) if key.public_jwk is None else key.public_jwk
        return self._read(key, lambda: keys.load(jwk, key.algorithm, private=False))

    def open_refresh(self, key: StoredKey) -> bytes:
        """Return the 32 bytes that refresh tokens are derived from."""
        return self._read(key, lambda: keys.secret_bytes(self._private(key)))

    def reseal(self, key: StoredKey) -> StoredKey | None:
        """Return the key sealed under the current master key, or None if it already is."""
        if self._sealer.is_current(key.sealed):
            return None
        return replace(key, sealed=self._sealer.seal(self._private(key), key.key_id))

    def open_encrypting(self, key: StoredKey) -> EncryptingKey:
        """Return the public half of a stored encryption key."""
        return self._read(key, lambda: encryption_keys.read_encryption_key(key.public_jwk or ""))

    def open_decrypting(self, key: StoredKey) -> DecryptingKey:
        """Return the private half of a stored encryption key."""
        return self._read(key, lambda: encryption_keys.load_service_key(self._private(key)))

    def _private(self, key: StoredKey) -> str:
        return self._sealer.open(key.sealed, key.key_id)

    def _read(self, key: StoredKey, load: Callable[[], T]) -> T:
        try:
            return load()
        except ValueError as error:
            raise ConfigurationError(f"the key {key.key_id} of the store is unusable: {error}") from error
