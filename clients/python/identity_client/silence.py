"""Notices that a stream has fallen silent, which TCP may not tell for a minute or ever."""

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import grpc

from identity_client.errors import SilentError
from identity_client.freshness import steady


class Watchdog:
    """Calls `give_up`, once, when a message that is expected does not come in time.

    One thread expects messages; a thread of the watchdog looks on.
    """

    def __init__(
        self, give_up: Callable[[], object], interval: float, steady: Callable[[], float] = steady
    ) -> None:
        """
        Args:
            give_up: called by the thread of the watchdog.
            interval: seconds between two looks at most; no shorter limit may be expected.
        """
        self._give_up = give_up
        self._interval = interval
        self._steady = steady
        self._due = float("inf")
        self._ended = threading.Event()
        self.gave_up = False

    def start(self) -> None:
        """Look on, in a thread, until `end`."""
        threading.Thread(target=self._look_on, name="identity-watchdog", daemon=True).start()

    def end(self) -> None:
        """Stop looking on."""
        self._ended.set()

    def expect(self, seconds: float) -> None:
        """From now on a message is waited for, for so long at most."""
        self._due = self._steady() + seconds

    def heard(self) -> None:
        """It has come; nothing is waited for."""
        self._due = float("inf")

    def look(self) -> float:
        """Give up if it is time. Returns in how many seconds to look again."""
        left = self._due - self._steady()
        if left > 0:
            return min(left, self._interval)
        self.gave_up = True
        self._ended.set()
        self._give_up()
        return 0.0

    def _look_on(self) -> None:
        while not self._ended.wait(self.look()):
            pass


def until_silent(stream: Any, limit: timedelta) -> Iterator[Any]:
    """Yield the messages of a gRPC stream.

    Raises SilentError, and cancels the stream, when no message has come for `limit`; before the first one
    for twice as long, since the connection must be made and the service may have many to begin with.
    """
    seconds = limit.total_seconds()
    watchdog = Watchdog(stream.cancel, seconds)
    watchdog.expect(2 * seconds)
    watchdog.start()
    try:
        for message in stream:
            watchdog.heard()
            yield message
            watchdog.expect(seconds)
    except grpc.RpcError:
        if not watchdog.gave_up:
            raise
        raise SilentError(
            f"the service has sent nothing for {seconds:g} s", code=grpc.StatusCode.UNAVAILABLE
        ) from None
    finally:
        watchdog.end()
