"""The metrics of what the service does and has: tokens, revocations, caches, keys, threads and passwords."""

from collections import Counter
from collections.abc import Iterator
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

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


def tokens(counts: VerifyCounts, verifier: Verifier[bytes], trail: StoredTrail) -> Iterator[Metric]:
    """Yield the tokens that were issued, verified, rejected and revoked."""
    yield from _verified(counts, verifier)
    events = trail.counts
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


def _verified(counts: VerifyCounts, verifier: Verifier[bytes]) -> Iterator[Metric]:
    recalled, verified = counts.recalled.value, counts.verified.value
    rejected = {reason.value: counter.value for reason, counter in counts.rejected.items()}
    yield CounterMetricFamily(
        "identity_tokens_verified", "Tokens that Verify and VerifyBatch found valid.", recalled + verified
    )
    yield counter_by(
        "identity_tokens_rejected",
        "Tokens that Verify and VerifyBatch rejected, by reason.",
        "reason",
        rejected,
    )
    hits = {"responses": recalled, "tokens": verifier.cache_hits.value}
    misses = {"responses": verified + sum(rejected.values()), "tokens": verifier.cache_misses.value}
    yield counter_by("identity_cache_hits", "Look-ups that a cache answered.", "cache", hits)
    yield counter_by("identity_cache_misses", "Look-ups that a cache did not answer.", "cache", misses)


def load(pools: Pools, hasher: Argon2Hasher) -> Iterator[Metric]:
    """Yield the threads and the password hashes that are busy or awaited."""
    by_name = {"memory": pools.memory, "work": pools.work}
    busy = {name: pool.busy for name, pool in by_name.items()}
    waiting = {name: pool.waiting for name, pool in by_name.items()}
    yield gauge_by("identity_threads_busy", "Threads that run a call.", "pool", busy)
    yield gauge_by("identity_calls_waiting", "Calls that wait for a thread.", "pool", waiting)
    yield GaugeMetricFamily(
        "identity_passwords_open", "Passwords that are hashed, or wait for that, now.", hasher.open
    )
    yield CounterMetricFamily(
        "identity_passwords_refused",
        "Passwords that were not hashed, because the queue was full.",
        hasher.refused,
    )


def keys(ring: KeyRing, clock: Clock) -> Iterator[Metric]:
    """Yield the keys of the service, and the ages of those in use."""
    listed, now = ring.listed(), clock.now()
    ages = {
        key.purpose.value: (now - key.activate_time).total_seconds()
        for key in listed
        if key.state is KeyState.SIGNING
    }
    yield gauge_by("identity_key_age_seconds", "Seconds since the key in use came into use.", "purpose", ages)
    numbers = Counter((key.purpose, key.state) for key in listed)
    held = GaugeMetricFamily("identity_keys", "Keys that this process holds.", labels=["purpose", "state"])
    for purpose in KeyPurpose:
        for state in KeyState:
            held.add_metric([purpose.value, state.value], numbers[purpose, state])
    yield held
