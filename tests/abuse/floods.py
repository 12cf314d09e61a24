"""Abuses that send calls or frames at a steady rate which no honest client reaches."""

from collections.abc import Iterable, Sequence
from itertools import cycle, islice
from typing import Final

from tests.abuse import frames
from tests.abuse.connection import Connection
from tests.abuse.crowd import Crowd

_TICK: Final = 0.01
_RECONNECT: Final = 0.1
"""Seconds between two attempts to replace connections that the server has ended."""
_IN_FLIGHT: Final = 100
"""Maximum number of concurrent calls on one connection."""


def _answers(crowd: Crowd) -> int:
    """Return how many calls the server has ended."""
    return sum(count for name, count in crowd.outcomes.items() if name.startswith(("status", "RST")))


class _Pace:
    """A rate of actions per second; actions missed during a delay are made up for 0.1 s at most."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._last: float | None = None
        self._unconfirmed = 0.0

    def due(self, now: float) -> int:
        """Return how many actions are due now; at most the actions of 0.1 s."""
        elapsed = _TICK if self._last is None else min(now - self._last, 0.1)
        self._last = now
        self._unconfirmed += elapsed * self._rate
        many = int(self._unconfirmed)
        self._unconfirmed -= many
        return many


class _Flood:
    """An abuse that keeps connections open and sends on them; a subclass defines what it sends."""

    def __init__(self, crowd: Crowd, rate: float, connections: int = 1) -> None:
        self._crowd = crowd
        self._pace = _Pace(rate)
        self._connections = connections
        self._again = 0.0
        self._done = 0
        self._enough = max(1, int(rate))
        """Number of frames or calls (one second's worth) after which the flood counts as under way."""

    @property
    def is_held(self) -> bool:
        """Return whether the frames of one second have been sent; the server's socket may still hold some."""
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
        """Send this many frames or calls on the connection; return how many were sent."""
        raise NotImplementedError


class Resets(_Flood):
    """Streams that are opened and immediately reset, on one connection: rapid reset (CVE-2023-44487)."""

    def __init__(self, crowd: Crowd, path: str, body: bytes, rate: float) -> None:
        """Prepare the flood; each stream sends `body` before its reset, unless `body` is empty."""
        super().__init__(crowd, rate)
        self._path = path
        self._body = body

    def send(self, connection: Connection, count: int) -> int:
        """Open and reset this many streams."""
        connection.open_and_reset(self._path, self._body, count)
        return count


class Calls(_Flood):
    """Complete calls at a steady rate, with a bounded number of concurrent calls."""

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
            calls: the path and body of each call; the flood repeats the list.
            more: additional header fields.
            enough: number of answers after which the flood counts as under way; 0 = the calls of one second.
            connections: number of connections, each with up to 100 concurrent calls.
        """
        super().__init__(crowd, rate, connections)
        self._enough = enough or self._enough
        self._calls = cycle(calls)
        self._more = tuple(more)

    @property
    def is_held(self) -> bool:
        """Return whether the server has answered enough calls, with any status."""
        return _answers(self._crowd) >= self._enough

    def send(self, connection: Connection, count: int) -> int:
        """Start up to this many calls, within the limits of the server and of this class; return how many."""
        room = min(_IN_FLIGHT, connection.most_streams) - len(connection.streams)
        many = max(0, min(count, room))
        for path, body in islice(self._calls, many):
            connection.open(path, body, end=True, more=self._more)
        return many


class Bursts:
    """The same call, made many times concurrently, once a second."""

    def __init__(self, crowd: Crowd, path: str, body: bytes, count: int) -> None:
        self._crowd = crowd
        self._path = path
        self._body = body
        self._count = count
        self._due = 0.0

    @property
    def is_held(self) -> bool:
        """Return whether the server has answered the calls of one burst, with any status."""
        return _answers(self._crowd) >= self._count

    def step(self, now: float) -> float:
        """Start the next burst when it is due; the server's stream limit may make the burst smaller."""
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
    """One frame, sent repeatedly at a steady rate."""

    def __init__(self, crowd: Crowd, data: bytes, rate: float) -> None:
        super().__init__(crowd, rate)
        self._data = data

    def send(self, connection: Connection, count: int) -> int:
        """Send the frame this many times."""
        connection.raw(self._data * count)
        return count


class EmptyData(_Flood):
    """Empty DATA frames on an open stream (CVE-2019-9518)."""

    def __init__(self, crowd: Crowd, path: str, rate: float) -> None:
        super().__init__(crowd, rate)
        self._path = path

    def send(self, connection: Connection, count: int) -> int:
        """Send this many empty DATA frames on the connection's stream, and open the stream if needed."""
        number = next(iter(connection.streams), None) or connection.open(self._path, end=False)
        connection.raw(frames.frame(frames.DATA, 0, number) * count)
        return count


class Continuations(_Flood):
    """A header block that never ends (CVE-2024-27316); a server must not keep it in memory."""

    def __init__(self, crowd: Crowd, path: str, rate: float) -> None:
        super().__init__(crowd, rate)
        self._path = path
        self._begun: set[Connection] = set()

    def send(self, connection: Connection, count: int) -> int:
        """Send HEADERS if this connection has sent none, then this many CONTINUATION frames."""
        if connection not in self._begun:
            self._begun.add(connection)
            connection.raw(frames.frame(frames.HEADERS, 0, 1, frames.request_fields(self._path, "a")))
        field = b"\x00\x01a\x7f" + bytes([0]) + b"x" * 127
        connection.raw(frames.frame(frames.CONTINUATION, 0, 1, field) * count)
        return count


class Reconnects:
    """Connections that the abuser closes as soon as the server's SETTINGS frame has arrived."""

    def __init__(self, crowd: Crowd, rate: float) -> None:
        self._crowd = crowd
        self._pace = _Pace(rate)
        self._enough = max(1, int(rate))

    @property
    def is_held(self) -> bool:
        """Return whether the connections of one second have been made or refused."""
        outcomes = self._crowd.outcomes
        return outcomes["connections"] + outcomes["connections refused"] >= self._enough

    def step(self, now: float) -> float:
        """Open the connections that are due, and close those on which the server's SETTINGS have arrived."""
        for connection in self._crowd.connections:
            if connection.greeted:
                connection.give_up("connections that the abuser closed")
        for _ in range(self._pace.due(now)):
            self._crowd.connect()
        return _TICK
