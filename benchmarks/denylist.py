"""Measures the cost of a long denylist: bar S8, and the curve up to it.

There are two services, one with live denials and one without; each is idle while the other is measured.
"""

import contextlib
import secrets
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import redis

from benchmarks import names, redis_server, service
from benchmarks.measure import FAILURES, Bench, Figures, Findings, alternate, reason_of
from benchmarks.processes import BenchmarkError, Cores, on_core
from benchmarks.service import Service
from benchmarks.sides import GrpcSide
from identity_service.adapters.clock import SystemClock
from identity_service.domain.ids import new_token_id
from identity_service.domain.log import TokenDenied
from identity_service.domain.revocations import whole_minute
from identity_service.replication.replica import Replica, ReplicaConfig
from identity_service.storage.redis import RedisStore
from identity_service.telemetry.logs import StructuredEventLog

MILLION: Final = 1_000_000
SIZES: Final = (1_000, 10_000, 100_000, MILLION)
_NAMED: Final = {
    "none": names.DENIALS_NONE,
    "full": names.DENIALS_FULL,
    "bytes": names.DENIAL_BYTES,
    "alone": names.REPLICA_ALONE,
    "cold": names.COLD_START,
}
"""The names of the figures at a million denials, by the name of their side."""
FIGURES: Final = frozenset(_NAMED.values())
_CHUNK: Final = 500
_REWRITE_SECONDS: Final = 120.0
_LIFETIME: Final = timedelta(hours=1)


def trial(bench: Bench) -> Findings:
    """Measure at each size of the curve, or at a million denials alone, whose figures the bar needs."""
    found, rows = Findings(), list[dict[str, Any]]()
    sizes = SIZES if bench.curves else (MILLION,)
    with _serving(bench.root / "denials-0", bench.cores) as empty:
        for size in sizes:
            try:
                at = _at_size(bench, empty, size)
            except FAILURES as error:
                names_of = _NAMED.values() if size == MILLION else [f"Verify, {size:,} denials"]
                found.absent |= dict.fromkeys(names_of, reason_of(error))
                continue
            found.pace += at.pace
            rates = {name: list(figures.values) for name, figures in at.figures.items()}
            rows.append({"denials": size, "verify": rates["full"], "verify_when_empty": rates["none"]})
            if size == MILLION:
                found.figures = {_NAMED[name]: figures for name, figures in at.figures.items()}
    found.details["denylist"] = rows
    return found


def _at_size(bench: Bench, empty: Service, count: int) -> Findings:
    alone = list[float]()

    def fill(url: str) -> None:
        bench.say(f"{count:,} denials are put into the store")
        _fill(url, count)
        _await_rewrite(url)
        alone.append(_replica_seconds(url, bench.cores))

    root = bench.root / f"denials-{count}"
    with _serving(root, bench.cores, fill=fill) as full:
        more = full.process.resident_bytes - empty.process.resident_bytes
        sides = {
            "none": _verify_side("Verify, no denials", empty, root, bench.cores),
            "full": _verify_side(f"Verify, {count:,} denials", full, root, bench.cores),
        }
        found = alternate(sides, bench)
        if found.absent:
            raise BenchmarkError("; ".join(found.absent.values()))
        found.figures |= {
            "bytes": Figures(title="memory of one denial", unit="bytes", values=[more / count]),
            "alone": Figures(title="replica alone, from cold", unit="s", values=alone),
            "cold": Figures(title="service ready, from cold", unit="s", values=[full.running.seconds]),
        }
        return found


@contextlib.contextmanager
def _serving(root: Path, cores: Cores, *, fill: Callable[[str], None] = lambda _: None) -> Iterator[Service]:
    root.mkdir()
    with (
        redis_server.serve(root, cores.load) as url,
        service.serve(root, url, cores, fill=lambda: fill(url)) as running,
    ):
        yield running


def _fill(url: str, count: int) -> None:
    store = RedisStore.connect(url, timeout=10)
    until = datetime.now(UTC) + _LIFETIME
    for _ in range(0, count, _CHUNK):
        facts = [
            TokenDenied(
                token_id=new_token_id(),
                deny_until=whole_minute(until + timedelta(seconds=secrets.randbelow(900))),
            )
            for _ in range(_CHUNK)
        ]
        if store.log.repair(facts).absent != _CHUNK:
            raise BenchmarkError("the store did not take every denial")
    store.close()


def _await_rewrite(url: str) -> None:
    """Wait until Redis has rewritten its file, which the many writes caused: it would use the load's core."""
    deadline = time.monotonic() + _REWRITE_SECONDS
    with redis.Redis.from_url(url) as client:
        while client.info("persistence")["aof_rewrite_in_progress"]:
            if time.monotonic() > deadline:
                raise BenchmarkError("Redis does not end the rewrite of its append-only file")
            time.sleep(0.1)


def _replica_seconds(url: str, cores: Cores) -> float:
    """Return the seconds that an empty replica takes to read the whole log, without a service."""
    store = RedisStore.connect(url, timeout=10)
    replica = Replica(store.log, SystemClock(), StructuredEventLog(), ReplicaConfig())
    with on_core(cores.server):
        begun = time.monotonic()
        replica.load()
        seconds = time.monotonic() - begun
    store.close()
    return seconds


def _verify_side(title: str, running: Service, root: Path, cores: Cores) -> GrpcSide:
    return GrpcSide(
        title=title,
        target=running.target,
        path="/identityapi.v1.IdentityService/Verify",
        request=running.verify_request().SerializeToString(),
        check=service.good_verify,
        body=root / "verify.bin",
        cores=cores,
    )
