"""The command `python -m benchmarks.plots`: draws three SVG files from the JSON of a run.

The same JSON gives the same bytes.

Exit codes: 0 all plots were drawn, 1 a figure that a plot needs is missing.
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from benchmarks.plots import denylist, latency, throughput

PLOTS: Final[Mapping[str, Callable[[Mapping[str, Any]], str | None]]] = {
    "throughput.svg": throughput.draw,
    "latency.svg": latency.draw,
    "denylist.svg": denylist.draw,
}
"""A map from a file to the function that draws it, which returns None if no figure of it was measured."""
_FOLDER: Final = Path(__file__).parents[2] / "docs" / "benchmarks"


def main() -> int:
    """Draw all plots."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plots", description=__doc__)
    parser.add_argument("run", type=Path, help="what `python -m benchmarks --curves --json` printed")
    parser.add_argument("--folder", type=Path, default=_FOLDER, help="where to; default docs/benchmarks")
    arguments = parser.parse_args()
    run, missing = json.loads(arguments.run.read_text()), False
    for name, draw in PLOTS.items():
        svg = draw(run)
        if svg is None:
            print(f"{name}: the run did not measure it", file=sys.stderr)
            missing = True
        else:
            (arguments.folder / name).write_text(svg)
    return int(missing)


if __name__ == "__main__":
    sys.exit(main())
