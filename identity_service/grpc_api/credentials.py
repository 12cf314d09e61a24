"""Converters of credentials, and the checks on text fields that other converters share."""

from collections.abc import Iterable

from identity_service.domain.errors import FieldViolation, InvalidRequestError
from identity_service.domain.ids import FIRST_PARTY_CLIENT, PrincipalId
from identity_service.domain.invisible import VISIBLE_TEXT, is_visible_text
from identity_service.domain.origin import Origin
from identity_service.domain.secret import Secret
from identity_service.domain.tokens import MAX_TOKEN_CHARS
from identity_service.domain.visible import NO_CONTROLS, has_controls
from identity_service.services.authenticate import (
    ClientAssertion,
    ClientCertificate,
    ClientCredential,
    ClientSecret,
    FederatedToken,
    Password,
)
from identityapi.v1 import token_pb2


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
    violations = [*too_long(path, client_id=(value.client_id, 128), client_secret=(value.client_secret, 256))]
    if violations:
        raise InvalidRequestError(*violations)
    return Password(
        username=value.username,
        password=Secret(value.password),
        client_id=PrincipalId(value.client_id) if value.client_id else FIRST_PARTY_CLIENT,
        client_secret=Secret(value.client_secret) if value.client_secret else None,
    )


def require(path: str, **fields: tuple[str, int]) -> None:
    """Raise InvalidRequestError unless each text is set and at most as long as its limit."""
    if all(0 < len(value) <= limit for value, limit in fields.values()):
        return
    missing = [
        FieldViolation(field=f"{path}.{name}", description="must be set")
        for name, (value, _) in fields.items()
        if not value
    ]
    violations = [*missing, *too_long(path, **fields)]
    if violations:
        raise InvalidRequestError(*violations)


def refuse_controls(path: str = "", **fields: str) -> None:
    """Raise InvalidRequestError if a name could change how the text around it is shown.

    Other invisible characters are allowed, since records of an older version may have such names and must be
    found.
    """
    violations = [
        FieldViolation(field=f"{path}.{name}" if path else name, description=NO_CONTROLS)
        for name, value in fields.items()
        if has_controls(value)
    ]
    if violations:
        raise InvalidRequestError(*violations)


def refuse_invisible(**fields: str) -> None:
    """Raise InvalidRequestError if a text for people has characters that cannot be displayed as they are."""
    violations = [
        FieldViolation(field=name, description=VISIBLE_TEXT)
        for name, value in fields.items()
        if not is_visible_text(value)
    ]
    if violations:
        raise InvalidRequestError(*violations)


def too_long(path: str = "", **fields: tuple[str, int]) -> Iterable[FieldViolation]:
    """Yield a violation for each text that is longer than its limit."""
    for name, (value, limit) in fields.items():
        if len(value) > limit:
            yield FieldViolation(
                field=f"{path}.{name}" if path else name, description=f"must have at most {limit} characters"
            )
