"""The program of the child processes that hash passwords: it runs the functions that the parent sends.

It imports little, since each of these processes has a copy of its own of all that it imports (bar S11).
"""

import os
import pickle
import select
import sys
import threading
from contextlib import suppress
from typing import Any, Final

_NICENESS: Final = 19
"""The lowest priority of a process."""


def main() -> None:
    """Call the functions that arrive on standard input, and write each result, until the parent has ended.

    A request is a function and its arguments; an answer is its result and the exception that it raised.
    """
    with suppress(OSError, AttributeError):
        os.nice(_NICENESS)
    threading.Thread(target=_end_with_parent, name="identity-parent", daemon=True).start()
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    while True:
        try:
            function, arguments = pickle.load(requests)  # noqa: S301  # of the parent
        except EOFError:
            return
        answer: tuple[Any, Exception | None]
        try:
            answer = function(*arguments), None
        except Exception as error:  # noqa: BLE001  # the parent raises it
            answer = None, error
        pickle.dump(answer, answers)
        answers.flush()


def _end_with_parent() -> None:
    """End this process when its parent has ended or has closed the pipe, even if a hash is in progress."""
    pipe = select.poll()
    pipe.register(sys.stdin, 0)  # 0: the end of the pipe is reported all the same
    pipe.poll()
    os._exit(0)
