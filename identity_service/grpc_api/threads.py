"""The threads that run handlers: a `ThreadPoolExecutor`, as grpcio wants it, with less work for each call.

It wakes the thread that was busy last, which has what it needs in the caches of its core; the original wakes
the one that has been idle for longest, and passes three locks where here is one.
"""

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import structlog

from identity_service.domain.errors import ConfigurationError, NotReadyError
from identity_service.process.thread_limit import REFUSED

_NO_NAMES: Final[dict[str, Any]] = {}


class Threads(ThreadPoolExecutor):
    """At most `count` threads, made as they are needed; what comes while all are busy waits in line.

    Where the system gives no further thread, those that there are do all the work.
    """

    def __init__(self, count: int, name: str) -> None:
        super().__init__(1)  # makes no thread itself, since nothing is submitted to it
        self.count = count
        self._name = name
        self._guard = threading.Lock()
        self._line: deque[_Job] = deque()
        self._idle: list[_Seat] = []
        self._made = 0
        self._closed = False

    def start_first(self) -> None:
        """Make the first thread now, so that a job is never refused later because the system gives no thread.

        Raises ConfigurationError if the system gives none now: the service cannot start.
        """
        try:
            self._give(_Job(None, _do_nothing, (), _NO_NAMES))
        except NotReadyError as error:
            raise ConfigurationError(REFUSED) from error

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self._give(_Job(future, fn, args, kwargs))
        return future

    def start(self, fn: Callable[..., None], *args: Any) -> None:
        """Run this function, for whose end nobody can wait.

        Raises RuntimeError after `shutdown`; NotReadyError if there is no thread, and the system gives none.
        """
        self._give(_Job(None, fn, args, _NO_NAMES))

    @property
    def busy(self) -> int:
        """How many threads run something now."""
        return self._made - len(self._idle)

    @property
    def waiting(self) -> int:
        """How many jobs wait for a thread."""
        return len(self._line)

    def _give(self, job: "_Job") -> None:
        with self._guard:
            if self._closed:
                raise RuntimeError("the threads have been told to end")
            if self._idle:
                self._idle.pop().give(job)
                return
            if self._made == self.count:
                self._line.append(job)
                return
            self._made += 1
            name = f"{self._name}-{self._made}"
        try:
            threading.Thread(target=self._work, args=[job], name=name, daemon=True).start()
        except RuntimeError:  # a limit of processes, or of memory
            self._manage_without(job)

    def _manage_without(self, job: "_Job") -> None:
        """Leave the job to the threads that there are. Raises NotReadyError if there is none."""
        with self._guard:
            self._made -= 1
            if self._idle:
                self._idle.pop().give(job)
            elif self._made:
                self._line.append(job)
            else:
                raise NotReadyError(
                    "the system gives this process no thread; try another one, and raise the limits of "
                    "processes and memory of this one"
                )

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002
        """Take nothing more, and let the threads end when they have no more to do; waits for none."""
        with self._guard:
            self._closed = True
            while self._idle:
                self._idle.pop().give(None)
            dropped = tuple(self._line) if cancel_futures else ()
            if cancel_futures:
                self._line.clear()
        for job in dropped:
            if job.future is not None:
                job.future.cancel()

    def _work(self, job: "_Job | None") -> None:
        seat = _Seat()
        while job is not None:
            job.run()
            job = None  # else an idle thread would keep its last call in memory
            with self._guard:
                if self._line:
                    job = self._line.popleft()
                elif self._closed:
                    return
                else:
                    self._idle.append(seat)
            if job is None:
                job = seat.wait()


def _do_nothing() -> None:
    """Be the job for which the first thread is made."""


class _Seat:
    """Where one idle thread waits for what is next."""

    __slots__ = ("_job", "_lock")

    def __init__(self) -> None:
        self._job: _Job | None = None
        self._lock = threading.Lock()
        self._lock.acquire()

    def give(self, job: "_Job | None") -> None:
        """None = the end."""
        self._job = job
        self._lock.release()

    def wait(self) -> "_Job | None":
        self._lock.acquire()
        job, self._job = self._job, None
        return job


@dataclass(slots=True)
class _Job:
    future: Future[Any] | None
    """None: nobody waits for the result."""
    fn: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def run(self) -> None:
        if self.future is None:
            self._run_alone()
            return
        if not self.future.set_running_or_notify_cancel():
            return
        try:
            result = self.fn(*self.args, **self.kwargs)
        except BaseException as error:  # noqa: BLE001  # it is for whoever asks for the result
            self.future.set_exception(error)
        else:
            self.future.set_result(result)

    def _run_alone(self) -> None:
        try:
            self.fn(*self.args, **self.kwargs)
        except Exception as error:  # noqa: BLE001  # one call's bug must not cost the others a thread
            structlog.get_logger().error("thread_bug", error=type(error).__name__)
