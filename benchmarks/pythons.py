"""Measures the service on two versions of Python, side by side in the same rounds on the same core.

Each version has a service, an Envoy engine, a Redis and a server of empty calls of its own; the load, and
everything else, runs on the Python of the benchmark.
"""

import contextlib
import dataclasses
import statistics
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from benchmarks import h2load, names
from benchmarks.lineup import Lineup
from benchmarks.measure import Bench, Findings, Side, alternate
from benchmarks.processes import BenchmarkError
from benchmarks.report import aligned, limits, number, spread

SIDES: Final = (
    names.EMPTY,
    names.VERIFY,
    names.VERIFY_NEW,
    names.BATCH,
    names.ISSUE,
    names.OAUTH,
    names.REFRESH,
    names.ENVOY_VERIFY,
    names.ENVOY_VERIFY_NEW,
    names.ENVOY_ISSUE,
)
_VERSION: Final = "import grpc, platform; print(platform.python_version())"
_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """The result: the figures of both versions, and the ratio of the second to the first in each round."""

    versions: tuple[str, str]
    found: Findings
    """The figures by their names, with an @ and the version."""

    @property
    def ratios(self) -> Mapping[str, Sequence[float]]:
        """Return the ratio of each side that was measured on both versions, at the same pace."""
        figures = self.found.figures
        pairs = {name: [figures.get(_at(name, version)) for version in self.versions] for name in SIDES}
        return {
            name: [two / one for one, two in zip(first.steady, second.steady, strict=True)]
            for name, (first, second) in pairs.items()
            if first is not None and second is not None
        }


def measure(bench: Bench, python: str) -> Compared:
    """Measure all sides on the Python of the benchmark and on this one. Raises BenchmarkError."""
    here, other = (dataclasses.replace(bench, root=bench.root / name) for name in ("here", "other"))
    other = dataclasses.replace(other, python=python)
    versions = _version(here.python), _version(other.python)
    if versions[0] == versions[1]:
        raise BenchmarkError(f"{python} is Python {versions[0]} as well; name another version")
    h2load.require()
    with contextlib.ExitStack() as stack:
        sides, absent = dict[str, Side](), dict[str, str]()
        for version, one in zip(versions, (here, other), strict=True):
            one.root.mkdir()
            bench.say(f"Python {version}")
            ready, missing = Lineup(stack, one).sides(SIDES)
            sides |= {_at(name, version): side for name, side in ready.items()}
            absent |= {_at(name, version): why for name, why in missing.items()}
        turns = [_at(name, version) for name in SIDES for version in versions]
        found = alternate({turn: sides[turn] for turn in turns if turn in sides}, bench)
        found.add(Findings(absent=absent))
    return Compared(versions=versions, found=found)


def table(compared: Compared) -> str:
    """Return a line for each side: the rate on each version, and their ratio with its spread."""
    one, two = compared.versions
    rows: list[tuple[str, ...]] = [("per second", f"Python {one}", f"Python {two}", "ratio", "rounds")]
    for name, ratios in compared.ratios.items():
        medians = [number(compared.found.figures[_at(name, version)].median) for version in (one, two)]
        rows.append((name, *medians, f"{statistics.median(ratios):.2f}", spread(ratios)))
    missing = [f"{name} not measured: {why}" for name, why in compared.found.absent.items()]
    return "\n\n".join([aligned(rows, left={0}), *missing, *limits(compared.found)])


def as_json(compared: Compared, *, rounds: int, seconds: float) -> dict[str, Any]:
    """Return the same for programs, with every round."""
    return {
        "versions": list(compared.versions),
        "rounds": rounds,
        "seconds_per_round": seconds,
        "rates": {name: list(figures.values) for name, figures in compared.found.figures.items()},
        "ratios": {name: list(ratios) for name, ratios in compared.ratios.items()},
        "pace": compared.found.pace,
        "not_measured": compared.found.absent,
        "notes": limits(compared.found),
    }


def _at(name: str, version: str) -> str:
    return f"{name}@{version}"


def _version(python: str) -> str:
    """Return the version of a Python. Raises BenchmarkError if the service is not installed for it."""
    run = subprocess.run(
        [python, "-c", _VERSION], capture_output=True, text=True, check=False, timeout=_SECONDS
    )
    if run.returncode:
        raise BenchmarkError(f"the service is not installed for {python}:\n{run.stderr[-1000:]}")
    return run.stdout.strip()
