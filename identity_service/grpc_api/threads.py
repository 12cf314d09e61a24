"""The threads that run handlers: `ThreadPoolExecutor`, which grpcio insists on, with less work for each call.

It wakes the thread that was busy last, which has what it needs in the caches of its core; the original wakes
the one that has been idle for longest, and passes three locks where here is one.
"""

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any


class Threads(ThreadPoolExecutor):
    """At most `count` threads, made as they are needed; what comes while all are busy waits in line."""

    def __init__(self, count: int, name: str) -> None:
        super().__init__(1)  # makes no thread itself, since nothing is submitted to it
        self._count = count
        self._name = name
        self._guard = threading.Lock()
        self._line: deque[_Job] = deque()
        self._idle: list[_Seat] = []
        self._made = 0
        self._closed = False

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        job = _Job(Future(), fn, args, kwargs)
        with self._guard:
            if self._closed:
                raise RuntimeError("the threads have been told to end")
            if self._idle:
                self._idle.pop().give(job)
                return job.future
            if self._made == self._count:
                self._line.append(job)
                return job.future
            self._made += 1
            name = f"{self._name}-{self._made}"
        threading.Thread(target=self._work, args=[job], name=name, daemon=True).start()
        return job.future

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
    future: Future[Any]
    fn: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def run(self) -> None:
        if not self.future.set_running_or_notify_cancel():
            return
        try:
            result = self.fn(*self.args, **self.kwargs)
        except BaseException as error:  # noqa: BLE001  # it is for whoever asks for the result
            self.future.set_exception(error)
        else:
            self.future.set_result(result)
