"""Computes the steps that make records match a declaration. Pure: does no input or output.

The module defines the values of a declaration and of a plan, and the rules by which values differ.
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
"""The kinds of records in the order of creation: clients first, since the rules of trusted issuers name
them."""

_KIND_NAMES: Final[Mapping[type[Declared], str]] = {
    Client: "client",
    User: "user",
    TrustedIssuer: "trusted_issuer",
}

_JSON_FIELDS: Final = frozenset({"public_keys", "jwks", "encryption_key"})
"""Fields that hold JSON as text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A stored record, with the revision of its last change (its etag)."""

    record: Declared
    revision: Revision


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A declared record."""

    record: Declared
    fields: tuple[str, ...]
    """The fields whose stored values must equal the declared ones."""
    secret: bool = False
    """True if a client must have a secret; always False for other records."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    """The declaration of a file: all of its records."""

    wanted: tuple[Wanted, ...]
    """The declared records, in the order of KINDS."""
    kinds: frozenset[type[Declared]]
    """The kinds that have a section in the file, which may be empty."""


class Action(StrEnum):
    """The change that a step makes to a record."""

    CREATE = "create"
    CHANGE = "change"
    DELETE = "delete"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One field whose stored value differs from the declared one."""

    field: str
    before: object
    after: object


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One change of one record, with the reason for it."""

    action: Action
    record: Declared
    """The record after the change; for a deletion, the record before it."""
    found: Found | None = None
    """The stored record on which the step is based; None = there was none."""
    differences: tuple[Difference, ...] = ()
    wanted: Wanted | None = None
    """The declared record; None = the record is deleted since it is not declared."""
    secret: bool = False
    """True if the step creates a client secret."""

    @property
    def kind(self) -> str:
        """The name of the record's kind: client, user or trusted_issuer."""
        return _KIND_NAMES[type(self.record)]

    @property
    def name(self) -> str:
        """The name of the record in the file."""
        return name_of(self.record)


def name_of(record: Declared) -> str:
    """Return a record's name in the file: its id, but the username of a user, whose id the service makes."""
    return record.username if isinstance(record, User) else record.id


def plan_one(wanted: Wanted, found: Found | None) -> Step | None:
    """Return the step that makes the record match the declaration; None if it matches already."""
    differences = tuple(_differences(found.record if found is not None else None, wanted))
    has_secret = found is not None and isinstance(found.record, Client) and bool(found.record.secrets)
    secret = wanted.secret and not has_secret
    if found is not None and not differences and not secret:
        return None
    return Step(
        action=Action.CREATE if found is None else Action.CHANGE,
        record=wanted.record,
        found=found,
        differences=differences,
        wanted=wanted,
        secret=secret,
    )


def plan_deletion(found: Found) -> Step:
    """Return the step that deletes an undeclared record."""
    return Step(action=Action.DELETE, record=found.record, found=found)


def _differences(before: Declared | None, wanted: Wanted) -> Iterator[Difference]:
    """Yield the fields that differ; of a new record, those that are neither empty nor false."""
    for field in wanted.fields:
        old = None if before is None else _comparable(field, getattr(before, field))
        new = _comparable(field, getattr(wanted.record, field))
        if bool(new) if before is None else old != new:
            yield Difference(field=field, before=old, after=new)


def _comparable(field: str, value: object) -> object:
    """Return a value in a canonical JSON form, so that values are equal however they were written."""
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
    """Parse JSON text, so that spaces and the order of members do not matter; return other text unchanged."""
    try:
        return json.loads(text)
    except ValueError:
        return text
