"""Spans of signatures and of password hashes."""

from typing import Any, cast

from identity_service.domain.ids import KeyId
from identity_service.domain.keys import StoredKey
from identity_service.domain.ports import KeyVault, PasswordHasher, SigningKey
from identity_service.domain.secret import Secret
from identity_service.telemetry.tracing.spans import Spans


class TracedVault:
    """A vault whose signing keys are traced; another vault opens them. Implements the port KeyVault."""

    def __init__(self, vault: KeyVault, spans: Spans) -> None:
        self._vault = vault
        self._spans = spans

    def open_signing(self, key: StoredKey) -> SigningKey:
        """Return the private key of a stored signing key, with a span around each signature."""
        return _TracedKey(self._vault.open_signing(key), self._spans)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._vault, name)


class _TracedKey:
    """A signing key with a span around each signature."""

    def __init__(self, key: SigningKey, spans: Spans) -> None:
        self._key = key
        self.sign = spans.traced(key.sign, "sign", {"identity.key.algorithm": key.algorithm})
        """Return the JWS signature of a message. Raises SignerUnavailableError."""

    @property
    def key_id(self) -> KeyId:
        """Return the `kid` of this key."""
        return self._key.key_id

    @property
    def algorithm(self) -> str:
        """Return the JWS `alg` of this key."""
        return self._key.algorithm


class TracedHasher:
    """A password hasher with a span around each hash. Implements the port PasswordHasher."""

    def __init__(self, hasher: PasswordHasher, spans: Spans) -> None:
        self._hasher = hasher
        self._hash = spans.traced(hasher.hash, "password.hash", {})
        self._verify = spans.traced(hasher.verify, "password.verify", {})

    def hash(self, password: Secret) -> str:
        """Return the hash of a password."""
        return self._hash(password)

    def verify(self, phc: str | None, password: Secret) -> bool:
        """Return whether a password is the one that was hashed."""
        return self._verify(phc, password)

    def is_outdated(self, phc: str) -> bool:
        """Return whether `hash` would make a stronger hash today."""
        return self._hasher.is_outdated(phc)


def traced_vault(vault: KeyVault, spans: Spans) -> KeyVault:
    """Return the vault; its keys sign with a span around it."""
    return cast("KeyVault", TracedVault(vault, spans))
