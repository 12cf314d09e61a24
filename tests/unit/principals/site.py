"""A store in the state after `identity init`, to which a principals file is applied. Asserts nothing."""

import contextlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from identity_service.adapters.clock import SystemClock
from identity_service.adapters.password_hashing import Argon2Config, Argon2Hasher
from identity_service.composition.wiring import store_administration
from identity_service.domain.audit import AuditFilter
from identity_service.domain.ids import PrincipalId, new_epoch
from identity_service.domain.issuers import IssuerNames
from identity_service.domain.principals import Client, first_party_client
from identity_service.domain.secret import Secret
from identity_service.domain.store import Store
from identity_service.jose.public_keys import StrictKeyChecker
from identity_service.principals.apply import carry_out, plan
from identity_service.principals.file import read_principals
from identity_service.principals.inside import OwnRecords
from identity_service.principals.plan import Declaration, Step
from identity_service.services.admin.administration import Administration
from identity_service.storage.sqlite import SqliteStore


@dataclass(kw_only=True)
class Site:
    """A store, its administration, and the secrets that applying a file has returned."""

    store: Store
    directory: Administration
    records: OwnRecords
    secrets: dict[str, str] = field(default_factory=dict)

    def plan(self, text: str, *, prune: bool = False, caller: str = "") -> tuple[Step, ...]:
        return plan(declared(text), self.records, prune=prune, caller=caller)

    def apply(self, text: str, *, prune: bool = False) -> tuple[Step, ...]:
        steps = self.plan(text, prune=prune)
        carry_out(steps, self.records, self.keep)
        return steps

    def keep(self, client_id: str, secret: Secret) -> None:
        self.secrets[client_id] = secret.reveal()

    def clients(self) -> list[str]:
        return [found.record.client_id for found in self.directory.clients.list()]

    def events(self) -> list[str]:
        """Return the events of the audit trail, the oldest first."""
        found, _ = self.store.audit.list_newest(AuditFilter(), limit=1000)
        return [f"{stored.event.type} {stored.event.target}" for stored in reversed(found)]


def declared(text: str) -> Declaration:
    return read_principals(text.encode(), "p.yaml", StrictKeyChecker())


@contextmanager
def open_site(path: str = ":memory:", *, new: bool = True) -> Iterator[Site]:
    """Open a store on this file; several may be open at once, as in several processes."""
    clock = SystemClock()
    with ExitStack() as cleanup:
        hasher = Argon2Hasher(Argon2Config(time_cost=1, memory_kib=64, parallelism=1, processes=1, queue=1))
        store = cleanup.enter_context(contextlib.closing(SqliteStore.open(path, clock=clock)))
        directory = store_administration(store.records, hasher, clock, IssuerNames("own"))
        if new:
            store.initialise(new_epoch())
            store.records.create(first_party_client())
            directory.clients.create(Client(client_id=PrincipalId("admin")))
        yield Site(store=store, directory=directory, records=OwnRecords(directory))
