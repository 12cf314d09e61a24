"""The follower: three threads beside a replica: one waits for entries, one beats, one does the upkeep.

Owns the threads and their patience with a store that is away. Knows nothing of what is folded.
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
_LONGEST_PAUSE: Final = 0.25


class Follower:
    """Follows one log into one replica until it is closed."""

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
        """Whether it was said that the store takes no writes any more."""
        self._threads = [
            threading.Thread(target=self._run, args=(step, name), name=f"identity-{name}", daemon=True)
            for step, name in (
                (self._follow, "follow"),
                (self._heartbeat, "heartbeat"),
                (self._keep_up, "maintenance"),
            )
        ]

    def start(self) -> None:
        """Load the replica, confirm it by a first beat, then follow. Raises UnavailableError."""
        self._replica.load()
        self._replica.heartbeat(self._process)
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Stop the threads; the store must be closed after this, which ends a wait in progress."""
        self._stop.set()
        self._replica.maintenance.wake()

    def join(self, timeout: float) -> None:
        """Wait for the threads to end."""
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(timeout)

    def _follow(self) -> None:
        self._log.wait(self._replica.revision.position, self._interval)
        if not self._stop.is_set():
            self._replica.catch_up()

    def _heartbeat(self) -> None:
        self._replica.heartbeat(self._process)
        self._fenced = False
        self._stop.wait(self._interval)

    def _keep_up(self) -> None:
        self._replica.maintenance.wait(self._interval)
        if not self._stop.is_set():
            self._replica.maintenance.do()

    def _run(self, step: Callable[[], None], name: str) -> None:
        """Repeat `step`; while the store is away, try again with growing pauses and say so once."""
        pause = 0.0
        while not self._stop.is_set():
            try:
                step()
            except StoreFencedError as error:
                self._say_fenced(error)
                pause = self._rest(pause)
            except UnavailableError as error:
                if not pause and not self._stop.is_set():
                    self._event_log.record("store_lost", thread=name, error=str(error))
                pause = self._rest(pause)
            except Exception as error:  # noqa: BLE001  # nothing is confirmed meanwhile; the thread must live
                if not pause and not self._stop.is_set():
                    self._event_log.record("follower_bug", thread=name, error=type(error).__name__)
                pause = self._rest(pause)
            else:
                if pause:
                    self._event_log.record("store_found", thread=name)
                pause = 0.0

    def _say_fenced(self, error: StoreFencedError) -> None:
        """Once, whichever thread it refuses first, until a heartbeat is taken again."""
        if not self._fenced and not self._stop.is_set():
            self._fenced = True
            self._event_log.record("store_moved", error=str(error))

    def _rest(self, pause: float) -> float:
        """Wait a little longer than the last time; returns for how long at most."""
        pause = min(_LONGEST_PAUSE, pause * 2 or _FIRST_PAUSE)
        self._stop.wait(pause * random.uniform(0.5, 1.0))  # noqa: S311  # jitter is no secret
        return pause
