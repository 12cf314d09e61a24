"""A supervisor of worker processes that share one port; it restarts workers that end.

The module does not know the service of the workers.
"""

import multiprocessing.connection
import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from multiprocessing.connection import Connection
from typing import Final, Generic, TypeVar

from identity_service.domain.errors import IdentityError
from identity_service.domain.ports import EventLog
from identity_service.process.last_resort import BETWEEN, SERVING
from identity_service.serving.worker import Worker

P = TypeVar("P")

_STABLE_AFTER: Final = 10.0
"""The number of seconds after which the end of a worker does not count as another crash in a row."""
_MAX_CRASHES: Final = 5
"""The number of crashes in a row, in addition to the number of workers, after which the supervisor gives
up."""
_FIRST_PAUSE: Final = 0.1
"""Seconds before the restart after a first crash; doubles with each further crash in a row."""
_LONGEST_PAUSE: Final = 5.0
"""The longest pause before a restart, in seconds."""
_MARGIN: Final = SERVING + BETWEEN
"""Seconds beyond its grace after which a worker is killed; by then its own last resort should have ended
it."""


class Workers(Generic[P]):
    """A supervisor that starts a fixed number of workers, and restarts those that end, until `stop`.

    All workers are started with a *plan*, which is passed to their main function.
    """

    def __init__(
        self,
        work: Callable[[P, Connection, Connection | None], None],
        event_log: EventLog,
        *,
        count: int,
        grace: Callable[[P], timedelta],
        cores: Sequence[int] = (),
        follow: Callable[[Connection], None] | None = None,
    ) -> None:
        """Create the supervisor; `run` starts the workers.

        Args:
            work: the main function of a worker, importable; called with the plan, the pipe to report on, and
                the other end of the pipe of `follow`, or None.
            event_log: receives the events of the workers.
            count: number of workers.
            grace: returns how long a worker with this plan may take to end.
            cores: the core of each worker; empty = each runs on any.
            follow: called with a second pipe for each worker that starts, to receive what the worker sends;
                None = there is no such pipe.
        """
        self._work = work
        self._event_log = event_log
        self._grace = grace
        self._cores = cores
        self._follow = follow
        self._slots: dict[int, Worker | None] = dict.fromkeys(range(count))
        self._due: dict[int, float] = {}
        self._next: Worker | None = None
        self._ending: set[Worker] = set()
        self._crashes = 0
        self._gave_up = False
        self._cut_off = False
        self._stopping = False
        self._new_plan: Callable[[], P] | None = None
        self._wake, self._waker = os.pipe()
        os.set_blocking(self._waker, False)

    def stop(self) -> None:
        """Tell `run` to end all workers. Any thread may call it."""
        self._stopping = True
        self._wake_up()

    def renew(self, new_plan: Callable[[], P]) -> None:
        """Tell `run` to replace the workers one after the other.

        Each new worker is ready before the old one ends. Any thread may call it. `new_plan` returns the plan
        of the new workers; if it raises IdentityError, no worker is replaced.
        """
        self._new_plan = new_plan
        self._wake_up()

    @property
    def longest_grace(self) -> float:
        """The longest time, in seconds, that any present worker may take to end."""
        return max((worker.grace for worker in self._all_workers()), default=0.0)

    def kill(self) -> None:
        """Kill all workers at once, if `run` hangs. Any thread may call it."""
        for worker in self._all_workers():
            worker.process.kill()

    def run(self, plan: P, announce: Callable[[], None]) -> int:
        """Start the workers and supervise them until `stop`; return the exit code.

        Args:
            plan: the plan of the workers.
            announce: called once, when all workers are ready.

        The exit code is that of the first worker that could not start; 1 if workers crashed again and again,
        or if calls had to be cut off while stopping; otherwise 0.
        """
        try:
            code = self._start_all(plan)
            if not code and not self._stopping:
                announce()
            while not code and not self._stopping:
                if self._new_plan is not None:
                    plan = self._renew_all(plan, self._new_plan)
                else:
                    self._supervise(plan)
        finally:
            # In any case: an interpreter that exits waits for its child processes without a limit.
            self._end_all()
        return code or int(self._gave_up or self._cut_off)

    def _wake_up(self) -> None:
        with suppress(BlockingIOError):  # the pipe is full: `run` will wake up anyway
            os.write(self._waker, b"!")

    def _start_all(self, plan: P) -> int:
        """Start the workers and wait until all are ready; return the exit code of one that is not, or 0."""
        for index in self._slots:
            self._slots[index] = self._start(index, plan)
        for worker in [*self._slots.values()]:
            if worker is None:
                return 1
            if not self._await_ready(worker, plan) and not self._stopping:
                # A negative code is a signal's number, and 0 is a failure too if the worker was never ready.
                return max(worker.process.exitcode or 0, 0) or 1
        return 0

    def _start(self, index: int, plan: P) -> Worker | None:
        """Start a worker; return None if the system cannot start a process."""
        core = self._cores[index] if self._cores else None
        try:
            return Worker.start(self._work, plan, self._grace(plan).total_seconds(), self._follow, core=core)
        except OSError as error:
            self._event_log.record("worker_not_started", error=str(error))
            return None

    def _await_ready(self, worker: Worker, plan: P) -> bool:
        """Wait until the worker is ready, and return True; False if it ended or `stop` was called before."""
        while not (self._stopping or worker.is_ready or worker.process.exitcode is not None):
            self._supervise(plan)
        return worker.is_ready

    def _supervise(self, plan: P) -> None:
        """Wait for the next event; handle ended workers, and restart them when their pause is over."""
        self._wait_for_event()
        self._reap()
        if self._crashes >= _MAX_CRASHES + len(self._slots):
            self._event_log.record("workers_give_up", crashes=self._crashes)
            self._gave_up = self._stopping = True
        if not self._stopping:
            self._restart_due(plan)

    def _wait_for_event(self) -> None:
        """Wait until a worker is ready or ends, a restart or kill is due, or another thread wakes `run`."""
        workers = self._all_workers()
        starting = {worker.pipe: worker for worker in workers if not worker.is_ready}
        times = [*self._due.values(), *(worker.deadline for worker in self._ending)]
        timeout = max(0.0, min(times) - time.monotonic()) if times else None
        ends = [worker.process.sentinel for worker in workers]
        ready = multiprocessing.connection.wait([*starting, *ends, self._wake], timeout)
        if self._wake in ready:
            os.read(self._wake, 4096)
        for pipe, worker in starting.items():
            if pipe in ready:
                worker.read_pipe()

    def _reap(self) -> None:
        """Record the workers that have ended, and kill those whose deadline has passed."""
        now = time.monotonic()
        for index, worker in self._slots.items():
            if worker is not None and not worker.process.is_alive():
                self._event_log.record("worker_ended", pid=worker.process.pid, code=worker.process.exitcode)
                self._note_crash(index, now - worker.start_time)
        for worker in [*self._ending]:
            if now >= worker.deadline:
                worker.process.kill()
                worker.process.join()
            if not worker.process.is_alive():
                self._ending.discard(worker)
                # SIGTERM as exit code: the worker ended before it handled the signal, so no call was cut off.
                if worker.is_ready and worker.process.exitcode not in (0, -signal.SIGTERM):
                    code = worker.process.exitcode
                    self._event_log.record("worker_cut_off", pid=worker.process.pid, code=code)
                    self._cut_off |= self._stopping

    def _note_crash(self, index: int, age: float) -> None:
        self._crashes = 1 if age > _STABLE_AFTER else self._crashes + 1
        pause = min(_FIRST_PAUSE * 2 ** (self._crashes - 1), _LONGEST_PAUSE)
        self._due[index] = time.monotonic() + pause
        self._slots[index] = None

    def _restart_due(self, plan: P) -> None:
        now = time.monotonic()
        for index in [index for index, due in self._due.items() if due <= now]:
            del self._due[index]
            self._slots[index] = self._start(index, plan)
            if self._slots[index] is None:
                self._note_crash(index, age=0)

    def _renew_all(self, plan: P, new_plan: Callable[[], P]) -> P:
        """Replace the workers; return the plan for restarts: the old one if the first new worker failed."""
        self._new_plan = None
        try:
            wanted = new_plan()
        except IdentityError as error:
            self._event_log.record("workers_not_renewed", error=str(error))
            return plan
        for index in self._slots:
            new = self._next = self._start(index, wanted)
            ready = new is not None and self._await_ready(new, plan)
            self._next = None
            if new is None or not ready:
                if not self._stopping:
                    code = new.process.exitcode if new is not None else None
                    self._event_log.record("workers_not_renewed", renewed=index, code=code)
                if new is not None:
                    self._terminate(new)
                return plan
            plan = wanted  # a worker with this plan works
            old, self._slots[index] = self._slots[index], new
            self._due.pop(index, None)
            if old is not None:
                self._terminate(old)
        self._crashes = 0
        self._event_log.record("workers_renewed", workers=len(self._slots))
        return wanted

    def _terminate(self, worker: Worker) -> None:
        if not worker.process.is_alive():
            self._event_log.record("worker_ended", pid=worker.process.pid, code=worker.process.exitcode)
            return
        worker.process.terminate()
        worker.deadline = time.monotonic() + worker.grace + _MARGIN
        self._ending.add(worker)

    def _end_all(self) -> None:
        self._stopping = True
        for worker in self._alive():
            self._terminate(worker)
        self._slots, self._due, self._next = {}, {}, None
        while self._ending:
            self._wait_for_event()
            self._reap()

    def _all_workers(self) -> list[Worker]:
        return [*self._alive(), *self._ending]

    def _alive(self) -> list[Worker]:
        return [worker for worker in (*self._slots.values(), self._next) if worker is not None]
