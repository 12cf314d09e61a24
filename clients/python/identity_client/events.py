"""Functions of a program that are called after a change, such as new revocations of a verifier."""

import logging
import threading
from collections.abc import Callable
from typing import Final, Generic, ParamSpec

P = ParamSpec("P")

_log: Final = logging.getLogger("identity_client.events")


class Listeners(Generic[P]):
    """Functions that are called one after the other, in the order in which they were added.

    Any thread may add and remove functions. If a function raises, this is logged, and the others are called.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._listeners: tuple[Callable[P, object], ...] = ()

    def add(self, listener: Callable[P, object]) -> Callable[[], None]:
        """Add a function; return a function that removes it."""
        with self._lock:
            self._listeners = (*self._listeners, listener)

        def remove() -> None:
            with self._lock:
                self._listeners = tuple(other for other in self._listeners if other is not listener)

        return remove

    def call(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """Call each function with these arguments."""
        for listener in self._listeners:
            try:
                listener(*args, **kwargs)
            except Exception:  # noqa: BLE001  # the caller goes on, whatever a listener does
                _log.exception("A function that was to be called after a change has failed")
