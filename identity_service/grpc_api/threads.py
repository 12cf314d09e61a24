"""The threads that run handlers: a `ThreadPoolExecutor`, as grpcio requires, with threads of its own.

If the system refuses a further thread, the existing ones do the work; the standard class would raise an
error, and run the job all the same. The threads are daemons, so that a call that hangs does not keep the
process from ending. A job that needs no future gets none (docs/decisions/0028 has the measurements).
"""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, Final

import structlog

from identity_service.domain.errors import ConfigurationError, NotReadyError
from identity_service.process.thread_limit import REFUSED

_NO_KEYWORDS: Final[dict[str, Any]] = {}


class Threads(ThreadPoolExecutor):
    """A pool of at most `count` threads, started when needed; a job waits in a queue while all are busy.

    If the system refuses a further thread, the existing threads run all jobs.
    """

    def __init__(self, count: int, name: str) -> None:
        super().__init__(1)  # the base class starts no thread, since no job is submitted to it
        self.count = count
        self._name = name
        self._mutex = threading.Lock()
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        """The jobs for the next idle threads; None ends a thread."""
        self._unfinished = 0
        """The number of jobs that run or wait."""
        self._started = 0
        self._closed = False

    def start_first(self) -> None:
        """Make the first thread now, so that a job is never refused later because the system gives no thread.

        Raises ConfigurationError if the system gives none now: the service cannot start.
        """
        try:
            self._dispatch(_Job(None, _do_nothing, (), _NO_KEYWORDS))
        except NotReadyError as error:
            raise ConfigurationError(REFUSED) from error

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run this function in a thread; return the future of its result."""
        future: Future[Any] = Future()
        self._dispatch(_Job(future, fn, args, kwargs))
        return future

    def start(self, fn: Callable[..., None], *args: Any) -> None:
        """Run this function in a thread without a future; an exception is only logged.

        Raises RuntimeError after `shutdown`, and NotReadyError if there is no thread and the system refuses
        one.
        """
        self._dispatch(_Job(None, fn, args, _NO_KEYWORDS))

    @property
    def busy(self) -> int:
        """Return the number of threads that run a job now."""
        return min(self._unfinished, self._started)

    @property
    def waiting(self) -> int:
        """Return the number of jobs that wait for a thread."""
        return max(0, self._unfinished - self._started)

    def _dispatch(self, job: "_Job") -> None:
        with self._mutex:
            if self._closed:
                raise RuntimeError("the threads have been told to end")
            self._unfinished += 1
            if self._unfinished <= self._started or self._started == self.count:
                self._jobs.put(job)
                return
            self._started += 1
            name = f"{self._name}-{self._started}"
        try:
            threading.Thread(target=self._work, args=[job], name=name, daemon=True).start()
        except RuntimeError:  # a limit on processes or memory
            self._dispatch_without_thread(job)

    def _dispatch_without_thread(self, job: "_Job") -> None:
        """Leave the job to the existing threads, since the system refused a new one.

        Raises NotReadyError if there is none.
        """
        with self._mutex:
            self._started -= 1
            if self._closed or not self._started:
                self._unfinished -= 1
                raise NotReadyError(
                    "the system gives this process no thread; use another instance, and raise the limits of "
                    "processes and memory of this one"
                )
            self._jobs.put(job)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002
        """Refuse new jobs; each thread ends when no job is left. Never waits, even if `wait` is True."""
        with self._mutex:
            self._closed = True
            dropped = self._take_waiting() if cancel_futures else ()
            self._unfinished -= len(dropped)
            for _ in range(self._started):
                self._jobs.put(None)
        for job in dropped:
            if job.future is not None:
                job.future.cancel()

    def _take_waiting(self) -> Sequence["_Job"]:
        """Take everything out of the queue; return the jobs."""
        taken = []
        with suppress(Empty):
            while True:
                taken.append(self._jobs.get_nowait())
        return [job for job in taken if job is not None]

    def _work(self, job: "_Job | None") -> None:
        while job is not None:
            job.run()
            job = None  # release the arguments of the call while the thread is idle
            with self._mutex:
                self._unfinished -= 1
            job = self._jobs.get()


class Pools:
    """The two thread pools that run methods, for every engine."""

    def __init__(self, *, memory: int, work: int) -> None:
        """Create the pools; threads start when calls come.

        Args:
            memory: the number of threads for methods that answer from memory; few, since they share one
                interpreter.
            work: the number of threads for methods that may wait for the store or for argon2id.
        """
        self.memory = Threads(memory, "identity-memory")
        self.work = Threads(work, "identity-work")

    def start(self) -> None:
        """Make the first thread of each, so that calls are answered also if the system gives no further one.

        Raises ConfigurationError if it gives none now.
        """
        self.memory.start_first()
        self.work.start_first()

    def shutdown(self) -> None:
        """Let running jobs finish and drop the waiting ones; does not wait."""
        self.work.shutdown(wait=False, cancel_futures=True)
        self.memory.shutdown(wait=False, cancel_futures=True)


def _do_nothing() -> None:
    """Do nothing; this is the job for which the first thread is made."""


@dataclass(slots=True)
class _Job:
    """A function to run, with its arguments."""

    future: Future[Any] | None
    """The future that gets the result; None = no result is wanted."""
    fn: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def run(self) -> None:
        """Run the function and set its result."""
        if self.future is None:
            self._run_alone()
            return
        if not self.future.set_running_or_notify_cancel():
            return
        try:
            result = self.fn(*self.args, **self.kwargs)
        except BaseException as error:  # noqa: BLE001  # the future raises it to its reader
            self.future.set_exception(error)
        else:
            self.future.set_result(result)

    def _run_alone(self) -> None:
        try:
            self.fn(*self.args, **self.kwargs)
        except Exception as error:  # noqa: BLE001  # one call must not end the thread
            structlog.get_logger().error("thread_bug", error=type(error).__name__)
