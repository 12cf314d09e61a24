"""Keys for the tests of the JOSE layer, generated once per run and never stored."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from identity_service.domain.errors import NoSigningKeyError
from identity_service.domain.ids import PrincipalId, TokenId
from identity_service.domain.issuers import IssuerNames
from identity_service.domain.tokens import AccessToken
from identity_service.jose import encryption_keys, keys
from identity_service.jose.access_tokens import AccessTokenCodec
from identity_service.jose.encryption import EncryptionKey, ServiceDecryptionKey
from identity_service.jose.keys import GeneratedKey, JwsKey

ISSUER = "https://issuer.example"


@dataclass(frozen=True)
class Ring:
    """Implements the port KeySource with the given keys; the first one signs."""

    generated: tuple[GeneratedKey, ...]
    encryption: GeneratedKey | None = None

    def signing(self) -> JwsKey:
        if not self.generated:
            raise NoSigningKeyError("no key")
        made = self.generated[0]
        return keys.load(made.private_jwk, made.algorithm, private=True)

    @property
    def verifying(self) -> Mapping[str, JwsKey]:
        return {
            made.key_id: keys.load(made.public_jwk or made.private_jwk, made.algorithm, private=False)
            for made in self.generated
        }

    def encrypting(self) -> EncryptionKey:
        if self.encryption is None:
            raise NoSigningKeyError("no key")
        return encryption_keys.read_encryption_key(self.encryption.public_jwk or "")

    def decrypting(self, key_id: str) -> ServiceDecryptionKey | None:
        if self.encryption is None or self.encryption.key_id != key_id:
            return None
        return encryption_keys.load_service_key(self.encryption.private_jwk)


@pytest.fixture(scope="session")
def generated() -> dict[str, GeneratedKey]:
    """Return one key for each algorithm."""
    return {algorithm: keys.generate(algorithm) for algorithm in keys.ALGORITHMS}


@pytest.fixture(scope="session")
def codec(generated: dict[str, GeneratedKey]) -> AccessTokenCodec:
    """Return a codec that signs with ES256 and has every key."""
    return AccessTokenCodec(Ring(tuple(generated.values())), IssuerNames(ISSUER))


def access_token(**changes: object) -> AccessToken:
    issue_time = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    values: dict[str, object] = {
        "issuer": ISSUER,
        "subject": PrincipalId("reports"),
        "audiences": ("api",),
        "client_id": PrincipalId("reports"),
        "scopes": ("read", "write"),
        "token_id": TokenId("t" * 22),
        "issue_time": issue_time,
        "expire_time": issue_time + timedelta(minutes=15),
    } | changes
    return AccessToken(**values)  # type: ignore[arg-type]
