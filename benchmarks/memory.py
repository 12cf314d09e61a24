"""What one process needs when nobody calls it, and what a soak said: bar B11."""

import base64
import contextlib
import json
import secrets
from pathlib import Path
from typing import Final

from benchmarks import names, redis_server
from benchmarks.launch import Launcher
from benchmarks.measure import Bench, Figures, Findings
from benchmarks.processes import BenchmarkError

SOAK_RESULT: Final = Path(__file__).parent / "results" / "soak.json"
"""Where a soak leaves what it found; it takes too long to be part of a run."""
_MB: Final = 1_000_000


def trial(bench: Bench, soak_result: Path = SOAK_RESULT) -> Findings:
    """Start the service several times; look at its memory as soon as it serves."""
    root, values = bench.root / "memory", list[float]()
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
                values.append(launcher.serve("idle").idle_bytes / _MB)
    found = Findings(
        figures={names.WORKER_MEMORY: Figures(title="resident memory, idle", unit="MB", values=values)}
    )
    found.add(soak(soak_result))
    return found


def soak(result: Path) -> Findings:
    """What the soak found: how many calls, and the memory of each tenth of it."""
    try:
        text = json.loads(result.read_text())
        calls, memory = float(text["calls"]), [float(value) for value in text["memory_mb"]]
        growth = memory[-1] / memory[0]
    except FileNotFoundError:
        reason = f"no soak has been run: {result.name} is not in {result.parent.name}/"
        return Findings(absent={names.SOAK_CALLS: reason, names.SOAK_GROWTH: reason})
    except (ValueError, LookupError, TypeError) as error:
        raise BenchmarkError(f"{result.name} cannot be read: {error!r}") from error
    return Findings(
        figures={
            names.SOAK_CALLS: Figures(title="soak: calls", unit="calls", values=[calls]),
            names.SOAK_GROWTH: Figures(
                title="soak: memory at its end / after its first tenth", unit="", values=[growth]
            ),
        }
    )
