"""What copying has in common on both stores. Knows no store."""

from collections.abc import Mapping
from typing import Any, Final

from identity_service.domain.errors import StoreDamagedError
from identity_service.domain.issuers import TrustedIssuer
from identity_service.domain.keys import StoredKey
from identity_service.domain.log import Head, RecordKind
from identity_service.domain.principals import Client, User
from identity_service.storage.codec import kind_of

TYPES: Final[Mapping[RecordKind, type[Any]]] = {
    kind_of(kind): kind for kind in (Client, User, StoredKey, TrustedIssuer)
}
"""What the records of each kind are."""


def require_copyable(head: Head) -> Head:
    """Return the head. Raises StoreDamagedError if the store holds less than it knows of."""
    if head.whole and head.complete:
        return head
    raise StoreDamagedError(
        "the change log does not hold all that the store knows of, so a copy of it could lack a revocation: "
        "start the service on the store once, it completes the log; then copy it again"
    )
