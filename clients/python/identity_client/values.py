"""The answers of the service as immutable values. No `repr` shows a token."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from google.protobuf.json_format import MessageToDict
from google.protobuf.timestamp_pb2 import Timestamp

from identityapi.v1 import identity_service_pb2 as pb
from identityapi.v1 import token_pb2


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenSet:
    """The tokens that the service issued for a credential or a refresh token."""

    access_token: str = field(repr=False)
    """A signed JWT (RFC 9068), encrypted if that was asked for. Send it as `authorization: <token_type>
    <access_token>`."""
    token_type: str
    """The type of the access token: "Bearer" (RFC 6750), or "DPoP" if it is bound to a key (RFC 9449)."""
    expire_time: datetime
    """The time at which the access token expires."""
    refresh_token: str = field(repr=False)
    """The refresh token for `IdentityClient.refresh`; empty for clients, which show their credential again
    instead."""
    refresh_expire_time: datetime | None
    """The time at which the session ends; None without a refresh token."""
    audiences: tuple[str, ...]
    """The audiences of the access token."""
    scopes: tuple[str, ...]
    """The scopes of the access token."""
    token_id: str
    """The `jti` of the access token, by which it can be revoked."""
    session_id: str
    """The `sid` of the session; empty for clients."""

    @classmethod
    def from_message(cls, message: token_pb2.TokenSet) -> "TokenSet":
        """Convert a TokenSet message."""
        return cls(
            access_token=message.access_token,
            token_type=message.token_type,
            expire_time=moment(message.expire_time),
            refresh_token=message.refresh_token,
            refresh_expire_time=moment(message.refresh_expire_time)
            if message.HasField("refresh_expire_time")
            else None,
            audiences=tuple(message.audiences),
            scopes=tuple(message.scopes),
            token_id=message.token_id,
            session_id=message.session_id,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """A party that acts for the subject of a token (RFC 8693 section 4.1)."""

    subject: str
    """The actor's principal id."""
    client_id: str
    """The client that the actor uses; empty if the token names none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """The token is valid; the fields are its claims. All times are aware datetimes in UTC."""

    issuer: str
    """The issuer (`iss`)."""
    subject: str
    """The principal that the token speaks for (`sub`)."""
    audiences: tuple[str, ...]
    """The audiences (`aud`)."""
    client_id: str
    """The client that the token was issued to."""
    scopes: tuple[str, ...]
    """The scopes (`scope`)."""
    token_id: str
    """The token's id (`jti`)."""
    session_id: str
    """The session (`sid`); empty for tokens of clients."""
    issue_time: datetime
    """The time at which the token was issued (`iat`)."""
    expire_time: datetime
    """The time at which the token expires (`exp`)."""
    auth_time: datetime | None
    """The time at which the user authenticated (`auth_time`); None for tokens of clients."""
    actors: tuple[Actor, ...]
    """The parties that act for the subject (`act`), the current actor first; empty = none."""
    may_act: Actor | None
    """The only party that may exchange the token to act for the subject (`may_act`); None = not
    restricted."""
    claims: Mapping[str, object]
    """All other claims."""
    certificate_sha256: bytes
    """The SHA-256 of the client certificate that the token is bound to (`cnf`, RFC 8705), 32 bytes; empty =
    none."""
    dpop_key_sha256: bytes = b""
    """The SHA-256 JWK thumbprint of the key that the token is bound to (`cnf`, RFC 9449), 32 bytes; empty =
    none."""
    revision: str
    """The revision up to which all revocations were known when the token was verified."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """The token is not valid."""

    reason: str
    """A name of RejectionReason without its prefix, such as `REVOKED`; `UNKNOWN_<number>` for a reason that
    is newer than this client."""
    detail: str
    """A sentence for the log, without any part of the token."""
    revision: str
    """The revision up to which all revocations were known when the token was rejected."""


Outcome = Verified | Rejected


def to_outcome(response: pb.VerifyResponse) -> Outcome:
    """Convert a VerifyResponse. Raises ValueError if it is neither verified nor rejected."""
    match response.WhichOneof("outcome"):
        case "verified":
            return _verified(response.verified, response.revision)
        case "rejected":
            return Rejected(
                reason=_reason(response.rejected),
                detail=response.rejected.detail,
                revision=response.revision,
            )
        case _:
            raise ValueError("the answer is neither verified nor rejected")


def _reason(rejection: pb.Rejection) -> str:
    """Return the reason's name without its prefix; a reason of a newer service gets a name too."""
    if rejection.reason not in pb.RejectionReason.values():
        return f"UNKNOWN_{rejection.reason}"
    return pb.RejectionReason.Name(rejection.reason).removeprefix("REJECTION_REASON_")


def _verified(token: token_pb2.VerifiedToken, revision: str) -> Verified:
    return Verified(
        issuer=token.issuer,
        subject=token.subject,
        audiences=tuple(token.audiences),
        client_id=token.client_id,
        scopes=tuple(token.scopes),
        token_id=token.token_id,
        session_id=token.session_id,
        issue_time=moment(token.issue_time),
        expire_time=moment(token.expire_time),
        auth_time=moment(token.auth_time) if token.HasField("auth_time") else None,
        actors=tuple(Actor(subject=a.subject, client_id=a.client_id) for a in token.actors),
        may_act=Actor(subject=token.may_act.subject, client_id=token.may_act.client_id)
        if token.HasField("may_act")
        else None,
        claims=MessageToDict(token.claims),
        certificate_sha256=token.certificate_sha256,
        dpop_key_sha256=token.dpop_key_sha256,
        revision=revision,
    )


def moment(timestamp: Timestamp) -> datetime:
    """Convert a Timestamp message to an aware datetime in UTC."""
    return timestamp.ToDatetime(UTC)
