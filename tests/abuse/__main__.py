"""Run one abuse of a server in a process of its own: `python -m tests.abuse NAME TARGET`.

The program prints one line once the abuse is fully under way, or fails if that takes too long. It continues
until its standard input ends, then prints a second line. Each line is a JSON object with the number of each
event.
"""

import argparse
import json
import os
import resource
import select
import sys
import time

from tests.abuse.abuses import ABUSES
from tests.abuse.crowd import Crowd
from tests.patience import PATIENCE


def main() -> None:
    """Abuse the server until standard input ends, for `--seconds` at most."""
    arguments = _arguments()
    os.nice(arguments.nice)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    usual, make = ABUSES[arguments.name]
    crowd = Crowd(arguments.target, arguments.source)
    abuse = make(crowd, arguments.count or usual)
    begun, reported = time.monotonic(), False
    while not _is_over(begun + (arguments.seconds if reported else PATIENCE)):
        wait = abuse.step(time.monotonic())
        crowd.turn(wait)
        if not reported and abuse.is_held:
            reported = True
            _tell(crowd)
    crowd.close()
    if not reported:
        sys.exit(f"{arguments.name} was not held in {PATIENCE} s: {dict(crowd.outcomes)}")
    _tell(crowd)


def _tell(crowd: Crowd) -> None:
    sys.stdout.write(f"{json.dumps(crowd.outcomes)}\n")
    sys.stdout.flush()


def _is_over(end: float) -> bool:
    return time.monotonic() > end or bool(select.select([sys.stdin], [], [], 0)[0])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.abuse", description=__doc__)
    parser.add_argument("name", choices=ABUSES)
    parser.add_argument("target", help="host:port of the server")
    parser.add_argument("--source", default="127.0.0.2", help="address to connect from")
    parser.add_argument("--count", type=int, default=0, help="streams, connections or calls a second")
    parser.add_argument("--seconds", type=float, default=600.0, help="the longest that it goes on")
    parser.add_argument("--nice", type=int, default=0, help="lower the priority by so much")
    return parser.parse_args()


if __name__ == "__main__":
    main()
