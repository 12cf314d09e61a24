"""Batching of calls: calls that threads make at the same time share one connection, one write and one read.

A thread that finds no batch in progress sends one at once, as its leader. Calls that are made meanwhile wait
and form the next batch, and the thread of the first of them becomes its leader. A call that is made alone
does not wait. This module decides which calls form a batch; it does not know Redis.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Generic, TypeVar

R = TypeVar("R")
A = TypeVar("A")
_MAX_BATCH: Final = 64
"""The largest number of calls in one batch; further calls wait for the next batch."""


class PendingCall(Generic[R, A]):
    """A call that waits for its batch. Afterwards it holds its outcome: an answer or an error."""

    __slots__ = ("_error", "_wait", "answers", "leads", "request", "wake")

    def __init__(self, request: R) -> None:
        self.request = request
        self.answers: list[A] = []
        """A list of the one answer; empty before the answer arrives, and if the batch failed."""
        self.leads = False
        """True if the thread of this call must send the next batch."""
        self._error: BaseException | None = None
        lock = threading.Lock()
        lock.acquire()
        self._wait, self.wake = lock.acquire, lock.release

    def wait(self) -> None:
        """Block until this call has an outcome, or until its thread must lead the next batch."""
        self._wait()

    def fail(self, error: BaseException) -> None:
        """Make `error` the outcome, unless the call has an answer already."""
        if not self.answers:
            self._error = error

    def outcome(self) -> A:
        """Return the answer, or raise the error with which the call failed."""
        if self._error is not None:
            raise self._error
        return self.answers[0]


class CallBatcher(Generic[R, A]):
    """A queue that groups concurrent calls into batches of at most 64, one batch at a time. Thread-safe."""

    def __init__(self, talk: Callable[[Sequence[PendingCall[R, A]]], None]) -> None:
        """Use `talk` to send the batches.

        Args:
            talk: sends the calls of one batch and appends to `answers` of each the answer to it. An error
                that it raises is the outcome of every call that has no answer yet.
        """
        self._exchange = talk
        self._lock = threading.Lock()
        self._waiting: deque[PendingCall[R, A]] = deque()
        self._in_progress = False

    def go(self, request: R) -> A:
        """Send the request in the next batch, and return the answer.

        Raises the error with which its batch failed. An error of a batch also fails the calls that wait for
        the next one: they would probably fail in the same way, and no caller should wait for two timeouts.
        """
        pending: PendingCall[R, A] = PendingCall(request)
        with self._lock:
            self._waiting.append(pending)
            pending.leads, self._in_progress = not self._in_progress, True
        if not pending.leads:
            pending.wait()
        if pending.leads:
            self._lead(pending)
        return pending.outcome()

    def _lead(self, leader: PendingCall[R, A]) -> None:
        with self._lock:
            batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), _MAX_BATCH))]
        error: BaseException | None = None
        try:
            self._exchange(batch)
        except BaseException as failure:  # noqa: BLE001  # every call of the batch raises it
            error = failure
        with self._lock:
            if error is not None:
                batch += self._waiting
                self._waiting.clear()
            self._in_progress = bool(self._waiting)
            if self._waiting:
                self._waiting[0].leads = True
                self._waiting[0].wake()
        for pending in batch:
            if error is not None:
                pending.fail(error)
            if pending is not leader:
                pending.wake()
