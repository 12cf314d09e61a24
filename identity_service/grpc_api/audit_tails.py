"""TailAuditEvents: one thread reads the store for all open tails, and sends each the missing events."""

import threading
from collections.abc import Callable
from typing import Final

from identity_service.domain.audit import StoredEvent
from identity_service.domain.errors import NotReadyError
from identity_service.domain.store import AuditStore
from identity_service.grpc_api.engine import ResponseStream
from identity_service.grpc_api.paging import DEFAULT_PAGE
from identity_service.grpc_api.senders import Senders
from identity_service.process.thread_limit import REFUSED

_POLL_INTERVAL: Final = 0.25
"""Seconds between two reads of the store for tails that have been sent every event."""

Render = Callable[[list[StoredEvent]], bytes]


class _Tail:
    """One call of TailAuditEvents. Implements `Source`; at most one page of events waits to be sent."""

    overflowed = False

    def __init__(self, after: str, taken: Callable[[], None]) -> None:
        """Create a tail without a page.

        Args:
            after: the id of the last event that the client has.
            taken: called when the sender has taken the page, so that the next page can be read.
        """
        self.after = after
        self.page: bytes | None = None
        self._taken = taken

    def take(self) -> bytes | None:
        """Return the waiting page, or None."""
        page, self.page = self.page, None
        if page is not None:
            self._taken()
        return page

    def last(self) -> bytes | None:
        """Return None: a stream that ends because the process stops gets no further events."""
        return None


class AuditTails:
    """All open tails of one process. Its thread starts with the first tail and ends after the last one."""

    def __init__(self, store: AuditStore, senders: Senders, render: Render) -> None:
        """Create a set without tails; `render` serializes the response that carries a list of events."""
        self._store = store
        self._senders = senders
        self._render = render
        self._condition = threading.Condition()
        self._tails: set[_Tail] = set()
        self._page_wanted = False
        """True if a page has been taken, so that its tail may need another one at once."""
        self._thread: threading.Thread | None = None

    def add(self, after: str, stream: ResponseStream, request_id: str) -> None:
        """Send every event after `after` on this stream until the stream ends.

        Raises NotReadyError if the thread is needed and the system gives none.
        """
        tail = _Tail(after, self._page_taken)
        with self._condition:
            if self._thread is None:
                self._start()
            self._tails.add(tail)
            # Under the lock: the thread must not see a tail before the senders know it and can end it.
            self._senders.add(tail, stream, request_id, lambda: self._forget(tail))

    def _start(self) -> None:
        """Start the thread, which does nothing until the lock is released."""
        thread = threading.Thread(target=self._run, name="identity-audit-tails", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            raise NotReadyError(f"audit events cannot be followed here: {REFUSED}") from error
        self._thread = thread

    def _page_taken(self) -> None:
        with self._condition:
            self._page_wanted = True
            self._condition.notify()

    def _forget(self, tail: _Tail) -> None:
        with self._condition:
            self._tails.discard(tail)
            self._condition.notify()

    def _run(self) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._page_wanted or not self._tails, _POLL_INTERVAL)
                self._page_wanted = False
                if not self._tails:
                    self._thread = None
                    return
                idle = [tail for tail in self._tails if tail.page is None]
            for tail in idle:
                self._read_for(tail)

    def _read_for(self, tail: _Tail) -> None:
        try:
            events = self._store.read_after(tail.after, DEFAULT_PAGE)
            page = self._render(list(events)) if events else None
        except Exception as error:  # noqa: BLE001  # an error of one tail must not end the others
            self._senders.end(tail, error)
            self._forget(tail)
            return
        if page is not None:
            tail.after = events[-1].event_id
            tail.page = page
            self._senders.wake(tail)
