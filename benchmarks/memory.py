"""Measures the memory and the CPU of an idle process, and reads the results of soaks: bar S11."""

import base64
import contextlib
import json
import secrets
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from benchmarks import names, redis_server
from benchmarks.launch import Launcher
from benchmarks.measure import Bench, Figures, Findings

RESULTS: Final = Path(__file__).parent / "results"
"""The folder with the JSON of the last soak of each engine, which takes too long to be part of a run."""
SOAK: Final = frozenset(
    names.soak(engine, figure) for engine in names.ENGINES for figure in ("calls", "growth", "good", "memory")
)
FIGURES: Final = SOAK | {names.WORKER_MEMORY, names.ALONE_MEMORY, names.WORKER_CPU}
_MB: Final = 1_000_000
_CALM: Final = 3.0
"""The number of seconds after which a worker that has just begun to serve is idle."""
_IDLE: Final = 2.0
"""The number of seconds of each round in which the CPU time of an idle worker is measured."""


def trial(bench: Bench, results: Path = RESULTS) -> Findings:
    """Start the service several times, and measure its memory as soon as it serves; then its CPU time."""
    root, values, alone = bench.root / "memory", list[float](), list[float]()
    root.mkdir()
    key = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
    with redis_server.serve(root, bench.cores.load) as url:
        environment = {"IDENTITY_MASTER_KEY": key, "IDENTITY_STORE": url}
        for number in range(1, bench.rounds + 1):
            bench.say(f"round {number} of {bench.rounds}: memory of an idle worker")
            with contextlib.ExitStack() as stack:
                launcher = Launcher(stack, root, bench.cores.server, environment, bench.python)
                if number == 1:
                    launcher.command("init")
                alone.append(launcher.serve("alone").process.resident_bytes / _MB)
                supervisor = launcher.serve("idle", options=("--workers", "1")).process
                values.append(supervisor.largest_child_bytes / _MB)
    embedded = {"IDENTITY_MASTER_KEY": key, "IDENTITY_STORE": f"sqlite:///{root}/identity.db"}
    found = Findings(
        figures={
            names.WORKER_MEMORY: Figures(title="resident memory, an idle worker", unit="MB", values=values),
            names.ALONE_MEMORY: Figures(title="the same without workers", unit="MB", values=alone),
            names.WORKER_CPU: Figures(
                title="CPU of an idle worker, embedded store", unit="%", values=_idle(bench, root, embedded)
            ),
        }
    )
    for engine in names.ENGINES:
        found.add(soak(engine, results / f"soak-{engine}.json"))
    return found


def _idle(bench: Bench, root: Path, environment: dict[str, str]) -> list[float]:
    """Return the CPU time of an idle worker in each round, in percent of a core."""
    percent = list[float]()
    with contextlib.ExitStack() as stack:
        launcher = Launcher(stack, root, bench.cores.server, environment, bench.python)
        launcher.command("init")
        supervisor = launcher.serve("embedded", options=("--workers", "1")).process
        time.sleep(_CALM)
        for number in range(1, bench.rounds + 1):
            bench.say(f"round {number} of {bench.rounds}: CPU of an idle worker")
            begun, before = time.monotonic(), supervisor.children_seconds
            time.sleep(_IDLE)
            used = supervisor.children_seconds - before
            percent.append(100 * used / (time.monotonic() - begun))
    return percent


def soak(engine: str, result: Path) -> Findings:
    """Return the figures of a soak, from its JSON output."""
    wanted = [name for name in SOAK if name.startswith(names.soak(engine, ""))]
    if not result.exists():
        reason = (
            f"no soak of the {engine} engine has been run: there is no {result.parent.name}/{result.name}"
        )
        return Findings(absent=dict.fromkeys(wanted, reason))
    day = datetime.fromtimestamp(result.stat().st_mtime, UTC).date().isoformat()
    try:
        said = json.loads(result.read_text())
        of = said["engine"]
        values = {
            "calls": ("calls", "calls", float(said["calls"])),
            "growth": ("growth in a million calls", "MB", said["verdict"]["growth"]),
            "good": ("all as it must be (1 = yes)", "", float(said["good"] is True)),
            "memory": ("memory at the end", "MB", said["last"]["rss_bytes"] / _MB),
        }
    except (ValueError, LookupError, TypeError) as error:
        return Findings(absent=dict.fromkeys(wanted, f"{result.name} cannot be read: {error!r}"))
    if of != engine:
        return Findings(absent=dict.fromkeys(wanted, f"{result.name} is of the engine {of}"))
    found = Findings()
    for figure, (title, unit, value) in values.items():
        name = names.soak(engine, figure)
        if value is None:
            found.absent[name] = "the soak made too few calls to say how memory grows"
        else:
            title = f"soak of {day}, {engine}: {title}"
            found.figures[name] = Figures(title=title, unit=unit, values=[value])
    return found
