"""The key keeper: a thread that does what the schedule of the keys asks for, when it is due."""

import threading
from collections.abc import Callable
from datetime import timedelta

from identity_service.domain.errors import IdentityError, StoreFencedError
from identity_service.domain.ports import EventLog


class KeyKeeper:
    """Calls `maintain` again and again until it is closed. Every process has one; a lease picks who acts."""

    def __init__(self, maintain: Callable[[], int], event_log: EventLog, *, interval: timedelta) -> None:
        self._maintain = maintain
        self._event_log = event_log
        self._interval = interval.total_seconds()
        self._stop = threading.Event()
        self._failing = False
        self._thread = threading.Thread(target=self._run, name="identity-keys", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._stop.set()

    def join(self, timeout: float) -> None:
        if self._thread.ident is not None:
            self._thread.join(timeout)

    def look(self) -> None:
        """Once, now. A failure is told once, until it goes well again."""
        try:
            self._maintain()
            self._failing = False
        except StoreFencedError:
            pass  # said once by the thread whose heartbeats are refused
        except IdentityError as error:
            self._fail(str(error))
        except Exception as error:  # noqa: BLE001  # a thread that ended would let the last key sign for ever
            self._fail(type(error).__name__)

    def _fail(self, why: str) -> None:
        if not self._failing and not self._stop.is_set():
            self._event_log.record("keys_not_maintained", error=why)
        self._failing = True

    def _run(self) -> None:
        while not self._stop.is_set():
            self.look()
            self._stop.wait(self._interval)
