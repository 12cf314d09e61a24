"""The store on Redis; see `store.py`. The only importer of `redis`."""

from identity_service.storage.redis.store import RedisStore

__all__ = ["RedisStore"]
