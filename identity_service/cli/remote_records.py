"""The records of a service, read and changed through its gRPC API. Implements the port PrincipalRecords."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any, Final

import identity_client as sdk
from identity_client import AdminClient
from identity_service.domain import errors
from identity_service.domain.ids import NO_LINK, Epoch, PrincipalId
from identity_service.domain.issuers import TrustedIssuer
from identity_service.domain.log import Revision
from identity_service.domain.principals import Client, StoredSecret, User
from identity_service.domain.records import Versioned
from identity_service.domain.secret import Secret
from identity_service.grpc_api.admin_answers import from_client, from_trusted_issuer, from_user
from identity_service.grpc_api.admin_convert import to_client, to_trusted_issuer, to_user
from identity_service.principals.plan import Declared, Found
from identityapi.v1 import principal_pb2 as pb

_NEW: Final = Revision(epoch=Epoch("new"), position=0, link=NO_LINK)
"""The revision given for a record that does not exist yet; the service ignores it."""


class RemoteRecords:
    """The PrincipalRecords of the service that an AdminClient is connected to."""

    def __init__(self, admin: AdminClient) -> None:
        self._admin = admin

    def find(self, record: Declared) -> Found | None:
        """Get the record from the service by client id, username or issuer name; None if it is not there."""
        with suppress(sdk.NotFoundError):
            match record:
                case Client():
                    return _client(self._admin.get_client(record.client_id))
                case User():
                    return _user(self._admin.find_user(record.username))
                case TrustedIssuer():
                    return _issuer(self._admin.get_trusted_issuer(record.issuer))
        return None

    def list(self, kind: type[Declared]) -> Iterator[Found]:
        """List all records of a kind, page by page."""
        lists: dict[type[Declared], Callable[[], Iterator[Found]]] = {
            Client: lambda: map(_client, self._admin.list_clients()),
            User: lambda: map(_user, self._admin.list_users()),
            TrustedIssuer: lambda: map(_issuer, self._admin.list_trusted_issuers()),
        }
        return lists[kind]()

    def create(self, record: Declared, *, secret: bool) -> Secret | None:
        """Create the record; return the secret of a client that gets one."""
        with _translated():
            match record:
                case Client():
                    message = from_client(Versioned(record=record, revision=_NEW))
                    made = self._admin.create_client(message, no_secret=not secret)
                    return Secret(made.client_secret) if made.client_secret else None
                case User():
                    self._admin.create_user(from_user(Versioned(record=record, revision=_NEW)))
                case TrustedIssuer():
                    issuer = from_trusted_issuer(Versioned(record=record, revision=_NEW))
                    self._admin.create_trusted_issuer(issuer)
        return None

    def update(self, record: Declared, fields: Sequence[str], found: Found) -> None:
        """Update these fields of the record if it is still as found."""
        with _translated():
            match record:
                case Client():
                    message = from_client(Versioned(record=record, revision=found.revision))
                    self._admin.update_client(message, fields)
                case User():
                    user = replace(record, user_id=PrincipalId(found.record.id))
                    self._admin.update_user(
                        from_user(Versioned(record=user, revision=found.revision)), fields
                    )
                case TrustedIssuer():
                    issuer = from_trusted_issuer(Versioned(record=record, revision=found.revision))
                    self._admin.update_trusted_issuer(issuer, fields)

    def give_secret(self, client_id: str) -> Secret:
        """Rotate the secret of a client that has none, and return it."""
        with _translated():
            return Secret(self._admin.rotate_client_secret(client_id).client_secret)

    def delete(self, found: Found) -> None:
        """Delete the record if it is still as found."""
        etag = str(found.revision)
        with _translated():
            match found.record:
                case Client():
                    self._admin.delete_client(found.record.id, etag=etag)
                case User():
                    self._admin.delete_user(found.record.id, etag=etag)
                case TrustedIssuer():
                    self._admin.delete_trusted_issuer(found.record.id, etag=etag)


def _client(message: pb.Client) -> Found:
    # The API returns no digests; the plan needs only to know whether there are secrets.
    secrets = tuple(StoredSecret(digest=b"") for _ in message.secrets)
    return _found(replace(to_client(message), secrets=secrets), message)


def _user(message: pb.User) -> Found:
    return _found(to_user(message), message)


def _issuer(message: pb.TrustedIssuer) -> Found:
    return _found(to_trusted_issuer(message), message)


def _found(record: Declared, message: Any) -> Found:
    return Found(record=record, revision=Revision.parse(message.etag))


@contextmanager
def _translated() -> Iterator[None]:
    """Raise errors that concern one record as those of the port; leave others, which end the command."""
    try:
        yield
    except sdk.NotFoundError as error:
        raise errors.NotFoundError(str(error)) from error
    except sdk.AlreadyExistsError as error:
        raise errors.AlreadyExistsError(str(error)) from error
    except sdk.AbortedError as error:
        raise errors.StaleEtagError(str(error)) from error
    except sdk.InvalidArgumentError as error:
        found = [errors.FieldViolation(field=f, description=d) for f, d in error.violations.items()]
        raise errors.InvalidRequestError(*found) from error
