"""Access tokens as values: what one says, and why one is rejected. Knows no JWT.

Claims follow RFC 9068; `gen` and the reasons are those of this service's contract.
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
"""How long the chain of actors may be (RFC 8693 section 4.1)."""

RESERVED_CLAIMS: Final = frozenset(
    {"iss", "sub", "aud", "exp", "iat", "nbf", "jti", "client_id", "scope", "sid", "auth_time", "acr", "amr"}
    | {"act", "may_act", "cnf", "gen", "azp", "nonce", "at_hash", "c_hash", "typ", "events", "sub_id"}
)
"""Claims that only the service itself may set; a request for extra claims may not name them."""


class TokenEncryption(StrEnum):
    """Whom an access token is encrypted for, beside being signed."""

    NONE = "none"
    SERVICE = "service"
    """This service alone can open it."""
    AUDIENCE = "audience"
    """The one audience can open it, with the key that it has registered."""


class RejectionReason(StrEnum):
    """Why a token is not good; the names of the enum of that name in `identity_service.proto`."""

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
    """The token is not good. `detail` is a sentence for a log; it holds no part of the token."""

    reason: RejectionReason
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Somebody who acts for the subject (RFC 8693 section 4.1)."""

    subject: PrincipalId
    client_id: PrincipalId | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessToken:
    """What a signed access token says. Holding one means that its signature verified, no more."""

    issuer: str
    subject: PrincipalId
    audiences: tuple[str, ...]
    client_id: PrincipalId
    scopes: tuple[str, ...]
    token_id: TokenId
    session_id: SessionId | None = None
    issue_time: datetime
    """Whole seconds."""
    expire_time: datetime
    """Whole seconds."""
    not_before: datetime | None = None
    auth_time: datetime | None = None
    actors: tuple[Actor, ...] = ()
    may_act: Actor | None = None
    """Who alone may act for the subject by token exchange (RFC 8693 section 4.4); None = no such limit."""
    generations: Mapping[PrincipalId, Generation] = field(default_factory=dict)
    """Those it was issued under, without the ones that were never raised (claim `gen`)."""
    certificate_sha256: bytes | None = None
    """The certificate that it is bound to (RFC 8705, `cnf.x5t#S256`)."""
    claims: Mapping[str, object] = field(default_factory=dict)
    """All other claims."""
    key_id: KeyId | None = None
    """The key that its signature verified with; None before it is signed."""

    @property
    def principals(self) -> frozenset[PrincipalId]:
        """Everybody whose generation can end this token: named, issued under, signed with."""
        named = {EVERYONE, self.subject, self.client_id, *self.generations}
        if self.key_id is not None:
            named.add(key_principal(self.key_id))
        for actor in self.actors:
            named.add(actor.subject)
            if actor.client_id is not None:
                named.add(actor.client_id)
        return frozenset(named)
