"""Measures the CPU time that a guard adds to an empty call: bar S17. Run it as `python -m benchmarks.guard`.

There are three processes: an identity service, a user's service, and this one, which calls. The user's
service listens on two ports, one of them behind a guard, and says how much CPU time it has used. The ports
take turns, in blocks of calls with one token. Each round has a new process of the user's service, since one
process may be slower than another one for its whole life. CPU time counts, since most of the time of a call
is that of the client and the kernel.
"""

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from typing import Any, Final

import grpc
import grpc.aio

from benchmarks import names
from benchmarks.measure import Bench, Figures, Findings
from benchmarks.processes import BenchmarkError, Cores, on_core
from identity_client import AsyncLocalVerifier, LocalVerifier
from identity_client.grpc import Guard, Policy
from identity_client.grpc.aio import Guard as AioGuard
from identity_client.testing import service_process

_KINDS: Final = {"threads": names.GUARD_THREADS, "asyncio": names.GUARD_ASYNCIO}
_SERVICE: Final = "bench.v1.Empty"
_CALL: Final = f"/{_SERVICE}/Call"
_USED: Final = f"/{_SERVICE}/Used"
"""The method that answers with the CPU seconds of its process."""
_BLOCKS: Final = 20
"""The number of blocks of each port in a round."""
_CALLS: Final = 500
"""The number of calls in a block."""
_IN_FLIGHT: Final = 8
"""The number of calls that wait for their answers: a server that sleeps between calls varies more."""
_AUDIENCE: Final = "bench"
_POLICY: Final = Policy(_AUDIENCE, {_CALL: ["read"]})
_STALENESS: Final = timedelta(minutes=1)
_PATIENCE: Final = 120.0
"""The number of seconds that a round may take."""
_PROGRAM: Final = (sys.executable, "-m", "benchmarks.guard")


def trial(bench: Bench) -> Findings:
    """Measure in separate processes."""
    bench.say(f"what a guard adds to a call, {bench.rounds} rounds of each kind")
    command = [*_PROGRAM, "--core", str(bench.cores.load), "--server-core", str(bench.cores.server)]
    command += ["--rounds", str(bench.rounds)]
    patience = _PATIENCE * bench.rounds
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=patience)
    if run.returncode:
        raise BenchmarkError(f"the guard could not be measured:\n{run.stderr[-1000:]}")
    found = json.loads(run.stdout)
    return Findings(
        figures={
            name: Figures(title=f"CPU that a guard adds, {kind}", unit="µs", values=found[kind]["added_us"])
            for kind, name in _KINDS.items()
        },
        details={"guard": found},
    )


