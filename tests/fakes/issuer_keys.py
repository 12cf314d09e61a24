"""A fake of the port `IssuerKeys`."""

from collections.abc import Sequence

from identity_service.domain.issuers import TrustedIssuer
from identity_service.domain.ports import VerifyingKey


class FakeIssuerKeys:
    """Implements the port `IssuerKeys` with the same keys for every issuer."""

    def __init__(self, *keys: VerifyingKey) -> None:
        self.followed: list[list[str]] = []
        """The issuers that were passed to each call of `follow`."""
        self._keys: dict[str, VerifyingKey] = {key.key_id: key for key in keys}

    def follow(self, issuers: Sequence[TrustedIssuer]) -> None:
        self.followed.append([issuer.issuer for issuer in issuers])

    def find(self, issuer: TrustedIssuer, key_id: str) -> VerifyingKey | None:
        return self._keys.get(key_id)
