"""Measures how fast a guard ends open streams: bar S9. Run it as `python -m benchmarks.streams`.

There are three processes: an identity service, a user's service (grpc.aio) with a Guard, and this one, whose
clients hold 1,000 streams, each with a token of its own. The time counts from Revoke's return until the
client has received the end of the stream.
"""

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from typing import Any, Final

import grpc
import grpc.aio

from benchmarks import names
from benchmarks.measure import Bench, Figures, Findings
from benchmarks.processes import BenchmarkError, Cores, on_core
from identity_client import AsyncIdentityClient, AsyncLocalVerifier
from identity_client.grpc.aio import Guard, Policy
from identity_client.testing import ServiceUnderTest, service_process

STREAMS: Final = 1000
_REVOCATIONS: Final = 200
_CONNECTIONS: Final = 20
_PATIENCE: Final = 120.0
_METHOD: Final = "/bench.v1.Streams/Follow"
_AUDIENCE: Final = "bench"
_PROGRAM: Final = (sys.executable, "-m", "benchmarks.streams")


def trial(bench: Bench) -> Findings:
    """Measure in separate processes."""
    bench.say(f"{_REVOCATIONS} revocations, {STREAMS:,} open streams of a guard")
    command = [*_PROGRAM, "--core", str(bench.cores.load), "--server-core", str(bench.cores.server)]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=3 * _PATIENCE)
    if run.returncode:
        raise BenchmarkError(f"the streams could not be measured:\n{run.stderr[-1000:]}")
    found = json.loads(run.stdout)
    title = f"Revoke → stream ended, {STREAMS:,} streams, p99"
    figure = Figures(title=title, unit="ms", values=[found["one_p99_ms"]])
    return Findings(figures={names.STREAM_ENDS: figure}, details={"open_streams": found})


def main() -> None:
    """Measure, and print the milliseconds as JSON; with `--serve`, be the user's service instead."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.streams")
    parser.add_argument("--core", type=int, help="of the clients; default the second")
    parser.add_argument("--server-core", type=int, help="of the two services; default the first")
    parser.add_argument("--serve", nargs=2, metavar=("TARGET", "ISSUER"), help="run the user's service alone")
    asked = parser.parse_args()
    if asked.serve:
        asyncio.run(_serve(*asked.serve))
        return
    load = Cores.choose().load if asked.core is None else asked.core
    server = Cores.choose().server if asked.server_core is None else asked.server_core
    with on_core(server), service_process() as service, _guarded(service) as target, on_core(load):
        print(json.dumps(_measure(service, target)))


async def _serve(target: str, issuer: str) -> None:
    """Serve until standard input ends; print the port."""

    async def follow(_: bytes, context: Any) -> None:
        await context.write(b"1")
        await asyncio.Event().wait()

    async with AsyncLocalVerifier(target, issuer=issuer) as verifier:
        await verifier.wait_ready()
        server = grpc.aio.server(interceptors=[Guard(verifier, Policy(_AUDIENCE, {_METHOD: []}))])
        service, _, name = _METHOD[1:].partition("/")
        handlers: Any = {name: grpc.unary_stream_rpc_method_handler(follow)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
        sys.stdout.write(f"{server.add_insecure_port('127.0.0.1:0')}\n")
        await server.start()
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.read)
        await server.stop(0)


@contextmanager
def _guarded(service: ServiceUnderTest) -> Iterator[str]:
    command = [*_PROGRAM, "--serve", service.target, service.issuer]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield f"127.0.0.1:{process.stdout.readline().strip()}"
        process.stdin.close()


def _measure(service: ServiceUnderTest, target: str) -> dict[str, float]:
    service.create_client("streams", audiences=[_AUDIENCE])
    tokens = [service.client_token("streams", audience=_AUDIENCE) for _ in range(STREAMS)]
    return asyncio.run(_revoke(service, target, tokens))


async def _revoke(service: ServiceUnderTest, target: str, tokens: Sequence[str]) -> dict[str, float]:
    each: list[float] = []
    async with AsyncExitStack() as stack:
        channels = [
            await stack.enter_async_context(
                grpc.aio.insecure_channel(target, options=[("grpc.use_local_subchannel_pool", 1)])
            )
            for _ in range(_CONNECTIONS)
        ]
        streams = [_Stream(channels[at % _CONNECTIONS], token) for at, token in enumerate(tokens)]
        await asyncio.wait_for(asyncio.gather(*(stream.opened.wait() for stream in streams)), _PATIENCE)
        client = await stack.enter_async_context(AsyncIdentityClient(service.target))
        for stream in streams[:_REVOCATIONS]:
            await client.revoke_token(stream.token)
            begun = time.monotonic()
            each.append(await stream.ended_after(begun))
        others = streams[_REVOCATIONS:]
        if any(stream.task.done() for stream in others):
            raise BenchmarkError("a stream ended whose token was not revoked")
        await asyncio.to_thread(service.revoker.revoke_client, "streams")
        begun = time.monotonic()
        last = await asyncio.gather(*(stream.ended_after(begun) for stream in others))
    cuts = statistics.quantiles(each, n=100)
    return {
        "one_p50_ms": round(cuts[49], 2),
        "one_p99_ms": round(cuts[98], 2),
        f"all_{len(others)}_p50_ms": round(statistics.median(last), 2),
        f"all_{len(others)}_last_ms": round(max(last), 2),
    }


class _Stream:
    """One open stream, which notes when it ended."""

    def __init__(self, channel: grpc.aio.Channel, token: str) -> None:
        self.token = token
        self.opened = asyncio.Event()
        self.task = asyncio.create_task(self._read(channel))

    async def _read(self, channel: grpc.aio.Channel) -> float:
        """Read until the guard ends the stream; return when, by the monotonic clock."""
        call: Any = channel.unary_stream(_METHOD)
        try:
            async for _ in call(b"", metadata=(("authorization", f"Bearer {self.token}"),)):
                self.opened.set()
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAUTHENTICATED:
                raise
        return time.monotonic()

    async def ended_after(self, begun: float) -> float:
        """Return the milliseconds from then until the end of the stream."""
        return max(0.0, await asyncio.wait_for(self.task, _PATIENCE) - begun) * 1000


if __name__ == "__main__":
    main()
