"""The records of this process's own store, through the administration use cases. Implements a port."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from identity_service.domain.errors import NotFoundError
from identity_service.domain.ids import PrincipalId
from identity_service.domain.issuers import TrustedIssuer
from identity_service.domain.principals import Client, User
from identity_service.domain.records import Versioned
from identity_service.domain.secret import Secret
from identity_service.principals.plan import Declared, Found
from identity_service.services.admin.administration import Administration, NewUser

_PAGE = 500
"""The number of records in a page."""


class OwnRecords:
    """The PrincipalRecords of the store that this process serves from, reached without gRPC."""

    def __init__(self, directory: Administration) -> None:
        self._clients = directory.clients
        self._users = directory.users
        self._issuers = directory.issuers
        self._directory: dict[type[Declared], Any] = {
            Client: self._clients,
            User: self._users,
            TrustedIssuer: self._issuers,
        }
        """The use cases for each kind of record; all have the same methods."""

    def find(self, record: Declared) -> Found | None:
        """Return the stored client by id, user by username or issuer by name; None if there is none."""
        with suppress(NotFoundError):
            if isinstance(record, User):
                return _found(self._users.find(record.username))
            return _found(self._directory[type(record)].get(record.id))
        return None

    def list(self, kind: type[Declared]) -> Iterator[Found]:
        """Yield all records of a kind, read in pages."""
        page = self._directory[kind].list(limit=_PAGE)
        while page:
            yield from map(_found, page)
            page = self._directory[kind].list(after=page[-1].record.id, limit=_PAGE)

    def create(self, record: Declared, *, secret: bool) -> Secret | None:
        """Create the record; return the secret of a client that gets one."""
        match record:
            case Client():
                return self._clients.create(record, no_secret=not secret)[1]
            case User():
                self._users.create(
                    NewUser(
                        username=record.username,
                        display_name=record.display_name,
                        audiences=record.audiences,
                        scopes=record.scopes,
                        disabled=record.disabled,
                    )
                )
            case TrustedIssuer():
                self._issuers.create(record)
        return None

    def update(self, record: Declared, fields: Sequence[str], found: Found) -> None:
        """Update these fields of the record if it is still as found."""
        if isinstance(record, User):
            record = replace(record, user_id=PrincipalId(found.record.id))
        self._directory[type(record)].update(record, fields, expected=found.revision)

    def give_secret(self, client_id: str) -> Secret:
        """Rotate the secret of a client that has none, and return it."""
        return self._clients.rotate_secret(client_id)[1]

    def delete(self, found: Found) -> None:
        """Delete the record if it is still as found."""
        self._directory[type(found.record)].delete(found.record.id, expected=found.revision)


def _found(found: Versioned[Any]) -> Found:
    return Found(record=found.record, revision=found.revision)
