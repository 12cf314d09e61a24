"""Measures what a Guard adds to an empty call with a seen token. Run it as `python -m benchmarks.guard`.

A server without a guard and one with a guard take turns in this process, for the same calls with the same
metadata. The figure is CPU time, since the wall time of a call is mostly that of the client and the kernel.
"""

import argparse
import asyncio
import json
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any, Final

import grpc

from benchmarks.local import ASKS, running_service
from identity_client import LocalVerifier
from identity_client.grpc import Guard, Policy
from identity_client.grpc.aio import Guard as AioGuard
from identity_service.telemetry import logs

_SERVICE: Final = "bench.v1.Empty"
_METHOD: Final = f"/{_SERVICE}/Call"
_CALLS: Final = 50
"""The number of calls of one round and server."""
_PLACE: Final = "127.0.0.1:0"

Rounds = list[tuple[float, float]]
"""The microseconds of one call without and with the guard, in each round."""


def main() -> None:
    """Measure, and print the microseconds that a guard adds to a call, as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.guard")
    parser.add_argument("--rounds", type=int, default=301)
    rounds = parser.parse_args().rounds
    logs.configure("error", "json")
    with running_service(1) as (target, issuer, (token,)):
        with LocalVerifier(target, issuer=issuer, max_staleness=timedelta(minutes=1)) as verifier:
            verifier.wait_ready()
            policy = Policy(ASKS[0], {_METHOD: ["read"]})
            metadata = (("authorization", f"Bearer {token}"),)
            threads = _in_threads(Guard(verifier, policy), metadata, rounds)
            in_loop = asyncio.run(_in_loop(AioGuard(verifier, policy), metadata, rounds))
        print(json.dumps({"threads": _summary(threads), "asyncio": _summary(in_loop)}, indent=2))


def _summary(rounds: Rounds) -> dict[str, float]:
    added = [with_guard - without for without, with_guard in rounds]
    quartiles = statistics.quantiles(added, n=4)
    return {
        "call_us": round(statistics.median(without for without, _ in rounds), 1),
        "added_us": round(statistics.median(added), 1),
        "added_us_lower_quartile": round(quartiles[0], 1),
        "added_us_upper_quartile": round(quartiles[2], 1),
    }


def _in_threads(guard: Guard, metadata: Any, rounds: int) -> Rounds:
    def answer(_: bytes, __: grpc.ServicerContext) -> bytes:
        return b""

    def serve(*interceptors: Any) -> tuple[grpc.Server, Callable[..., bytes]]:
        server = grpc.server(ThreadPoolExecutor(1), interceptors=list(interceptors))
        handlers: Any = {"Call": grpc.unary_unary_rpc_method_handler(answer)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, handlers),))
        port = server.add_insecure_port(_PLACE)
        server.start()
        return server, grpc.insecure_channel(f"127.0.0.1:{port}").unary_unary(_METHOD)

    def measure(call: Callable[..., bytes]) -> float:
        begun = time.process_time()
        for _ in range(_CALLS):
            call(b"", metadata=metadata)
        return (time.process_time() - begun) / _CALLS * 1e6

    (plain, call_plain), (guarded, call_guarded) = serve(), serve(guard)
    for call in (call_plain, call_guarded):
        measure(call)
    found = [(measure(call_plain), measure(call_guarded)) for _ in range(rounds)]
    plain.stop(0).wait()
    guarded.stop(0).wait()
    return found


async def _in_loop(guard: AioGuard, metadata: Any, rounds: int) -> Rounds:
    async def answer(_: bytes, __: Any) -> bytes:
        return b""

    async def serve(*interceptors: Any) -> tuple[grpc.aio.Server, Any]:
        server = grpc.aio.server(interceptors=interceptors)
        handlers: Any = {"Call": grpc.unary_unary_rpc_method_handler(answer)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, handlers),))
        port = server.add_insecure_port(_PLACE)
        await server.start()
        return server, grpc.aio.insecure_channel(f"127.0.0.1:{port}").unary_unary(_METHOD)

    async def measure(call: Any) -> float:
        begun = time.process_time()
        for _ in range(_CALLS):
            await call(b"", metadata=metadata)
        return (time.process_time() - begun) / _CALLS * 1e6

    (plain, call_plain), (guarded, call_guarded) = await serve(), await serve(guard)
    for call in (call_plain, call_guarded):
        await measure(call)
    found = [(await measure(call_plain), await measure(call_guarded)) for _ in range(rounds)]
    await plain.stop(0)
    await guarded.stop(0)
    return found


if __name__ == "__main__":
    main()
