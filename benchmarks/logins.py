"""Measures the effect of password sign-ins on Verify: bar S12.

64 sign-ins are kept in flight, with argon2id at its default cost, while another process verifies one token
after the other. Rounds beside sign-ins, beside an idle-priority busy loop on the service's core, and beside
nothing take turns: any program on that core makes some calls wait for the next tick of the kernel. Run as a
program (`python -m benchmarks.logins TARGET PASSWORD_FILE`), it keeps the sign-ins in flight.
"""

import contextlib
import select
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc

from benchmarks import names, service
from benchmarks.measure import Bench, Findings, Sample, alternate
from benchmarks.processes import BenchmarkError, Cores, Process, Stopwatch, on_core
from benchmarks.service import Service
from identityapi.v1 import identity_service_pb2 as pb
from identityapi.v1 import identity_service_pb2_grpc as pb_grpc
from identityapi.v1 import token_pb2

IN_FLIGHT: Final = 64
_LONGER: Final = 2
"""The factor by which a round is longer than other rounds, so that there are enough calls for a p99."""
_AT_ONCE: Final = {
    # Room for all of them, and for those of the round before, which the service may still hash: otherwise it
    # would refuse most of them, and hash less.
    "IDENTITY_PASSWORD_QUEUE": str(3 * IN_FLIGHT),
    "IDENTITY_WORK_THREADS": "256",
}
_LOOP: Final = """
import os
os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
print("loops", flush=True)
while True:
    pass
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Side:
    """Verify, one call after the other, while something else goes on."""

    title: str
    call: Callable[[float], Sequence[float]]
    """A function that calls for so many seconds, and returns the seconds of each call."""
    beside: Callable[[], AbstractContextManager[object]]
    cores: Cores
    unit: str = "ms"

    def measure(self, seconds: float) -> Sample:
        with self.beside():
            stopwatch, times = Stopwatch(), self.call(seconds * _LONGER)
            busy = stopwatch.busy()
        return Sample(
            value=p99(times) * 1000, server_busy=busy[self.cores.server], load_busy=busy[self.cores.load]
        )


def trial(bench: Bench) -> Findings:
    """Measure rounds alone, beside sign-ins, and beside the loop, in turn."""
    root, cores, signed_in = bench.root / "logins", bench.cores, list[int]()

    @contextlib.contextmanager
    def beside_sign_ins() -> Iterator[None]:
        with signing_in(running, root, cores) as done:
            yield
        signed_in.append(done[0])
        running.sign_in(1)  # behind all that were cancelled: the next round is without them

    @contextlib.contextmanager
    def beside_loop() -> Iterator[None]:
        with Process("loop", [sys.executable, "-c", _LOOP], cores=[cores.server], directory=root) as loop:
            loop.first_line()
            yield
            loop.require_running()

    with (
        service.serve(root, f"sqlite:///{root}/identity.db", cores, settings=_AT_ONCE) as running,
        grpc.insecure_channel(running.target) as channel,
    ):
        stub, request = pb_grpc.IdentityServiceStub(channel), running.verify_request()

        def call(seconds: float) -> Sequence[float]:
            return latencies(stub, request, seconds)

        ways: dict[str, tuple[str, Callable[[], AbstractContextManager[object]]]] = {
            names.ALONE_P99: ("Verify p99, one by one", contextlib.nullcontext),
            names.BESIDE_P99: (f"… beside {IN_FLIGHT} sign-ins", beside_sign_ins),
            names.LOOP_P99: ("… beside an idle-priority loop", beside_loop),
        }
        sides = {
            name: _Side(title=title, call=call, beside=beside, cores=cores)
            for name, (title, beside) in ways.items()
        }
        found = alternate(sides, bench)
    found.details["sign_ins_of_each_round"] = signed_in[1:]  # the first is the warm-up
    return found


def latencies(stub: pb_grpc.IdentityServiceStub, request: pb.VerifyRequest, seconds: float) -> list[float]:
    """Return the seconds of each call. Every answer must be right."""
    found, end = [], time.perf_counter() + seconds
    while (started := time.perf_counter()) < end:
        answer = stub.Verify(request)
        found.append(time.perf_counter() - started)
        assert answer.WhichOneof("outcome") == "verified", answer.rejected
    return found


def p99(values: Sequence[float]) -> float:
    return sorted(values)[len(values) * 99 // 100]


@contextlib.contextmanager
def signing_in(running: Service, root: Path, cores: Cores) -> Iterator[list[int]]:
    """Keep 64 sign-ins in flight until the block ends; the list then holds the number that succeeded."""
    secret = root / "password"
    secret.touch(mode=0o600)
    secret.write_text(running.password)
    command = [sys.executable, "-m", "benchmarks.logins", running.target, str(secret)]
    done = [0]
    with on_core(cores.load):
        load = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert load.stdout is not None
        load.stdout.readline()  # the first one was done
        yield done
    finally:
        out, _ = load.communicate("", timeout=60)  # the end of its input ends it
        if load.returncode:
            raise BenchmarkError("the sign-ins failed")
        done[0] = int(out)


def keep_signing_in(target: str, username: str, password: str) -> None:
    """Keep 64 sign-ins in flight until standard input ends.

    Prints a line after the first one, and their number at the end.
    """
    credential = token_pb2.Credential(password=token_pb2.Password(username=username, password=password))
    request = pb.IssueRequest(credential=credential)
    in_flight: deque[Any] = deque()
    count = 0

    with grpc.insecure_channel(target) as channel:
        stub = pb_grpc.IdentityServiceStub(channel)
        while not select.select([sys.stdin], [], [], 0)[0]:
            while len(in_flight) < IN_FLIGHT:
                in_flight.append(stub.Issue.future(request, timeout=120))
            in_flight.popleft().result()
            count += 1
            if count == 1:
                print("begun", flush=True)
        for call in in_flight:
            call.cancel()
    print(count, flush=True)


if __name__ == "__main__":
    keep_signing_in(sys.argv[1], service.USER, Path(sys.argv[2]).read_text())