def main() -> None:
    """Measure, and print the microseconds of each round as JSON; with `--serve`, be the user's service."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.guard")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--core", type=int, help="of the client; default the second")
    parser.add_argument("--server-core", type=int, help="of the user's service; default the first")
    parser.add_argument(
        "--serve", nargs=3, metavar=("KIND", "TARGET", "ISSUER"), help="be the user's service"
    )
    asked = parser.parse_args()
    if asked.serve:
        kind, target, issuer = asked.serve
        if kind == "threads":
            _serve(target, issuer)
        else:
            asyncio.run(_serve_in_loop(target, issuer))
        return
    load = Cores.choose().load if asked.core is None else asked.core
    server = Cores.choose().server if asked.server_core is None else asked.server_core
    with on_core(load), service_process() as service:
        service.create_client("bench", audiences=[_AUDIENCE], scopes=["read"])
        token = service.client_token("bench", audience=_AUDIENCE)
        found = {
            kind: _measure(
                [*_PROGRAM, "--serve", kind, service.target, service.issuer], server, token, asked.rounds
            )
            for kind in _KINDS
        }
    print(json.dumps(found, indent=2))


def _serve(target: str, issuer: str) -> None:
    """Serve with threads until standard input ends; print the two ports."""
    with LocalVerifier(target, issuer=issuer, max_staleness=_STALENESS) as verifier, ExitStack() as stack:
        verifier.wait_ready()
        ports = []
        guard: grpc.ServerInterceptor = Guard(verifier, _POLICY)
        for guards in ([], [guard]):
            server = grpc.server(ThreadPoolExecutor(1), interceptors=guards)
            handlers: Any = {
                "Call": grpc.unary_unary_rpc_method_handler(lambda _, __: b""),
                "Used": grpc.unary_unary_rpc_method_handler(lambda _, __: repr(time.process_time()).encode()),
            }
            server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, handlers),))
            ports.append(server.add_insecure_port("127.0.0.1:0"))
            server.start()
            stack.callback(server.stop, 0)
        print(*ports, flush=True)
        sys.stdin.read()


async def _serve_in_loop(target: str, issuer: str) -> None:
    """The same in an event loop."""

    async def call(_: bytes, __: Any) -> bytes:
        return b""

    async def used(_: bytes, __: Any) -> bytes:
        return repr(time.process_time()).encode()

    async with AsyncLocalVerifier(target, issuer=issuer, max_staleness=_STALENESS) as verifier:
        await verifier.wait_ready()
        servers, ports = [], []
        for guards in ([], [AioGuard(verifier, _POLICY)]):
            server = grpc.aio.server(interceptors=guards)
            handlers: Any = {
                "Call": grpc.unary_unary_rpc_method_handler(call),
                "Used": grpc.unary_unary_rpc_method_handler(used),
            }
            server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, handlers),))
            ports.append(server.add_insecure_port("127.0.0.1:0"))
            await server.start()
            servers.append(server)
        print(*ports, flush=True)
        await asyncio.to_thread(sys.stdin.read)
        for server in servers:
            await server.stop(0)


def _measure(command: Sequence[str], core: int, token: str, rounds: int) -> dict[str, list[float]]:
    """Return the microseconds of a call without a guard, and those that the guard adds, in each round."""
    found: dict[str, list[float]] = {"call_us": [], "added_us": []}
    for _ in range(rounds):
        with _serving(command, core) as (plain, guarded):
            used: Any = plain.unary_unary(_USED)
            calls: list[Any] = [channel.unary_unary(_CALL) for channel in (plain, guarded)]
            _require_guard(calls[1])
            blocks = [[_block(call, used, token) for call in calls] for _ in range(1 + _BLOCKS)][1:]
        found["call_us"].append(round(statistics.median(without for without, _ in blocks), 2))
        found["added_us"].append(round(statistics.median(behind - without for without, behind in blocks), 2))
    return found


@contextmanager
def _serving(command: Sequence[str], core: int) -> Iterator[tuple[grpc.Channel, grpc.Channel]]:
    """Yield the channels to a new process of the user's service: without a guard, and with one."""
    with on_core(core):
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with process, ExitStack() as stack:
        assert process.stdin is not None
        assert process.stdout is not None
        stack.callback(process.stdin.close)
        ports = process.stdout.readline().split()
        if not ports:
            raise BenchmarkError("the user's service has not started")
        plain, guarded = (stack.enter_context(grpc.insecure_channel(f"127.0.0.1:{port}")) for port in ports)
        yield plain, guarded


def _require_guard(call: Callable[..., bytes]) -> None:
    """Raise BenchmarkError unless a call without a token is refused."""
    try:
        call(b"", timeout=_PATIENCE)
    except grpc.RpcError as error:
        if error.code() is grpc.StatusCode.UNAUTHENTICATED:
            return
        raise
    raise BenchmarkError("there is no guard")


def _block(call: Any, used: Callable[..., bytes], token: str) -> float:
    """Return the CPU time of the server for one call, in microseconds, over a block of calls."""
    metadata = (("authorization", f"Bearer {token}"),)
    begun = float(used(b""))
    flight: deque[Any] = deque()
    for _ in range(_CALLS):
        if len(flight) == _IN_FLIGHT:
            flight.popleft().result()
        flight.append(call.future(b"", metadata=metadata))
    for each in flight:
        each.result()
    return (float(used(b"")) - begun) / _CALLS * 1e6


if __name__ == "__main__":
    main()
