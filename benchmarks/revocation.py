"""What revocation costs and how fast it spreads: bars B8 and B9. `python -m benchmarks.revocation`.

A million live denials: memory, cold start, Verify beside a service without any, each idle while the
other is measured. Then the time from Revoke's return until every process refuses and every watcher has
heard of it.
"""

import argparse
import asyncio
import contextlib
import json
import secrets
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import grpc
import grpc.aio
import redis

from benchmarks import h2load, redis_server, service
from benchmarks.measure import alternate
from benchmarks.processes import BenchmarkError, Cores, on_core
from benchmarks.service import Service
from benchmarks.sides import GrpcSide
from identity_service.clock import SystemClock
from identity_service.domain.ids import new_token_id
from identity_service.domain.log import TokenDenied
from identity_service.logs import LogJournal
from identity_service.storage.redis import RedisStore
from identity_service.storage.replica import Replica, ReplicaConfig
from identityapi.v1 import identity_service_pb2 as pb
from identityapi.v1 import identity_service_pb2_grpc as pb_grpc
from identityapi.v1 import trust_service_pb2 as trust_pb
from identityapi.v1 import trust_service_pb2_grpc as trust_grpc

_CHUNK: Final = 500
_ROUNDS: Final = 7
_REWRITE_SECONDS: Final = 120.0
_LIFETIME: Final = timedelta(hours=1)
_REVOCATIONS: Final = 100
_CONNECTIONS: Final = 20
"""That watchers share, as they do in a mesh."""


def main() -> int:
    """Measure, print, and say whether the bars are met."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.revocation")
    parser.add_argument("--denials", type=int, default=1_000_000)
    parser.add_argument("--watchers", type=int, nargs="*", default=[0, 50, 1000])
    parser.add_argument("--rounds", type=int, default=_ROUNDS)
    arguments = parser.parse_args()
    h2load.require()
    cores, found = Cores.choose(), dict[str, Any]()
    with tempfile.TemporaryDirectory(prefix="identity-bench-") as directory:
        root = Path(directory)
        if arguments.denials:
            found["denylist"] = measure_denylist(root, cores, arguments.denials, arguments.rounds)
        for count in arguments.watchers:
            found[f"{count} watchers"] = measure_spread(root / f"w{count}", cores, count)
    print(json.dumps(found, indent=2))
    return 0


def measure_denylist(root: Path, cores: Cores, count: int, rounds: int) -> Mapping[str, float]:
    """Two services, one with `count` live denials and one without; the ratio is the median of the rounds'."""
    alone = list[float]()

    def fill(url: str) -> None:
        _say(f"{count:,} denials are put into the store")
        _fill(url, count)
        _await_rewrite(url)
        alone.append(_replica_seconds(url, cores))

    with _serving(root / "none", cores) as empty, _serving(root / "many", cores, fill=fill) as full:
        memory = (full.process.resident_bytes - empty.process.resident_bytes) / count
        sides = {
            name: _verify_side(name, running, root, cores)
            for name, running in (("empty", empty), ("full", full))
        }
        figures = alternate(sides, rounds=rounds, seconds=2, progress=_say)
        pairs = zip(figures["full"].samples, figures["empty"].samples, strict=True)
        ratios = [full.rate / empty.rate for full, empty in pairs]
        return {
            "denials": count,
            "bytes_each": round(memory, 1),
            "replica_alone_seconds": round(alone[0], 2),
            "cold_start_seconds": round(full.started, 2),
            "cold_start_seconds_when_empty": round(empty.started, 2),
            "verify_per_second": round(figures["full"].rate),
            "verify_per_second_when_empty": round(figures["empty"].rate),
            "ratio": round(statistics.median(ratios), 3),
            "ratio_lowest": round(min(ratios), 3),
            "ratio_highest": round(max(ratios), 3),
        }


def measure_spread(root: Path, cores: Cores, watchers: int) -> Mapping[str, float]:
    """Revoke on one process; watch both, and ask the other."""
    with _serving(root, cores, second=True) as running:
        before = running.process.resident_bytes
        tokens = [running.access_token() for _ in range(_REVOCATIONS)]
        heard, refused, held = asyncio.run(_spread(running, watchers, tokens))
        found = {f"other_process_refuses_{k}": v for k, v in _quantiles(refused).items()}
        if watchers:
            found |= {f"watcher_hears_{k}": v for k, v in _quantiles(heard).items()}
            found["kib_each_watcher"] = round((held - before) / (watchers / 2) / 1024, 1)
        return found


