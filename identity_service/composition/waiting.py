"""Divides the work threads among the calls that wait in them for something other than the store."""

import math
from typing import NamedTuple

from identity_service.settings import Settings


class WaitingCalls(NamedTuple):
    """The numbers of calls that may wait, by kind; each waits in a work thread."""

    for_sign_ins: int
    """Sign-ins that wait for other attempts with the same username, or from the same address."""
    for_issuers: int
    """Calls that wait until the keys of a trusted issuer are fetched."""


def waiting_calls(settings: Settings) -> WaitingCalls:
    """Return how many calls of each kind may wait.

    Together with the passwords that are being hashed they leave at least one work thread for other calls:
    clients without a credential can cause all of them.
    """
    left = settings.work_threads - 1 - settings.password_processes - settings.password_queue
    for_issuers = min(settings.work_threads // 4, max(left - settings.password_queue, math.ceil(left / 4)))
    return WaitingCalls(min(settings.password_queue, left - for_issuers), for_issuers)
