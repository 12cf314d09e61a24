"""Collectors of what the service does and has: tokens, revocations, caches, keys, threads and passwords."""

from collections import Counter
from collections.abc import Iterator
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from identity_service.adapters.password_hashing import Argon2Hasher
from identity_service.domain.audit import AuditType
from identity_service.domain.keys import KeyPurpose, KeyState
from identity_service.domain.ports import Clock
from identity_service.grpc_api.threads import Pools
from identity_service.grpc_api.verify import VerifyCounts
from identity_service.services.audit import StoredTrail
from identity_service.services.keyring import KeyRing
from identity_service.services.verify import Verifier
from identity_service.telemetry.collectors import counter_by, gauge_by

_ISSUED: Final = {
    AuditType.TOKEN_ISSUED: "client",
    AuditType.SESSION_STARTED: "sign_in",
    AuditType.SESSION_REFRESHED: "refresh",
    AuditType.TOKEN_EXCHANGED: "exchange",
}
_REVOKED: Final = {
    AuditType.TOKEN_REVOKED: "token",
    AuditType.SESSION_REVOKED: "session",
    AuditType.PRINCIPAL_REVOKED: "principal",
    AuditType.REFRESH_TOKEN_REUSED: "reuse",
}
_REFUSED: Final = {
    AuditType.ISSUE_REFUSED: "issue",
    AuditType.REFRESH_REFUSED: "refresh",
    AuditType.CALL_REFUSED: "call",
}


class TokensCollector(Collector):
    """A collector of the tokens that were issued, verified, rejected and revoked."""

    def __init__(self, counts: VerifyCounts, verifier: Verifier[bytes], trail: StoredTrail) -> None:
        self._counts = counts
        self._verifier = verifier
        self._trail = trail

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics in prometheus_client's form."""
        yield from self._verified()
        events = self._trail.counts
        yield counter_by(
            "identity_tokens_issued",
            "Access tokens that were issued, by kind of grant.",
            "kind",
            {kind: events.get((type_, ""), 0) for type_, kind in _ISSUED.items()},
        )
        yield counter_by(
            "identity_revocations",
            "Revocations that this process has made durable, by kind.",
            "kind",
            {kind: events.get((type_, ""), 0) for type_, kind in _REVOKED.items()},
        )
        refused = CounterMetricFamily(
            "identity_refusals",
            "Calls whose credential or caller was refused, by reason.",
            labels=["call", "reason"],
        )
        for (type_, reason), number in events.items():
            if type_ in _REFUSED:
                refused.add_metric([_REFUSED[type_], reason], number)
        yield refused

    def _verified(self) -> Iterator[Metric]:
        recalled, verified = self._counts.recalled.value, self._counts.verified.value
        rejected = {reason.value: counter.value for reason, counter in self._counts.rejected.items()}
        yield CounterMetricFamily(
            "identity_tokens_verified", "Tokens that Verify and VerifyBatch found valid.", recalled + verified
        )
        yield counter_by(
            "identity_tokens_rejected",
            "Tokens that Verify and VerifyBatch rejected, by reason.",
            "reason",
            rejected,
        )
        hits = {"responses": recalled, "tokens": self._verifier.cache_hits.value}
        misses = {
            "responses": verified + sum(rejected.values()),
            "tokens": self._verifier.cache_misses.value,
        }
        yield counter_by("identity_cache_hits", "Look-ups that a cache answered.", "cache", hits)
        yield counter_by("identity_cache_misses", "Look-ups that a cache did not answer.", "cache", misses)


class LoadCollector(Collector):
    """A collector of the threads and the password hashes that are busy or awaited."""

    def __init__(self, pools: Pools, hasher: Argon2Hasher) -> None:
        self._pools = {"memory": pools.memory, "work": pools.work}
        self._hasher = hasher

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics in prometheus_client's form."""
        busy = {name: pool.busy for name, pool in self._pools.items()}
        waiting = {name: pool.waiting for name, pool in self._pools.items()}
        yield gauge_by("identity_threads_busy", "Threads that run a call.", "pool", busy)
        yield gauge_by("identity_calls_waiting", "Calls that wait for a thread.", "pool", waiting)
        yield GaugeMetricFamily(
            "identity_passwords_open",
            "Passwords that are hashed, or wait for that, now.",
            self._hasher.open,
        )
        yield CounterMetricFamily(
            "identity_passwords_refused",
            "Passwords that were not hashed, because the queue was full.",
            self._hasher.refused,
        )


class KeysCollector(Collector):
    """A collector of the keys of the service."""

    def __init__(self, keys: KeyRing, clock: Clock) -> None:
        self._keys = keys
        self._clock = clock

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics in prometheus_client's form."""
        keys, now = self._keys.listed(), self._clock.now()
        ages = {
            key.purpose.value: (now - key.activate_time).total_seconds()
            for key in keys
            if key.state is KeyState.SIGNING
        }
        yield gauge_by(
            "identity_key_age_seconds", "Seconds since the key in use came into use.", "purpose", ages
        )
        numbers = Counter((key.purpose, key.state) for key in keys)
        held = GaugeMetricFamily(
            "identity_keys", "Keys that this process holds.", labels=["purpose", "state"]
        )
        for purpose in KeyPurpose:
            for state in KeyState:
                held.add_metric([purpose.value, state.value], numbers[purpose, state])
        yield held
