"""Measures how fast a revocation spreads: bar S9.

There are two processes on one store, and clients that watch both. The time counts from Revoke's return until
the last recipient knows: until the other process rejects the token and every watcher has received the
revocation.
"""

import asyncio
import contextlib
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import grpc
import grpc.aio

from benchmarks import names, redis_server, service
from benchmarks.measure import Bench, Figures, Findings
from benchmarks.processes import BenchmarkError
from benchmarks.service import Service
from identityapi.v1 import identity_service_pb2 as pb
from identityapi.v1 import identity_service_pb2_grpc as pb_grpc
from identityapi.v1 import trust_service_pb2 as trust_pb
from identityapi.v1 import trust_service_pb2_grpc as trust_grpc

FIGURES: Final = frozenset(
    names.spread(watchers, quantile)
    for watchers in (names.FEW_WATCHERS, names.MANY_WATCHERS)
    for quantile in ("p50", "p99")
)
_REVOCATIONS: Final = 200
_CONNECTIONS: Final = 20
"""The number of connections to each process, which the watchers share, as in a service mesh."""
_PATIENCE: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """The times of all revocations, in milliseconds since Revoke's return."""

    refused: list[float] = field(default_factory=list)
    """The time until the other process rejected the token, for each revocation."""
    notified: list[float] = field(default_factory=list)
    """The time until a watcher received it, for each revocation and watcher."""
    last: list[float] = field(default_factory=list)
    """The time until the last recipient knew, for each revocation."""


def trial(bench: Bench) -> Findings:
    """Measure with 50 watchers, and with 1,000."""
    found = Findings()
    for watchers in (names.FEW_WATCHERS, names.MANY_WATCHERS):
        bench.say(f"{_REVOCATIONS} revocations, {watchers:,} watchers")
        root = bench.root / f"watchers-{watchers}"
        root.mkdir()
        with (
            redis_server.serve(root, bench.cores.load) as url,
            service.serve(root, url, bench.cores) as running,
        ):
            found.add(_spread(running, watchers))
    return found


def _spread(running: Service, watchers: int) -> Findings:
    targets = [running.target, running.launcher.serve("second").target]
    before = running.process.resident_bytes
    tokens = [request.token for request in running.verify_requests(_REVOCATIONS)]
    spread, held = asyncio.run(_watch_and_revoke(running, targets, watchers, tokens))
    cuts = statistics.quantiles(spread.last, n=100)
    title = f"Revoke → all know, {watchers:,} watchers"
    return Findings(
        figures={
            names.spread(watchers, name): Figures(title=f"{title}, {name}", unit="ms", values=[cuts[at]])
            for name, at in (("p50", 49), ("p99", 98))
        },
        details={
            f"spread_{watchers}_watchers": {
                "other_process_refuses_ms": _quantiles(spread.refused),
                "watcher_notified_ms": _quantiles(spread.notified),
                "kib_each_watcher": round((held - before) / (watchers / len(targets)) / 1024, 1),
            }
        },
    )


class _Watchers:
    """Watchers that record when each of them received the revocation of a token id."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.arrivals: dict[str, list[float]] = {}
        self.ready = asyncio.Event()
        self._open = 0
        self._complete: dict[str, asyncio.Event] = {}

    async def watch(self, channel: grpc.aio.Channel) -> None:
        """Read one stream until it is cancelled."""
        known = False
        async for message in trust_grpc.TrustServiceStub(channel).Watch(trust_pb.WatchRequest()):
            now = time.monotonic()
            if message.revision and not known:
                known, self._open = True, self._open + 1
                if self._open == self.count:
                    self.ready.set()
            for revocation in message.revocations:
                self._note(revocation.denied_token.token_id, now)

    def _note(self, token_id: str, now: float) -> None:
        arrivals = self.arrivals.setdefault(token_id, [])
        arrivals.append(now)
        if len(arrivals) == self.count:
            self._event(token_id).set()

    def _event(self, token_id: str) -> asyncio.Event:
        return self._complete.setdefault(token_id, asyncio.Event())

    async def notified(self, token_id: str) -> list[float]:
        """Wait until all watchers have received the revocation; return when each did."""
        await asyncio.wait_for(self._event(token_id).wait(), _PATIENCE)
        del self._complete[token_id]
        return self.arrivals.pop(token_id)


async def _watch_and_revoke(
    running: Service, targets: Sequence[str], count: int, tokens: Sequence[str]
) -> tuple[Spread, int]:
    """Return the times, and the memory of the first process while it has its watchers."""
    watchers, spread = _Watchers(count), Spread()
    async with contextlib.AsyncExitStack() as stack:
        channels = [
            await stack.enter_async_context(
                grpc.aio.insecure_channel(target, options=[("grpc.use_local_subchannel_pool", 1)])
            )
            for target in targets
            for _ in range(_CONNECTIONS)
        ]
        tasks = [asyncio.create_task(watchers.watch(channels[i % len(channels)])) for i in range(count)]
        await asyncio.wait_for(watchers.ready.wait(), _PATIENCE)
        held = running.process.resident_bytes
        one, two = (pb_grpc.IdentityServiceStub(channels[i]) for i in (0, _CONNECTIONS))
        for token in tokens:
            answer = await one.Verify(pb.VerifyRequest(token=token, any_audience=True))
            if await _refused(two, token, tries=1) is not None:
                raise BenchmarkError("a token was rejected before it was revoked")
            await one.Revoke(pb.RevokeRequest(token=token))
            begun = time.monotonic()
            refused = await _refused(two, token)
            assert refused is not None
            notified = [
                max(0.0, at - begun) * 1000 for at in await watchers.notified(answer.verified.token_id)
            ]
            spread.refused.append((refused - begun) * 1000)
            spread.notified.extend(notified)
            spread.last.append(max(spread.refused[-1], *notified))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return spread, held


async def _refused(stub: Any, token: str, tries: int | None = None) -> float | None:
    """Return when the first call that rejected the token was made; None = none of `tries` calls did."""
    while tries is None or tries > 0:
        asked = time.monotonic()
        answer = await stub.Verify(pb.VerifyRequest(token=token, any_audience=True))
        if answer.WhichOneof("outcome") == "rejected":
            return asked
        tries = None if tries is None else tries - 1
    return None


def _quantiles(milliseconds: Sequence[float]) -> dict[str, float]:
    cuts = statistics.quantiles(milliseconds, n=100)
    return {"p50": round(cuts[49], 2), "p99": round(cuts[98], 2), "max": round(max(milliseconds), 2)}
