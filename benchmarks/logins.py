"""Measures the effect of password sign-ins on Verify: bar S12.

64 sign-ins are kept in flight, each of another user, with argon2id at its default cost, while another process
verifies one token after the other. Rounds beside sign-ins, beside an idle-priority busy loop on the service's
core, and beside nothing take turns: any program on that core makes some calls wait for the next tick of the
kernel. Run as a program (`python -m benchmarks.logins TARGET PASSWORD_FILE`), it keeps the sign-ins going.
"""

import contextlib
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
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
AT_ONCE: Final[Mapping[str, Any]] = {"password_queue": IN_FLIGHT, "work_threads": 2 * IN_FLIGHT}
"""The settings with which the service has a place for each sign-in, and refuses none."""
USERS: Final = [f"{service.USER}-{number}" for number in range(IN_FLIGHT)]
"""The users that sign in. Of the sign-ins of one user only five go on at a time; the service refuses others
that wait for long."""
_PATIENCE: Final = 120.0
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
    at_once = {f"IDENTITY_{name.upper()}": str(value) for name, value in AT_ONCE.items()}

    @contextlib.contextmanager
    def beside_sign_ins() -> Iterator[None]:
        with signing_in(running, root, cores) as done:
            yield
        signed_in.append(done[0])

    @contextlib.contextmanager
    def beside_loop() -> Iterator[None]:
        with Process("loop", [sys.executable, "-c", _LOOP], cores=[cores.server], directory=root) as loop:
            loop.first_line()
            yield
            loop.require_running()

    with (
        service.serve(root, f"sqlite:///{root}/identity.db", cores, settings=at_once) as running,
        grpc.insecure_channel(running.target) as channel,
    ):
        stub, request = pb_grpc.IdentityServiceStub(channel), running.verify_request()
        running.create_users(USERS)

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
    """Keep 64 sign-ins in flight during the block.

    It returns when all of them have ended, so that the next round is without them. The list then holds the
    number that succeeded during the block.
    """
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
        out, _ = load.communicate("", timeout=_PATIENCE)  # the end of its input ends it
        if load.returncode:
            raise BenchmarkError("the sign-ins failed")
        done[0] = int(out)


def keep_signing_in(target: str, password: str) -> None:
    """Keep a sign-in of each user in flight until standard input ends, and then wait for those in flight.

    They are not cancelled: the service would go on with them, beside the next round. Prints a line after the
    first one, and at the end the number that had succeeded when the input ended.
    """
    ended: SimpleQueue[tuple[str, Any]] = SimpleQueue()
    count = 0

    with grpc.insecure_channel(target) as channel:
        stub = pb_grpc.IdentityServiceStub(channel)

        def begin(username: str) -> None:
            credential = token_pb2.Credential(
                password=token_pb2.Password(username=username, password=password)
            )
            call = stub.Issue.future(pb.IssueRequest(credential=credential), timeout=_PATIENCE)
            call.add_done_callback(lambda call: ended.put((username, call)))

        for username in USERS:
            begin(username)
        while not select.select([sys.stdin], [], [], 0)[0]:
            username, call = ended.get()
            call.result()
            count += 1
            if count == 1:
                print("begun", flush=True)
            begin(username)
        for _ in USERS:
            ended.get()[1].result()
    print(count, flush=True)


if __name__ == "__main__":
    keep_signing_in(sys.argv[1], Path(sys.argv[2]).read_text())
