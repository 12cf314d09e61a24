"""Workers: processes that do the same on one port, and are started again when they end.

Knows how processes live and end, not what they serve. A worker says on its pipe that it is ready; it ends
on SIGTERM, and by itself when its parent is gone.
"""

import multiprocessing
import multiprocessing.connection
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Final, Generic, TypeVar

from identity_service.domain.errors import ConfigurationError
from identity_service.domain.ports import Journal

P = TypeVar("P")

_CALM: Final = 10.0
"""Seconds. Who has lived so long has not failed at once."""
_CRASHES: Final = 5
"""So many of them in a row, and as many more as there are workers, end it all."""
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 5.0
_MARGIN: Final = 5.0
"""Seconds beyond their grace after which workers are killed."""


@dataclass(eq=False, slots=True)
class _Worker:
    process: SpawnProcess
    ready: Connection
    born: float = field(default_factory=time.monotonic)
    deadline: float = float("inf")
    """When it is killed, once it was told to end."""


class Workers(Generic[P]):
    """Starts workers with a plan, and keeps as many of them alive until `stop`."""

    def __init__(
        self, work: Callable[[P, Connection], None], journal: Journal, *, count: int, grace: timedelta
    ) -> None:
        """`work` = what each process does, importable; `grace` = how long one may take to end."""
        self._work = work
        self._journal = journal
        self._grace = grace.total_seconds()
        self._spawning = multiprocessing.get_context("spawn")
        self._team: dict[int, _Worker | None] = dict.fromkeys(range(count))
        self._due: dict[int, float] = {}
        self._leaving: set[_Worker] = set()
        self._crashes = 0
        self._cut_off = False
        self._stopping = False
        self._wake, self._waker = multiprocessing.Pipe(duplex=False)
        self._new_plan: Callable[[], P] | None = None

    def stop(self) -> None:
        """Tell `run` to end them all. For signal handlers too, as `renew`."""
        self._stopping = True
        self._waker.send_bytes(b"")

    def renew(self, new_plan: Callable[[], P]) -> None:
        """Tell `run` to replace one after the other: each new one serves before its old one ends.

        Args:
            new_plan: gives the plan of the new ones, or raises ConfigurationError: then nothing changes.
        """
        self._new_plan = new_plan
        self._waker.send_bytes(b"")

    def run(self, plan: P, announce: Callable[[], None]) -> int:
        """Until `stop`; returns the exit code: that of the first that could not start, 1 for a crash loop
        or where calls had to be cut off, else 0.

        Args:
            announce: called once, when all of them are ready.
        """
        for index in self._team:
            self._team[index] = self._start(plan)
        code = 0
        for worker in self._alive():
            if not self._await_ready(worker):
                code = worker.process.exitcode or 0
                if code < 0:  # a signal's number is no exit code, and who was told to stop has not failed
                    code = int(not self._stopping)
                self._stopping = True
                break
        else:
            announce()
        while not self._stopping:
            self._rest()
            self._reap()
            if self._crashes >= _CRASHES + len(self._team):
                self._journal.record("workers_give_up", crashes=self._crashes)
                code, self._stopping = 1, True
            elif self._new_plan is not None:
                plan = self._renew_all(plan, self._new_plan)
            else:
                self._replace_fallen(plan)
        self._end_all()
        return code or int(self._cut_off)

    def _start(self, plan: P) -> _Worker:
        ready, says = multiprocessing.Pipe(duplex=False)
        process = self._spawning.Process(target=self._work, args=(plan, says), name="identity-worker")
        process.start()
        says.close()  # so that the end of the worker is the end of the pipe
        return _Worker(process, ready)

    def _await_ready(self, worker: _Worker) -> bool:
        """Whether it became ready, before it ended or all were told to."""
        while not self._stopping:
            if worker.ready in multiprocessing.connection.wait([worker.ready, self._wake]):
                try:
                    worker.ready.recv_bytes()
                except EOFError:
                    worker.process.join()
                    return False
                return True
            self._wake.recv_bytes()
        return False

    def _rest(self) -> None:
        """Until something is to be done."""
        if self._new_plan is not None:
            return
        ends = [worker.process.sentinel for worker in (*self._alive(), *self._leaving)]
        times = [*self._due.values(), *(worker.deadline for worker in self._leaving)]
        patience = max(0.0, min(times) - time.monotonic()) if times else None
        if self._wake in multiprocessing.connection.wait([*ends, self._wake], patience):
            self._wake.recv_bytes()

    def _reap(self) -> None:
        """Take note of those that have ended, and kill those that had to."""
        now = time.monotonic()
        for index, worker in self._team.items():
            if worker is not None and not worker.process.is_alive():
                self._journal.record("worker_ended", pid=worker.process.pid, code=worker.process.exitcode)
                self._crashes = 1 if now - worker.born > _CALM else self._crashes + 1
                self._due[index] = now + min(_FIRST_PAUSE * 2 ** (self._crashes - 1), _LONGEST_PAUSE)
                self._team[index] = None
        for worker in [*self._leaving]:
            if now >= worker.deadline:
                worker.process.kill()
                worker.process.join()
            if not worker.process.is_alive():
                # Told to end before it knew how to: nothing was cut off.
                self._cut_off |= worker.process.exitcode not in (0, -signal.SIGTERM)
                self._leaving.discard(worker)

    def _replace_fallen(self, plan: P) -> None:
        now = time.monotonic()
        for index in [index for index, due in self._due.items() if due <= now]:
            del self._due[index]
            self._team[index] = self._start(plan)

    def _renew_all(self, plan: P, new_plan: Callable[[], P]) -> P:
        """The plan that holds from now on: the old one, where the first of the new ones did not start."""
        self._new_plan = None
        try:
            wanted = new_plan()
        except ConfigurationError as error:
            self._journal.record("workers_not_renewed", error=str(error))
            return plan
        for index, old in self._team.items():
            new = self._start(wanted)
            if not self._await_ready(new):
                self._journal.record("workers_not_renewed", code=new.process.exitcode)
                self._tell_to_end(new)
                return plan
            self._due.pop(index, None)
            self._team[index] = new
            if old is not None:
                self._tell_to_end(old)
        self._journal.record("workers_renewed", workers=len(self._team))
        return wanted

    def _tell_to_end(self, worker: _Worker) -> None:
        worker.process.terminate()
        worker.deadline = time.monotonic() + self._grace + _MARGIN
        self._leaving.add(worker)

    def _end_all(self) -> None:
        for worker in self._alive():
            self._tell_to_end(worker)
        self._team, self._due = {}, {}
        while self._leaving:
            self._rest()
            self._reap()

    def _alive(self) -> list[_Worker]:
        return [worker for worker in self._team.values() if worker is not None]


@contextmanager
def reserved(address: str) -> Iterator[str]:
    """Hold host:port, so that workers may share it and nobody else has it; port 0 becomes a free one.

    Raises ConfigurationError: somebody listens there.
    """
    host, _, port = address.rpartition(":")
    with ExitStack() as stack:
        try:
            family, kind, _, _, place = socket.getaddrinfo(
                host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            # Alone at first: a socket that shares would not notice another one that does.
            with socket.socket(family, kind) as alone:
                alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                alone.bind(place)
                place = alone.getsockname()
            shared = stack.enter_context(socket.socket(family, kind))
            shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            shared.bind(place)
        except OSError as error:
            raise ConfigurationError(
                f"cannot listen on {address}: is another process there? (settings: listen, mtls_listen)"
            ) from error
        yield f"{host}:{place[1]}"
