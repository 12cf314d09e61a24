"""Converters of IdentityService's requests: from wire messages to domain values.

A converter names the wrong field in its error, and makes no other decision. The checks on text fields at the
end also serve the other services.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Final

from google.protobuf.duration_pb2 import Duration

from identity_service.domain.errors import FieldViolation, InvalidRequestError, LifetimeOutOfBoundsError
from identity_service.domain.grants import MAX_AUDIENCES, MAX_SCOPES, GrantRequest
from identity_service.domain.ids import (
    EVERYONE,
    FIRST_PARTY_CLIENT,
    PrincipalId,
    SessionId,
    TokenId,
    is_principal_id,
)
from identity_service.domain.log import Revision
from identity_service.domain.origin import NOWHERE, Origin
from identity_service.domain.secret import Secret
from identity_service.domain.tokens import MAX_TOKEN_CHARS, TokenEncryption
from identity_service.domain.visible import NO_CONTROLS, VISIBLE_TEXT, has_controls, is_visible_text
from identity_service.grpc_api.batches import has_more_fields
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
from identity_service.services.issue import IssueRequest
from identity_service.services.refresh import RefreshRequest
from identity_service.services.revoke import (
    ByPrincipal,
    BySession,
    ByToken,
    ByTokenId,
    RevokeRequest,
    Target,
)
from identity_service.services.verify import VerifyRequest
from identityapi.v1 import identity_service_pb2 as pb
from identityapi.v1 import token_pb2

MAX_BATCH: Final = 1000
_UNKNOWN_FIELDS: Final = 100
"""Fields beside `requests` that a batch of a newer client may have."""
_ENCRYPTIONS: Final[Mapping[int, TokenEncryption]] = {
    token_pb2.TOKEN_ENCRYPTION_UNSPECIFIED: TokenEncryption.NONE,
    token_pb2.TOKEN_ENCRYPTION_NONE: TokenEncryption.NONE,
    token_pb2.TOKEN_ENCRYPTION_SERVICE: TokenEncryption.SERVICE,
    token_pb2.TOKEN_ENCRYPTION_AUDIENCE: TokenEncryption.AUDIENCE,
}


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


def to_verify(request: pb.VerifyRequest, path: str = "", *, may_wait: bool = True) -> VerifyRequest:
    """Convert a request of Verify. Raises InvalidRequestError.

    `path` precedes the names of fields in errors, such as `requests[3].` in a batch. `may_wait` is False on
    an event loop.
    """
    if not request.audiences and not request.any_audience:
        raise InvalidRequestError.of(
            f"{path}audiences", "must name the audience of the verifier, or any_audience must be true"
        )
    if len(request.audiences) > MAX_AUDIENCES:
        raise InvalidRequestError.of(f"{path}audiences", f"must have at most {MAX_AUDIENCES} entries")
    if len(request.required_scopes) > MAX_SCOPES:
        raise InvalidRequestError.of(f"{path}required_scopes", f"must have at most {MAX_SCOPES} entries")
    if len(request.certificate_sha256) not in (0, 32):
        raise InvalidRequestError.of(f"{path}certificate_sha256", "must be the 32 bytes of a SHA-256")
    if len(request.dpop_key_sha256) not in (0, 32):
        raise InvalidRequestError.of(f"{path}dpop_key_sha256", "must be the 32 bytes of a SHA-256")
    return VerifyRequest(
        token=request.token,
        audiences=request.audiences,
        any_audience=request.any_audience,
        required_scopes=request.required_scopes,
        at_least_revision=_revision(request.at_least_revision, path) if request.at_least_revision else None,
        strong=request.strong,
        certificate_sha256=request.certificate_sha256,
        key_sha256=request.dpop_key_sha256,
        may_wait=may_wait,
    )


def check_serialized_batch(data: bytes) -> None:
    """Raise InvalidRequestError if a serialized batch has far more than 1,000 requests.

    Each request takes 96 bytes once it is parsed, even if it is empty and takes two bytes here.
    """
    if has_more_fields(data, MAX_BATCH + _UNKNOWN_FIELDS):
        raise _wrong_batch_size()


def check_batch(request: pb.VerifyBatchRequest) -> None:
    """Raise InvalidRequestError unless the batch has 1 to 1,000 requests."""
    if not 1 <= len(request.requests) <= MAX_BATCH:
        raise _wrong_batch_size()


def _wrong_batch_size() -> InvalidRequestError:
    return InvalidRequestError.of("requests", f"must have 1 to {MAX_BATCH} entries")


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


def to_revoke(request: pb.RevokeRequest, origin: Origin = NOWHERE) -> RevokeRequest:
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
            raise InvalidRequestError.of(name, "is empty or not well-formed")


def _is_id(text: str) -> bool:
    """Return whether a text is like a `jti` or `sid`: 1 to 128 characters of base64url.

    Ids of this service are shorter than the limit.
    """
    return 1 <= len(text) <= 128 and text.isascii() and text.replace("-", "").replace("_", "").isalnum()


def _lifetime(duration: Duration) -> timedelta:
    """Convert a lifetime of whole seconds, at most 10 years; the grant policy checks the exact bounds.

    Raises LifetimeOutOfBoundsError.
    """
    whole = duration.nanos == 0 and 0 < duration.seconds <= 10 * 365 * 86400
    if not whole:
        raise LifetimeOutOfBoundsError.of("lifetime", "must be a positive whole number of seconds")
    return timedelta(seconds=duration.seconds)


def _revision(text: str, path: str) -> Revision:
    try:
        return Revision.parse(text)
    except ValueError:
        raise InvalidRequestError.of(
            f"{path}at_least_revision", "must be a revision that Revoke returned"
        ) from None


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
