"""Access tokens as values: their claims (RFC 9068), and the reasons for rejecting one.

The module knows no JWT. `gen` and the reasons are part of this service's own API.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final

from identity_service.domain.ids import EVERYONE, KeyId, PrincipalId, SessionId, TokenId, key_principal
from identity_service.domain.log import Generation

MAX_TOKEN_CHARS: Final = 8 * 1024
MAX_EXTRA_CLAIMS_BYTES: Final = 2 * 1024
MAX_ACTORS: Final = 8
"""The longest chain of actors (RFC 8693 section 4.1)."""

RESERVED_CLAIMS: Final = frozenset(
    {"iss", "sub", "aud", "exp", "iat", "nbf", "jti", "client_id", "scope", "sid", "auth_time", "acr", "amr"}
    | {"act", "may_act", "cnf", "gen", "azp", "nonce", "at_hash", "c_hash", "typ", "events", "sub_id"}
)
"""The claims that only the service itself may set; a request for extra claims may not name them."""


class TokenType(StrEnum):
    """The types of access tokens: how the holder sends one in the header or metadata `authorization`."""

    BEARER = "Bearer"
    """RFC 6750: any holder of the token may use it."""
    DPOP = "DPoP"
    """RFC 9449: each use needs a proof by the key that the token is bound to."""


class TokenEncryption(StrEnum):
    """The recipient for which an access token is encrypted, beside being signed."""

    NONE = "none"
    SERVICE = "service"
    """Only this service can decrypt it."""
    AUDIENCE = "audience"
    """Only its single audience can decrypt it, with the key that it has registered."""


class RejectionReason(StrEnum):
    """The reasons for which a token is rejected.

    The values are those of `RejectionReason` in `identity_service.proto`, without their prefix. The
    `LocalVerifier` of the Python client makes the same checks in code of its own, and gives the same reasons.
    """

    MALFORMED = "MALFORMED"
    ALGORITHM_NOT_ALLOWED = "ALGORITHM_NOT_ALLOWED"
    UNKNOWN_KEY = "UNKNOWN_KEY"
    BAD_SIGNATURE = "BAD_SIGNATURE"
    WRONG_TYPE = "WRONG_TYPE"
    UNTRUSTED_ISSUER = "UNTRUSTED_ISSUER"
    EXPIRED = "EXPIRED"
    NOT_YET_VALID = "NOT_YET_VALID"
    WRONG_AUDIENCE = "WRONG_AUDIENCE"
    INSUFFICIENT_SCOPE = "INSUFFICIENT_SCOPE"
    REVOKED = "REVOKED"
    BINDING_MISMATCH = "BINDING_MISMATCH"
    UNDECRYPTABLE = "UNDECRYPTABLE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """The rejection of a token. `detail` is a sentence for a log and holds no part of the token."""

    reason: RejectionReason
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """A party that acts for the subject (RFC 8693 section 4.1)."""

    subject: PrincipalId
    client_id: PrincipalId | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessToken:
    """The claims of an access token whose signature verified; nothing else about it has been checked."""

    issuer: str
    subject: PrincipalId
    audiences: tuple[str, ...]
    client_id: PrincipalId
    scopes: tuple[str, ...]
    token_id: TokenId
    session_id: SessionId | None = None
    issue_time: datetime
    """The time of issue, in whole seconds (`iat`)."""
    expire_time: datetime
    """The end of its validity, in whole seconds (`exp`)."""
    not_before: datetime | None = None
    auth_time: datetime | None = None
    actors: tuple[Actor, ...] = ()
    may_act: Actor | None = None
    """The only party that may act for the subject by token exchange (RFC 8693 section 4.4); None = no
    limit."""
    generations: Mapping[PrincipalId, Generation] = field(default_factory=dict)
    """The generations that it was issued under (claim `gen`); a generation that was never raised is
    absent."""
    certificate_sha256: bytes | None = None
    """The SHA-256 of the certificate that it is bound to (RFC 8705, `cnf.x5t#S256`)."""
    key_sha256: bytes | None = None
    """The SHA-256 thumbprint of the key whose proof must come with it (RFC 9449, `cnf.jkt`)."""
    claims: Mapping[str, object] = field(default_factory=dict)
    """All claims that no other attribute holds."""
    key_id: KeyId | None = None
    """The key that verified its signature; None before it is signed."""

    @property
    def principals(self) -> frozenset[PrincipalId]:
        """Return the principals whose generation can revoke this token: named in it, in `gen`, or its key."""
        named = {EVERYONE, self.subject, self.client_id, *self.generations}
        if self.key_id is not None:
            named.add(key_principal(self.key_id))
        for actor in self.actors:
            named.add(actor.subject)
            if actor.client_id is not None:
                named.add(actor.client_id)
        return frozenset(named)
