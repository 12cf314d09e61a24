"""Wires backup, restore and migration: opens the stores, the file and the keys for each of them."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Final

from identity_service.adapters.clock import SystemClock
from identity_service.composition.checks import store_file, store_name
from identity_service.composition.opening import key_policy, open_sealer, open_store, open_vault
from identity_service.domain.errors import ConfigurationError, StoreDamagedError
from identity_service.domain.ports import Clock
from identity_service.domain.store import Store
from identity_service.services.backup import BackedUp, back_up
from identity_service.services.migrate import Migration, Place
from identity_service.services.restore import Restore, RestoreConfig, require_openable
from identity_service.settings import Settings
from identity_service.storage.backup_file import NewBackup, OpenBackup
from identity_service.storage.sqlite.database import MEMORY
from identity_service.storage.upgrade import WATCHED, require_stopped

_SQLITE: Final = "sqlite:///"
_HEARTBEATS: Final = 4
"""A process counts as stopped if it wrote no heartbeat for this many intervals."""


def make_backup(settings: Settings, path: Path) -> BackedUp:
    """Write a backup of the store that the settings name; see `services/backup.py`.

    Raises ConfigurationError, StoreUnavailableError.
    """
    _require_existing(settings)
    writer, version = NewBackup(path, open_sealer(settings)), metadata.version("identity-service")
    vault = open_vault(settings)
    with _opened(settings, SystemClock()) as store:
        return back_up(
            store.copying,
            writer,
            check_key=lambda key: require_openable(vault, key),
            issuer=settings.issuer,
            version=version,
        )


@contextmanager
def opened_restore(settings: Settings, path: Path) -> Iterator[Restore]:
    """Open a backup, and the store that the settings name, into which it is restored.

    Raises ConfigurationError, StoreUnavailableError.
    """
    _require_lasting(settings)
    clock = SystemClock()
    with (
        OpenBackup.open(path, open_sealer(settings)) as reader,
        _opened(settings, clock, may_be_damaged=True) as store,
    ):
        watched = max(WATCHED, _HEARTBEATS * settings.heartbeat_interval.total_seconds())
        yield Restore(
            store,
            reader,
            open_vault(settings),
            clock,
            RestoreConfig(algorithm=settings.algorithm, policy=key_policy(settings)),
            lambda: require_stopped(lambda: _heartbeats(store), _still_runs, watched=watched),
        )


@contextmanager
def opened_migration(source: Settings, target: Settings) -> Iterator[Migration]:
    """Open two stores, to copy `source` into `target`. Raises ConfigurationError, StoreUnavailableError."""
    _require_existing(source)
    _require_lasting(target)
    clock = SystemClock()
    with _opened(source, clock) as from_, _opened(target, clock) as to:
        yield Migration(
            Place(store=from_, url=store_name(source)), Place(store=to, url=store_name(target)), clock
        )


def _require_lasting(settings: Settings) -> None:
    """Raise ConfigurationError if the store is in memory and would be lost when the command ends."""
    if settings.store.removeprefix(_SQLITE) == MEMORY:
        raise ConfigurationError(
            f"the store {settings.store} is in memory, and is lost with this process: name a file, as in "
            f"{_SQLITE}identity.db, or a Redis"
        )


def _require_existing(settings: Settings) -> None:
    """Raise ConfigurationError if an embedded store has no file yet: opening it would create the file."""
    path = store_file(settings)
    if path is not None and not path.exists():
        raise ConfigurationError(f"there is no store at {path.absolute()}: check the URL {settings.store}")


@contextmanager
def _opened(settings: Settings, clock: Clock, *, may_be_damaged: bool = False) -> Iterator[Store]:
    store = open_store(settings, clock, may_be_damaged=may_be_damaged)
    try:
        yield store
    finally:
        store.close()


def _heartbeats(store: Store) -> dict[str, object]:
    """Return the last heartbeat of each process.

    It is empty if the store is damaged: then no process can write a heartbeat.
    """
    try:
        return {heartbeat.process: heartbeat.time for heartbeat in store.log.heartbeats()}
    except StoreDamagedError:
        return {}


def _still_runs(process: str) -> str:
    return (
        f"the process {process} serves from this store: its heartbeats arrive. Stop every process of the "
        "service that uses the store (`identity doctor` lists them), then run this again; nothing was changed"
    )
