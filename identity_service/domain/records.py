"""The records of the directory: clients, users, keys and trusted issuers, each with an etag."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from identity_service.domain.issuers import TrustedIssuer
from identity_service.domain.keys import StoredKey
from identity_service.domain.log import RecordKind, Revision
from identity_service.domain.principals import Client, User

Record = Client | User | StoredKey | TrustedIssuer
RecordT = TypeVar("RecordT", Client, User, StoredKey, TrustedIssuer)
RECORD_TYPES: Final[Mapping[RecordKind, type[Any]]] = {
    RecordKind.CLIENT: Client,
    RecordKind.USER: User,
    RecordKind.KEY: StoredKey,
    RecordKind.ISSUER: TrustedIssuer,
}
"""The type of the records of each kind."""
_KINDS: Final = {record: kind for kind, record in RECORD_TYPES.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Versioned(Generic[RecordT]):
    """A record as the store holds it, with the revision of its last change (its etag)."""

    record: RecordT
    revision: Revision


def kind_of(record: type[Record]) -> RecordKind:
    """Return the kind of the records of a type."""
    return _KINDS[record]
