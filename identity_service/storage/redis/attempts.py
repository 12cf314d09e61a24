"""Counts of failed attempts at credentials, kept in Redis and shared by all processes.

No write waits for a confirmation: losing counts in a failover does no harm.
"""

import secrets
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import Any

from identity_service.domain.attempts import (
    CLAIM_LIFETIME,
    MAX_COUNTERS,
    AllClaimsInUse,
    Claim,
    Limit,
    Paused,
    Verdict,
)
from identity_service.storage.redis import keyspace as keys
from identity_service.storage.redis.client.connection import RedisConnection
from identity_service.storage.redis.keyspace import Writer


class RedisAttempts:
    """The counters of failed attempts in Redis, implementing the port `AttemptCounter`.

    All times are those of the server's clock.
    """

    def __init__(self, connection: RedisConnection, writer: Writer, *, kept: int = MAX_COUNTERS) -> None:
        """Create counters whose scripts run on this connection.

        Args:
            connection: the client of the store.
            writer: supplies the time, if a test injects a clock.
            kept: the largest number of counters with failures; beyond it the one whose window ends first is
                deleted.
        """
        self._connection = connection
        self._writer = writer
        self._kept = kept

    def claim(self, limits: Sequence[Limit]) -> Claim | Paused | AllClaimsInUse:
        """Claim an attempt under all of these limits, in one step of the server."""
        name = secrets.token_hex(8)
        match self._run("claim", name, limits, [0] * len(limits)):
            case ["claimed", *failed]:
                return Claim(settle=partial(self._settle, name, limits, [int(number) for number in failed]))
            case ["paused", left]:
                return Paused(left=timedelta(seconds=float(left)))
            case _:
                return AllClaimsInUse()

    def _settle(self, name: str, limits: Sequence[Limit], failed: Sequence[int], verdict: Verdict) -> None:
        """End a claim with its verdict."""
        self._run(verdict.value, name, limits, failed)

    def _run(self, step: str, name: str, limits: Sequence[Limit], failed: Sequence[int]) -> Any:
        """Carry out one step of an attempt; see `lua/attempt.lua`."""
        words: list[str | int] = [self._writer.now(), step, name, _seconds(CLAIM_LIFETIME), self._kept]
        for limit, number in zip(limits, failed, strict=True):
            policy = limit.policy
            words += [
                policy.free,
                _seconds(policy.lockout),
                _seconds(policy.window),
                int(policy.forgive),
                number,
            ]
        named = [keys.ATTEMPTS, *(keys.attempt(limit.key) for limit in limits)]
        return self._connection.run("attempt", named, words)


def _seconds(time: timedelta) -> str:
    return f"{time.total_seconds():.6f}"
