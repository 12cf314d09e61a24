"""The servicer of Revoke: converts its request, calls the use case, and converts the revision."""

from typing import Final

from identity_service.domain.errors import InvalidRequestError
from identity_service.domain.ids import EVERYONE, PrincipalId, SessionId, TokenId, is_principal_id
from identity_service.domain.origin import Origin
from identity_service.domain.secret import Secret
from identity_service.grpc_api.calls import Call
from identity_service.grpc_api.issue import refuse_invisible, refuse_long
from identity_service.services.revoke import (
    ByPrincipal,
    BySession,
    ByToken,
    ByTokenId,
    Revoker,
    RevokeRequest,
    Target,
)
from identityapi.v1 import identity_service_pb2 as pb

_ID: Final = "must be 1 to 128 characters of base64url, as in `jti` or `sid`"
_PRINCIPAL: Final = (
    "must be a user or client id: 1 to 128 letters, digits and ._:@/-, beginning with a letter or digit"
)
_RULES: Final = {
    "token": "must not be empty",
    "token_id": _ID,
    "session_id": _ID,
    "subject": _PRINCIPAL,
    "client_id": _PRINCIPAL,
    "everything": "must be true",
}
"""For each target of Revoke, the rule that a request has broken."""


class RevokeServicer:
    """The servicer of Revoke."""

    def __init__(self, revoker: Revoker) -> None:
        self._revoker = revoker

    def revoke(self, request: pb.RevokeRequest, call: Call) -> pb.RevokeResponse:
        """Revoke a token, a session, or everything of a principal; returns once the revocation is durable."""
        return pb.RevokeResponse(revision=str(self._revoker.revoke(_to_revoke(request, call.origin))))


def _to_revoke(request: pb.RevokeRequest, origin: Origin) -> RevokeRequest:
    """Convert a request of Revoke. Raises InvalidRequestError."""
    refuse_long(reason=(request.reason, 256), request_id=(request.request_id, 64))
    refuse_invisible(reason=request.reason, request_id=request.request_id)
    return RevokeRequest(
        target=_target(request),
        reason=request.reason,
        request_id=request.request_id or None,
        origin=origin,
    )


def _target(request: pb.RevokeRequest) -> Target:
    match request.WhichOneof("target"):
        case "token" if request.token:
            return ByToken(token=Secret(request.token))
        case "token_id" if _is_id(request.token_id):
            return ByTokenId(token_id=TokenId(request.token_id))
        case "session_id" if _is_id(request.session_id):
            return BySession(session_id=SessionId(request.session_id))
        case "subject" if is_principal_id(request.subject):
            return ByPrincipal(principal=PrincipalId(request.subject))
        case "client_id" if is_principal_id(request.client_id):
            return ByPrincipal(principal=PrincipalId(request.client_id))
        case "everything" if request.everything:
            return ByPrincipal(principal=EVERYONE)
        case None:
            raise InvalidRequestError.of(
                "target", "must be set: one of token, token_id, session_id, subject, client_id and everything"
            )
        case name:
            raise InvalidRequestError.of(name, _RULES[name])


def _is_id(text: str) -> bool:
    """Return whether a text is like a `jti` or `sid`: 1 to 128 characters of base64url.

    Ids of this service are shorter than the limit.
    """
    return 1 <= len(text) <= 128 and text.isascii() and text.replace("-", "").replace("_", "").isalnum()
