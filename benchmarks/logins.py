"""Measures the effect of password sign-ins on Verify: bar B12.

64 sign-ins are kept in flight, with argon2id at its default cost, while another process verifies one token
after the other. Rounds with and without sign-ins take turns, in one run on one core. Run as a program
(`python -m benchmarks.logins TARGET PASSWORD_FILE`), it keeps the sign-ins in flight.
"""

import contextlib
import select
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import grpc

from benchmarks import names, service
from benchmarks.measure import WARM_UP, Bench, Figures, Findings
from benchmarks.processes import BenchmarkError, Cores, on_core
from benchmarks.service import Service
from identityapi.v1 import identity_service_pb2 as pb
from identityapi.v1 import identity_service_pb2_grpc as pb_grpc
from identityapi.v1 import token_pb2

IN_FLIGHT: Final = 64
_LONGER: Final = 2
"""The factor by which a round is longer than other rounds, so that there are enough calls for a p99."""
_AT_ONCE: Final = {
    # Room for all of them, and for those of the round before that nobody waits for any more: else most
    # would be told to come again, and there would be less to bear.
    "IDENTITY_PASSWORD_QUEUE": str(3 * IN_FLIGHT),
    "IDENTITY_WORK_THREADS": "256",
}


def trial(bench: Bench) -> Findings:
    """Measure rounds with and without sign-ins, in turn."""
    root = bench.root / "logins"
    with (
        service.serve(root, f"sqlite:///{root}/identity.db", bench.cores, settings=_AT_ONCE) as running,
        grpc.insecure_channel(running.target) as channel,
    ):
        alone, beside, signed_in = list[float](), list[float](), list[float]()
        stub, request = pb_grpc.IdentityServiceStub(channel), running.verify_request()
        latencies(stub, request, WARM_UP)
        seconds = bench.seconds * _LONGER
        for number in range(1, bench.rounds + 1):
            bench.say(f"round {number} of {bench.rounds}: Verify beside {IN_FLIGHT} sign-ins, and without")
            alone.append(p99(latencies(stub, request, seconds)) * 1000)
            with signing_in(running, root, bench.cores) as done:
                beside.append(p99(latencies(stub, request, seconds)) * 1000)
            signed_in.append(done[0] / seconds)
            running.sign_in(1)  # behind all that were given up: what is measured next is alone again
    return Findings(
        figures={
            names.ALONE_P99: Figures(title="Verify p99, one by one", unit="ms", values=alone),
            names.BESIDE_P99: Figures(title=f"… beside {IN_FLIGHT} sign-ins", unit="ms", values=beside),
        },
        details={"sign_ins_per_second": signed_in},
    )


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
