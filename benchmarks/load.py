"""Makes calls that differ from each other, or that begin at a given rate: h2load can do neither.

Run it as `python -m benchmarks.load TARGET` with an order as JSON on standard input; it prints its counts. In
a closed loop each answer starts the next call. At a rate, calls begin at the times of a Poisson process,
whether or not earlier calls are answered, and the latency of a call counts from its planned begin: a server
that falls behind cannot slow down the load.
"""

import argparse
import json
import random
import select
import statistics
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Final, Protocol

from google.protobuf.message import DecodeError

from benchmarks.h2load import GRPC_SHAPE
from benchmarks.http2 import Connection
from benchmarks.peers import YARDSTICK_PATH
from benchmarks.processes import BenchmarkError, Stopwatch
from identity_service.grpc_api.ext_authz.wire import auth_pb2
from identityapi.v1 import identity_service_pb2 as pb

SERVICE: Final = "/identityapi.v1.IdentityService/"
CHECK_PATH: Final = "/envoy.service.auth.v3.Authorization/Check"
_PATIENCE: Final = 10.0
_STREAMS: Final = 100
"""The largest number of calls in flight on each connection if calls come at a rate: as many as servers
commonly allow."""
_SEED: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A description of the load to make, which the program reads as JSON from standard input."""

    work: str
    """The kind of calls: empty, verify, check (of ext_authz) or refresh."""
    seconds: float
    items: Sequence[str] = field(default=(), repr=False)
    """The items of the calls. For verify and check: serialized requests in hexadecimal, used in turn. For
    refresh: the token of each session."""
    rate: float = 0.0
    """The number of calls per second; 0 = a closed loop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The counts and latencies of one load, which the program prints as JSON."""

    calls: int
    """The number of calls that were answered rightly within the time."""
    seconds: float
    bad: int
    first_error: str
    busy: dict[int, float]
    """A map from a core to the fraction of the time in which it was busy."""
    p50: float
    p99: float
    """The 99th percentile of the time of a call, in seconds."""
    tokens: list[str] = field(repr=False)
    """The newest refresh token of each session."""

    @classmethod
    def parse(cls, text: str) -> "Report":
        """Read the output of the program."""
        report = json.loads(text)
        report["busy"] = {int(core): share for core, share in report["busy"].items()}
        return cls(**report)


class Work(Protocol):
    """A kind of call, and the check of its answers."""

    path: str

    def next_request(self) -> bytes:
        """Return the next request."""

    def accept(self, answer: bytes) -> str:
        """Check an answer; return what is wrong with it, or the empty text."""


class EmptyCalls:
    """Calls of the empty method of the comparison server."""

    path = YARDSTICK_PATH

    def next_request(self) -> bytes:
        return b""

    def accept(self, answer: bytes) -> str:
        return f"{len(answer)} bytes" if answer else ""


class Verifications:
    """Calls of Verify with the requests in turn, so many that the server does not remember their tokens."""

    path = f"{SERVICE}Verify"

    def __init__(self, requests: Sequence[bytes]) -> None:
        self._requests = deque(requests)

    def next_request(self) -> bytes:
        self._requests.rotate(-1)
        return self._requests[-1]

    def accept(self, answer: bytes) -> str:
        try:
            response = pb.VerifyResponse.FromString(answer)
        except DecodeError:
            return "an answer that is no VerifyResponse"
        return "" if response.WhichOneof("outcome") == "verified" else f"not verified: {response.rejected}"


class Checks(Verifications):
    """Calls of ext_authz with the requests in turn; each must be allowed."""

    path = CHECK_PATH

    def accept(self, answer: bytes) -> str:
        return good_check(answer)


def good_check(answer: bytes) -> str:
    """Check an answer of ext_authz: the request is allowed."""
    try:
        response = auth_pb2.CheckResponse.FromString(answer)
    except DecodeError:
        return "an answer that is no CheckResponse"
    return "" if response.WhichOneof("http_response") == "ok_response" else f"refused: {response.status}"


class Refreshes:
    """Calls of Refresh for all sessions in turn, so that no session is refreshed too often."""

    path = f"{SERVICE}Refresh"

    def __init__(self, tokens: Sequence[str]) -> None:
        self._waiting = deque(tokens)
        self._asked = set[str]()

    @property
    def tokens(self) -> list[str]:
        return list(self._waiting)

    def next_request(self) -> bytes:
        token = self._waiting.popleft()
        self._asked.add(token)
        return pb.RefreshRequest(refresh_token=token).SerializeToString()

    def accept(self, answer: bytes) -> str:
        try:
            given = pb.RefreshResponse.FromString(answer).token_set
        except DecodeError:
            return "an answer that is no RefreshResponse"
        if not given.access_token or not given.refresh_token or given.refresh_token in self._asked:
            return "an answer without new tokens"
        self._waiting.append(given.refresh_token)
        return ""


class Load:
    """One run of the load. Times are those of `time.monotonic`."""

    def __init__(self, target: str, work: Work, *, streams: int) -> None:
        self._work = work
        self._connections = [
            Connection(target, work.path, streams=streams) for _ in range(GRPC_SHAPE.connections)
        ]
        self._begun: list[dict[int, float]] = [{} for _ in self._connections]
        self._turn = 0
        self._latencies: list[float] = []
        self._bad = 0
        self._first_error = ""

    def closed(self, seconds: float) -> tuple[int, float]:
        """Keep as many calls in flight as h2load does; return the number of answers, and the seconds."""
        begun = time.monotonic()
        end = begun + seconds
        for _ in range(GRPC_SHAPE.in_flight):
            self._begin(begun)
        calls = 0
        while (now := time.monotonic()) < end:
            ended = self._exchange(end - now)
            at = time.monotonic()
            for _ in range(ended):
                self._begin(at)
            calls += ended
        self._drain()
        return calls, now - begun

    def at_rate(self, rate: float, seconds: float) -> tuple[int, float]:
        """Begin calls at this rate, and wait for all of them; return their number, and the seconds."""
        chance = random.Random(_SEED)  # noqa: S311  # when a call comes is no secret
        begun = due = time.monotonic()
        end, calls = begun + seconds, 0
        while due < end:
            now = time.monotonic()
            while due <= now and due < end:
                self._begin(due)
                due += chance.expovariate(rate)
            calls += self._exchange(min(due, end) - now)
        return calls + self._drain(), time.monotonic() - begun

    def report(self, counted: tuple[int, float], busy: dict[int, float], tokens: list[str]) -> Report:
        calls, seconds = counted
        cuts = statistics.quantiles(self._latencies, n=100) if len(self._latencies) > 1 else [0.0] * 99
        return Report(
            calls=calls - self._bad,
            seconds=seconds,
            bad=self._bad,
            first_error=self._first_error,
            busy=busy,
            p50=cuts[49],
            p99=cuts[98],
            tokens=tokens,
        )

    def close(self) -> None:
        for connection in self._connections:
            connection.close()

    def _begin(self, at: float) -> None:
        self._turn = (self._turn + 1) % len(self._connections)
        stream = self._connections[self._turn].call(self._work.next_request())
        self._begun[self._turn][stream] = at

    def _exchange(self, patience: float) -> int:
        """Send the calls that wait, and read answers; return how many calls ended."""
        for connection in self._connections:
            connection.flush()
        # Not epoll: its timeouts are whole milliseconds.
        ready, _, _ = select.select(self._connections, (), (), max(0.0, patience))
        count = 0
        for connection in ready:
            ended, begun = connection.receive(), self._begun[self._connections.index(connection)]
            now = time.monotonic()
            for stream, answer in ended:
                self._latencies.append(now - begun.pop(stream))
                wrong = "a call that failed" if answer is None else self._work.accept(answer)
                self._bad += bool(wrong)
                self._first_error = self._first_error or wrong
            count += len(ended)
        return count

    def _drain(self) -> int:
        """Wait for the calls in flight; return how many ended."""
        count, end = 0, time.monotonic() + _PATIENCE
        while any(self._begun):
            if time.monotonic() > end:
                raise BenchmarkError("calls stayed in flight")
            count += self._exchange(0.1)
        return count


def run(target: str, order: Order) -> Report:
    """Make the load that the order describes, and return its counts and latencies."""
    work = _work(order)
    load = Load(target, work, streams=_STREAMS if order.rate else GRPC_SHAPE.streams)
    try:
        stopwatch = Stopwatch()
        counted = load.at_rate(order.rate, order.seconds) if order.rate else load.closed(order.seconds)
        busy = stopwatch.busy()
    finally:
        load.close()
    return load.report(counted, busy, work.tokens if isinstance(work, Refreshes) else [])


def _work(order: Order) -> Work:
    if order.work == "verify":
        return Verifications([bytes.fromhex(item) for item in order.items])
    if order.work == "check":
        return Checks([bytes.fromhex(item) for item in order.items])
    return Refreshes(order.items) if order.work == "refresh" else EmptyCalls()


def main() -> None:
    """Run the load once, and print the report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load", description=__doc__)
    parser.add_argument("target", help="HOST:PORT")
    arguments = parser.parse_args()
    print(json.dumps(asdict(run(arguments.target, Order(**json.load(sys.stdin))))))


if __name__ == "__main__":
    main()
