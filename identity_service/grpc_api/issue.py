"""The servicer of Issue and Refresh: each method converts its request, calls a use case, converts the tokens.

A converter names the wrong field in its error, and makes no other decision. The converters of text fields at
the end also serve the other services.
"""

from collections.abc import Mapping
from datetime import timedelta
from hashlib import blake2b
from typing import Final

from google.protobuf.duration_pb2 import Duration

from identity_service.domain.errors import FieldViolation, InvalidRequestError, LifetimeOutOfBoundsError
from identity_service.domain.grants import GrantRequest
from identity_service.domain.ids import FIRST_PARTY_CLIENT, PrincipalId, is_principal_id
from identity_service.domain.log import Revision
from identity_service.domain.origin import NOWHERE, Origin
from identity_service.domain.secret import Secret
from identity_service.domain.tokens import MAX_TOKEN_CHARS, TokenEncryption
from identity_service.domain.visible import NO_CONTROLS, VISIBLE_TEXT, has_controls, is_visible_text
from identity_service.grpc_api.calls import Call
from identity_service.grpc_api.claims import to_claims
from identity_service.services.authenticate import (
    ClientAssertion,
    ClientCertificate,
    ClientCredential,
    ClientSecret,
    FederatedToken,
    Password,
)
from identity_service.services.exchange import ExchangeRequest
from identity_service.services.issue import IssueRequest, TokenIssuer
from identity_service.services.refresh import Refresher, RefreshRequest
from identity_service.services.repeated_issue import RepeatedIssue
from identity_service.services.token_maker import TokenSet
from identityapi.v1 import identity_service_pb2 as pb
from identityapi.v1 import token_pb2

_ENCRYPTIONS: Final[Mapping[int, TokenEncryption]] = {
    token_pb2.TOKEN_ENCRYPTION_UNSPECIFIED: TokenEncryption.NONE,
    token_pb2.TOKEN_ENCRYPTION_NONE: TokenEncryption.NONE,
    token_pb2.TOKEN_ENCRYPTION_SERVICE: TokenEncryption.SERVICE,
    token_pb2.TOKEN_ENCRYPTION_AUDIENCE: TokenEncryption.AUDIENCE,
}


class IssueServicer:
    """The servicer of Issue and Refresh."""

    def __init__(self, issuer: TokenIssuer, repeated_issue: RepeatedIssue, refresher: Refresher) -> None:
        self._issuer = issuer
        self._repeated_issue = repeated_issue
        self._refresher = refresher

    def issue(self, request: pb.IssueRequest, call: Call) -> pb.IssueResponse:
        """Issue tokens for a credential."""
        digest = blake2b(call.data).digest()
        tokens = self._issuer.issue(to_issue(request, call.origin_with_proof, digest))
        return pb.IssueResponse(token_set=from_token_set(tokens))

    def repeat_issue(self, data: bytes, peer: str, request_id: str) -> pb.IssueResponse | None:
        """Issue tokens for a request whose bytes equal those of one that was granted; None = decide it."""
        known = self._repeated_issue.find(blake2b(data).digest())
        tokens = None if known is None else self._repeated_issue.issue(known, peer, request_id)
        return None if tokens is None else pb.IssueResponse(token_set=from_token_set(tokens))

    def refresh(self, request: pb.RefreshRequest, call: Call) -> pb.RefreshResponse:
        """Exchange a refresh token for new tokens of its session."""
        tokens = self._refresher.refresh(to_refresh(request, call.origin_with_proof))
        return pb.RefreshResponse(token_set=from_token_set(tokens))


def from_token_set(tokens: TokenSet) -> token_pb2.TokenSet:
    """Convert issued tokens."""
    # One assignment per field: the constructor, which also converts a datetime in Python, takes three times
    # as long (bar S6).
    converted = token_pb2.TokenSet()
    converted.access_token = tokens.access_token
    converted.token_type = tokens.token_type
    converted.expire_time.seconds = int(tokens.expire_time.timestamp())  # whole seconds, as in the token
    converted.audiences.extend(tokens.audiences)
    converted.scopes.extend(tokens.scopes)
    converted.token_id = tokens.token_id
    if tokens.refresh_token is not None:
        converted.refresh_token = tokens.refresh_token
    if (end := tokens.refresh_expire_time) is not None:
        converted.refresh_expire_time.seconds = int(end.timestamp())
        converted.refresh_expire_time.nanos = end.microsecond * 1000
    if tokens.session_id is not None:
        converted.session_id = tokens.session_id
    return converted


def to_issue(request: pb.IssueRequest, origin: Origin = NOWHERE, digest: bytes | None = None) -> IssueRequest:
    """Convert a request of Issue, with the digest of its bytes. Raises InvalidRequestError."""
    if request.encryption not in _ENCRYPTIONS:
        raise InvalidRequestError.of("encryption", f"has the unknown value {request.encryption}")
    if len(request.device) > 128:
        raise InvalidRequestError.of("device", "must have at most 128 characters")
    refuse_invisible(device=request.device)
    if request.may_act_client_id and not is_principal_id(request.may_act_client_id):
        raise InvalidRequestError.of("may_act_client_id", "is not the id of a client")
    return IssueRequest(
        credential=to_credential(request.credential, "credential", origin),
        grant=GrantRequest(
            audiences=request.audiences,
            scopes=request.scopes,
            lifetime=_lifetime(request.lifetime) if request.HasField("lifetime") else None,
        ),
        claims=to_claims(request.claims) if request.HasField("claims") else {},
        device=request.device,
        may_act=PrincipalId(request.may_act_client_id) if request.may_act_client_id else None,
        exchange=_exchange(request),
        encryption=_ENCRYPTIONS[request.encryption],
        origin=origin,
        digest=digest,
    )


