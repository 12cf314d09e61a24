"""The work of a replica's three threads, and their backoff while the store is unreachable.

One thread reads entries, one sends heartbeats, one maintains the log. The module does not interpret the
entries.
"""

import random
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Final

from identity_service.domain.change_log import ReadableLog
from identity_service.domain.errors import StoreFencedError, UnavailableError
from identity_service.domain.ports import EventLog
from identity_service.replication.replica import Replica

_FIRST_PAUSE: Final = 0.05
"""Seconds of backoff after the first failure."""
_LONGEST_PAUSE: Final = 0.25
"""The upper bound of the backoff, in seconds."""


class Follower:
    """The driver of one replica. `load` begins; then each other method runs in a thread of its own.

    The store must be closed after the event of `follow` is set: that ends a wait for entries in progress.
    """

    def __init__(
        self,
        log: ReadableLog,
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
        self._fenced = False
        """True if the event `store_moved` was recorded since the last heartbeat that succeeded."""

    def load(self) -> None:
        """Load the replica, and confirm it by a first heartbeat.

        Raises UnavailableError if the store cannot be read or does not confirm the heartbeat.
        """
        self._replica.load()
        self._replica.heartbeat(self._process)

    def follow(self, stopping: threading.Event) -> None:
        """Wait until there may be new entries, at most one heartbeat interval, then read them; repeat."""

        def step() -> None:
            self._log.wait(self._replica.revision.position, self._interval)
            if not stopping.is_set():
                self._replica.catch_up()

        self._repeat(step, "follow", stopping)

    def send_heartbeats(self, stopping: threading.Event) -> None:
        """Send a heartbeat, then wait for one interval; repeat."""

        def step() -> None:
            self._replica.heartbeat(self._process)
            self._fenced = False
            stopping.wait(self._interval)

        self._repeat(step, "heartbeat", stopping)

    def maintain(self, stopping: threading.Event) -> None:
        """Wait for maintenance work, at most one heartbeat interval, then do it; repeat."""

        def step() -> None:
            self._replica.maintenance.wait(self._interval)
            if not stopping.is_set():
                self._replica.maintenance.do()

        self._repeat(step, "maintenance", stopping)

    def _repeat(self, step: Callable[[], None], name: str, stopping: threading.Event) -> None:
        """Repeat `step` until `stopping` is set, with backoff after each failure.

        The first failure of a series is recorded as an event, and so is the recovery.
        """
        pause = 0.0
        while not stopping.is_set():
            try:
                step()
            except StoreFencedError as error:
                if not self._fenced and not stopping.is_set():  # recorded by the first of the three threads
                    self._fenced = True
                    self._event_log.record("store_moved", error=str(error))
                pause = _back_off(pause, stopping)
            except UnavailableError as error:
                if not pause and not stopping.is_set():
                    self._event_log.record("store_lost", thread=name, error=str(error))
                pause = _back_off(pause, stopping)
            except Exception as error:  # noqa: BLE001  # a bug: staleness grows meanwhile, and the thread retries
                if not pause and not stopping.is_set():
                    self._event_log.record("follower_bug", thread=name, error=type(error).__name__)
                pause = _back_off(pause, stopping)
            else:
                if pause:
                    self._event_log.record("store_found", thread=name)
                pause = 0.0


def _back_off(pause: float, stopping: threading.Event) -> float:
    """Sleep with jitter, at most twice as long as the last time and at most 0.25 s.

    Returns the upper bound of this sleep in seconds.
    """
    pause = min(_LONGEST_PAUSE, pause * 2 or _FIRST_PAUSE)
    stopping.wait(pause * random.uniform(0.5, 1.0))  # noqa: S311  # jitter is not a secret
    return pause
