"""A load of calls that differ: refreshes, each with the token that the one before gave.

Run as `python -m benchmarks.load TARGET --seconds S` with the refresh tokens of many sessions as JSON
on standard input, one chain for each; prints what it counted and where each chain has got to. With
`--empty` it calls the yardstick instead, which shows how much this load can do at most. h2load sends
the same request again and again, so it cannot do this.
"""

from __future__ import annotations  # grpcio's classes are generic for the type checker only

import argparse
import json
import sys
import threading
import time
from collections import deque
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

import grpc
from google.protobuf.message import DecodeError

from benchmarks.h2load import GRPC_SHAPE
from benchmarks.peers import YARDSTICK_PATH
from benchmarks.processes import Stopwatch
from identityapi.v1 import identity_service_pb2 as pb

REFRESH_PATH: Final = "/identityapi.v1.IdentityService/Refresh"
_DEADLINE: Final = 10.0
_PATIENCE: Final = 30.0

if TYPE_CHECKING:
    Method = grpc.UnaryUnaryMultiCallable[bytes, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """What one run of the load came to."""

    calls: int
    """Answered well within the time."""
    seconds: float
    bad: int
    first_error: str
    busy: dict[int, float]
    """Core → the share of the time that it worked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What the program prints, as JSON."""

    counted: Counted
    tokens: list[str] = field(repr=False)
    """The newest refresh token of each chain."""

    @classmethod
    def parse(cls, text: str) -> Report:
        """Read what the program printed."""
        report = json.loads(text)
        counted = report["counted"]
        counted["busy"] = {int(core): share for core, share in counted["busy"].items()}
        return cls(counted=Counted(**counted), tokens=report["tokens"])


class Work(Protocol):
    """What to call, and what a good answer is."""

    path: str

    def next_request(self) -> bytes | None:
        """The next request, or None while all chains are in flight."""

    def accept(self, answer: bytes, request: bytes) -> str:
        """Take in an answer; the empty text, or what is wrong with it."""


class EmptyCalls:
    """The yardstick's method."""

    path = YARDSTICK_PATH

    def next_request(self) -> bytes | None:
        return b""

    def accept(self, answer: bytes, request: bytes) -> str:
        return f"{len(answer)} bytes" if answer or request else ""


class Refreshes:
    """Each chain is refreshed in its turn, so that no session is refreshed more often than it must be."""

    path = REFRESH_PATH

    def __init__(self, tokens: list[str]) -> None:
        self._waiting = deque(tokens)

    @property
    def tokens(self) -> list[str]:
        return list(self._waiting)

    def next_request(self) -> bytes | None:
        try:
            token = self._waiting.popleft()
        except IndexError:
            return None
        return pb.RefreshRequest(refresh_token=token).SerializeToString()

    def accept(self, answer: bytes, request: bytes) -> str:
        try:
            given = pb.RefreshResponse.FromString(answer).token_set
        except DecodeError:
            return "an answer that is no RefreshResponse"
        if not given.access_token or not given.refresh_token or given.refresh_token.encode() in request:
            return "an answer without new tokens"
        self._waiting.append(given.refresh_token)
        return ""


class ClosedLoop:
    """Keeps a number of calls in flight: each answer starts the next call."""

    def __init__(self, target: str, work: Work) -> None:
        self._work = work
        # Connections of their own: grpcio otherwise shares one between channels to the same target.
        options = [("grpc.use_local_subchannel_pool", 1)]
        self._channels = [grpc.insecure_channel(target, options) for _ in range(GRPC_SHAPE.connections)]
        self._lock = threading.Lock()
        self._idle = threading.Event()
        self._in_flight = 0
        self._calls = 0
        self._bad = 0
        self._first_error = ""
        self._end = 0.0

    def run(self, seconds: float) -> Counted:
        """Make the load for so long, and wait for what is in flight then."""
        for channel in self._channels:
            grpc.channel_ready_future(channel).result(timeout=_PATIENCE)
        methods: list[Method] = [channel.unary_unary(self._work.path) for channel in self._channels]
        stopwatch = Stopwatch()
        self._end = time.monotonic() + seconds
        for index in range(GRPC_SHAPE.in_flight):
            self._send(methods[index % len(methods)])
        if not self._idle.wait(seconds + _PATIENCE):
            self._bad += 1
            self._first_error = self._first_error or "calls stayed in flight"
        counted = Counted(
            calls=self._calls,
            seconds=seconds,
            bad=self._bad,
            first_error=self._first_error,
            busy=stopwatch.busy(),
        )
        for channel in self._channels:
            channel.close()
        return counted

    def _send(self, method: Method) -> None:
        request = self._work.next_request()
        if request is None:
            return
        with self._lock:
            self._in_flight += 1
        call = method.future(request, timeout=_DEADLINE)
        call.add_done_callback(lambda done: self._done(method, request, done))

    def _done(self, method: Method, request: bytes, call: grpc.Future[bytes]) -> None:
        error = call.exception()
        wrong = str(error) if error is not None else self._work.accept(call.result(), request)
        now = time.monotonic()
        with self._lock:
            self._in_flight -= 1
            self._calls += not wrong and now <= self._end
            self._bad += bool(wrong)
            self._first_error = self._first_error or wrong
            over = now > self._end
            if over and self._in_flight == 0:
                self._idle.set()
        if not over:
            self._send(method)


def main() -> None:
    """Run the load once and print what it counted."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load", description=__doc__)
    parser.add_argument("target", help="HOST:PORT")
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--empty", action="store_true", help="call the yardstick")
    arguments = parser.parse_args()
    refreshes = Refreshes([] if arguments.empty else json.load(sys.stdin))
    work = EmptyCalls() if arguments.empty else refreshes
    counted = ClosedLoop(arguments.target, work).run(arguments.seconds)
    print(json.dumps(asdict(Report(counted=counted, tokens=refreshes.tokens))))


if __name__ == "__main__":
    main()