class _Watchers:
    """Streams that note when they hear of which token id."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.arrivals: dict[str, list[float]] = {}
        self.ready = asyncio.Event()
        self._open = 0

    async def watch(self, channel: grpc.aio.Channel) -> None:
        """Read one stream for ever."""
        known = False
        async for message in trust_grpc.TrustServiceStub(channel).Watch(trust_pb.WatchRequest()):
            now = time.monotonic()
            if message.revision and not known:
                known, self._open = True, self._open + 1
                if self._open == self.count:
                    self.ready.set()
            for revocation in message.revocations:
                self.arrivals.setdefault(revocation.denied_token.token_id, []).append(now)

    async def heard(self, token_id: str) -> list[float]:
        """When each of them heard of it."""
        while len(self.arrivals.get(token_id, ())) < self.count:
            await asyncio.sleep(0.001)
        return self.arrivals.pop(token_id, [])


async def _spread(
    running: Service, count: int, tokens: Sequence[str]
) -> tuple[list[float], list[float], int]:
    """Milliseconds until each watcher heard, until the other process refused; the server's memory then."""
    watchers = _Watchers(count)
    async with contextlib.AsyncExitStack() as stack:
        channels = [
            await stack.enter_async_context(
                grpc.aio.insecure_channel(target, options=[("grpc.use_local_subchannel_pool", 1)])
            )
            for target in running.targets
            for _ in range(_CONNECTIONS)
        ]
        tasks = [asyncio.create_task(watchers.watch(channels[i % len(channels)])) for i in range(count)]
        if count:
            await asyncio.wait_for(watchers.ready.wait(), 60)
        held = running.process.resident_bytes
        one, two = (pb_grpc.IdentityServiceStub(channels[i]) for i in (0, _CONNECTIONS))
        heard, refused = list[float](), list[float]()
        for token in tokens:
            answer = await one.Verify(pb.VerifyRequest(token=token, any_audience=True))
            await one.Revoke(pb.RevokeRequest(token=token))
            begun = time.monotonic()
            refused.append((await _refused(two, token) - begun) * 1000)
            heard += [max(0.0, (at - begun) * 1000) for at in await watchers.heard(answer.verified.token_id)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return heard, refused, held


async def _refused(stub: Any, token: str) -> float:
    """When the call was made that first rejected the token."""
    while True:
        asked = time.monotonic()
        answer = await stub.Verify(pb.VerifyRequest(token=token, any_audience=True))
        if answer.WhichOneof("outcome") == "rejected":
            return asked


@contextlib.contextmanager
def _serving(
    root: Path, cores: Cores, *, fill: Callable[[str], None] = lambda _: None, second: bool = False
) -> Iterator[Service]:
    root.mkdir(parents=True)
    with (
        redis_server.serve(root, cores.load) as url,
        service.serve(root, url, cores, fill=lambda: fill(url), second=second) as running,
    ):
        yield running


def _fill(url: str, count: int) -> None:
    store = RedisStore.connect(url, timeout=10)
    until = datetime.now(UTC) + _LIFETIME
    for _ in range(0, count, _CHUNK):
        facts = [
            TokenDenied(token_id=new_token_id(), deny_until=until + timedelta(seconds=secrets.randbelow(900)))
            for _ in range(_CHUNK)
        ]
        if store.restore(facts) != _CHUNK:
            raise BenchmarkError("the store did not take every denial")
    store.close()


def _await_rewrite(url: str) -> None:
    """Let Redis end the rewrite of its file that so many writes began: it would take the load's core."""
    deadline = time.monotonic() + _REWRITE_SECONDS
    with redis.Redis.from_url(url) as client:
        while client.info("persistence")["aof_rewrite_in_progress"]:
            if time.monotonic() > deadline:
                raise BenchmarkError("Redis does not end the rewrite of its append-only file")
            time.sleep(0.1)


def _replica_seconds(url: str, cores: Cores) -> float:
    """How long a replica takes from nothing to all of the log, without a service around it."""
    store = RedisStore.connect(url, timeout=10)
    replica = Replica(store, SystemClock(), LogJournal(), ReplicaConfig())
    with on_core(cores.server):
        begun = time.monotonic()
        replica.load()
        seconds = time.monotonic() - begun
    store.close()
    return seconds


def _verify_side(name: str, running: Service, root: Path, cores: Cores) -> GrpcSide:
    request, check = running.verify_call()
    return GrpcSide(
        title=name,
        target=running.target,
        path="/identityapi.v1.IdentityService/Verify",
        request=request,
        check=check,
        body=root / f"{name}.bin",
        cores=cores,
    )


def _quantiles(milliseconds: Sequence[float]) -> dict[str, float]:
    cuts = statistics.quantiles(milliseconds, n=100)
    return {"p50_ms": round(cuts[49], 2), "p99_ms": round(cuts[98], 2), "max_ms": round(max(milliseconds), 2)}


def _say(progress: str) -> None:
    print(f"  {progress}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
