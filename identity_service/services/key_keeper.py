"""Creates and deletes keys when the key schedule says that they are due."""

import threading
from collections.abc import Callable
from datetime import timedelta

from identity_service.domain.errors import IdentityError, StoreFencedError
from identity_service.domain.ports import EventLog


def keep_keys(
    maintain: Callable[[], int], event_log: EventLog, interval: timedelta, stopping: threading.Event
) -> None:
    """Call `maintain` now and at each interval, until `stopping` is set.

    Every process does so; a lease picks which one acts. The first of several consecutive failures is logged.
    """
    failing = False
    while not stopping.is_set():
        why = ""
        try:
            maintain()
        except StoreFencedError:
            pass  # the heartbeat thread logs this once
        except IdentityError as error:
            why = str(error)
        except Exception as error:  # noqa: BLE001  # if it ended the loop, the last key would sign for ever
            why = type(error).__name__
        if why and not failing and not stopping.is_set():
            event_log.record("keys_not_maintained", error=why)
        failing = bool(why)
        stopping.wait(interval.total_seconds())
