"""Calls that many threads make at the same moment go out together: one write, one read, one connection.

Owns who goes with whom. Whoever finds nobody under way leads; those who come meanwhile go next, and the first
of them leads. A call alone waits for nobody. Knows nothing of Redis.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Generic, TypeVar

R = TypeVar("R")
A = TypeVar("A")
_TOGETHER: Final = 64


class PendingCall(Generic[R, A]):
    """One call, and what became of it."""

    __slots__ = ("_error", "_wait", "answers", "leads", "request", "wake")

    def __init__(self, request: R) -> None:
        self.request = request
        self.answers: list[A] = []
        """The answer, once there is one."""
        self.leads = False
        self._error: BaseException | None = None
        lock = threading.Lock()
        lock.acquire()
        self._wait, self.wake = lock.acquire, lock.release

    def wait(self) -> None:
        """Until it has an outcome, or is to lead."""
        self._wait()

    def fail(self, error: BaseException) -> None:
        if not self.answers:
            self._error = error

    def outcome(self) -> A:
        if self._error is not None:
            raise self._error
        return self.answers[0]


class CallBatcher(Generic[R, A]):
    """Any thread may call any method."""

    def __init__(self, talk: Callable[[Sequence[PendingCall[R, A]]], None]) -> None:
        """`talk` gives each ride its answer, in one conversation; what it raises is the others' outcome."""
        self._talk = talk
        self._lock = threading.Lock()
        self._waiting: deque[PendingCall[R, A]] = deque()
        self._under_way = False

    def go(self, request: R) -> A:
        """The answer to the request.

        Raises what the conversation failed with, also where that was the one before: what has not been asked
        yet would not fare better, and nobody shall wait twice.
        """
        pending: PendingCall[R, A] = PendingCall(request)
        with self._lock:
            self._waiting.append(pending)
            pending.leads, self._under_way = not self._under_way, True
        if not pending.leads:
            pending.wait()
        if pending.leads:
            self._lead(pending)
        return pending.outcome()

    def _lead(self, leader: PendingCall[R, A]) -> None:
        with self._lock:
            batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), _TOGETHER))]
        error: BaseException | None = None
        try:
            self._talk(batch)
        except BaseException as failure:  # noqa: BLE001  # each of them raises it
            error = failure
        with self._lock:
            if error is not None:
                batch += self._waiting
                self._waiting.clear()
            self._under_way = bool(self._waiting)
            if self._waiting:
                self._waiting[0].leads = True
                self._waiting[0].wake()
        for pending in batch:
            if error is not None:
                pending.fail(error)
            if pending is not leader:
                pending.wake()
