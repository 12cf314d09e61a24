"""Makes a million calls of every kind, and checks that memory stays flat. `make soak` runs it.

The server is the real process on Redis, with watchers, revocations and key rotations. Every answer is
checked; memory, descriptors and threads are sampled. See docs/benchmarks/soak.md.

Exit codes: 0 every answer was right and no sampled value grew, 1 an answer was wrong or a value grew, 2
nothing was measured, or the time was over before all calls were made.
"""

import argparse
import json
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import grpc

from benchmarks import names, redis_server, service, soak_verdict
from benchmarks.h2load import GRPC_SHAPE
from benchmarks.memory import RESULTS
from benchmarks.plots import soak as soak_plot
from benchmarks.processes import BenchmarkError, Cores, on_core
from benchmarks.service import Service
from benchmarks.soak_load import Call, Mix, When
from benchmarks.soak_verdict import Sample
from identityapi.v1 import admin_service_pb2 as admin_pb
from identityapi.v1 import admin_service_pb2_grpc as admin_grpc
from identityapi.v1 import trust_service_pb2 as trust_pb
from identityapi.v1 import trust_service_pb2_grpc as trust_grpc

_CALLS: Final = 1_000_000
_ROTATIONS: Final = 20
_WATCHERS: Final = 4
_SESSIONS: Final = 500
_SAMPLES: Final = 400
"""The approximate number of samples in a run; they are the same number of calls apart."""
_DEADLINE: Final = 30.0
_LEEWAY: Final = 2.0
_LOCAL_POOL: Final = ("grpc.use_local_subchannel_pool", 1)
_SETTINGS: Final = {
    # Tokens that end soon, so that caches and denylist are full and empty themselves within the run.
    "IDENTITY_ACCESS_TOKEN_LIFETIME": "30s",
    "IDENTITY_MAX_ACCESS_TOKEN_LIFETIME": "30s",
    "IDENTITY_LEEWAY": f"{_LEEWAY}s",
    "IDENTITY_CACHE_BYTES": str(16 * 2**20),
    "IDENTITY_PUBLISH_BEFORE": "0s",
    "IDENTITY_ARGON2_TIME_COST": "1",
    "IDENTITY_ARGON2_MEMORY_KIB": "8",
    "IDENTITY_ARGON2_PARALLELISM": "1",
}


