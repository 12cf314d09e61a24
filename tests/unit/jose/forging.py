"""Tokens with any header and payload, signed with the real key. The module asserts nothing."""

import base64
import json
from typing import Any

from identity_service.jose import keys
from identity_service.jose.keys import GeneratedKey
from tests.unit.jose.conftest import ISSUER

Generated = dict[str, GeneratedKey]


def b64(data: bytes | str | dict[str, Any]) -> str:
    if isinstance(data, dict):
        data = json.dumps(data)
    raw = data.encode() if isinstance(data, str) else data
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


class Forge:
    """Signs any header and payload with the real ES256 key."""

    def __init__(self, generated: Generated, algorithm: str = "ES256") -> None:
        made = generated[algorithm]
        self.key = keys.load(made.private_jwk, algorithm, private=True)
        self.header: dict[str, Any] = {"alg": algorithm, "typ": "at+jwt", "kid": made.key_id}
        self.claims: dict[str, Any] = {
            "iss": ISSUER,
            "sub": "reports",
            "aud": ["api"],
            "exp": 1_800_000_000,
            "iat": 1_700_000_000,
            "jti": "t1",
            "client_id": "reports",
        }

    def sign(self, header: str | dict[str, Any], claims: str | dict[str, Any]) -> str:
        message = f"{b64(header)}.{b64(claims)}"
        return f"{message}.{b64(self.key.sign(message.encode()))}"

    def with_header(self, **changes: Any) -> str:
        header = {name: value for name, value in (self.header | changes).items() if value is not None}
        return self.sign(header, self.claims)

    def with_claims(self, **changes: Any) -> str:
        claims = {name: value for name, value in (self.claims | changes).items() if value is not None}
        return self.sign(self.header, claims)
