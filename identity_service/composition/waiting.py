"""Divides the work threads among the calls that wait in them for something other than the store."""

import math
from typing import NamedTuple

from identity_service.settings import Settings


class WaitingCalls(NamedTuple):
    """The numbers of calls that may wait, by kind; each waits in a work thread."""

    for_sign_ins: int
    """Attempts that wait for others of the same username or address."""
    for_issuers: int
    """Calls that wait for the keys of trusted issuers."""


def waiting_calls(settings: Settings) -> WaitingCalls:
    """Return how many calls of each kind may wait.

    Together with the passwords that are being hashed they leave at least one work thread for other calls:
    clients without a credential can cause all of them.
    """
    left = settings.work_threads - 1 - settings.password_processes - settings.password_queue
    for_issuers = min(settings.work_threads // 4, max(left - settings.password_queue, math.ceil(left / 4)))
    return WaitingCalls(min(settings.password_queue, left - for_issuers), for_issuers)
