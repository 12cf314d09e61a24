"""The command: parse flags, start what is needed, measure, report. See docs/benchmarks/README.md.

Exit codes: 0 every bar is met, 1 a bar is short, 2 nothing was measured.
"""

import argparse
import contextlib
import json
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn

from benchmarks import h2load, report
from benchmarks.bars import BARS, Bar, chosen, results
from benchmarks.lineup import Lineup
from benchmarks.measure import Figures, alternate
from benchmarks.processes import BenchmarkError, Cores

_MET: Final = 0
_SHORT: Final = 1
_NOT_MEASURED: Final = 2
_SETUP_SECONDS: Final = 300


def main() -> int:
    """Run the benchmark and return its exit code."""
    arguments = _arguments()
    bars = chosen(arguments.bars)
    _stop_in_time(arguments.rounds, arguments.seconds)
    try:
        figures = _measure(bars, arguments.rounds, arguments.seconds)
    except BenchmarkError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return _NOT_MEASURED
    found = results(bars, figures)
    if arguments.json:
        print(
            json.dumps(
                report.as_json(figures, found, rounds=arguments.rounds, seconds=arguments.seconds), indent=2
            )
        )
    else:
        print(report.table(figures, found))
    return _MET if all(result.met for result in found) else _SHORT


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure against the bars.")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each side; default 5")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of a round; default 2")
    parser.add_argument(
        "--bars",
        nargs="+",
        default=[],
        type=str.upper,
        choices=[bar.name for bar in BARS],
        metavar="B",
        help=f"only these of {', '.join(bar.name for bar in BARS)}",
    )
    arguments = parser.parse_args()
    if arguments.rounds < 1 or arguments.seconds <= 0:
        parser.error("--rounds must be at least 1 and --seconds positive")
    return arguments


def _measure(bars: Sequence[Bar], rounds: int, seconds: float) -> dict[str, Figures]:
    h2load.require()
    cores = Cores.choose()
    names = {name for bar in bars for name in bar.sides}
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="identity-bench-")))
        sides = Lineup(stack, cores, directory, _say).sides(names)
        return alternate(sides, rounds=rounds, seconds=seconds, progress=_say)


def _say(progress: str) -> None:
    print(f"  {progress}", file=sys.stderr, flush=True)


def _stop_in_time(rounds: int, seconds: float) -> None:
    """Whatever hangs or whoever asks: leave through the blocks that end the servers."""

    def leave(number: int, _frame: FrameType | None) -> NoReturn:
        raise BenchmarkError(f"stopped by {signal.Signals(number).name}")

    signal.signal(signal.SIGALRM, leave)
    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGINT, leave)
    signal.alarm(_SETUP_SECONDS + int(rounds * 10 * (seconds + 5)))


if __name__ == "__main__":
    sys.exit(main())
