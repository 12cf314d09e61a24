"""Abuses that hold streams, request bodies or connections open, and replace those that the server ends."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Final

from tests.abuse import frames
from tests.abuse.connection import Connection
from tests.abuse.crowd import Crowd

AGAIN: Final = 1.0
"""Seconds between two rounds in which ended streams and connections are opened again."""
_SOON: Final = 0.02
_CONNECTS: Final = 200
"""Maximum number of connections that one step opens, so that the existing connections are served
meanwhile."""

_ATTEMPTS: Final = 3
"""If the server has closed more than this many times the needed connections, the abuse counts as refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """Describes the streams that an abuse holds open."""

    paths: Sequence[str]
    """The gRPC methods of the streams, used in turn."""
    count: int
    body: bytes = b""
    end: bool = False
    """True if each stream is half-closed after the body."""
    window: int = frames.DEFAULT_WINDOW
    """Bytes that the server may send on each stream; with 0 its answer waits for ever."""
    each: int = 100
    """Number of streams on one connection, unless the server allows fewer."""
    answered: bool = False
    """True if the abuse counts as held only when every stream has response headers or has ended."""


class Streams:
    """An abuse that keeps a number of streams open."""

    def __init__(self, crowd: Crowd, order: Order, *, again: bool = True) -> None:
        """Prepare the abuse; `again` says if it replaces streams that the server ends."""
        self._crowd = crowd
        self._order = order
        self._again = again
        self._paths = cycle(order.paths)
        self._due = 0.0
        self._left = order.count
        """Number of streams that have not been opened a first time."""

    @property
    def is_held(self) -> bool:
        """Return whether every stream was opened once, and the server has read all that it accepts."""
        if self._left or not all(each.is_settled() for each in self._crowd.connections):
            return False
        outcomes = self._crowd.outcomes
        ended = sum(count for name, count in outcomes.items() if name.startswith(("RST", "ended")))
        answered = outcomes["answered with headers"] + ended
        return not self._order.answered or answered >= self._order.count

    def step(self, now: float) -> float:
        """Open all streams that were never opened; replace ended streams once a second."""
        if self._left:
            self._left -= self._open(self._left)
            self._due = now + AGAIN
        elif self._again and now >= self._due:
            self._open(self._order.count - self._count())
            self._due = now + AGAIN
        return _SOON

    def _count(self) -> int:
        return sum(len(connection.streams) for connection in self._crowd.connections)

    def _open(self, wanted: int) -> int:
        """Open up to `wanted` streams; return how many, or `wanted` if the server refuses connections."""
        opened = 0
        for connection in self._crowd.connections:
            room = min(self._order.each, connection.most_streams) - len(connection.streams)
            many = max(0, min(wanted - opened, room)) if connection.greeted else 0
            opened += many
            self._open_on(connection, many)
        waiting = sum(not connection.greeted for connection in self._crowd.connections)
        needed = -(-(wanted - opened) // self._order.each) - waiting
        for _ in range(min(_CONNECTS, needed)):
            if self._crowd.connect(window=self._order.window) is None or self._is_unwelcome:
                return wanted
        return opened

    @property
    def _is_unwelcome(self) -> bool:
        """Return whether the server closes connections so often that not all streams can be open at once."""
        usual = -(-self._order.count // self._order.each)
        return self._crowd.outcomes["connections that the server closed"] > _ATTEMPTS * usual

    def _open_on(self, connection: Connection, count: int) -> None:
        for path in islice(self._paths, count):
            connection.open(path, self._order.body, end=self._order.end)
        if count:
            connection.ask()


class Drip:
    """Request bodies that grow by one byte per second, so that no body is ever complete or idle."""

    def __init__(self, crowd: Crowd, paths: Sequence[str], count: int) -> None:
        begun = frames.message(b"", length=1_000)
        self._streams = Streams(crowd, Order(paths=paths, count=count, body=begun))
        self._crowd = crowd
        self._due = 0.0

    @property
    def is_held(self) -> bool:
        """Return whether the streams are held, by the criterion of `Streams`."""
        return self._streams.is_held

    def step(self, now: float) -> float:
        """Send one more byte of each body if a second has passed."""
        if now >= self._due:
            self._due = now + AGAIN
            for connection in self._crowd.connections:
                for number in tuple(connection.streams):
                    connection.append(number, b"\0")
        return self._streams.step(now)


class Silence:
    """Connections on which the abuser sends nothing, or only the start of a handshake."""

    def __init__(self, crowd: Crowd, count: int, first: bytes) -> None:
        self._crowd = crowd
        self._count = self._left = count
        self._first = first
        self._due = 0.0

    @property
    def is_held(self) -> bool:
        """Return whether every connection has been made once."""
        return self._left == 0

    def step(self, now: float) -> float:
        """Open all connections that were never opened; replace closed ones once a second."""
        if self._left:
            many = min(self._left, _CONNECTS)
            self._left -= many
        elif now >= self._due:
            many = min(self._count - self._crowd.silent, _CONNECTS)
            self._due = now + AGAIN
        else:
            return _SOON
        for _ in range(many):
            if not self._crowd.connect_silently(self._first):
                break
        return 0.0 if self._left else _SOON
