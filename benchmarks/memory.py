"""Measures the memory of an idle process, and reads the result of a soak: bar B11."""

import base64
import contextlib
import json
import secrets
from pathlib import Path
from typing import Final

from benchmarks import names, redis_server
from benchmarks.launch import Launcher
from benchmarks.measure import Bench, Figures, Findings

SOAK_RESULT: Final = Path(__file__).parent / "results" / "soak.json"
"""The file with the JSON of a soak, which takes too long to be part of a run."""
SOAK: Final = (names.SOAK_CALLS, names.SOAK_GROWTH, names.SOAK_GOOD)
_MB: Final = 1_000_000


def trial(bench: Bench, soak_result: Path = SOAK_RESULT) -> Findings:
    """Start the service several times, and measure its memory as soon as it serves."""
    root, values, alone = bench.root / "memory", list[float](), list[float]()
    root.mkdir()
    with redis_server.serve(root, bench.cores.load) as url:
        key = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
        environment = {"IDENTITY_MASTER_KEY": key, "IDENTITY_STORE": url}
        for number in range(1, bench.rounds + 1):
            bench.say(f"round {number} of {bench.rounds}: memory of an idle worker")
            with contextlib.ExitStack() as stack:
                launcher = Launcher(stack, root, bench.cores.server, environment)
                if number == 1:
                    launcher.command("init")
                alone.append(launcher.serve("alone").process.resident_bytes / _MB)
                supervisor = launcher.serve("idle", options=("--workers", "1")).process
                values.append(supervisor.largest_child_bytes / _MB)
    found = Findings(
        figures={
            names.WORKER_MEMORY: Figures(title="resident memory, an idle worker", unit="MB", values=values),
            names.ALONE_MEMORY: Figures(title="the same without workers", unit="MB", values=alone),
        }
    )
    found.add(soak(soak_result))
    return found


def soak(result: Path) -> Findings:
    """Return the figures of a soak, from its JSON output."""
    if not result.exists():
        reason = f"no soak has been run: there is no {result.parent.name}/{result.name}"
        return Findings(absent=dict.fromkeys(SOAK, reason))
    try:
        said = json.loads(result.read_text())
        values = {
            names.SOAK_CALLS: ("soak: calls", "calls", float(said["calls"])),
            names.SOAK_GROWTH: ("soak: growth in a million calls", "MB", said["verdict"]["growth"]),
            names.SOAK_GOOD: ("soak: all as it must be (1 = yes)", "", float(said["good"] is True)),
        }
    except (ValueError, LookupError, TypeError) as error:
        return Findings(absent=dict.fromkeys(SOAK, f"{result.name} cannot be read: {error!r}"))
    found = Findings()
    for name, (title, unit, value) in values.items():
        if value is None:
            found.absent[name] = "the soak made too few calls to say how memory grows"
        else:
            found.figures[name] = Figures(title=title, unit=unit, values=[value])
    return found