def _exchange(request: pb.IssueRequest) -> ExchangeRequest | None:
    if not request.subject_token and not request.actor_token:
        return None
    refuse_long(
        subject_token=(request.subject_token, MAX_TOKEN_CHARS),
        actor_token=(request.actor_token, MAX_TOKEN_CHARS),
    )
    if not request.subject_token:
        raise InvalidRequestError.of("subject_token", "must be set if actor_token is set")
    if request.credential.WhichOneof("kind") == "password":
        raise InvalidRequestError.of(
            "credential", "must be the credential of the client that exchanges the token"
        )
    return ExchangeRequest(
        subject_token=Secret(request.subject_token),
        actor_token=Secret(request.actor_token) if request.actor_token else None,
    )


def to_refresh(request: pb.RefreshRequest, origin: Origin = NOWHERE) -> RefreshRequest:
    """Convert a request of Refresh. Raises InvalidRequestError."""
    if not request.refresh_token:
        raise InvalidRequestError.of("refresh_token", "must be set")
    client = None
    if request.HasField("client_credential"):
        found = to_credential(request.client_credential, "client_credential", origin)
        if isinstance(found, Password):
            raise InvalidRequestError.of("client_credential", "must be the credential of a client")
        client = found
    return RefreshRequest(
        refresh_token=Secret(request.refresh_token),
        client=client,
        scopes=request.scopes,
        audiences=request.audiences,
        origin=origin,
    )


def _lifetime(duration: Duration) -> timedelta:
    """Convert a lifetime of whole seconds, at most 10 years; the grant policy checks the exact bounds.

    Raises LifetimeOutOfBoundsError.
    """
    whole = duration.nanos == 0 and 0 < duration.seconds <= 10 * 365 * 86400
    if not whole:
        raise LifetimeOutOfBoundsError.of("lifetime", "must be a positive whole number of seconds")
    return timedelta(seconds=duration.seconds)


def to_credential(credential: token_pb2.Credential, path: str, origin: Origin) -> ClientCredential | Password:
    """Convert a credential of any kind; `path` names it in errors. Raises InvalidRequestError."""
    match credential.WhichOneof("kind"):
        case "client_secret":
            return _client_secret(credential.client_secret, f"{path}.client_secret")
        case "password":
            return _password(credential.password, f"{path}.password")
        case "client_assertion":
            return ClientAssertion(jwt=_jwt(credential.client_assertion.jwt, f"{path}.client_assertion"))
        case "client_certificate":
            return ClientCertificate(certificate=origin.certificate)
        case "federated_token":
            return FederatedToken(jwt=_jwt(credential.federated_token.jwt, f"{path}.federated_token"))
        case _:
            raise InvalidRequestError.of(path, "must be set to one kind of credential")


def _jwt(text: str, path: str) -> Secret:
    require(path, jwt=(text, MAX_TOKEN_CHARS))
    return Secret(text)


def _client_secret(value: token_pb2.ClientSecret, path: str) -> ClientSecret:
    require(path, client_id=(value.client_id, 128), client_secret=(value.client_secret, 256))
    refuse_controls(path, client_id=value.client_id)
    return ClientSecret(client_id=PrincipalId(value.client_id), secret=Secret(value.client_secret))


def _password(value: token_pb2.Password, path: str) -> Password:
    require(path, username=(value.username, 128), password=(value.password, 1024))
    refuse_controls(path, username=value.username, client_id=value.client_id)
    refuse_long(path, client_id=(value.client_id, 128), client_secret=(value.client_secret, 256))
    return Password(
        username=value.username,
        password=Secret(value.password),
        client_id=PrincipalId(value.client_id) if value.client_id else FIRST_PARTY_CLIENT,
        client_secret=Secret(value.client_secret) if value.client_secret else None,
    )


def require(path: str, **fields: tuple[str, int]) -> None:
    """Raise InvalidRequestError unless each text is set and at most as long as its limit."""
    _refuse(
        path,
        {
            name: f"must have at most {limit} characters" if value else "must be set"
            for name, (value, limit) in fields.items()
            if not 0 < len(value) <= limit
        },
    )


def refuse_long(path: str = "", **fields: tuple[str, int]) -> None:
    """Raise InvalidRequestError if a text is longer than its limit."""
    too_long = {name: limit for name, (value, limit) in fields.items() if len(value) > limit}
    _refuse(path, {name: f"must have at most {limit} characters" for name, limit in too_long.items()})


def to_revision(field: str, text: str, rule: str) -> Revision | None:
    """Convert a revision; None if it is empty. Raises InvalidRequestError, which states this rule."""
    try:
        return Revision.parse(text) if text else None
    except ValueError:
        raise InvalidRequestError.of(field, rule) from None


def refuse_controls(path: str = "", **fields: str) -> None:
    """Raise InvalidRequestError if a name could change how the text around it is shown.

    Other invisible characters are allowed, since records of an older version may have such names and must be
    found.
    """
    _refuse(path, {name: NO_CONTROLS for name, value in fields.items() if has_controls(value)})


def refuse_invisible(**fields: str) -> None:
    """Raise InvalidRequestError if a text for people has characters that cannot be displayed as they are."""
    _refuse("", {name: VISIBLE_TEXT for name, value in fields.items() if not is_visible_text(value)})


def _refuse(path: str, wrong: Mapping[str, str]) -> None:
    """Raise InvalidRequestError with these descriptions of fields, unless there are none."""
    if wrong:
        raise InvalidRequestError(
            *(FieldViolation(field=f"{path}.{n}" if path else n, description=d) for n, d in wrong.items())
        )
