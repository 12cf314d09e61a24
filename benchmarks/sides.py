"""The kinds of sides: gRPC by h2load, HTTP/1.1 by h2load, and calls that differ by the load process.

Each checks the content of one answer before and after every round. Knows no bar.
"""

import json
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from benchmarks import h2load, load
from benchmarks.measure import Sample
from benchmarks.processes import BenchmarkError, Cores, Stopwatch, on_core

_DEADLINE = 10.0
_LOAD_SLACK = 90.0
Check = Callable[[bytes], str]
"""Looks at one serialized answer; the empty text, or what is wrong with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpcSide:
    """The same gRPC request over and over."""

    title: str
    target: str
    path: str
    request: bytes
    check: Check
    body: Path
    """A file to write the framed request to."""
    cores: Cores

    def measure(self, seconds: float) -> Sample:
        answer_bytes = self._checked_call()
        self.body.write_bytes(h2load.frame(self.request))
        stopwatch = Stopwatch()
        outcome = h2load.run_grpc(self.target, self.path, self.body, seconds=seconds, core=self.cores.load)
        busy = stopwatch.busy()
        self._checked_call()
        h2load.require_good(outcome, answer_bytes=answer_bytes, in_flight=h2load.GRPC_SHAPE.in_flight)
        return _sample(outcome.calls / seconds, busy, self.cores)

    def _checked_call(self) -> int:
        """One call through a real channel; how long its good answer is on the wire."""
        with grpc.insecure_channel(self.target) as channel:
            method: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(self.path)
            answer = method(self.request, timeout=_DEADLINE)
        if wrong := self.check(answer):
            raise BenchmarkError(f"{self.title}: {wrong}")
        return h2load.GRPC_PREFIX_BYTES + len(answer)


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpSide:
    """The same GET over and over, on HTTP/1.1."""

    title: str
    url: str
    authorization: str = field(repr=False)
    check: Check
    cores: Cores

    def measure(self, seconds: float) -> Sample:
        answer_bytes = self._checked_call()
        headers = [f"authorization: {self.authorization}"]
        stopwatch = Stopwatch()
        outcome = h2load.run_http1(self.url, headers, seconds=seconds, core=self.cores.load)
        busy = stopwatch.busy()
        self._checked_call()
        h2load.require_good(outcome, answer_bytes=answer_bytes, in_flight=h2load.HTTP1_SHAPE.in_flight)
        return _sample(outcome.calls / seconds, busy, self.cores)

    def _checked_call(self) -> int:
        request = urllib.request.Request(self.url, headers={"authorization": self.authorization})  # noqa: S310  # our own peer
        with urllib.request.urlopen(request, timeout=_DEADLINE) as response:  # noqa: S310  # our own peer
            answer: bytes = response.read()
        if wrong := self.check(answer):
            raise BenchmarkError(f"{self.title}: {wrong}")
        return len(answer)


@dataclass(slots=True, kw_only=True)
class LoadSide:
    """Calls by the load process: refreshes of many chains or, without chains, the yardstick's calls."""

    title: str
    target: str
    cores: Cores
    tokens: Sequence[str] | None = field(repr=False)
    """The newest refresh token of each chain, every answer being checked; None = call the yardstick."""

    def measure(self, seconds: float) -> Sample:
        report = self._run(seconds)
        counted = report.counted
        if counted.bad or not counted.calls:
            raise BenchmarkError(f"{self.title}: {counted.bad} bad answers; the first: {counted.first_error}")
        self.tokens = None if self.tokens is None else report.tokens
        return _sample(counted.calls / counted.seconds, counted.busy, self.cores)

    def _run(self, seconds: float) -> load.Report:
        mode = ["--empty"] if self.tokens is None else []
        command = [sys.executable, "-m", "benchmarks.load", self.target, "--seconds", str(seconds), *mode]
        with on_core(self.cores.load):
            run = subprocess.run(
                command,
                input=json.dumps(list(self.tokens or ())),
                capture_output=True,
                text=True,
                check=False,
                timeout=seconds + _LOAD_SLACK,
            )
        if run.returncode:
            raise BenchmarkError(f"{self.title}: the load process failed:\n{run.stderr[-1000:]}")
        return load.Report.parse(run.stdout)


def _sample(rate: float, busy: Mapping[int, float], cores: Cores) -> Sample:
    return Sample(rate=rate, server_busy=busy[cores.server], load_busy=busy[cores.load])
