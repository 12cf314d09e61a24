"""The codec of the records of the directory: JSON text that both stores write. The module knows no store.

A record is a JSON object with the fields of its class. One that an older version wrote lacks the fields that
are newer; they are read with their defaults.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from datetime import timedelta
from functools import partial
from typing import Any, Final, NamedTuple

from identity_service.domain.issuers import TrustedIssuer, TrustRule
from identity_service.domain.keys import KeyPurpose, StoredKey
from identity_service.domain.principals import Client, Grant, OnReuse, StoredSecret, User, normalize_username
from identity_service.domain.records import Record, RecordT
from identity_service.storage.codec import dumps, maybe, moment, seconds


def names_of(record: Record) -> Sequence[str]:
    """Return the names by which a record is found besides its id; no two records of a kind share one."""
    match record:
        case User():
            return (normalize_username(record.username),)
        case Client():
            return sorted(record.certificates)
        case _:
            return ()


def encode_record(record: Record) -> str:
    """Return the record as JSON text."""
    values = ((name, form, getattr(record, name)) for name, form in _FIELDS[type(record)].items())
    return dumps({name: value if form is None else form.encode(value) for name, form, value in values})


def decode_record(kind: type[RecordT], text: str) -> RecordT:
    """Return the record of this kind from a JSON text. Raises ValueError, KeyError or TypeError."""
    data = json.loads(text)
    values = {
        name: data[name] if form is None else form.decode(data[name])
        for name, form in _FIELDS[kind].items()
        if name in data or name not in _NEWER_FIELDS
    }
    return kind(**values)


class _Form(NamedTuple):
    """The form of a field in JSON, unless that is the value itself."""

    encode: Callable[[Any], object]
    decode: Callable[[Any], Any]


def _encode_secrets(secrets: Sequence[StoredSecret]) -> list[object]:
    return [[s.digest.hex(), maybe(seconds, s.expire_time), maybe(seconds, s.create_time)] for s in secrets]


def _decode_secrets(data: Sequence[Any]) -> tuple[StoredSecret, ...]:
    return tuple(
        StoredSecret(
            digest=bytes.fromhex(digest),
            expire_time=maybe(moment, expire),
            create_time=maybe(moment, create[0] if create else None),
        )
        for digest, expire, *create in data
    )


def _encode_rules(rules: Sequence[TrustRule]) -> list[object]:
    return [[dict(rule.claims), rule.client_id, rule.per_subject] for rule in rules]


def _decode_rules(data: Sequence[Any]) -> tuple[TrustRule, ...]:
    return tuple(TrustRule(claims=claims, client_id=id_, per_subject=each) for claims, id_, each in data)


def _optional(form: _Form) -> _Form:
    """Return the form of a field that may also be None."""
    return _Form(partial(maybe, form.encode), partial(maybe, form.decode))


_TEXTS: Final = _Form(list, tuple)
_NAMES: Final = _Form(sorted, frozenset)
_TIME: Final = _Form(seconds, moment)
_OPTIONAL_TIME: Final = _optional(_TIME)
_OPTIONAL_DURATION: Final = _optional(
    _Form(timedelta.total_seconds, lambda duration: timedelta(seconds=duration))
)
_FORMS: Final[Mapping[type[Record], Mapping[str, _Form]]] = {
    Client: {
        "secrets": _Form(_encode_secrets, _decode_secrets),
        "certificates": _NAMES,
        "public_keys": _TEXTS,
        "grants": _Form(sorted, lambda grants: frozenset(map(Grant, grants))),
        "audiences": _NAMES,
        "scopes": _NAMES,
        "max_lifetime": _OPTIONAL_DURATION,
        "on_reuse": _Form(str, OnReuse),
        "exchange_audiences": _NAMES,
        "create_time": _OPTIONAL_TIME,
    },
    User: {"audiences": _NAMES, "scopes": _NAMES, "create_time": _OPTIONAL_TIME},
    StoredKey: {"purpose": _Form(str, KeyPurpose), "create_time": _TIME, "activate_time": _TIME},
    TrustedIssuer: {
        "audiences": _TEXTS,
        "algorithms": _TEXTS,
        "rules": _Form(_encode_rules, _decode_rules),
        "max_age": _OPTIONAL_DURATION,
        "create_time": _OPTIONAL_TIME,
    },
}
_FIELDS: Final[Mapping[type[Record], Mapping[str, _Form | None]]] = {
    kind: {field.name: forms.get(field.name) for field in fields(kind)} for kind, forms in _FORMS.items()
}
"""Every field of each kind of record, in the order of its JSON; None = the value is its own form."""
_NEWER_FIELDS: Final = frozenset(
    {"certificates", "public_keys", "require_binding", "exchange_audiences", "encryption_key"}
)
"""The fields that a record may lack, since versions of this service that wrote records did not have them."""
