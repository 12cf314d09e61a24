"""The background thread that creates and deletes keys when the key schedule says that they are due."""

import threading
from collections.abc import Callable
from datetime import timedelta

from identity_service.domain.errors import IdentityError, StoreFencedError
from identity_service.domain.ports import EventLog


class KeyKeeper:
    """A thread that calls `maintain` at an interval. Every process has one; a lease picks which one acts."""

    def __init__(self, maintain: Callable[[], int], event_log: EventLog, *, interval: timedelta) -> None:
        self._maintain = maintain
        self._event_log = event_log
        self._interval = interval.total_seconds()
        self._stop = threading.Event()
        self._failing = False
        self._thread = threading.Thread(target=self._run, name="identity-keys", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self) -> None:
        """Tell the thread to stop; returns at once."""
        self._stop.set()

    def join(self, timeout: float) -> None:
        """Wait for at most `timeout` seconds until the thread has stopped."""
        if self._thread.ident is not None:
            self._thread.join(timeout)

    def look(self) -> None:
        """Call `maintain` once, now. The first of several consecutive failures is logged."""
        try:
            self._maintain()
            self._failing = False
        except StoreFencedError:
            pass  # the heartbeat thread logs this once
        except IdentityError as error:
            self._fail(str(error))
        except Exception as error:  # noqa: BLE001  # if the thread ended, the last key would sign for ever
            self._fail(type(error).__name__)

    def _fail(self, why: str) -> None:
        if not self._failing and not self._stop.is_set():
            self._event_log.record("keys_not_maintained", error=why)
        self._failing = True

    def _run(self) -> None:
        while not self._stop.is_set():
            self.look()
            self._stop.wait(self._interval)
