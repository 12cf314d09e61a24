"""Administration of clients. The table of methods decides which callers may use it."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from identity_service.domain.audit import AuditEvent, AuditType
from identity_service.domain.errors import InvalidRequestError
from identity_service.domain.log import RecordKind, Revision
from identity_service.domain.origin import NOWHERE, Origin
from identity_service.domain.ports import Clock, PublicKeyChecker
from identity_service.domain.principals import Client, Grant, StoredSecret, normalize_certificate_name
from identity_service.domain.records import Versioned
from identity_service.domain.secret import Secret, new_client_secret, stored
from identity_service.services.admin.checks import check_client
from identity_service.services.admin.records import Changed, Records, require_another, updated

CLIENT_FIELDS: Final = (
    "display_name",
    "grants",
    "audiences",
    "scopes",
    "max_lifetime",
    "on_reuse",
    "disabled",
    "certificates",
    "public_keys",
    "require_binding",
    "exchange_audiences",
    "encryption_key",
)
"""The fields that `Clients.update` can change; secrets are changed by `Clients.rotate_secret`."""

MAX_OVERLAP: Final = timedelta(days=30)
"""The longest time for which old secrets may stay valid after a rotation."""
MAX_SECRETS: Final = 5
"""The number of secrets of one client that may be valid at once."""


@dataclass(frozen=True, slots=True)
class Clients:
    """The use cases that create, find, change and delete clients, and rotate their secrets."""

    records: Records
    keys: PublicKeyChecker
    clock: Clock

    def create(
        self, client: Client, *, no_secret: bool = False, origin: Origin = NOWHERE
    ) -> tuple[Versioned[Client], Secret | None]:
        """Create a client, and return it with its secret, which is stored only as a hash.

        With `no_secret`, it gets no secret, and None is returned for it. Raises InvalidRequestError;
        AlreadyExistsError if the id or one of the certificates is in use.
        """
        now = self.clock.now()
        secret = None if no_secret else new_client_secret()
        made = replace(
            _normalized(client),
            secrets=() if secret is None else (_stored(secret, now),),
            create_time=now,
        )
        check_client(made, self.keys)
        event = AuditEvent.of(AuditType.CLIENT_CREATED, origin, target=made.client_id)
        return self.records.create(made, event), secret

    def get(self, client_id: str) -> Versioned[Client]:
        """Return the client of this id. Raises NotFoundError."""
        return self.records.get(Client, client_id)

    def list(self, *, after: str = "", limit: int = 100) -> Sequence[Versioned[Client]]:
        """Return up to `limit` clients in the order of their ids, beginning after the id `after`."""
        return self.records.list_of(Client, after=after, limit=limit)

    def update(
        self,
        wanted: Client,
        fields: Collection[str],
        *,
        expected: Revision | None = None,
        origin: Origin = NOWHERE,
    ) -> Versioned[Client]:
        """Copy the values of `fields`, a subset of CLIENT_FIELDS, from `wanted` to the client of its id.

        Disabling a client revokes everything that was issued to it or through it, in the same atomic step.

        Raises:
            InvalidRequestError: a value is not valid, or the caller would disable itself.
            NotFoundError: there is no such client.
            StaleEtagError: the client is not at the revision `expected`, or changes too often.
            AlreadyExistsError: another client has one of the certificates.
        """
        wanted = _normalized(wanted)
        values = {name: getattr(wanted, name) for name in fields}

        def decide(client: Client) -> Changed[Client]:
            changed = replace(client, **values)
            check_client(changed, self.keys, before=client)
            return updated(AuditType.CLIENT_UPDATED, client, changed, fields, origin, path="client")

        return self.records.change(Client, wanted.client_id, decide, expected=expected)

    def delete(
        self, client_id: str, *, expected: Revision | None = None, origin: Origin = NOWHERE
    ) -> Revision:
        """Delete a client, and revoke everything that was issued to it or through it.

        Raises InvalidRequestError if the caller would delete itself, NotFoundError, StaleEtagError.
        """
        require_another(client_id, origin, "client_id")
        event = AuditEvent.of(AuditType.CLIENT_DELETED, origin, target=client_id)
        return self.records.delete(RecordKind.CLIENT, client_id, event, expected=expected)

    def rotate_secret(
        self,
        client_id: str,
        *,
        overlap: timedelta = timedelta(0),
        revoke: bool = False,
        expected: Revision | None = None,
        origin: Origin = NOWHERE,
    ) -> tuple[Versioned[Client], Secret]:
        """Add a new secret to a client, and return both; the old secrets expire after `overlap`.

        `overlap` is at most 30 days. With `revoke`, everything that was issued to the client so far is
        revoked.

        Raises InvalidRequestError, NotFoundError, StaleEtagError.
        """
        if not timedelta(0) <= overlap <= MAX_OVERLAP:
            raise InvalidRequestError.of("overlap", "must be from 0 to 30 days")
        secret, now = new_client_secret(), self.clock.now()
        event = AuditEvent.of(
            AuditType.CLIENT_SECRET_ROTATED,
            origin,
            target=client_id,
            overlap_seconds=int(overlap.total_seconds()),
            revoked=revoke,
        )

        def decide(client: Client) -> Changed[Client]:
            if client.is_public and Grant.PASSWORD in client.grants:
                # With a secret, users could no longer sign in through the client without showing the secret.
                raise InvalidRequestError.of("client_id", "is that of a public client, which has no secret")
            kept = _ending(client.secrets, now, overlap)
            if len(kept) >= MAX_SECRETS:
                raise InvalidRequestError.of(
                    "overlap", f"must be 0: the client has {MAX_SECRETS} valid secrets already"
                )
            changed = replace(client, secrets=(_stored(secret, now), *kept))
            return Changed(record=changed, event=event, revoke=revoke)

        return self.records.change(Client, client_id, decide, expected=expected), secret


def _ending(secrets: Sequence[StoredSecret], now: datetime, overlap: timedelta) -> tuple[StoredSecret, ...]:
    """Return the secrets that are still valid, set to expire after the overlap unless they expire earlier."""
    end = now + overlap
    ending = [(secret, min(secret.expire_time or end, end)) for secret in secrets]
    return tuple(replace(secret, expire_time=time) for secret, time in ending if time > now)


def _stored(secret: Secret, now: datetime) -> StoredSecret:
    return replace(stored(secret), create_time=now)


def _normalized(client: Client) -> Client:
    return replace(client, certificates=frozenset(map(normalize_certificate_name, client.certificates)))
