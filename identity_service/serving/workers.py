"""Workers: processes that do the same on one port, and are started again when they end.

Knows how processes live and end, not what they serve. A worker says on its pipe that it is ready; it ends
on SIGTERM, and by itself when its parent is gone.
"""

import multiprocessing
import multiprocessing.connection
import multiprocessing.resource_tracker
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Final, Generic, TypeVar

from identity_service.domain.errors import IdentityError
from identity_service.domain.ports import EventLog
from identity_service.process.last_resort import BETWEEN, SERVING

P = TypeVar("P")

_CALM: Final = 10.0
"""Seconds. Who has lived so long has not failed at once."""
_CRASHES: Final = 5
"""So many of them in a row, and as many more as there are workers, end it all."""
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 5.0
_MARGIN: Final = SERVING + BETWEEN
"""Seconds beyond their grace after which workers are killed: by then each should have ended itself."""
OF_THE_TERMINAL: Final = (signal.SIGINT, signal.SIGHUP)
"""Signals that reach every process of a terminal and are for the supervisor: blocked when a worker starts."""


@dataclass(eq=False, slots=True)
class _Worker:
    process: SpawnProcess
    says: Connection
    grace: float
    """Seconds that it may take to end."""
    born: float = field(default_factory=time.monotonic)
    serves: bool = False
    deadline: float = float("inf")
    """When it is killed, once it was told to end."""

    def listen(self) -> None:
        """Take in what it said: that it serves, or nothing since it has ended."""
        try:
            self.says.recv_bytes()
        except (EOFError, OSError):
            self.process.join()
        else:
            self.serves = True


