"""TailAuditEvents: one thread reads the store for all open tails, and each is sent what its client lacks."""

import threading
from collections.abc import Callable
from typing import Final

from identity_service.domain.audit import StoredEvent
from identity_service.domain.errors import NotReadyError
from identity_service.domain.store import Store
from identity_service.grpc_api.paging import DEFAULT_PAGE
from identity_service.grpc_api.response_stream import ResponseStream
from identity_service.grpc_api.senders import Senders
from identity_service.process.thread_limit import REFUSED

_LOOK_EVERY: Final = 0.25
"""Seconds between two looks into the store for tails that have been sent everything."""

Render = Callable[[list[StoredEvent]], bytes]


class _Tail:
    """Implements `Source`: one page waits at most."""

    overflowed = False

    def __init__(self, after: str, taken: Callable[[], None]) -> None:
        """
        Args:
            after: the id of the last event that the client has.
            taken: called when the page is on its way, so that the next one can be read.
        """
        self.after = after
        self.page: bytes | None = None
        self._taken = taken

    def take(self) -> bytes | None:
        page, self.page = self.page, None
        if page is not None:
            self._taken()
        return page

    def last(self) -> bytes | None:
        return None


class AuditTails:
    """All open tails of one process. Its thread starts with the first of them and ends with the last."""

    def __init__(self, store: Store, senders: Senders, render: Render) -> None:
        """`render` makes the message that carries some events."""
        self._store = store
        self._senders = senders
        self._render = render
        self._changed = threading.Condition()
        self._tails: set[_Tail] = set()
        self._more = False
        """Whether a tail has been sent a page and may lack another."""
        self._thread: threading.Thread | None = None

    def add(self, after: str, stream: ResponseStream, request_id: str) -> None:
        """Send on this stream every event that comes after this one, until the stream ends.

        Raises NotReadyError if the thread is needed and the system gives none.
        """
        tail = _Tail(after, self._look_again)
        with self._changed:
            if self._thread is None:
                self._start()
            self._tails.add(tail)
            # The thread looks at no tail before the senders know it, which could not be ended then.
            self._senders.add(tail, stream, request_id, lambda: self._forget(tail))

    def _start(self) -> None:
        """Start the thread, which does nothing until the lock is released."""
        thread = threading.Thread(target=self._run, name="identity-audit-tails", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            raise NotReadyError(f"audit events cannot be followed here: {REFUSED}") from error
        self._thread = thread

    def _look_again(self) -> None:
        with self._changed:
            self._more = True
            self._changed.notify()

    def _forget(self, tail: _Tail) -> None:
        with self._changed:
            self._tails.discard(tail)
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._more or not self._tails, _LOOK_EVERY)
                self._more = False
                if not self._tails:
                    self._thread = None
                    return
                idle = [tail for tail in self._tails if tail.page is None]
            for tail in idle:
                self._read_for(tail)

    def _read_for(self, tail: _Tail) -> None:
        try:
            events = self._store.read_audit(tail.after, DEFAULT_PAGE)
            page = self._render(list(events)) if events else None
        except Exception as error:  # noqa: BLE001  # a bug in one tail must not end the others
            self._senders.end(tail, error)
            self._forget(tail)
            return
        if page is not None:
            tail.after = events[-1].event_id
            tail.page = page
            self._senders.wake(tail)
