"""The settings of the store: where it is, what it must confirm, and how many audit events it keeps."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from identity_service.config.values import Durability, Duration, StoreUrl, whole, within


class StoreSettings(BaseModel):
    """The store, and how fresh the copy of its log must be; a part of `Settings`."""

    store: StoreUrl = Field(
        "sqlite:///var/identity.db",
        repr=False,  # may hold the password of Redis
        description="URL: sqlite:///path, redis://, redis+sentinel://, redis+cluster://; rediss for TLS",
    )
    durability: Durability = Field(
        "local",
        description="what must confirm a write before it is acknowledged: unsynced, local or replicas:N",
    )
    allow_unsafe_redis: bool = Field(default=False, description="accept a Redis that may evict keys")
    redis_config_unchecked: bool = Field(
        default=False,
        description="accept a Redis that refuses CONFIG GET or INFO; ensure its configuration yourself",
    )
    heartbeat_interval: Annotated[Duration, within("10ms", "1m")] = Field(
        timedelta(milliseconds=500), description="time between heartbeats to the store; 10ms to 1m"
    )
    max_staleness: Annotated[Duration, within("50ms", "1h")] = Field(
        timedelta(seconds=5),
        description="time since the last confirmed heartbeat after which calls are UNAVAILABLE; 50ms to 1h, "
        "more than two heartbeat_interval",
    )
    on_stale: Literal["refuse", "serve"] = Field("refuse", description="what Verify does after max_staleness")
    audit_entries: int = whole(100_000, 1000, 100_000_000, "audit events of changes that the store keeps")
    audit_traffic: Literal["log", "store"] = Field(
        "log",
        description="where audit events of traffic go (tokens issued, calls refused); store = there as well",
    )
    audit_traffic_entries: int = whole(
        100_000, 1000, 100_000_000, "audit events of traffic that the store keeps"
    )
    audit_burst: int = whole(
        1000,
        1,
        1_000_000,
        "successful calls of one address and type in 10s that are audited one by one, the rest as a number",
    )
    audit_queue: int = whole(10_000, 100, 1_000_000, "audit events that may wait for the store")

    def _wrong_store(self) -> Iterator[str]:
        """Report each invalid combination of these settings."""
        if self.max_staleness <= 2 * self.heartbeat_interval:
            yield "max_staleness: must be longer than two times heartbeat_interval"
        if self.durability.startswith("replicas:") and self.store.startswith("sqlite:"):
            yield "durability: replicas:N needs Redis; an embedded store has none"
