"""Validates the records of clients and users against the bounds that the protos name. Pure functions.

Each check collects all violations of a record, so that one answer names all of them. Field paths are those of
the requests that carry the record. Names are checked only if they change: otherwise a user or client that is
older than a rule could not be disabled.
"""

from collections.abc import Collection, Iterator, Sequence
from datetime import timedelta
from typing import Final

from identity_service.domain.errors import FieldViolation, InvalidRequestError
from identity_service.domain.grants import MAX_SCOPES, is_audience, is_known_scope
from identity_service.domain.ids import USER_PREFIX, is_principal_id
from identity_service.domain.issuers import FEDERATED_PREFIX
from identity_service.domain.ports import PublicKeyChecker
from identity_service.domain.principals import (
    ANY,
    USERNAME_RULE,
    Client,
    Grant,
    User,
    is_certificate_name,
    is_username,
)
from identity_service.domain.visible import VISIBLE_TEXT, is_visible_text

MAX_NAME_CHARS: Final = 128
MAX_ALLOWED_AUDIENCES: Final = 100
MAX_CERTIFICATES: Final = 20
MAX_PUBLIC_KEYS: Final = 10
MAX_DURATION: Final = timedelta(days=3650)

_ID_RULE: Final = (
    "must be 1 to 128 letters, digits and ._:@/-, beginning with a letter or digit and not with "
    f"{USER_PREFIX} or {FEDERATED_PREFIX}"
)
Violations = Iterator[FieldViolation]


def is_client_id(text: str) -> bool:
    """Return whether a client may have this id. Prefixes of users and federated principals are reserved."""
    return is_principal_id(text) and not text.startswith((USER_PREFIX, FEDERATED_PREFIX))


def check_client(client: Client, keys: PublicKeyChecker, *, before: Client | None = None) -> None:
    """Raise InvalidRequestError if a client's record is not valid; `before` = the record that it replaces."""
    found = [
        *_wrong(is_client_id(client.client_id), "client.client_id", _ID_RULE),
        *_wrong_display_name("client", client.display_name, before.display_name if before else None),
        *_wrong_rights("client", client.audiences, client.scopes),
        *_wrong_audiences("client.exchange_audiences", client.exchange_audiences),
        *_wrong_lifetime("client.max_lifetime", client.max_lifetime),
        *_wrong_grants(client),
        *_wrong_certificates(client.certificates),
        *_wrong_public_keys(client.public_keys, keys),
        *_wrong_encryption_key(client.encryption_key, keys),
    ]
    if found:
        raise InvalidRequestError(*found)


def check_user(user: User, *, before: User | None = None) -> None:
    """Raise InvalidRequestError if a user's record is not valid; `before` = the record that it replaces."""
    renamed = before is None or user.username != before.username
    star = "`*` stands for what a user may have: it must be spelled out here"
    found = [
        *_wrong(is_username(user.username) or not renamed, "user.username", USERNAME_RULE),
        *_wrong_display_name("user", user.display_name, before.display_name if before else None),
        *_wrong_rights("user", user.audiences, user.scopes),
        *_wrong(ANY not in user.audiences, "user.audiences", star),
        *_wrong(ANY not in user.scopes, "user.scopes", star),
    ]
    if found:
        raise InvalidRequestError(*found)


def _wrong(fine: bool, field: str, description: str) -> Violations:
    if not fine:
        yield FieldViolation(field=field, description=description)


def _wrong_display_name(path: str, display_name: str, before: str | None) -> Violations:
    field = f"{path}.display_name"
    if len(display_name) > MAX_NAME_CHARS:
        yield FieldViolation(field=field, description=f"must have at most {MAX_NAME_CHARS} characters")
    elif display_name != before:
        yield from _wrong(is_visible_text(display_name), field, VISIBLE_TEXT)


def _wrong_rights(path: str, audiences: Collection[str], scopes: Collection[str]) -> Violations:
    yield from _wrong_audiences(f"{path}.audiences", audiences)
    yield from _too_many(f"{path}.scopes", scopes, MAX_SCOPES)
    yield from _wrong(
        all(scope == ANY or is_known_scope(scope) for scope in scopes),
        f"{path}.scopes",
        "must be scopes as in RFC 6749 section 3.3; of identity.* only those that exist",
    )


def _wrong_audiences(field: str, audiences: Collection[str]) -> Violations:
    yield from _too_many(field, audiences, MAX_ALLOWED_AUDIENCES)
    yield from _wrong(
        all(is_audience(audience) for audience in audiences),
        field,
        "must be 1 to 256 visible ASCII characters each",
    )


def _wrong_lifetime(field: str, lifetime: timedelta | None) -> Violations:
    fine = lifetime is None or (
        timedelta(seconds=1) <= lifetime <= MAX_DURATION and not lifetime.microseconds
    )
    yield from _wrong(fine, field, f"must be whole seconds, from 1 second to {MAX_DURATION.days} days")


def _wrong_grants(client: Client) -> Violations:
    # A client without a credential of its own that signs no users in is authenticated by a trusted issuer,
    # and may have these grants.
    own = {Grant.CLIENT_CREDENTIALS, Grant.TOKEN_EXCHANGE} & client.grants
    yield from _wrong(
        not (client.is_public and Grant.PASSWORD in client.grants and own),
        "client.grants",
        "must not hold client_credentials or token_exchange: a public client, which signs people in and "
        "has no secret, certificates or public_keys, gets no tokens for itself",
    )


def _wrong_certificates(certificates: Collection[str]) -> Violations:
    yield from _too_many("client.certificates", certificates, MAX_CERTIFICATES)
    yield from _wrong(
        all(is_certificate_name(name) for name in certificates),
        "client.certificates",
        "must be spiffe:// with a trust domain and a path, dns: with a name, or sha256: with 64 hex digits",
    )


def _wrong_public_keys(texts: Sequence[str], keys: PublicKeyChecker) -> Violations:
    yield from _too_many("client.public_keys", texts, MAX_PUBLIC_KEYS)
    seen: set[str] = set()
    for index, text in enumerate(texts[:MAX_PUBLIC_KEYS]):
        field = f"client.public_keys[{index}]"
        try:
            key_id = keys.check_key(text)
        except ValueError as error:
            yield FieldViolation(field=field, description=str(error))
        else:
            yield from _wrong(key_id not in seen, field, "has the `kid` of another one of them")
            seen.add(key_id)


def _wrong_encryption_key(text: str | None, keys: PublicKeyChecker) -> Violations:
    if text is not None:
        try:
            keys.check_encryption_key(text)
        except ValueError as error:
            yield FieldViolation(field="client.encryption_key", description=str(error))


def _too_many(field: str, values: Collection[str], limit: int) -> Violations:
    yield from _wrong(len(values) <= limit, field, f"must have at most {limit} entries")
