"""Measures 1,000 sources of tokens through a restart of the service: `python -m benchmarks.renewals`.

Each source renews its token at about three quarters of its life. The service is stopped just before, and
started again a few seconds later, while threads ask every source for a token all the time. No call may fail,
since each source has a token that is still valid; the figure is the time until each has a new one.
"""

import argparse
import json
import logging
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Final

from benchmarks import service
from benchmarks.processes import BenchmarkError, Cores, on_core
from identity_client import AccessTokens, ClientOptions, IdentityError

_LIFETIME: Final = 30.0
_STOP_AT: Final = 0.65
"""The part of the life at which the service stops; renewals begin at 0.70."""
_AWAY: Final = 4.0
_THREADS: Final = 8
_PAUSE: Final = 0.02
_PATIENCE: Final = 120.0


@dataclass(slots=True)
class _Calls:
    """The state that the asking threads share: the sources, and the counts of their calls."""

    sources: list[AccessTokens]
    count: int = 0
    failed: int = 0
    longest: float = 0.0
    seen: dict[int, str] = field(default_factory=dict)
    """The current token of each source."""
    ended: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def ask(self, first: int) -> None:
        """Ask every eighth source in turn, until `ended`."""
        while not self.ended.is_set():
            for at in range(first, len(self.sources), _THREADS):
                begun, failed = time.monotonic(), 0
                try:
                    self.seen[at] = self.sources[at]()
                except IdentityError:
                    failed = 1
                took = time.monotonic() - begun
                with self.lock:
                    self.count += 1
                    self.failed += failed
                    self.longest = max(self.longest, took)
            self.ended.wait(_PAUSE)  # threads that never wait would keep each other from running


def main() -> None:
    """Measure, and print the figures as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.renewals")
    parser.add_argument("--sources", type=int, default=1000)
    count = parser.parse_args().sources
    cores = Cores.choose()
    logging.getLogger("identity_client").setLevel(logging.ERROR)  # one for each that waits
    with tempfile.TemporaryDirectory(prefix="identity-bench-") as folder, on_core(cores.load):
        root = Path(folder)
        settings = {**service.CHEAP_PASSWORDS, "IDENTITY_ACCESS_TOKEN_LIFETIME": f"{_LIFETIME:g}s"}
        with service.serve(root, f"sqlite:///{root}/identity.db", cores, settings=settings) as running:
            print(json.dumps(_measure(running, count)))


def _measure(running: service.Service, count: int) -> dict[str, float]:
    credential = running.client_credential
    options = ClientOptions(timeout=timedelta(seconds=5))
    with ExitStack() as stack:
        sources = [
            stack.enter_context(
                AccessTokens.by_secret(
                    *credential, target=running.target, audience=service.AUDIENCE, options=options
                )
            )
            for _ in range(count)
        ]
        calls = _Calls(sources)
        begun = time.monotonic()
        with ThreadPoolExecutor(_THREADS) as pool:
            first = list(pool.map(lambda source: source(), sources))
            issued = time.monotonic() - begun
            asking = [pool.submit(calls.ask, at) for at in range(_THREADS)]
            time.sleep(max(0.0, begun + _LIFETIME * _STOP_AT - time.monotonic()))
            running.process.stop()
            time.sleep(_AWAY)
            running.launcher.serve("again", target=running.target)
            started = time.monotonic()
            while any(calls.seen.get(at) == token for at, token in enumerate(first)):
                if time.monotonic() > started + _PATIENCE:
                    raise BenchmarkError("not every source has a new token")
                time.sleep(0.01)
            fresh = time.monotonic() - started
            calls.ended.set()
            for each in asking:
                each.result()
    return {
        "sources": count,
        "all_signed_in_s": round(issued, 2),
        "calls": calls.count,
        "calls_failed": calls.failed,
        "longest_call_s": round(calls.longest, 3),
        "all_fresh_after_s": round(fresh, 2),
    }


if __name__ == "__main__":
    main()
