"""The limit of threads and processes: checks that there is room to start, and words the error if not.

Python's own error ("can't start new thread") names neither the limit nor how to raise it, and gRPC's core
aborts the process, or waits for ever, if it gets no thread. So there is a check before anything else starts.
"""

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from identity_service.domain.errors import ConfigurationError

_RAISE: Final = (
    "raise the limit of threads and processes (`ulimit -u`, pids.max of the container, LimitNPROC= and "
    "TasksMax= of systemd)"
)
REFUSED: Final = f"the system gives this process no further thread or process; {_RAISE}"
_MESSAGE: Final = "can't start new thread"
"""The message of Python's error, which has no class of its own."""


def is_refusal(error: BaseException) -> bool:
    """Return whether this error means that the system gave no further thread, or no further process."""
    if isinstance(error, BlockingIOError):  # fork and non-blocking writes raise it, with different texts
        return error.strerror == os.strerror(errno.EAGAIN)
    return isinstance(error, RuntimeError) and _MESSAGE in str(error)


@contextmanager
def named() -> Iterator[None]:
    """Raise ConfigurationError, which names the limits, in place of Python's error if there is no thread."""
    try:
        yield
    except (RuntimeError, BlockingIOError) as error:
        if not is_refusal(error):
            raise
        raise ConfigurationError(REFUSED) from error


def require(count: int) -> None:
    """Raise ConfigurationError unless the system gives this process `count` further threads at once.

    They are started and ended again. Other processes of the same user or container may use up the limit
    afterwards.
    """
    may_end = threading.Event()
    threads: list[threading.Thread] = []
    try:
        for _ in range(count):
            thread = threading.Thread(target=may_end.wait, name="identity-room", daemon=True)
            thread.start()
            threads.append(thread)
    except RuntimeError as error:
        raise ConfigurationError(
            f"the service needs room for {count} threads, and the system gives it {len(threads)}; {_RAISE}"
        ) from error
    finally:
        may_end.set()
        for thread in threads:
            thread.join()
