"""Opens what the settings name: the store, the vault of keys, the hasher of passwords."""

from collections.abc import Sequence

from identity_service.clock import AnchoredClock, SystemClock
from identity_service.domain.errors import ConfigurationError
from identity_service.domain.ports import Clock, Journal
from identity_service.domain.store import Store
from identity_service.jose.sealing import Sealer
from identity_service.jose.vault import Vault
from identity_service.limiting import LimitsCounter
from identity_service.passwords import Argon2Config, Argon2Hasher
from identity_service.settings import Settings
from identity_service.storage.redis import RedisStore
from identity_service.storage.redis.checks import Demands, Finding
from identity_service.storage.sqlite import SqliteStore


def open_store(settings: Settings, clock: Clock, journal: Journal | None = None) -> Store:
    """The store of the settings' URL. Raises StoreUnavailableError, ConfigurationError.

    With a journal, no server is used that cannot give what the settings promise, and the journal says so.
    """
    scheme, _, rest = settings.store.partition("://")
    if scheme == "sqlite":
        # The embedded store's clock is the process's own as it was at start: see AnchoredClock.
        return SqliteStore.open(rest.removeprefix("/"), clock=AnchoredClock(clock))
    if scheme.startswith("redis"):
        demands = _demands(settings, insist=journal is not None)
        return RedisStore.connect(settings.store, demands=demands, wall_clock=clock, journal=journal)
    raise ConfigurationError(f"store: the scheme {scheme!r} is not offered; use sqlite:/// or redis://")


def _demands(settings: Settings, *, insist: bool) -> Demands:
    return Demands(
        durability=settings.durability,
        allow_unsafe=settings.allow_unsafe_redis,
        max_staleness=settings.max_staleness,
        leeway=settings.leeway,
        insist=insist,
    )


def open_vault(settings: Settings) -> Vault:
    """What makes and opens keys. Raises ConfigurationError: no master key, or a short one."""
    return Vault(Sealer(settings.read_master_key()))


def check_store(settings: Settings) -> Sequence[Finding]:
    """What in the store's set-up goes against the settings; an embedded store has nothing to set up."""
    if settings.store.startswith("sqlite:"):
        return ()
    demands = _demands(settings, insist=False)
    store = RedisStore.connect(settings.store, demands=demands, wall_clock=SystemClock())
    try:
        return store.check_all(demands)
    finally:
        store.close()


def open_counter(store: Store) -> LimitsCounter:
    """Where failed attempts at passwords are counted: for all processes where they share a Redis."""
    return LimitsCounter(store.counts()) if isinstance(store, RedisStore) else LimitsCounter.in_memory()


def open_hasher(settings: Settings) -> Argon2Hasher:
    return Argon2Hasher(
        Argon2Config(
            time_cost=settings.argon2_time_cost,
            memory_kib=settings.argon2_memory_kib,
            parallelism=settings.argon2_parallelism,
            threads=settings.password_threads,
            queue=settings.password_queue,
        )
    )
