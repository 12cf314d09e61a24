"""Compares the records of a backup with those of the store that a restore replaces.

The result names the access that the restore makes possible again, so that the operator knows which principals
to disable and which credentials to rotate.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from identity_service.domain.copying import CopiedRecord, RecordDeleted
from identity_service.domain.issuers import TrustedIssuer
from identity_service.domain.log import RecordKind
from identity_service.domain.principals import Client, User
from identity_service.domain.store import RecordStore, all_records

NAMED: Final = 20
"""The number of things of each kind that are named; the others are only counted."""
_Principal = tuple[RecordKind, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """The names of the first 20 things of one kind, and the number of all."""

    names: Sequence[str]
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Regained:
    """The access that the restored store allows and the replaced store did not."""

    enabled: Named
    """Principals that were disabled or deleted after the backup, and are enabled again."""
    passwords: Named
    """Users whose password was changed after the backup."""
    credentials: Named
    """Clients whose secrets, certificates or public keys were changed after the backup."""
    permissions: Named
    """Principals whose audiences, scopes or grants were changed after the backup."""
    issuers: Named
    """Trusted issuers that were removed or changed after the backup."""


@dataclass(frozen=True, slots=True)
class _Known:
    """A principal's record, reduced to hashes so that a million of them fit into memory."""

    name: str
    is_enabled: bool
    credentials: int
    permissions: int


class BackupRecords:
    """The principals and trusted issuers of a backup, as they are once all of its items have been read."""

    def __init__(self) -> None:
        self._principals: dict[_Principal, _Known] = {}
        self._issuers: dict[str, int] = {}

    def add(self, item: CopiedRecord | RecordDeleted) -> None:
        """Add one item of the backup; a later item of a record replaces an earlier one."""
        match item:
            case RecordDeleted(kind=RecordKind.ISSUER, id=id_):
                self._issuers.pop(id_, None)
            case RecordDeleted(kind=kind, id=id_):
                self._principals.pop((kind, id_), None)
            case CopiedRecord(record=Client() as client):
                self._principals[RecordKind.CLIENT, client.client_id] = _client(client)
            case CopiedRecord(record=User() as user):
                self._principals[RecordKind.USER, user.user_id] = _user(user)
            case CopiedRecord(record=TrustedIssuer() as issuer):
                self._issuers[issuer.issuer] = _issuer(issuer)
            case CopiedRecord():
                pass  # a key, which is not a credential

    def regained_over(self, records: RecordStore) -> Regained:
        """Compare the backup with the store that is about to be replaced.

        Raises UnavailableError if the store cannot be read.
        """
        enabled, passwords, credentials, permissions = (list[str]() for _ in range(4))

        def compare(backup: _Known | None, now: _Known, proofs: list[str]) -> None:
            """Note in which respects the backup's record of a principal differs; None = it has none."""
            if backup is None:
                return
            if backup.is_enabled and not now.is_enabled:
                enabled.append(backup.name)
            if backup.credentials != now.credentials:
                proofs.append(backup.name)
            if backup.permissions != now.permissions:
                permissions.append(backup.name)

        principals, issuers = dict(self._principals), dict(self._issuers)
        for client in all_records(records, Client):
            key = (RecordKind.CLIENT, str(client.record.client_id))
            compare(principals.pop(key, None), _client(client.record), credentials)
        for user in all_records(records, User):
            key = (RecordKind.USER, str(user.record.user_id))
            compare(principals.pop(key, None), _user(user.record), passwords)
        for issuer in all_records(records, TrustedIssuer):
            if issuers.get(issuer.record.issuer) == _issuer(issuer.record):
                del issuers[issuer.record.issuer]
        # The principals that are still unmatched were deleted after the backup. The issuers that
        # are still here were deleted or changed.
        enabled += [known.name for known in principals.values() if known.is_enabled]
        return Regained(
            enabled=_named(enabled),
            passwords=_named(passwords),
            credentials=_named(credentials),
            permissions=_named(permissions),
            issuers=_named(list(issuers)),
        )


def _client(client: Client) -> _Known:
    secrets = tuple(secret.digest for secret in client.secrets)
    return _Known(
        name=f"client {client.client_id}",
        is_enabled=not client.disabled,
        credentials=hash((secrets, client.certificates, client.public_keys)),
        permissions=hash((client.audiences, client.scopes, client.grants, client.exchange_audiences)),
    )


def _user(user: User) -> _Known:
    return _Known(
        name=f"user {user.username} ({user.user_id})",
        is_enabled=not user.disabled,
        credentials=hash(user.password_hash),
        permissions=hash((user.audiences, user.scopes)),
    )


def _issuer(issuer: TrustedIssuer) -> int:
    rules = tuple(
        (tuple(sorted(rule.claims.items())), rule.client_id, rule.per_subject) for rule in issuer.rules
    )
    sources = issuer.jwks_uri, issuer.jwks_file, issuer.jwks
    return hash((sources, issuer.audiences, issuer.algorithms, rules, issuer.single_use, issuer.max_age))


def _named(names: list[str]) -> Named:
    return Named(names=sorted(names)[:NAMED], count=len(names))
