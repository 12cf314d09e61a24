"""What password sign-ins do to Verify: bar B12. `python -m benchmarks.logins`.

64 sign-ins are kept in flight, with argon2id at its default cost, while another process verifies one token
after the other; rounds with and without them take turns, in one run on one core.
"""

import argparse
import contextlib
import json
import select
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import grpc

from benchmarks import service
from benchmarks.processes import BenchmarkError, Cores
from benchmarks.service import Service
from identityapi.v1 import identity_service_pb2 as pb
from identityapi.v1 import identity_service_pb2_grpc as pb_grpc
from identityapi.v1 import token_pb2

IN_FLIGHT: Final = 64
LIMIT: Final = 2.0
_AT_ONCE: Final = {
    # Room for all of them, and for those of the round before that nobody waits for any more: else most
    # would be told to come again, and there would be less to bear.
    "IDENTITY_PASSWORD_QUEUE": str(3 * IN_FLIGHT),
    "IDENTITY_WORK_THREADS": "256",
}


def main() -> int:
    """Measure, print, and say whether the bar is met."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.logins")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--keep-signing-in", nargs=3, metavar=("TARGET", "USERNAME", "PASSWORD_FILE"))
    arguments = parser.parse_args()
    if arguments.keep_signing_in:
        target, username, password_file = arguments.keep_signing_in
        keep_signing_in(target, username, Path(password_file).read_text())
        return 0
    cores = Cores.choose()
    with tempfile.TemporaryDirectory(prefix="identity-bench-") as directory:
        root = Path(directory)
        with service.serve(root, f"sqlite:///{root}/identity.db", cores, settings=_AT_ONCE) as running:
            found = measure(running, root, cores, arguments.rounds, arguments.seconds)
    print(json.dumps(found, indent=2))
    return 0 if found["ratio"] <= LIMIT else 1


def measure(running: Service, root: Path, cores: Cores, rounds: int, seconds: float) -> dict[str, float]:
    alone: list[float] = []
    beside: list[float] = []
    signed_in = 0
    with grpc.insecure_channel(running.target) as channel:
        stub = pb_grpc.IdentityServiceStub(channel)
        request = running.verify_request()
        latencies(stub, request, 0.5)
        for _ in range(rounds):
            alone.append(p99(latencies(stub, request, seconds)))
            with signing_in(running, root, cores) as done:
                beside.append(p99(latencies(stub, request, seconds)))
            signed_in += done[0]
            running.sign_in(1)  # behind all that were given up: what is measured next is alone again
    quiet, busy = statistics.median(alone), statistics.median(beside)
    return {
        "verify_p99_ms": round(quiet * 1000, 3),
        "verify_p99_ms_beside_sign_ins": round(busy * 1000, 3),
        "ratio": round(busy / quiet, 2),
        "sign_ins_per_second": round(signed_in / (rounds * seconds), 1),
    }


def latencies(stub: pb_grpc.IdentityServiceStub, request: pb.VerifyRequest, seconds: float) -> list[float]:
    """Seconds that each call took; every answer must be good."""
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
    """64 sign-ins in flight until the block ends; then how many were done."""
    secret = root / "password"
    secret.touch(mode=0o600)
    secret.write_text(running.password)
    words = ("--keep-signing-in", running.target, service.USER, str(secret))
    command = [sys.executable, "-m", "benchmarks.logins", *words]
    done = [0]
    load = subprocess.Popen(
        ["taskset", "-c", str(cores.load), *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
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
    """Keep so many sign-ins in flight until standard input ends; prints when one is done, then how many."""
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
    sys.exit(main())
