"""A process that serves ends on SIGTERM, at whatever moment the signal comes."""

import subprocess
import sys

from tests.patience import PATIENCE

_INTERRUPTED = """
import os, signal, sys, threading
from identity_service import serving

lines = []

def trace(frame, event, argument):
    # In the middle of a wait of the module threading, with its lock held.
    if frame.f_code.co_filename == threading.__file__ and frame.f_code.co_name == "wait" and event == "line":
        lines.append(frame.f_lineno)
        if len(lines) == 2:
            signal.raise_signal(signal.SIGTERM)
    return trace

class Service:
    def start(self):
        threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM)).start()
        sys.settrace(trace)
        return 1

    def stop(self):
        sys.settrace(None)
        return True

serving._open = lambda *_, **__: Service()
print(serving.serve(None, lambda port: None))
"""


def test_a_signal_that_interrupts_the_wait_for_it_ends_the_process() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _INTERRUPTED],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    assert done.stdout == "True\n"
