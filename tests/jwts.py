"""Builds JWTs and keys of other parties, valid and invalid ones.

It writes any content, however malformed. The module asserts nothing.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from secrets import token_urlsafe
from typing import Any

from identity_service.domain.ids import base64url
from identity_service.jose import keys

Part = Mapping[str, Any] | str | bytes
"""The header or the claims of a JWT: an object, or text that is used unchanged."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PartyKey:
    """A key of another party, which signs JWTs.

    The private key is generated when it is first used. Every process of the test run imports all modules but
    runs only some of their tests, and generating an RSA key takes 0.1 s.
    """

    key_id: str
    algorithm: str
    given: str = field(default="", repr=False)
    """The private key as a JWK; empty = generate a new key."""

    @classmethod
    def make(cls, algorithm: str = "ES256", key_id: str = "k1") -> "PartyKey":
        return cls(key_id=key_id, algorithm=algorithm)

    @cached_property
    def private_jwk(self) -> str:
        return self.given or keys.generate(self.algorithm).private_jwk

    @cached_property
    def _signer(self) -> keys.JwsKey:
        return keys.load(self.private_jwk, self.algorithm, private=True)

    def public(self, **changes: object) -> dict[str, Any]:
        """Return the public key as a JWK with these changes; a member whose value is None is left out."""
        private = json.loads(self.private_jwk)
        public = {n: v for n, v in private.items() if n not in keys.PRIVATE_MEMBERS}
        merged = public | {"kid": self.key_id} | changes
        return {name: value for name, value in merged.items() if value is not None}

    @property
    def public_jwk(self) -> str:
        return json.dumps(self.public())

    def jwt(self, claims: Part, header: Part | None = None, **more: object) -> str:
        """Return a JWT signed by this key.

        `header` replaces the default header; `more` adds members to the default header, or changes them.
        """
        usual = {"alg": self.algorithm, "typ": "JWT", "kid": self.key_id}
        given = usual | more if header is None else header
        message = f"{encode(given)}.{encode(claims)}"
        return f"{message}.{base64url(self._signer.sign(message.encode()))}"


def key_set(*jwks: Mapping[str, Any]) -> str:
    return json.dumps({"keys": list(jwks)})


def encode(part: Part) -> str:
    """Encode the header or the claims of a JWT as base64url."""
    if isinstance(part, Mapping):
        part = json.dumps(part)
    return base64url(part.encode() if isinstance(part, str) else part)


def assertion_claims(client_id: str, now: datetime, /, **changes: object) -> dict[str, Any]:
    """Return the claims of a valid client assertion with these changes.

    A claim whose value is None is left out. Times are offsets in seconds from `now`.
    """
    values: dict[str, Any] = {
        "iss": client_id,
        "sub": client_id,
        "aud": "identity-service",
        "iat": 0,
        "exp": 60,
        "jti": token_urlsafe(8),
    } | changes
    for name in ("iat", "exp", "nbf"):
        if type(values.get(name)) is int:
            values[name] = int((now + timedelta(seconds=values[name])).timestamp())
    return {name: value for name, value in values.items() if value is not None}
