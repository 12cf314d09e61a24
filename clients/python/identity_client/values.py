"""What the service answers, as values. Tokens are hidden in every `repr`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from google.protobuf.json_format import MessageToDict
from google.protobuf.timestamp_pb2 import Timestamp

from identityapi.v1 import identity_service_pb2 as pb
from identityapi.v1 import token_pb2


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenSet:
    """What a credential or a refresh token was exchanged for."""

    access_token: str = field(repr=False)
    """Send it as `authorization: Bearer <access_token>`."""
    token_type: str
    expire_time: datetime
    refresh_token: str = field(repr=False)
    """Empty for clients."""
    refresh_expire_time: datetime | None
    """When the session ends; None without a refresh token."""
    audiences: tuple[str, ...]
    scopes: tuple[str, ...]
    token_id: str
    session_id: str

    @classmethod
    def from_message(cls, message: token_pb2.TokenSet) -> "TokenSet":
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
    """Somebody who acts for the subject (RFC 8693)."""

    subject: str
    client_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """The token is good; this is what it says."""

    issuer: str
    subject: str
    audiences: tuple[str, ...]
    client_id: str
    scopes: tuple[str, ...]
    token_id: str
    session_id: str
    issue_time: datetime
    expire_time: datetime
    auth_time: datetime | None
    actors: tuple[Actor, ...]
    """Who acts for the subject, the current actor first."""
    may_act: Actor | None
    """Who alone may act for the subject by exchanging the token; None = nobody is named."""
    claims: Mapping[str, object]
    """All other claims."""
    certificate_sha256: bytes
    """The client certificate that it is bound to (RFC 8705); empty = none."""
    revision: str
    """The place in the change log up to which revocations were known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """The token is not good."""

    reason: str
    """A name of RejectionReason without its prefix, as `REVOKED`; `UNKNOWN_<number>` for one that is
    newer than this client."""
    detail: str
    """A sentence for a log."""
    revision: str


Outcome = Verified | Rejected


def to_outcome(response: pb.VerifyResponse) -> Outcome:
    """A VerifyResponse as a value. Raises ValueError for one that says neither."""
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
            raise ValueError("the answer says neither verified nor rejected")


def _reason(rejection: pb.Rejection) -> str:
    """A newer service may know more reasons: the token is rejected all the same."""
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
        revision=revision,
    )


def moment(timestamp: Timestamp) -> datetime:
    return timestamp.ToDatetime(UTC)
