"""What must happen so that the records are as declared. Pure: reads no file and calls nobody.

Owns the values of a declaration and of a plan, and what counts as a difference.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Final

from identity_service.domain.issuers import TrustedIssuer, TrustRule
from identity_service.domain.log import Revision
from identity_service.domain.principals import Client, User

Declared = Client | User | TrustedIssuer
KINDS: Final[tuple[type[Declared], ...]] = (Client, User, TrustedIssuer)
"""In the order in which they are made: the rules of an issuer name clients."""

_KIND_NAMES: Final[Mapping[type[Declared], str]] = {
    Client: "client",
    User: "user",
    TrustedIssuer: "trusted_issuer",
}

_JSON_FIELDS: Final = frozenset({"public_keys", "jwks", "encryption_key"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A record as it is now, and where it was last changed (its etag)."""

    record: Declared
    revision: Revision


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A record as it is declared."""

    record: Declared
    fields: tuple[str, ...]
    """Those that it must have as declared."""
    secret: bool = False
    """Of a client: it must have one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    """All that is declared."""

    wanted: tuple[Wanted, ...]
    """In the order of KINDS."""
    kinds: frozenset[type[Declared]]
    """Those that the file speaks of, be it only to say that there are none."""


class Action(StrEnum):
    """What happens to a record."""

    CREATE = "create"
    CHANGE = "change"
    DELETE = "delete"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One field that is not as declared."""

    field: str
    before: object
    after: object


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What happens to one record."""

    action: Action
    record: Declared
    """As it will be; of a deletion, as it was."""
    found: Found | None = None
    """As it was read; None = it was not there."""
    differences: tuple[Difference, ...] = ()
    wanted: Wanted | None = None
    """What asks for it; None = its absence from the declaration."""
    secret: bool = False
    """Whether a client gets a secret with this."""

    @property
    def kind(self) -> str:
        return _KIND_NAMES[type(self.record)]

    @property
    def name(self) -> str:
        """How the file calls the record."""
        return name_of(self.record)


def name_of(record: Declared) -> str:
    """How a file calls a record: a user by username, since the id is made here."""
    return record.username if isinstance(record, User) else record.id


def plan_one(wanted: Wanted, found: Found | None) -> Step | None:
    """What makes the record as declared; None = it is."""
    if found is None:
        return Step(
            action=Action.CREATE,
            record=wanted.record,
            wanted=wanted,
            differences=tuple(_stated(wanted.record, wanted.fields)),
            secret=wanted.secret,
        )
    differences = tuple(_differences(found.record, wanted.record, wanted.fields))
    secret = wanted.secret and isinstance(found.record, Client) and not found.record.secrets
    if not differences and not secret:
        return None
    return Step(
        action=Action.CHANGE,
        record=wanted.record,
        found=found,
        differences=differences,
        wanted=wanted,
        secret=secret,
    )


def plan_deletion(found: Found) -> Step:
    """What makes an undeclared record go away."""
    return Step(action=Action.DELETE, record=found.record, found=found)


def _stated(record: Declared, fields: tuple[str, ...]) -> Iterator[Difference]:
    """What is worth saying of a new record: all but what is empty or off."""
    for field in fields:
        if value := _comparable(field, getattr(record, field)):
            yield Difference(field=field, before=None, after=value)


def _differences(before: Declared, after: Declared, fields: tuple[str, ...]) -> Iterator[Difference]:
    for field in fields:
        old = _comparable(field, getattr(before, field))
        new = _comparable(field, getattr(after, field))
        if old != new:
            yield Difference(field=field, before=old, after=new)


def _comparable(field: str, value: object) -> object:
    """A value as JSON has it, so that equal ones are equal however they were written."""
    match value:
        case TrustRule():
            claims = dict(value.claims)
            return {"claims": claims, "client_id": value.client_id, "per_subject": value.per_subject}
        case frozenset():
            return sorted(map(str, value))
        case tuple():
            return [_comparable(field, each) for each in value]
        case timedelta():
            return int(value.total_seconds())
        case StrEnum():
            return value.value
        case str() if field in _JSON_FIELDS:
            return _parsed(value)
        case _:
            return value


def _parsed(text: str) -> object:
    """A key or a set of keys: the same one may be written with other spaces or in another order."""
    try:
        return json.loads(text)
    except ValueError:
        return text
