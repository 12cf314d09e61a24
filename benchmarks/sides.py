"""The kinds of sides: calls by h2load or by the load process, at the highest rate or half, and work alone.

Each side checks the content of one answer before and after every round, or of every answer. The module knows
no bar.
"""

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

import grpc

from benchmarks import h2load, load
from benchmarks.h2load import GRPC_SHAPE, Shape
from benchmarks.measure import PER_SECOND, Sample
from benchmarks.processes import BenchmarkError, Cores, Stopwatch, on_core

_DEADLINE: Final = 10.0
_LOAD_SLACK: Final = 90.0
Check = Callable[[bytes], str]
"""A function that checks one serialized answer, and returns the fault in it, or the empty text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpcSide:
    """A side that repeats one gRPC request."""

    title: str
    target: str
    path: str
    request: bytes
    check: Check
    body: Path
    """The file to write the framed request to."""
    cores: Cores
    per_call: int = 1
    """The number of results in one answer, if results are counted and not calls."""
    unit: str = PER_SECOND
    load_cores: Sequence[int] = ()
    """The cores that each make a load of this shape; () = the core of the load."""
    shape: Shape = GRPC_SHAPE

    def measure(self, seconds: float) -> Sample:
        cores = self.load_cores or [self.cores.load]
        answer_bytes = self._checked_call()
        self.body.write_bytes(h2load.frame(self.request))
        stopwatch = Stopwatch()
        outcome = h2load.run_grpc(
            self.target, self.path, self.body, seconds=seconds, cores=cores, shape=self.shape
        )
        busy = stopwatch.busy()
        self._checked_call()
        h2load.require_good(outcome, answer_bytes=answer_bytes, in_flight=len(cores) * self.shape.in_flight)
        return _sample(self.per_call * outcome.calls / seconds, busy, self.cores)

    def _checked_call(self) -> int:
        """Make one call through a grpcio channel, check the answer, and return its length on the wire."""
        with grpc.insecure_channel(self.target) as channel:
            method: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(self.path)
            try:
                answer = method(self.request, timeout=_DEADLINE)
            except grpc.RpcError as error:
                raise BenchmarkError(f"{self.title}: the call failed: {error}") from error
        if wrong := self.check(answer):
            raise BenchmarkError(f"{self.title}: {wrong}")
        return h2load.GRPC_PREFIX_BYTES + len(answer)


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpSide:
    """A side that repeats one request over HTTP/1.1."""

    title: str
    url: str
    headers: Mapping[str, str] = field(repr=False)
    check: Check
    cores: Cores
    body: Path | None = None
    """The file to POST; None = GET."""
    unit: str = PER_SECOND

    def measure(self, seconds: float) -> Sample:
        answer_bytes = self._checked_call()
        headers = [f"{name}: {value}" for name, value in self.headers.items()]
        stopwatch = Stopwatch()
        outcome = h2load.run_http1(self.url, headers, self.body, seconds=seconds, core=self.cores.load)
        busy = stopwatch.busy()
        self._checked_call()
        h2load.require_good(outcome, answer_bytes=answer_bytes, in_flight=h2load.HTTP1_SHAPE.in_flight)
        return _sample(outcome.calls / seconds, busy, self.cores)

    def _checked_call(self) -> int:
        data = self.body.read_bytes() if self.body else None
        request = urllib.request.Request(self.url, data, headers=dict(self.headers))  # noqa: S310  # our own peer
        try:
            with urllib.request.urlopen(request, timeout=_DEADLINE) as response:  # noqa: S310  # our own peer
                answer: bytes = response.read()
        except OSError as error:
            raise BenchmarkError(f"{self.title}: the request failed: {error}") from error
        if wrong := self.check(answer):
            raise BenchmarkError(f"{self.title}: {wrong}")
        return len(answer)


@dataclass(slots=True, kw_only=True)
class LoadSide:
    """A side whose calls differ; the load process makes them, and checks every answer."""

    title: str
    target: str
    cores: Cores
    work: str
    """The kind of calls; see `load.Order`."""
    items: Sequence[str] = field(default=(), repr=False)
    unit: str = PER_SECOND

    def measure(self, seconds: float) -> Sample:
        order = load.Order(work=self.work, seconds=seconds, items=self.items)
        report = run_load(self.title, self.target, order, self.cores)
        self.items = report.tokens or self.items
        return _sample(report.calls / report.seconds, report.busy, self.cores)


@dataclass(frozen=True, slots=True, kw_only=True)
class HalfLoadSide:
    """A side whose value is the p99 of calls in milliseconds, at half the rate of a closed loop."""

    closed: GrpcSide
    """The same calls in a closed loop, measured just before in each round."""
    work: str
    """The kind of calls; see `load.Order`."""
    unit: str = "ms"

    @property
    def title(self) -> str:
        return f"{self.closed.title}: p99 at half load"

    def measure(self, seconds: float) -> Sample:
        highest, items = self.closed.measure(seconds).value, [self.closed.request.hex()]
        order = load.Order(work=self.work, seconds=seconds, items=items, rate=highest / 2)
        report = run_load(self.title, self.closed.target, order, self.closed.cores)
        return _sample(report.p99 * 1000, report.busy, self.closed.cores)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkSide:
    """A side without a server: work in this process, on the server's core."""

    title: str
    work: Callable[[], object]
    cores: Cores
    unit: str = PER_SECOND

    def measure(self, seconds: float) -> Sample:
        with on_core(self.cores.server):
            stopwatch, begun, calls = Stopwatch(), time.perf_counter(), 0
            while (now := time.perf_counter()) - begun < seconds:
                self.work()
                calls += 1
            return _sample(calls / (now - begun), stopwatch.busy(), self.cores)


def run_load(title: str, target: str, order: load.Order, cores: Cores) -> load.Report:
    """Run the load process once. Raises BenchmarkError if an answer was wrong, or if there was none."""
    with on_core(cores.load):
        try:
            run = subprocess.run(
                [sys.executable, "-m", "benchmarks.load", target],
                input=json.dumps(asdict(order)),
                capture_output=True,
                text=True,
                check=False,
                timeout=order.seconds + _LOAD_SLACK,
            )
        except subprocess.TimeoutExpired as error:
            raise BenchmarkError(f"{title}: the load process did not end") from error
    if run.returncode:
        raise BenchmarkError(f"{title}: the load process failed:\n{run.stderr[-1000:]}")
    report = load.Report.parse(run.stdout)
    if report.bad or not report.calls:
        raise BenchmarkError(f"{title}: {report.bad} bad answers; the first: {report.first_error}")
    return report


def _sample(value: float, busy: Mapping[int, float], cores: Cores) -> Sample:
    return Sample(value=value, server_busy=busy[cores.server], load_busy=busy[cores.load])