def main() -> int:
    """Run the soak, print the result, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--calls", type=int, default=_CALLS)
    parser.add_argument("--seconds", type=float, default=600.0, help="by then it must be through")
    parser.add_argument("--engine", default="grpcio", choices=names.ENGINES)
    parser.add_argument(
        "--save", action="store_true", help="keep the result for bar S11 of `python -m benchmarks`"
    )
    parser.add_argument("--svg", type=Path, help="a file for the plot")
    parser.add_argument("--samples", action="store_true", help="print every sample too")
    arguments = parser.parse_args()
    try:
        found = run(arguments.calls, arguments.seconds, engine=arguments.engine)
    except BenchmarkError as error:
        print(f"soak: {error}", file=sys.stderr)
        return 2
    samples = found.pop("samples")
    if arguments.svg is not None:
        arguments.svg.write_text(soak_plot.draw(samples))
    if arguments.samples:
        found["samples"] = [asdict(sample) for sample in samples]
    if arguments.save:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"soak-{arguments.engine}.json").write_text(json.dumps(found))
    print(json.dumps(found, indent=2))
    if not found["complete"]:
        print(f"soak: the time was up after {found['calls']} calls", file=sys.stderr)
        return 2
    return 0 if found["good"] else 1


def run(calls: int, seconds: float, *, engine: str = "grpcio") -> dict[str, Any]:
    """Make this many calls, or as many as fit into the time, and return the result.

    Raises BenchmarkError if nothing was measured.
    """
    cores = Cores.choose()
    settings = _SETTINGS | {"IDENTITY_ENGINE": engine}
    with tempfile.TemporaryDirectory(prefix="identity-bench-") as directory, ExitStack() as stack:
        root = Path(directory)
        stack.enter_context(on_core(cores.load))  # first: threads of gRPC stay where they are made
        url = stack.enter_context(redis_server.serve(root, cores.load))
        running = stack.enter_context(service.serve(root, url, cores, settings=settings))
        watchers = stack.enter_context(_Watchers(running.target))
        issue = running.issue_request().SerializeToString()
        mix = Mix(issue, running.sign_in(_SESSIONS), service.AUDIENCE, leeway=_LEEWAY)
        load = _Load(running.target, mix, calls)
        samples, rotations = _drive(running, load, seconds)
        watchers.await_all(mix.revoked * _WATCHERS)
        verdict = soak_verdict.judge(samples)
        wrong = dict(load.wrong + watchers.wrong)
        return {
            "engine": engine,
            "calls": load.done,
            "complete": load.done == calls,
            "calls_per_second": round(load.done / samples[-1].seconds),
            "seconds": samples[-1].seconds,
            "kinds": dict(mix.counts),
            "rotations": rotations,
            "watchers": _WATCHERS,
            "watchers_notified": watchers.received,
            "wrong": wrong,
            "first": {name: getattr(samples[0], name) for name in _SHOWN},
            "last": {name: getattr(samples[-1], name) for name in _SHOWN},
            "verdict": asdict(verdict),
            "good": verdict.good and not wrong,
            "samples": samples,
        }


_SHOWN: Final = ("rss_bytes", "descriptors", "threads")


def _drive(running: Service, load: "_Load", seconds: float) -> tuple[list[Sample], int]:
    """Take samples and rotate keys until the load has ended."""
    samples: list[Sample] = []
    rotations = 0
    begun = time.monotonic()
    load.start()
    while not load.wait_for(load.total * (len(samples) + 1) / _SAMPLES):
        running.process.require_running()
        elapsed = time.monotonic() - begun
        if elapsed > seconds:
            load.give_up()
            break
        samples.append(soak_verdict.take(running.process.pid, load.done, elapsed))
        if load.done * (_ROTATIONS + 1) > load.total * (rotations + 1):
            _rotate(running)
            rotations += 1
    samples.append(soak_verdict.take(running.process.pid, load.done, time.monotonic() - begun))
    return samples, rotations


def _rotate(running: Service) -> None:
    metadata = running.admin_metadata("identity.admin")
    with grpc.insecure_channel(running.target) as channel:
        stub = admin_grpc.AdminServiceStub(channel)
        try:
            stub.RotateKeys(admin_pb.RotateKeysRequest(), metadata=metadata, timeout=_DEADLINE)
        except grpc.RpcError as error:
            raise BenchmarkError(f"the keys cannot be rotated: {error}") from error


class _Load:
    """A load that keeps a number of calls in flight; each answer starts the next call."""

    def __init__(self, target: str, mix: Mix, total: int) -> None:
        self.total = total
        self.done = 0
        self.wrong: Counter[str] = Counter()
        self._mix = mix
        self._begun = 0
        self._given_up = False
        self._progress = threading.Condition()
        self._channels = [grpc.insecure_channel(target, [_LOCAL_POOL]) for _ in range(GRPC_SHAPE.connections)]
        self._methods: list[dict[str, grpc.UnaryUnaryMultiCallable[bytes, bytes]]] = [
            {} for _ in self._channels
        ]

    def start(self) -> None:
        for index in range(GRPC_SHAPE.in_flight):
            self._next(index % len(self._channels))

    def wait_for(self, calls: float) -> bool:
        """Wait for this many calls, or for a second; return whether all calls are done."""
        with self._progress:
            self._progress.wait_for(lambda: self.done >= calls, timeout=1.0)
            return self.done >= self.total

    def give_up(self) -> None:
        """Begin no more calls, and cancel those in flight."""
        with self._progress:
            self._begun = self.total
            self._given_up = True
        for channel in self._channels:
            channel.close()

    def _next(self, index: int) -> None:
        with self._progress:
            if self._begun >= self.total:
                return
            self._begun += 1
            call = self._mix.next()
        methods = self._methods[index]
        if call.path not in methods:
            methods[call.path] = self._channels[index].unary_unary(call.path)
        begun = time.monotonic()
        future = methods[call.path].future(call.request, timeout=_DEADLINE)
        future.add_done_callback(lambda answer: self._take_in(index, call, begun, answer))

    def _take_in(self, index: int, call: Call, begun: float, answer: "grpc.Future[bytes]") -> None:
        when = When(begun, time.monotonic())
        with self._progress:
            if self._given_up:
                return
            error = answer.exception()
            if isinstance(error, grpc.RpcError):
                wrong = f"failed: {error.code().name}"
            else:
                wrong = call.accept(answer.result(), when)
            if wrong:
                self.wrong[f"{call.kind}: {wrong}"] += 1
            self.done += 1
            if self.done % 100 == 0 or self.done == self.total:
                self._progress.notify_all()
        self._next(index)


class _Watchers:
    """The open streams of Watch; it is an error if one of them is cut off."""

    def __init__(self, target: str) -> None:
        self.received = 0
        self._change = threading.Condition()
        self.wrong: Counter[str] = Counter()
        self._ending = False
        self._channel = grpc.insecure_channel(target, [_LOCAL_POOL])
        stub = trust_grpc.TrustServiceStub(self._channel)
        self._streams = [stub.Watch(trust_pb.WatchRequest()) for _ in range(_WATCHERS)]
        self._threads = [threading.Thread(target=self._read, args=[stream]) for stream in self._streams]

    def __enter__(self) -> "_Watchers":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending = True
        for stream in self._streams:
            stream.cancel()
        for thread in self._threads:
            thread.join()
        self._channel.close()

    def await_all(self, revocations: int) -> None:
        """Wait until every watcher has received every revocation; record an error if one does not arrive."""
        with self._change:
            if not self._change.wait_for(lambda: self.received >= revocations, timeout=_DEADLINE):
                self.wrong["watch: a revocation did not arrive"] += revocations - self.received

    def _read(self, stream: Any) -> None:
        how = "ended"
        try:
            for message in stream:
                with self._change:
                    self.received += len(message.revocations)
                    self._change.notify_all()
        except grpc.RpcError as error:
            how = error.code().name
        if not self._ending:
            self.wrong[f"watch: {how}"] += 1


if __name__ == "__main__":
    sys.exit(main())
