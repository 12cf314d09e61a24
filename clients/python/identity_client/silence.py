"""Detects that no message arrives on a stream any more; TCP may report a dead connection late or never."""

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import grpc

from identity_client.errors import SilentError
from identity_client.freshness import steady


class Watchdog:
    """A timer that calls `give_up` once if an expected message does not come in time.

    The thread that reads the stream calls `expect` and `received`; a thread of the watchdog checks the time.
    """

    def __init__(
        self, give_up: Callable[[], object], interval: float, steady: Callable[[], float] = steady
    ) -> None:
        """Create a watchdog that expects nothing yet.

        Args:
            give_up: called by the thread of the watchdog.
            interval: the longest time between two checks, in seconds; `expect` may not be called with less.
            steady: the boot clock, in seconds.
        """
        self._give_up = give_up
        self._interval = interval
        self._steady = steady
        self._due = float("inf")
        self._ended = threading.Event()
        self.gave_up = False

    def start(self) -> None:
        """Start the thread that checks the time, until `end`."""
        threading.Thread(target=self._run, name="identity-watchdog", daemon=True).start()

    def end(self) -> None:
        """Stop checking."""
        self._ended.set()

    def expect(self, seconds: float) -> None:
        """Expect a message within this many seconds from now."""
        self._due = self._steady() + seconds

    def received(self) -> None:
        """Expect nothing: the message has come."""
        self._due = float("inf")

    def look(self) -> float:
        """Call `give_up` if the message is late. Returns the seconds until the next check."""
        left = self._due - self._steady()
        if left > 0:
            return min(left, self._interval)
        self.gave_up = True
        self._ended.set()
        self._give_up()
        return 0.0

    def _run(self) -> None:
        while not self._ended.wait(self.look()):
            pass


def until_silent(stream: Any, limit: timedelta) -> Iterator[Any]:
    """Yield the messages of a gRPC stream.

    If no message comes for `limit`, the stream is cancelled and SilentError is raised. The limit of the first
    message is twice as long, since the client must connect and the service may have to send many snapshots.
    """
    seconds = limit.total_seconds()
    watchdog = Watchdog(stream.cancel, seconds)
    watchdog.expect(2 * seconds)
    watchdog.start()
    try:
        for message in stream:
            watchdog.received()
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
