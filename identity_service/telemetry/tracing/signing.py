"""Spans of signatures and of password hashes."""

from typing import Any

from identity_service.domain.keys import StoredKey
from identity_service.domain.ports import KeyVault, PasswordHasher, SigningKey
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
        self.key_id = key.key_id
        self.algorithm = key.algorithm
        self.sign = spans.traced(key.sign, "sign", {"identity.key.algorithm": key.algorithm})
        """Return the JWS signature of a message. Raises SignerUnavailableError."""


class TracedHasher:
    """A password hasher with a span around each hash. Implements the port PasswordHasher."""

    def __init__(self, hasher: PasswordHasher, spans: Spans) -> None:
        self.hash = spans.traced(hasher.hash, "password.hash", {})
        self.verify = spans.traced(hasher.verify, "password.verify", {})
        self.is_outdated = hasher.is_outdated
