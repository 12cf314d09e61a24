"""Converters of AdminService's requests: from wire messages to records, field masks and ids.

The use cases check the values of records; this module checks only what the conversion needs.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from identity_service.domain.errors import InvalidRequestError
from identity_service.domain.ids import PrincipalId, SessionId
from identity_service.domain.issuers import ISSUER_ALGORITHMS, TrustedIssuer, TrustRule
from identity_service.domain.keys import KeyPurpose
from identity_service.domain.log import Revision
from identity_service.domain.principals import Client, Grant, OnReuse, User
from identity_service.domain.secret import Secret
from identity_service.grpc_api.issue import refuse_controls, refuse_invisible, refuse_long, to_revision
from identity_service.services.admin.sessions import AllBut, OfClient, OfSubject, OneSession
from identity_service.services.admin.users import NewUser
from identityapi.v1 import admin_service_pb2 as pb
from identityapi.v1 import principal_pb2, trust_service_pb2

MAX_REASON_CHARS: Final = 256
_MAX_ID_CHARS: Final = 256
_EVERY_FIELD: Final = "*"

_GRANTS: Final = {
    principal_pb2.GRANT_CLIENT_CREDENTIALS: Grant.CLIENT_CREDENTIALS,
    principal_pb2.GRANT_PASSWORD: Grant.PASSWORD,
    principal_pb2.GRANT_REFRESH_TOKEN: Grant.REFRESH_TOKEN,
    principal_pb2.GRANT_TOKEN_EXCHANGE: Grant.TOKEN_EXCHANGE,
}
_PURPOSES: Final[Mapping[int, KeyPurpose]] = {
    trust_service_pb2.KEY_PURPOSE_UNSPECIFIED: KeyPurpose.SIGN,
    trust_service_pb2.KEY_PURPOSE_SIGN: KeyPurpose.SIGN,
    trust_service_pb2.KEY_PURPOSE_REFRESH: KeyPurpose.REFRESH,
    trust_service_pb2.KEY_PURPOSE_ENCRYPT: KeyPurpose.ENCRYPT,
}
_ON_REUSE: Final = {
    principal_pb2.ON_REUSE_UNSPECIFIED: OnReuse.END_SESSION,
    principal_pb2.ON_REUSE_END_SESSION: OnReuse.END_SESSION,
    principal_pb2.ON_REUSE_REFUSE: OnReuse.REFUSE,
}


def to_client(message: principal_pb2.Client) -> Client:
    """Convert a client without its output fields; an unset field becomes an empty value.

    Raises InvalidRequestError.
    """
    unknown = [number for number in message.grants if number not in _GRANTS]
    if unknown:
        raise InvalidRequestError.of("client.grants", f"has the unknown value {unknown[0]}")
    if message.on_reuse not in _ON_REUSE:
        raise InvalidRequestError.of("client.on_reuse", f"has the unknown value {message.on_reuse}")
    return Client(
        client_id=PrincipalId(message.client_id),
        display_name=message.display_name,
        grants=frozenset(_GRANTS[number] for number in message.grants),
        audiences=frozenset(message.audiences),
        scopes=frozenset(message.scopes),
        max_lifetime=to_timedelta("client.max_lifetime", message.max_lifetime)
        if message.HasField("max_lifetime")
        else None,
        on_reuse=_ON_REUSE[message.on_reuse],
        disabled=message.disabled,
        certificates=frozenset(message.certificates),
        public_keys=tuple(message.public_keys),
        require_binding=message.require_binding,
        exchange_audiences=frozenset(message.exchange_audiences),
        encryption_key=message.encryption_key or None,
    )


def to_new_client(message: principal_pb2.Client) -> Client:
    """Convert a client to create; unset grants become client_credentials. Raises InvalidRequestError."""
    client = to_client(message)
    return client if client.grants else replace(client, grants=frozenset({Grant.CLIENT_CREDENTIALS}))


def to_new_user(request: pb.CreateUserRequest) -> NewUser:
    """Convert a user to create, with the password."""
    user = request.user
    return NewUser(
        username=user.username,
        password=Secret(request.password),
        display_name=user.display_name,
        audiences=user.audiences,
        scopes=user.scopes,
        disabled=user.disabled,
    )


def to_user(message: principal_pb2.User) -> User:
    """Convert a user without the output fields; an unset field becomes an empty value."""
    return User(
        user_id=PrincipalId(message.user_id),
        username=message.username,
        display_name=message.display_name,
        audiences=frozenset(message.audiences),
        scopes=frozenset(message.scopes),
        disabled=message.disabled,
    )


def to_trusted_issuer(message: principal_pb2.TrustedIssuer) -> TrustedIssuer:
    """Convert a trusted issuer without its output fields. Raises InvalidRequestError.

    Repeated entries are dropped; without algorithms the issuer gets the default ones.
    """
    source = message.WhichOneof("keys")
    return TrustedIssuer(
        issuer=message.issuer,
        jwks_uri=message.jwks_uri if source == "jwks_uri" else None,
        jwks_file=message.jwks_file if source == "jwks_file" else None,
        jwks=message.jwks if source == "jwks" else None,
        audiences=_once(message.audiences),
        algorithms=_once(message.algorithms) or ISSUER_ALGORITHMS,
        rules=tuple(
            TrustRule(
                claims=dict(rule.claims),
                client_id=PrincipalId(rule.client_id),
                per_subject=rule.per_subject,
            )
            for rule in message.rules
        ),
        single_use=message.single_use,
        max_age=to_timedelta("trusted_issuer.max_age", message.max_age)
        if message.HasField("max_age")
        else None,
    )


def to_fields(mask: FieldMask, mutable: Collection[str]) -> frozenset[str]:
    """Return the names of the fields that an update changes; `*` stands for all of `mutable`.

    Raises InvalidRequestError if the mask is empty or names a field that cannot be changed.
    """
    if not mask.paths:
        raise InvalidRequestError.of("update_mask", "must name the fields to change, or `*` for all of them")
    wrong = next((path for path in mask.paths if path not in mutable and path != _EVERY_FIELD), None)
    if wrong is not None:
        raise InvalidRequestError.of(
            "update_mask", f"{wrong[:64]!r} cannot be changed; the fields that can are {', '.join(mutable)}"
        )
    return frozenset(mutable if _EVERY_FIELD in mask.paths else mask.paths)


def to_etag(field: str, text: str) -> Revision | None:
    """Return the revision that an etag names; None if it is empty (any revision).

    Raises InvalidRequestError.
    """
    return to_revision(field, text, "must be the etag of an earlier answer")


def to_id(field: str, text: str) -> str:
    """Return the id or name of a record, which need not exist. Raises InvalidRequestError."""
    if not 1 <= len(text) <= _MAX_ID_CHARS:
        raise InvalidRequestError.of(field, f"must have 1 to {_MAX_ID_CHARS} characters")
    refuse_controls(**{field: text})
    return text


def to_purpose(value: int) -> KeyPurpose:
    """Convert the purpose of a key; unset means signing. Raises InvalidRequestError."""
    purpose = _PURPOSES.get(value)
    if purpose is None:
        raise InvalidRequestError.of("purpose", f"has the unknown value {value}")
    return purpose


def to_reason(text: str) -> str:
    """Return the reason of a change, for the audit events. Raises InvalidRequestError."""
    refuse_long(reason=(text, MAX_REASON_CHARS))
    refuse_invisible(reason=text)
    return text


def to_owner(request: pb.ListSessionsRequest) -> OfSubject | OfClient:
    """Return the subject or client whose sessions to list; unset means the caller.

    Raises InvalidRequestError.
    """
    match request.WhichOneof("owner"):
        case "subject":
            return OfSubject(subject=PrincipalId(to_id("subject", request.subject)))
        case "client_id":
            return OfClient(client_id=PrincipalId(to_id("client_id", request.client_id)))
        case _:
            return OfSubject()


def to_ending(request: pb.RevokeSessionsRequest) -> OneSession | AllBut:
    """Return the selection of the sessions to end. Raises InvalidRequestError."""
    to_reason(request.reason)
    excepted = request.except_session_id
    kept = SessionId(to_id("except_session_id", excepted)) if excepted else None
    match request.WhichOneof("target"):
        case "session_id" if kept is not None:
            raise InvalidRequestError.of("except_session_id", "may be set only with subject or own")
        case "session_id":
            return OneSession(session_id=SessionId(to_id("session_id", request.session_id)))
        case "subject":
            subject = PrincipalId(to_id("subject", request.subject))
            return AllBut(owner=OfSubject(subject=subject), kept=kept)
        case "own" if request.own:
            return AllBut(owner=OfSubject(), kept=kept)
        case "own":
            raise InvalidRequestError.of("own", "must be true if it is set")
        case _:
            raise InvalidRequestError.of("target", "must be set: one of session_id, subject and own")


def to_timedelta(field: str, duration: Duration) -> timedelta:
    """Convert a duration; the use case checks the bounds. Raises InvalidRequestError."""
    try:
        return timedelta(seconds=duration.seconds, microseconds=duration.nanos // 1000)
    except OverflowError:
        raise InvalidRequestError.of(field, "must be a valid google.protobuf.Duration") from None


def _once(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(values))
