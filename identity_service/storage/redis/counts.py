"""Counters in Redis that are forgotten after a while: a storage for the library `limits`.

Its own storages would open connections that know neither our Sentinels nor our checks. Losing counts in a
failover does no harm, so nothing is waited for.
"""

import time

from limits.storage import Storage

from identity_service.domain.errors import StoreUnavailableError
from identity_service.storage.redis import keyspace as keys
from identity_service.storage.redis.connection import Connection


class RedisCounts(Storage):
    """Counts of all processes together. Raises StoreUnavailableError where Redis cannot be asked."""

    STORAGE_SCHEME = None

    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self._connection = connection

    @property
    def base_exceptions(self) -> type[Exception]:
        return StoreUnavailableError

    def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        return int(self._connection.run("count", [keys.count(key)], [amount, round(expiry)]))

    def get(self, key: str) -> int:
        return int(self._connection.command("GET", keys.count(key)) or 0)

    def get_expiry(self, key: str) -> float:
        return time.time() + max(0, int(self._connection.command("PTTL", keys.count(key)))) / 1000

    def check(self) -> bool:
        self.get("check")
        return True

    def clear(self, key: str) -> None:
        self._connection.command("DEL", keys.count(key))

    def reset(self) -> None:
        raise NotImplementedError("the counts of one key are cleared, never all")
