"""The store on Redis; see `store.py`. Only this package imports `redis`."""

from identity_service.storage.redis.store import RedisStore

__all__ = ["RedisStore"]
