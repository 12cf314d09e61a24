"""The three threads of a replica: one waits for entries, one sends heartbeats, one maintains the log.

Owns the threads and their backoff while the store is unreachable. Does not know what the entries mean.
"""

import random
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Final

from identity_service.domain.errors import StoreFencedError, UnavailableError
from identity_service.domain.ports import EventLog
from identity_service.domain.store import ChangeLog
from identity_service.replication.replica import Replica

_FIRST_PAUSE: Final = 0.05
"""Seconds of backoff after the first failure."""
_LONGEST_PAUSE: Final = 0.25
"""Seconds: the upper bound of the backoff."""


class Follower:
    """The three threads that follow one change log into one replica, from `start` until `close`."""

    def __init__(
        self,
        log: ChangeLog,
        replica: Replica,
        event_log: EventLog,
        *,
        process: str,
        heartbeat_interval: timedelta,
    ) -> None:
        self._log = log
        self._replica = replica
        self._event_log = event_log
        self._process = process
        self._interval = heartbeat_interval.total_seconds()
        self._stop = threading.Event()
        self._fenced = False
        """Whether the event `store_moved` was recorded since the last heartbeat that succeeded."""
        self._threads = [
            threading.Thread(target=self._run, args=(step, name), name=f"identity-{name}", daemon=True)
            for step, name in (
                (self._follow, "follow"),
                (self._heartbeat, "heartbeat"),
                (self._maintain, "maintenance"),
            )
        ]

    def start(self) -> None:
        """Load the replica, confirm it by a first heartbeat, then start the threads.

        Raises UnavailableError if the store cannot be read or does not confirm the heartbeat.
        """
        self._replica.load()
        self._replica.heartbeat(self._process)
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Ask the threads to stop. Close the store afterwards: that ends a `wait` for entries in progress."""
        self._stop.set()
        self._replica.maintenance.wake()

    def join(self, timeout: float) -> None:
        """Wait until the threads have ended, at most `timeout` seconds for each."""
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(timeout)

    def _follow(self) -> None:
        """Wait until there may be new entries, at most one heartbeat interval, then read them."""
        self._log.wait(self._replica.revision.position, self._interval)
        if not self._stop.is_set():
            self._replica.catch_up()

    def _heartbeat(self) -> None:
        """Send one heartbeat, then wait for one interval."""
        self._replica.heartbeat(self._process)
        self._fenced = False
        self._stop.wait(self._interval)

    def _maintain(self) -> None:
        """Wait for maintenance work, at most one heartbeat interval, then do it."""
        self._replica.maintenance.wait(self._interval)
        if not self._stop.is_set():
            self._replica.maintenance.do()

    def _run(self, step: Callable[[], None], name: str) -> None:
        """Repeat `step` until the follower is closed, with backoff after each failure.

        The first failure of a series is recorded as an event, and so is the recovery.
        """
        pause = 0.0
        while not self._stop.is_set():
            try:
                step()
            except StoreFencedError as error:
                self._record_fenced(error)
                pause = self._back_off(pause)
            except UnavailableError as error:
                if not pause and not self._stop.is_set():
                    self._event_log.record("store_lost", thread=name, error=str(error))
                pause = self._back_off(pause)
            except Exception as error:  # noqa: BLE001  # a bug: staleness grows meanwhile, and the thread retries
                if not pause and not self._stop.is_set():
                    self._event_log.record("follower_bug", thread=name, error=type(error).__name__)
                pause = self._back_off(pause)
            else:
                if pause:
                    self._event_log.record("store_found", thread=name)
                pause = 0.0

    def _record_fenced(self, error: StoreFencedError) -> None:
        """Record that the store is fenced: once for all threads, until a heartbeat succeeds again."""
        if not self._fenced and not self._stop.is_set():
            self._fenced = True
            self._event_log.record("store_moved", error=str(error))

    def _back_off(self, pause: float) -> float:
        """Sleep with jitter, at most twice as long as the last time and at most 0.25 s.

        Returns the upper bound of this sleep in seconds.
        """
        pause = min(_LONGEST_PAUSE, pause * 2 or _FIRST_PAUSE)
        self._stop.wait(pause * random.uniform(0.5, 1.0))  # noqa: S311  # jitter is no secret
        return pause
