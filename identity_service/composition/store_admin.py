"""Opens a store for the command line, which administers it without a server process."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from identity_service.adapters.clock import SystemClock
from identity_service.adapters.password_hashing import end_processes
from identity_service.composition.opening import key_policy, open_hasher, open_store, open_vault
from identity_service.composition.wiring import store_administration
from identity_service.domain.ports import Clock
from identity_service.domain.store import Store
from identity_service.services.admin.administration import Administration
from identity_service.services.setup import Initialised, initialise
from identity_service.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreAdmin:
    """The parts with which the command line administers a store directly, without a server process."""

    settings: Settings
    store: Store
    administrator: Administration
    clock: Clock

    def initialise(self) -> Initialised:
        """Initialise the store; see `services/setup.py` for the result and the errors."""
        return initialise(
            self.store,
            open_vault(self.settings),
            self.administrator,
            self.clock,
            algorithm=self.settings.algorithm,
            service_audience=self.settings.service_audience,
            policy=key_policy(self.settings),
        )


@contextmanager
def open_store_admin(settings: Settings) -> Iterator[StoreAdmin]:
    """Open the store for administration, and close it at the end of the block.

    Raises StoreUnavailableError, ConfigurationError.
    """
    clock = SystemClock()
    store = open_store(settings, clock)
    hasher = open_hasher(settings)
    try:
        yield StoreAdmin(
            settings=settings,
            store=store,
            administrator=store_administration(store.records, hasher, clock, settings.issuer_names),
            clock=clock,
        )
    finally:
        store.close()
        end_processes()
