"""Forged tokens: signed with the real key of a service that did not issue them.

The module asserts nothing.
"""

import json
from dataclasses import dataclass
from typing import Any

from identity_service.composition.opening import open_vault
from identity_service.domain.ids import base64url
from identity_service.domain.keys import KeyPurpose, StoredKey, key_in_use
from identity_service.domain.ports import SigningKey
from identity_service.domain.store import all_records
from identity_shared.strict import decode_base64url, parse_object
from tests.rpc.world import World

Json = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class TokenForger:
    """Signs tokens with the key of the service.

    Header and claims are those of an issued token, with changes.
    """

    key: SigningKey
    header: Json
    claims: Json

    def forge(self, header: Json | None = None, claims: Json | None = None) -> str:
        """Return a signed token with these changes to header and claims. The value None removes a member."""
        return self.sign(changed(self.header, header or {}), changed(self.claims, claims or {}))

    def sign(self, header: bytes, claims: bytes) -> str:
        message = f"{base64url(header)}.{base64url(claims)}"
        return f"{message}.{base64url(self.key.sign(message.encode()))}"


def forger_of(world: World, token: str) -> TokenForger:
    """Return a forger that starts from the header and the claims of this token."""
    header, claims = (parse_object(decode_base64url(part)) for part in token.split(".")[:2])
    key = open_vault(world.settings).open_signing(key_of(world, KeyPurpose.SIGN))
    return TokenForger(key=key, header=header, claims=claims)


def changed(whole: Json, changes: Json) -> bytes:
    left = {name: value for name, value in (whole | changes).items() if value is not None}
    return json.dumps(left, ensure_ascii=False).encode()


def key_of(world: World, purpose: KeyPurpose) -> StoredKey:
    stored = (found.record for found in all_records(world.store.records, StoredKey))
    found = key_in_use(stored, purpose, world.clock.now())
    assert found is not None
    return found
