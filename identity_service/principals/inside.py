"""The records of this process's own store, through the administration use cases. Implements a port."""

from collections.abc import Callable, Iterator, Sequence
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

    def find(self, record: Declared) -> Found | None:
        """Return the stored client by id, user by username or issuer by name; None if there is none."""
        with suppress(NotFoundError):
            match record:
                case Client():
                    return _found(self._clients.get(record.client_id))
                case User():
                    return _found(self._users.find(record.username))
                case TrustedIssuer():
                    return _found(self._issuers.get(record.issuer))
        return None

    def list(self, kind: type[Declared]) -> Iterator[Found]:
        """Yield all records of a kind, read in pages."""
        lists: dict[type[Declared], Callable[..., Sequence[Versioned[Any]]]] = {
            Client: self._clients.list,
            User: self._users.list,
            TrustedIssuer: self._issuers.list,
        }
        page = lists[kind](limit=_PAGE)
        while page:
            yield from map(_found, page)
            page = lists[kind](after=page[-1].record.id, limit=_PAGE)

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
        match record:
            case Client():
                self._clients.update(record, fields, expected=found.revision)
            case User():
                wanted = replace(record, user_id=PrincipalId(found.record.id))
                self._users.update(wanted, fields, expected=found.revision)
            case TrustedIssuer():
                self._issuers.update(record, fields, expected=found.revision)

    def give_secret(self, client_id: str) -> Secret:
        """Rotate the secret of a client that has none, and return it."""
        return self._clients.rotate_secret(client_id)[1]

    def delete(self, found: Found) -> None:
        """Delete the record if it is still as found."""
        match found.record:
            case Client():
                self._clients.delete(found.record.id, expected=found.revision)
            case User():
                self._users.delete(found.record.id, expected=found.revision)
            case TrustedIssuer():
                self._issuers.delete(found.record.id, expected=found.revision)


def _found(found: Versioned[Any]) -> Found:
    return Found(record=found.record, revision=found.revision)
