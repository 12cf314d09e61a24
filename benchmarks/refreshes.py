"""Measures bar S7, the CPU time of a Refresh on a Redis that syncs writes: `python -m benchmarks.refreshes`.

It is that of the whole process of the service on grpcio, with its transport, its log and its heartbeats,
divided by the number of answers. The calls in flight at the end of a round cost time as well, so that short
rounds give more. The rounds take turns with those of the bare ES256 signature on the same core.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from benchmarks import names, redis_server, service
from benchmarks.load import Order
from benchmarks.measure import Bench, Figures, Findings
from benchmarks.processes import Cores, on_core
from benchmarks.service import SESSIONS
from benchmarks.sides import run_load

_SIGNATURES: Final = 5_000
_SIGNED: Final = b"x" * 600
"""A text as long as the signed part of an access token."""


def trial(bench: Bench) -> Findings:
    """Measure the CPU time of a Refresh, and that of a signature beside it."""
    root = bench.root / "refreshes"
    root.mkdir()
    refreshes, signatures = list[float](), list[float]()
    with (
        redis_server.serve(root, bench.cores.load) as url,
        service.serve(root, url, bench.cores, python=bench.python) as running,
    ):
        bench.say(f"{SESSIONS:,} sign-ins")
        tokens: Sequence[str] = running.sign_in(SESSIONS)
        for number in range(bench.rounds + 1):  # the first warms up
            bench.say(f"round {number} of {bench.rounds}: CPU time of a Refresh")
            before = running.process.cpu_seconds
            order = Order(work="refresh", seconds=bench.seconds, items=tokens)
            report = run_load("Refresh", running.target, order, bench.cores)
            tokens = report.tokens
            refreshes.append((running.process.cpu_seconds - before) / report.calls * 1e6)
            signatures.append(_signature(bench.cores.server))
    titles = {
        names.REFRESH_CPU: ("CPU of the service for a Refresh, Redis", refreshes[1:]),
        names.REFRESH_SIGNATURE: ("ES256 signature alone, same core", signatures[1:]),
    }
    return Findings(
        figures={
            name: Figures(title=title, unit="µs", values=values) for name, (title, values) in titles.items()
        }
    )


def main() -> None:
    """Measure, and print the µs of each round and the median of their ratios as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.refreshes")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=2.0, help="length of a round; default 2")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="identity-bench-") as root:
        found = trial(
            Bench(
                root=Path(root),
                cores=Cores.choose(),
                rounds=asked.rounds,
                seconds=asked.seconds,
                say=lambda progress: print(progress, file=sys.stderr),
            )
        )
    rounds = {name: figures.values for name, figures in found.figures.items()}
    ratios = [a / b for a, b in zip(*rounds.values(), strict=True)]
    print(json.dumps({**rounds, "ratio": statistics.median(ratios)}, indent=2))


def _signature(core: int) -> float:
    """Return the µs of CPU time of one bare signature on this core."""
    key, scheme = ec.generate_private_key(ec.SECP256R1()), ec.ECDSA(hashes.SHA256())
    with on_core(core):
        begun = time.process_time()
        for _ in range(_SIGNATURES):
            key.sign(_SIGNED, scheme)
        return (time.process_time() - begun) / _SIGNATURES * 1e6


if __name__ == "__main__":
    main()
