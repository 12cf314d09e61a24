"""The threads that run handlers: a `ThreadPoolExecutor`, as grpcio requires, with threads of its own.

If the system refuses a further thread, the existing ones do the work; the standard class would raise an
error, and run the job all the same. The threads are daemons, so that a call that hangs does not keep the
process from ending. A job that needs no future gets none (docs/decisions/0028 has the measurements), and a
thread that takes a job starts the next thread if none is idle, so that handing over a job is one step of the
interpreter.
"""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, NoReturn, TypeAlias

import structlog

from identity_service.domain.errors import ConfigurationError, NotReadyError
from identity_service.process.thread_limit import REFUSED

Job: TypeAlias = tuple[Callable[..., None], tuple[Any, ...]]
"""A function to run, with its arguments."""


class Threads(ThreadPoolExecutor):
    """A pool of at most `count` threads, started when needed; a job waits in a queue while all are busy.

    Until there are `count` of them, one more is started than is busy. If the system refuses a further thread,
    the existing threads run all jobs.
    """

    def __init__(self, count: int, name: str) -> None:
        super().__init__(1)  # the base class starts no thread, since no job is submitted to it
        self.count = count
        self._name = name
        self._mutex = threading.Lock()
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        """The jobs for the next idle threads; None ends the threads, one after the other."""
        self._started = 0
        self._idle = 0
        """The number of threads that wait for a job, or have just been started for one."""
        self._closed = False
        self.put: Callable[[Job], None] = self._put_first
        """Have a thread run a job without a future; an exception is only logged.

        Raises RuntimeError after `shutdown`, and NotReadyError if there is no thread and the system refuses
        one.
        """

    def start_first(self) -> None:
        """Make the first thread now, so that a job is never refused later because the system gives no thread.

        Raises ConfigurationError if the system gives none now: the service cannot start.
        """
        try:
            self._add_thread()
        except NotReadyError as error:
            raise ConfigurationError(REFUSED) from error

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run this function in a thread; return the future of its result."""
        future: Future[Any] = Future()
        self.start(_fulfil, future, fn, args, kwargs)
        if self._closed:  # meanwhile, so that all threads may have ended before they found the job
            future.cancel()
        return future

    def start(self, fn: Callable[..., None], *args: Any) -> None:
        """Run this function in a thread, as `put` does."""
        self.put((fn, args))

    @property
    def busy(self) -> int:
        """Return the number of threads that run a job now."""
        return self._started - self._idle

    @property
    def waiting(self) -> int:
        """Return the number of jobs that wait for a thread."""
        return max(0, self._jobs.qsize() - self._closed)  # `shutdown` puts a None into the queue

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002
        """Refuse new jobs; each thread ends when no job is left. Never waits, even if `wait` is True."""
        with self._mutex:
            if self._closed:
                return
            self._closed, self.put = True, _refuse
            dropped = self._take_waiting() if cancel_futures else ()
            self._jobs.put(None)
        for fn, args in dropped:
            if fn is _fulfil:
                args[0].cancel()

    def _take_waiting(self) -> Sequence[Job]:
        """Take everything out of the queue; return the jobs."""
        taken = []
        with suppress(Empty):
            while True:
                taken.append(self._jobs.get_nowait())
        return [job for job in taken if job is not None]

    def _put_first(self, job: Job) -> None:
        self._add_thread()
        self._jobs.put(job)

    def _add_thread(self) -> None:
        """Start a further thread, unless there are enough.

        Raises RuntimeError after `shutdown`, and NotReadyError if the system refuses it.
        """
        with self._mutex:
            if self._closed:
                _refuse()
            if self._started == self.count:
                return
            self._started += 1
            self._idle += 1
            name = f"{self._name}-{self._started}"
        try:
            threading.Thread(target=self._work, name=name, daemon=True).start()
        except RuntimeError as error:  # a limit on processes or memory
            with self._mutex:
                self._started -= 1
                self._idle -= 1
            raise NotReadyError(
                "the system gives this process no thread; use another instance, and raise the limits of "
                "processes and memory of this one"
            ) from error
        with self._mutex:
            if not self._closed:
                self.put = self._jobs.put

    def _work(self) -> None:
        while True:
            job = self._jobs.get()
            if job is None:
                is_empty = self._jobs.empty()
                self._jobs.put(None)  # ends the next thread
                if is_empty:
                    return
                continue  # a job came while the pool was being closed
            with self._mutex:
                self._idle -= 1
                is_last = not self._idle and self._started < self.count
            if is_last:
                with suppress(RuntimeError, NotReadyError):
                    self._add_thread()
            fn, args = job
            try:
                fn(*args)
            except Exception as error:  # noqa: BLE001  # one call must not end the thread
                structlog.get_logger().error("thread_bug", error=type(error).__name__)
            del job, fn, args  # release the arguments of the call while the thread is idle
            with self._mutex:
                self._idle += 1


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


def _refuse(_: Job | None = None) -> NoReturn:
    raise RuntimeError("the threads have been told to end")


def _fulfil(
    future: Future[Any], fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    """Run a function and set the result of its future."""
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = fn(*args, **kwargs)
    except BaseException as error:  # noqa: BLE001  # the future raises it to its reader
        future.set_exception(error)
    else:
        future.set_result(result)
    finally:
        # Otherwise the future, its error and this frame in the error's traceback would form a cycle, which
        # keeps the arguments in memory.
        del future
