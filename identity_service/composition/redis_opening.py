"""Opens and checks a store on Redis. Only processes on Redis import it, since it loads the Redis client."""

from collections.abc import Sequence

from identity_service.adapters.clock import SystemClock
from identity_service.domain.ports import Clock, EventLog
from identity_service.domain.store import Store
from identity_service.settings import Settings
from identity_service.storage.redis import RedisStore
from identity_service.storage.redis.client.server_checks import Demands, Finding


def open_redis(
    settings: Settings, clock: Clock, event_log: EventLog | None, *, may_be_damaged: bool
) -> Store:
    """Open the store at the settings' URL; see `opening.open_store`."""
    return RedisStore.connect(
        settings.store,
        demands=_demands(settings, insist=event_log is not None),
        wall_clock=clock,
        event_log=event_log,
        audit_entries=settings.audit_entries,
        audit_traffic_entries=settings.audit_traffic_entries,
        may_be_damaged=may_be_damaged,
    )


def check_redis(settings: Settings) -> Sequence[Finding]:
    """Return the conflicts of the servers' configuration with the settings; see `checks.check_store`."""
    demands = _demands(settings, insist=False)
    store = RedisStore.connect(settings.store, demands=demands, wall_clock=SystemClock(), may_be_damaged=True)
    try:
        return store.check(demands)
    finally:
        store.close()


def _demands(settings: Settings, *, insist: bool) -> Demands:
    return Demands(
        durability=settings.durability,
        allow_unsafe=settings.allow_unsafe_redis,
        config_unchecked=settings.redis_config_unchecked,
        max_staleness=settings.max_staleness,
        leeway=settings.leeway,
        insist=insist,
    )
