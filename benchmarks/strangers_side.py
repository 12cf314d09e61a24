"""Measures one client of the service while a stranger abuses it: the times of its calls, and the memory."""

from __future__ import annotations  # grpcio's classes are generic for the type checker only

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from benchmarks import service
from benchmarks.logins import p99
from benchmarks.measure import Bench
from benchmarks.processes import children, on_core
from benchmarks.service import Service
from identityapi.v1 import identity_service_pb2 as pb
from identityapi.v1 import identity_service_pb2_grpc as pb_grpc
from tests.abuse.abuser import abusing
from tests.abuse.site import resident_bytes

MB: Final = 1_000_000
METHODS: Final = ("Verify", "Issue", "Refresh", "Revoke", "Check")
_DEADLINE: Final = 2.0
"""The number of seconds after which a call counts as failed."""
_PERIOD: Final = 0.025
"""The number of seconds from one round of calls to the next."""
_SESSIONS: Final = 4
"""The number of sessions that are refreshed in turn: the service limits one session to 1,000 rotations in a
minute."""
_WARM_UP: Final = 2.0
_SETTLE: Final = 20.0
"""The number of seconds after the abuse in which the service may return memory."""
_NICE: Final = "10"
"""The priority of the abuser, which shares a core with the client that is measured."""
_SETTINGS: Final = {"IDENTITY_REFLECTION": "true", "IDENTITY_DRAIN_GRACE": "1s"}
"""The settings that differ from the defaults; the abuse of reflection needs it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """The times of the calls of one method."""

    calls: int
    p50_ms: float
    p99_ms: float
    max_ms: float
    failures: Mapping[str, int]
    """A map from a status to the number of calls that ended with it, including deadlines."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """The result of one abuse of one engine from one address."""

    engine: str
    source: str
    abuse: str
    count: int
    """The size of the abuse; 0 = its usual size."""
    methods: Mapping[str, Times]
    memory_before_mb: float
    memory_most_mb: float
    memory_after_mb: float
    """The lowest value in the 20 seconds after the abuse."""
    threads_before: int
    threads_most: int
    outcomes: Mapping[str, int]
    """The number of each event that the abuser saw, such as the status of a call."""


@dataclass(slots=True)
class _Tally:
    """A tally of the calls of one method."""

    seconds: list[float] = field(default_factory=list)
    failures: dict[str, int] = field(default_factory=dict)

    def times(self) -> Times:
        values = sorted(self.seconds) or [0.0]
        return Times(
            calls=len(self.seconds),
            p50_ms=round(values[len(values) // 2] * 1000, 2),
            p99_ms=round(p99(values) * 1000, 2),
            max_ms=round(values[-1] * 1000, 2),
            failures=self.failures,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Abuse:
    """One abuse (tests/abuse/abuses.py)."""

    name: str
    """The name of the abuse; "none" = the service alone."""
    count: int
    """The size of the abuse; 0 = its usual size."""
    source: str
    """The address that the abuse comes from."""


def measure(bench: Bench, engine: str, abuses: Sequence[Abuse], *, settle: bool) -> Iterator[Row]:
    """Measure one abuse after the other on one service; yield each as soon as it is measured.

    With `settle` the service gets time to return memory after each abuse.
    """
    root = bench.root / f"{engine}-{abuses[0].name}-{abuses[0].count}-{abuses[0].source}"
    settings = _SETTINGS | {"IDENTITY_ENGINE": engine}
    store = f"sqlite:///{root}/identity.db"
    with (
        service.serve(root, store, bench.cores, settings=settings) as running,
        grpc.insecure_channel(running.target) as channel,
    ):
        client = _Client(running, channel)
        client.call_for(_WARM_UP, lambda: None)
        for abuse in abuses:
            yield _row(bench, engine, running, client, abuse, settle=settle)


def _row(bench: Bench, engine: str, running: Service, client: _Client, abuse: Abuse, *, settle: bool) -> Row:
    client.forget()
    memory, threads = [_memory(running)], [_threads(running)]

    def look() -> None:
        memory.append(_memory(running))
        threads.append(_threads(running))

    with _abused(bench, abuse, running.target) as outcomes:
        client.call_for(bench.seconds, look)
    return Row(
        engine=engine,
        source=abuse.source,
        abuse=abuse.name,
        count=abuse.count,
        methods=client.times(),
        memory_before_mb=memory[0],
        memory_most_mb=max(memory),
        memory_after_mb=_settled(running, memory[0]) if settle else _memory(running),
        threads_before=threads[0],
        threads_most=max(threads),
        outcomes=outcomes(),
    )


@contextlib.contextmanager
def _abused(bench: Bench, abuse: Abuse, target: str) -> Iterator[Callable[[], Mapping[str, int]]]:
    """Run the abuser during the block; yield a function that returns the number of each event it saw."""
    if abuse.name == "none":
        yield dict
        return
    options = ["--nice", _NICE]
    with (
        on_core(bench.cores.load),
        abusing(abuse.name, target, source=abuse.source, count=abuse.count, options=options) as outcomes,
    ):
        yield lambda: outcomes.all


class _Client:
    """The client that is measured: calls one method after the other, in rounds at fixed times."""

    def __init__(self, running: Service, channel: grpc.Channel) -> None:
        stub, health = pb_grpc.IdentityServiceStub(channel), health_pb2_grpc.HealthStub(channel)
        self._verify = running.verify_request()
        self._issue = running.issue_request()
        self._refresh = deque(running.sign_in(_SESSIONS))
        self._token = ""
        self._tallies = {name: _Tally() for name in METHODS}
        self._calls: Mapping[str, Callable[[], Any]] = {
            "Verify": lambda: stub.Verify(self._verify, timeout=_DEADLINE),
            "Issue": lambda: self._keep_token(stub.Issue(self._issue, timeout=_DEADLINE)),
            "Refresh": lambda: self._keep_refresh(
                stub.Refresh(pb.RefreshRequest(refresh_token=self._refresh[0]), timeout=_DEADLINE)
            ),
            # The token of the Issue just before; a holder may revoke the token it shows.
            "Revoke": lambda: stub.Revoke(pb.RevokeRequest(token=self._token), timeout=_DEADLINE),
            "Check": lambda: health.Check(health_pb2.HealthCheckRequest(), timeout=_DEADLINE),
        }

    def call_for(self, seconds: float, between: Callable[[], None]) -> None:
        """Call every method repeatedly; `between` runs once a second."""
        begun = due = looked = time.monotonic()
        while (now := time.monotonic()) < begun + seconds:
            if now < due:
                time.sleep(due - now)
            due = max(due + _PERIOD, now)
            for name, call in self._calls.items():
                self._time(self._tallies[name], call)
            if now >= looked + 1:
                looked = now
                between()

    def forget(self) -> None:
        """Discard the times so far."""
        self._tallies.update({name: _Tally() for name in METHODS})

    def times(self) -> Mapping[str, Times]:
        """Return the times of each method."""
        return {name: tally.times() for name, tally in self._tallies.items()}

    def _time(self, tally: _Tally, call: Callable[[], Any]) -> None:
        started = time.perf_counter()
        try:
            call()
        except grpc.RpcError as error:
            code = error.code().name
            tally.failures[code] = tally.failures.get(code, 0) + 1
        tally.seconds.append(time.perf_counter() - started)

    def _keep_token(self, answer: pb.IssueResponse) -> None:
        self._token = answer.token_set.access_token

    def _keep_refresh(self, answer: pb.RefreshResponse) -> None:
        self._refresh[0] = answer.token_set.refresh_token
        self._refresh.rotate()


def _processes(running: Service) -> list[int]:
    pid = running.process.pid
    return [pid, *children(pid)]


def _memory(running: Service) -> float:
    return round(sum(map(resident_bytes, _processes(running))) / MB, 1)


def _threads(running: Service) -> int:
    return sum(len(list(Path(f"/proc/{pid}/task").iterdir())) for pid in _processes(running))


def _settled(running: Service, before: float) -> float:
    """Wait until the memory is as before, at most 20 s; return the lowest value."""
    end, least = time.monotonic() + _SETTLE, _memory(running)
    while least > before and time.monotonic() < end:
        time.sleep(0.25)
        least = min(least, _memory(running))
    return least
