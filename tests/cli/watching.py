"""Runs a command that continues until it is ended, and reads the lines that it prints."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from queue import Empty, Queue
from typing import Any

from tests.patience import PATIENCE


class Watching:
    """A running command, and the lines that it has printed so far."""

    def __init__(self, target: str, *words: str, **environ: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "identity_service", *(words or ("watch",)), "--target", target],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"NO_COLOR": "1", "COLUMNS": "200"} | environ,
        )
        self.out: Queue[str] = Queue()
        self.err: Queue[str] = Queue()
        self._threads = [
            threading.Thread(target=self._read, args=(stream, lines), daemon=True)
            for stream, lines in ((self.process.stdout, self.out), (self.process.stderr, self.err))
        ]
        for thread in self._threads:
            thread.start()

    def _read(self, stream: Any, lines: "Queue[str]") -> None:
        for line in stream:
            lines.put(line.rstrip())

    def until(self, text: str, lines: "Queue[str] | None" = None) -> list[str]:
        """Wait for a line with this text; return all lines up to it."""
        seen: list[str] = []
        while not (seen and text in seen[-1]):
            try:
                seen.append((lines or self.out).get(timeout=PATIENCE))
            except Empty:
                raise AssertionError(f"{text!r} was not printed; printed: {seen}") from None
        return seen

    def end(self, number: signal.Signals) -> int:
        os.kill(self.process.pid, number)
        return self.process.wait(PATIENCE)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(PATIENCE)
        for thread in self._threads:
            thread.join(PATIENCE)
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()


@contextmanager
def watching(target: str, *words: str, **environ: str) -> Iterator[Watching]:
    """Run `identity watch`, or another command that continues until it is ended."""
    watching = Watching(target, *words, **environ)
    try:
        yield watching
    finally:
        watching.close()
