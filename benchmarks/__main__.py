"""The command `python -m benchmarks`: parses the flags, runs the measurements, and prints the report.

See docs/benchmarks/README.md.

Exit codes: 0 every bar is met, 1 a bar is not met or could not be measured, 2 nothing was measured.
"""

import argparse
import json
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn

from benchmarks import pythons, report
from benchmarks.agenda import measure
from benchmarks.bars import BARS, chosen
from benchmarks.measure import Bench
from benchmarks.processes import BenchmarkError, Cores, StoppedError, on_core
from benchmarks.verdicts import Verdict, judge

_MET: Final = 0
_SHORT: Final = 1
_NOT_MEASURED: Final = 2
_LONGEST: Final = 3600
"""The number of seconds that a run may take, in addition to the time of its rounds."""
_MOST_SIDES: Final = 60


def main() -> int:
    """Run the benchmark, and return its exit code."""
    arguments = _arguments()
    bars = chosen(arguments.bars)
    _stop_in_time(arguments.rounds, arguments.seconds)
    try:
        cores = Cores.choose()
        # What this process does meanwhile, such as looking whether a server is ready, is load as well.
        with tempfile.TemporaryDirectory(prefix="identity-bench-") as root, on_core(cores.load):
            bench = Bench(
                root=Path(root),
                cores=cores,
                rounds=arguments.rounds,
                seconds=arguments.seconds,
                say=_say,
                curves=arguments.curves,
            )
            if arguments.python:
                return _compare(bench, arguments)
            found = measure(frozenset[str]().union(*(bar.needs for bar in bars)), bench)
    except (BenchmarkError, StoppedError) as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return _NOT_MEASURED
    results = judge(bars, found)
    answer = report.as_json(found, results, rounds=arguments.rounds, seconds=arguments.seconds)
    as_json = json.dumps(answer, indent=2)
    if arguments.save is not None:
        arguments.save.write_text(f"{as_json}\n")
    print(as_json if arguments.json else report.table(found, results))
    if not found.figures:
        return _NOT_MEASURED
    return _MET if all(result.verdict is Verdict.PASS for result in results) else _SHORT


def _compare(bench: Bench, arguments: argparse.Namespace) -> int:
    """Measure the service on two Pythons side by side, and print their ratios. Judges no bar."""
    compared = pythons.measure(bench, arguments.python)
    answer = pythons.as_json(compared, rounds=arguments.rounds, seconds=arguments.seconds)
    as_json = json.dumps(answer, indent=2)
    if arguments.save is not None:
        arguments.save.write_text(f"{as_json}\n")
    print(as_json if arguments.json else pythons.table(compared))
    return _MET if compared.ratios else _NOT_MEASURED


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure against the bars.")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    parser.add_argument(
        "--save", type=Path, metavar="FILE", help="write the JSON to a file, whatever is printed"
    )
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each side; default 5")
    parser.add_argument("--seconds", type=float, default=0.8, help="length of a round; default 0.8")
    parser.add_argument(
        "--bars",
        nargs="+",
        default=[],
        type=str.upper,
        choices=[bar.name for bar in BARS],
        metavar="S",
        help=f"only these of {', '.join(bar.name for bar in BARS)}",
    )
    parser.add_argument(
        "--curves",
        action="store_true",
        help="measure also what only the plots show: latency by load, short denylists, more peers",
    )
    parser.add_argument(
        "--python",
        metavar="PYTHON",
        help="instead of the bars: measure the service on this Python beside the one that runs",
    )
    arguments = parser.parse_args()
    if arguments.python:
        found = shutil.which(arguments.python)
        if found is None:
            parser.error(f"--python: there is no program {arguments.python}")
        arguments.python = str(Path(found).absolute())  # the service runs in another directory
    if arguments.rounds < 1 or arguments.seconds <= 0:
        parser.error("--rounds must be at least 1 and --seconds positive")
    return arguments


def _say(progress: str) -> None:
    print(f"  {progress}", file=sys.stderr, flush=True)


def _stop_in_time(rounds: int, seconds: float) -> None:
    """End the run after a time limit, or on a signal, through the blocks that end the servers."""

    def leave(number: int, _frame: FrameType | None) -> NoReturn:
        raise StoppedError(f"stopped by {signal.Signals(number).name}")

    signal.signal(signal.SIGALRM, leave)
    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGINT, leave)
    signal.alarm(_LONGEST + int(rounds * _MOST_SIDES * seconds))


if __name__ == "__main__":
    sys.exit(main())
