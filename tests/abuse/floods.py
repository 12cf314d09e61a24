"""Abuses that send more than any honest client does, at a steady rate."""

from collections.abc import Iterable, Sequence
from itertools import cycle, islice
from typing import Final

from tests.abuse import frames
from tests.abuse.connection import Connection
from tests.abuse.crowd import Crowd

_TICK: Final = 0.01
_RECONNECT: Final = 0.1
"""Seconds between two attempts to get a new connection for one that the server has ended."""
_IN_FLIGHT: Final = 100
"""Calls in progress on one connection."""


def _answers(crowd: Crowd) -> int:
    """Return how many calls the server has ended."""
    return sum(count for name, count in crowd.outcomes.items() if name.startswith(("status", "RST")))


class _Pace:
    """A rate of actions per second; actions that could not be done in time are left out."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._last: float | None = None
        self._unconfirmed = 0.0

    def due(self, now: float) -> int:
        """Return how many are due now; at most those of a tenth of a second."""
        elapsed = _TICK if self._last is None else min(now - self._last, 0.1)
        self._last = now
        self._unconfirmed += elapsed * self._rate
        many = int(self._unconfirmed)
        self._unconfirmed -= many
        return many


class _Flood:
    """Keeps connections open and sends on them; a subclass says what."""

    def __init__(self, crowd: Crowd, rate: float, connections: int = 1) -> None:
        self._crowd = crowd
        self._pace = _Pace(rate)
        self._connections = connections
        self._again = 0.0
        self._done = 0
        self._enough = max(1, int(rate))
        """So many are sent before the flood counts as begun."""

    @property
    def is_held(self) -> bool:
        """Return whether the load of one second was sent: the server has read it, or has it in its socket."""
        return self._done >= self._enough

    def step(self, now: float) -> float:
        """Send the frames that are due."""
        if len(self._crowd.connections) < self._connections and now >= self._again:
            self._again = now + _RECONNECT
            for _ in range(self._connections - len(self._crowd.connections)):
                self._crowd.connect()
        ready = [each for each in self._crowd.connections if each.greeted and not each.is_full]
        many = self._pace.due(now)
        for index, connection in enumerate(ready):
            share = many // len(ready) + (index < many % len(ready))
            if share:
                self._done += self.send(connection, share)
        return _TICK

    def send(self, connection: Connection, count: int) -> int:
        """Send so many; returns how many were sent."""
        raise NotImplementedError


class Resets(_Flood):
    """Streams that are opened and reset at once, on one connection: rapid reset (CVE-2023-44487)."""

    def __init__(self, crowd: Crowd, path: str, body: bytes, rate: float) -> None:
        """`body` = the request that each stream sends before it is reset; empty = none."""
        super().__init__(crowd, rate)
        self._path = path
        self._body = body

    def send(self, connection: Connection, count: int) -> int:
        """Open and reset so many streams."""
        connection.open_and_reset(self._path, self._body, count)
        return count


class Calls(_Flood):
    """Whole calls; a bounded number is in progress."""

    def __init__(
        self,
        crowd: Crowd,
        calls: Sequence[tuple[str, bytes]],
        rate: float,
        more: Iterable[tuple[str, str]] = (),
        enough: int = 0,
        connections: int = 4,
    ) -> None:
        """Prepare the flood.

        Args:
            calls: path and body of each, in turn.
            more: header fields beside the usual ones.
            enough: answers after which the flood counts as begun; 0 = those of a second.
            connections: each with 100 calls in progress at most.
        """
        super().__init__(crowd, rate, connections)
        self._enough = enough or self._enough
        self._calls = cycle(calls)
        self._more = tuple(more)

    @property
    def is_held(self) -> bool:
        """Return whether enough calls were answered, with any status."""
        return _answers(self._crowd) >= self._enough

    def send(self, connection: Connection, count: int) -> int:
        """Begin as many calls as the server and the bound allow."""
        room = min(_IN_FLIGHT, connection.most_streams) - len(connection.streams)
        many = max(0, min(count, room))
        for path, body in islice(self._calls, many):
            connection.open(path, body, end=True, more=self._more)
        return many


class Bursts:
    """The same call so many times at once, once a second."""

    def __init__(self, crowd: Crowd, path: str, body: bytes, count: int) -> None:
        self._crowd = crowd
        self._path = path
        self._body = body
        self._count = count
        self._due = 0.0

    @property
    def is_held(self) -> bool:
        """Return whether so many calls were answered, with any status."""
        return _answers(self._crowd) >= self._count

    def step(self, now: float) -> float:
        """Begin the calls when they are due, at most as many as the server allows at once."""
        if not self._crowd.connections and now >= self._due:
            self._crowd.connect()
            self._due = now + _RECONNECT
        for connection in self._crowd.connections:
            if connection.greeted and now >= self._due:
                self._due = now + 1.0
                for _ in range(min(self._count, connection.most_streams - len(connection.streams))):
                    connection.open(self._path, self._body, end=True)
        return _TICK


class Frames(_Flood):
    """One frame of the connection, again and again."""

    def __init__(self, crowd: Crowd, data: bytes, rate: float) -> None:
        super().__init__(crowd, rate)
        self._data = data

    def send(self, connection: Connection, count: int) -> int:
        """Send the frame so often."""
        connection.raw(self._data * count)
        return count


class EmptyData(_Flood):
    """DATA frames without data on an open stream (CVE-2019-9518)."""

    def __init__(self, crowd: Crowd, path: str, rate: float) -> None:
        super().__init__(crowd, rate)
        self._path = path

    def send(self, connection: Connection, count: int) -> int:
        """Send so many empty frames on the connection's stream, and open it if there is none."""
        number = next(iter(connection.streams), None) or connection.open(self._path, end=False)
        connection.raw(frames.frame(frames.DATA, 0, number) * count)
        return count


class Continuations(_Flood):
    """A header block that never ends (CVE-2024-27316): it is never decoded, and must not be kept."""

    def __init__(self, crowd: Crowd, path: str, rate: float) -> None:
        super().__init__(crowd, rate)
        self._path = path
        self._begun: set[Connection] = set()

    def send(self, connection: Connection, count: int) -> int:
        """Begin the block, then go on with it."""
        if connection not in self._begun:
            self._begun.add(connection)
            connection.raw(frames.frame(frames.HEADERS, 0, 1, frames.request_fields(self._path, "a")))
        field = b"\x00\x01a\x7f" + bytes([0]) + b"x" * 127
        connection.raw(frames.frame(frames.CONTINUATION, 0, 1, field) * count)
        return count


class Reconnects:
    """Connections that are made, greet and go away at once."""

    def __init__(self, crowd: Crowd, rate: float) -> None:
        self._crowd = crowd
        self._pace = _Pace(rate)
        self._enough = max(1, int(rate))

    @property
    def is_held(self) -> bool:
        """Return whether the connections of one second were made or refused."""
        outcomes = self._crowd.outcomes
        return outcomes["connections"] + outcomes["connections refused"] >= self._enough

    def step(self, now: float) -> float:
        """Make the connections that are due, and close those that the server has greeted."""
        for connection in self._crowd.connections:
            if connection.greeted:
                connection.give_up("connections that the abuser closed")
        for _ in range(self._pace.due(now)):
            self._crowd.connect()
        return _TICK
