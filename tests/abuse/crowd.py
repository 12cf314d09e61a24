"""All connections of one abuser to one server, and the event loop that reads and writes them."""

import selectors
import socket
from collections import Counter
from typing import Final

from tests.abuse import frames
from tests.abuse.connection import Connection, connect

_MOST: Final = 20_000
"""Maximum number of connections of one abuser."""


class Crowd:
    """The connections of one abuser to one server; only one thread may use an instance."""

    def __init__(self, target: str, source: str) -> None:
        self._target = target
        self._source = source
        self._selector = selectors.DefaultSelector()
        self.outcomes: Counter[str] = Counter()
        """The number of each event: connections made or refused, and ends of streams and of connections."""
        self.connections: list[Connection] = []
        self._silent: list[socket.socket] = []

    @property
    def silent(self) -> int:
        """Return the number of open connections of `connect_silently`."""
        return len(self._silent)

    def connect(self, *, window: int = frames.DEFAULT_WINDOW) -> Connection | None:
        """Open a connection; return None if the server refuses it or there are too many connections."""
        if len(self.connections) >= _MOST:
            return None
        try:
            made = Connection(self._target, self._source, window=window, outcomes=self.outcomes)
        except OSError:
            self.outcomes["connections refused"] += 1
            return None
        self.outcomes["connections"] += 1
        self.connections.append(made)
        self._selector.register(made, selectors.EVENT_READ | selectors.EVENT_WRITE, made)
        return made

    def connect_silently(self, first: bytes = b"") -> bool:
        """Open a connection that sends only these bytes; return False if it was refused."""
        if self.silent >= _MOST:
            return False
        try:
            made = connect(self._target, self._source)
            if first:
                made.send(first)
        except OSError:
            self.outcomes["connections refused"] += 1
            return False
        self.outcomes["connections"] += 1
        self._silent.append(made)
        self._selector.register(made, selectors.EVENT_READ, None)
        return True

    def turn(self, seconds: float) -> None:
        """Wait up to this many seconds until a socket is ready; then read, and write all send buffers."""
        for key, events in self._selector.select(seconds):
            connection = key.data
            if connection is None:
                self._read_silent(key.fileobj)
                continue
            if events & selectors.EVENT_READ:
                connection.read()
        for connection in tuple(self.connections):
            if not connection.closed:
                connection.write()
            if connection.closed:
                self._forget(connection)
            else:
                self._watch(connection)

    def close(self) -> None:
        """Close the sockets of all connections, without a GOAWAY frame."""
        for connection in self.connections:
            connection.socket.close()
        for made in self._silent:
            made.close()
        self._selector.close()

    def _watch(self, connection: Connection) -> None:
        wanted = selectors.EVENT_READ
        if connection.wants_to_write:
            wanted |= selectors.EVENT_WRITE
        if self._selector.get_key(connection).events != wanted:
            self._selector.modify(connection, wanted, connection)

    def _forget(self, connection: Connection) -> None:
        self._selector.unregister(connection)
        self.connections.remove(connection)
        connection.socket.close()

    def _read_silent(self, made: object) -> None:
        assert isinstance(made, socket.socket)
        try:
            gone = not made.recv(4096)
        except OSError:
            gone = True
        if gone:
            self.outcomes["connections that the server closed"] += 1
            self._selector.unregister(made)
            self._silent.remove(made)
            made.close()
