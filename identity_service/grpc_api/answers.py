"""Converters of results: from domain values to wire messages, and Verify's response directly to bytes.

The field `verified` is serialized once per token and cached with the token. A response is that field followed
by the field `revision`: protobuf allows serialized fields of one message to be concatenated.
"""

import math
from datetime import datetime
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from identity_service.domain.log import Revision
from identity_service.domain.tokens import AccessToken, Rejected
from identity_service.grpc_api.claims import from_claims
from identity_service.services.token_maker import TokenSet
from identity_service.services.verify import Verified
from identityapi.v1 import identity_service_pb2 as pb
from identityapi.v1 import token_pb2

_TOKEN_TYPE: Final = "Bearer"  # noqa: S105  # RFC 6750


def from_token_set(tokens: TokenSet) -> token_pb2.TokenSet:
    """Convert issued tokens."""
    message = token_pb2.TokenSet(
        access_token=tokens.access_token,
        token_type=_TOKEN_TYPE,
        expire_time=timestamp(tokens.expire_time),
        refresh_token=tokens.refresh_token or "",
        audiences=tokens.audiences,
        scopes=tokens.scopes,
        token_id=tokens.token_id,
        session_id=tokens.session_id or "",
    )
    if tokens.refresh_expire_time is not None:
        message.refresh_expire_time.CopyFrom(timestamp(tokens.refresh_expire_time))
    return message


def from_access_token(token: AccessToken) -> token_pb2.VerifiedToken:
    """Convert the claims of a verified access token."""
    message = token_pb2.VerifiedToken(
        issuer=token.issuer,
        subject=token.subject,
        audiences=token.audiences,
        client_id=token.client_id,
        scopes=token.scopes,
        token_id=token.token_id,
        session_id=token.session_id or "",
        issue_time=timestamp(token.issue_time),
        expire_time=timestamp(token.expire_time),
        actors=[token_pb2.Actor(subject=a.subject, client_id=a.client_id or "") for a in token.actors],
        certificate_sha256=token.certificate_sha256 or b"",
    )
    if token.may_act is not None:
        message.may_act.subject = token.may_act.subject
        message.may_act.client_id = token.may_act.client_id or ""
    if token.auth_time is not None:
        message.auth_time.CopyFrom(timestamp(token.auth_time))
    if token.claims:
        from_claims(token.claims, message.claims)
    return message


def timestamp(time: datetime) -> Timestamp:
    """Convert an aware datetime."""
    fraction, whole = math.modf(time.timestamp())
    return Timestamp(seconds=int(whole), nanos=int(fraction * 1e9))


def render(token: AccessToken) -> bytes:
    """Return a serialized VerifyResponse that holds only the field `verified`."""
    return pb.VerifyResponse(verified=from_access_token(token)).SerializeToString()


class RevisionField:
    """The serialized field `revision` of a VerifyResponse, cached until the revision changes."""

    def __init__(self) -> None:
        self._last: tuple[Revision | None, bytes] = (None, b"")

    def of(self, revision: Revision) -> bytes:
        """Return the serialized field for this revision."""
        known, field = self._last
        if known is not revision:
            field = pb.VerifyResponse(revision=str(revision)).SerializeToString()
            self._last = (revision, field)
        return field


def verify_response(outcome: Verified[bytes] | Rejected, revision: bytes) -> bytes:
    """Return a serialized VerifyResponse; `revision` is the field that `RevisionField` serialized."""
    if isinstance(outcome, Verified):
        return outcome.rendered + revision
    rejected = pb.VerifyResponse(
        rejected=pb.Rejection(reason=f"REJECTION_REASON_{outcome.reason}", detail=outcome.detail)
    )
    return rejected.SerializeToString() + revision