class Workers(Generic[P]):
    """Starts workers with a plan, and keeps as many of them alive until `stop`."""

    def __init__(
        self,
        work: Callable[[P, Connection], None],
        event_log: EventLog,
        *,
        count: int,
        grace: Callable[[P], timedelta],
    ) -> None:
        """`work` = what each process does, importable; `grace` = how long it may take to end, by its plan."""
        self._work = work
        self._event_log = event_log
        self._grace = grace
        self._spawning = multiprocessing.get_context("spawn")
        self._team: dict[int, _Worker | None] = dict.fromkeys(range(count))
        self._due: dict[int, float] = {}
        self._next: _Worker | None = None
        self._leaving: set[_Worker] = set()
        self._crashes = 0
        self._gave_up = False
        self._cut_off = False
        self._stopping = False
        self._new_plan: Callable[[], P] | None = None
        self._wake, self._waker = os.pipe()
        os.set_blocking(self._waker, False)

    def stop(self) -> None:
        """Tell `run` to end them all. Any thread may call it, as `renew`."""
        self._stopping = True
        self._wake_up()

    def renew(self, new_plan: Callable[[], P]) -> None:
        """Tell `run` to replace one after the other: each new one serves before its old one ends.

        Args:
            new_plan: gives the plan of the new ones, or raises IdentityError: then nothing changes.
        """
        self._new_plan = new_plan
        self._wake_up()

    @property
    def longest_grace(self) -> float:
        """How many seconds those that live now may take to end."""
        return max((worker.grace for worker in self._everyone()), default=0.0)

    def kill(self) -> None:
        """End all of them at once, from any thread, when `run` cannot do it any more."""
        for worker in self._everyone():
            worker.process.kill()

    def run(self, plan: P, announce: Callable[[], None]) -> int:
        """Until `stop`; returns the exit code: that of the first that could not start, 1 for a crash loop
        or where calls had to be cut off while stopping, else 0.

        Args:
            announce: called once, when all of them are ready.
        """
        try:
            code = self._start_all(plan)
            if not code and not self._stopping:
                announce()
            while not code and not self._stopping:
                if self._new_plan is not None:
                    plan = self._renew_all(plan, self._new_plan)
                else:
                    self._tend(plan)
        finally:
            # Whatever happened: an interpreter that ends waits for its children, for ever.
            self._end_all()
        return code or int(self._gave_up or self._cut_off)

    def _wake_up(self) -> None:
        with suppress(BlockingIOError):  # full: it will wake up
            os.write(self._waker, b"!")

    def _start_all(self, plan: P) -> int:
        """Start them, and wait until all are ready; the exit code, where one is not."""
        for index in self._team:
            self._team[index] = self._start(plan)
        for worker in [*self._team.values()]:
            if worker is None:
                return 1
            if not self._await_ready(worker, plan) and not self._stopping:
                # A signal's number is no exit code, and who ends before it serves has not done its work.
                return max(worker.process.exitcode or 0, 0) or 1
        return 0

    def _start(self, plan: P) -> _Worker | None:
        """Start one; None where the system has no room for it."""
        try:
            hears, says = multiprocessing.Pipe(duplex=False)
            process = self._spawning.Process(target=self._work, args=(plan, says), name="identity-worker")
            multiprocessing.resource_tracker.ensure_running()  # it would unblock signals when it starts
            # Until it says otherwise itself: they would end it before it can.
            signal.pthread_sigmask(signal.SIG_BLOCK, OF_THE_TERMINAL)
            try:
                process.start()
            finally:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, OF_THE_TERMINAL)
        except OSError as error:
            self._event_log.record("worker_not_started", error=str(error))
            return None
        says.close()  # so that the end of the worker is the end of the pipe
        return _Worker(process, hears, self._grace(plan).total_seconds())

    def _await_ready(self, worker: _Worker, plan: P) -> bool:
        """Whether it became ready, before it ended or all were told to; the others are looked after."""
        while not (self._stopping or worker.serves or worker.process.exitcode is not None):
            self._tend(plan)
        return worker.serves

    def _tend(self, plan: P) -> None:
        """Wait until something happens, and see to it that all are there."""
        self._rest()
        self._reap()
        if self._crashes >= _CRASHES + len(self._team):
            self._event_log.record("workers_give_up", crashes=self._crashes)
            self._gave_up = self._stopping = True
        if not self._stopping:
            self._replace_fallen(plan)

    def _rest(self) -> None:
        """Until one says or does something, something is due, or a signal came."""
        everyone = self._everyone()
        starting = {worker.says: worker for worker in everyone if not worker.serves}
        times = [*self._due.values(), *(worker.deadline for worker in self._leaving)]
        patience = max(0.0, min(times) - time.monotonic()) if times else None
        ends = [worker.process.sentinel for worker in everyone]
        happened = multiprocessing.connection.wait([*starting, *ends, self._wake], patience)
        if self._wake in happened:
            os.read(self._wake, 4096)
        for says, worker in starting.items():
            if says in happened:
                worker.listen()

    def _reap(self) -> None:
        """Take note of those that have ended, and kill those that had to."""
        now = time.monotonic()
        for index, worker in self._team.items():
            if worker is not None and not worker.process.is_alive():
                self._event_log.record("worker_ended", pid=worker.process.pid, code=worker.process.exitcode)
                self._note_crash(index, now - worker.born)
        for worker in [*self._leaving]:
            if now >= worker.deadline:
                worker.process.kill()
                worker.process.join()
            if not worker.process.is_alive():
                self._leaving.discard(worker)
                # Told to end before it knew how to: nothing was cut off.
                if worker.serves and worker.process.exitcode not in (0, -signal.SIGTERM):
                    code = worker.process.exitcode
                    self._event_log.record("worker_cut_off", pid=worker.process.pid, code=code)
                    self._cut_off |= self._stopping

    def _note_crash(self, index: int, age: float) -> None:
        self._crashes = 1 if age > _CALM else self._crashes + 1
        pause = min(_FIRST_PAUSE * 2 ** (self._crashes - 1), _LONGEST_PAUSE)
        self._due[index] = time.monotonic() + pause
        self._team[index] = None

    def _replace_fallen(self, plan: P) -> None:
        now = time.monotonic()
        for index in [index for index, due in self._due.items() if due <= now]:
            del self._due[index]
            self._team[index] = self._start(plan)
            if self._team[index] is None:
                self._note_crash(index, age=0)

    def _renew_all(self, plan: P, new_plan: Callable[[], P]) -> P:
        """The plan that holds from now on: the old one, where the first of the new ones did not start."""
        self._new_plan = None
        try:
            wanted = new_plan()
        except IdentityError as error:
            self._event_log.record("workers_not_renewed", error=str(error))
            return plan
        for index in self._team:
            new = self._next = self._start(wanted)
            ready = new is not None and self._await_ready(new, plan)
            self._next = None
            if new is None or not ready:
                if not self._stopping:
                    code = new.process.exitcode if new is not None else None
                    self._event_log.record("workers_not_renewed", renewed=index, code=code)
                if new is not None:
                    self._tell_to_end(new)
                return plan
            plan = wanted  # it has shown that it works
            old, self._team[index] = self._team[index], new
            self._due.pop(index, None)
            if old is not None:
                self._tell_to_end(old)
        self._crashes = 0
        self._event_log.record("workers_renewed", workers=len(self._team))
        return wanted

    def _tell_to_end(self, worker: _Worker) -> None:
        if not worker.process.is_alive():
            self._event_log.record("worker_ended", pid=worker.process.pid, code=worker.process.exitcode)
            return
        worker.process.terminate()
        worker.deadline = time.monotonic() + worker.grace + _MARGIN
        self._leaving.add(worker)

    def _end_all(self) -> None:
        self._stopping = True
        for worker in self._alive():
            self._tell_to_end(worker)
        self._team, self._due, self._next = {}, {}, None
        while self._leaving:
            self._rest()
            self._reap()

    def _everyone(self) -> list[_Worker]:
        return [*self._alive(), *self._leaving]

    def _alive(self) -> list[_Worker]:
        return [worker for worker in (*self._team.values(), self._next) if worker is not None]
