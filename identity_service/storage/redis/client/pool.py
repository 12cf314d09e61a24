"""A bounded set of connections to one server: each is one caller's at a time, the last used goes first.

Knows nothing of what is sent. The pools of redis-py spend more time on a short call than the network
does: observability, locks, and a poll at each checkout.
"""

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, Final, Protocol

import redis

from identity_service.domain.errors import StoreUnavailableError
from identity_service.storage.redis.client.durability import Confirmation


class Wire(Protocol):
    """What is used of a redis.Connection, which has no types of its own."""

    @property
    def is_connected(self) -> bool: ...

    def connect(self) -> None: ...

    def send_packed_command(self, command: list[bytes], check_health: bool = True) -> None: ...

    def read_response(self) -> Any: ...

    def can_read(self) -> bool: ...

    def disconnect(self) -> None: ...


Greet = Callable[[Wire], Confirmation | None]
"""Looks at the server behind a connection: what confirms a write there.

Raises what `redis` raises, and UnsafeStoreError where nobody should talk to that server.
"""


class Line:
    """A connection, and what was found out about its server when that was last looked at."""

    __slots__ = ("confirmation", "era", "looked", "wire")

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.confirmation: Confirmation | None = None
        self.era = 0
        self.looked = float("-inf")
        """When the last look began, by the monotonic clock."""

    def look(self, greet: Greet) -> None:
        """Look at the server. Raises what `greet` raises."""
        begun = time.monotonic()
        self.confirmation = greet(self.wire)
        self.looked = begun


class Pool:
    """Lends connections out; any thread may call any method."""

    def __init__(self, make: Callable[[], Wire], greet: Greet, *, size: int, patience: float) -> None:
        """
        Args:
            make: gives a connection that is not yet open.
            greet: is shown each connection when it has been opened, before anybody uses it.
            size: how many there are at most.
            patience: seconds to wait for one that is free.
        """
        self._make = make
        self._greet = greet
        self._patience: Final = patience
        self._free = threading.BoundedSemaphore(size)
        self._idle: list[Line] = []
        self._all: list[Line] = []
        self._era = 0
        self._closed = False

    def take(self, *, checked: bool) -> Line:
        """An open connection, to be given back. `checked` = one that the server has not closed meanwhile.

        Raises BusyError where none is free in time, or after `close`; what `redis` and `greet` raise
        where it cannot be opened.
        """
        self._require_open()
        if not self._free.acquire(timeout=self._patience):
            raise BusyError("every connection to Redis is in use")
        try:
            line = self._pop()
        except BaseException:
            self._free.release()
            raise
        try:
            self._require_open()
            wire = line.wire
            if wire.is_connected and (line.era != self._era or (checked and _is_spoilt(wire))):
                wire.disconnect()
            if not wire.is_connected:
                self._open(line)
        except BaseException:
            self.give(line)
            raise
        return line

    def give(self, line: Line) -> None:
        """Take a connection back; one with an unread answer must have been disconnected."""
        self._idle.append(line)
        if self._closed:
            self._disconnect_idle()
        self._free.release()

    def distrust(self) -> None:
        """Have every connection opened anew before its next use: the server may be another by now."""
        self._era += 1

    def close(self) -> None:
        """Disconnect what is idle, and hang up what is in use: who waits there gets a connection error."""
        self._closed = True
        self._disconnect_idle()
        for line in tuple(self._all):
            _hang_up(line.wire)

    def _open(self, line: Line) -> None:
        line.era = self._era  # before: whoever distrusts while it is being opened means this one too
        try:
            line.wire.connect()
            line.look(self._greet)
            self._require_open()
        except BaseException:
            line.wire.disconnect()
            raise

    def _pop(self) -> Line:
        try:
            return self._idle.pop()
        except IndexError:
            line = Line(self._make())
            self._all.append(line)
            return line

    def _disconnect_idle(self) -> None:
        while self._idle:
            with contextlib.suppress(redis.RedisError, OSError, IndexError):
                self._idle.pop().wire.disconnect()

    def _require_open(self) -> None:
        if self._closed:
            raise BusyError("the store is closed")


class BusyError(StoreUnavailableError):
    """This process has no connection to spare: says nothing about the server."""


def _hang_up(wire: Wire) -> None:
    """End a conversation of another thread, which then disconnects.

    `disconnect` itself is not for others: the library would find its socket gone amid a call.
    """
    sock: socket.socket | None = getattr(wire, "_sock", None)
    if sock is not None:
        with contextlib.suppress(OSError):
            # Not the method of a TLS socket, which also takes away what the other thread reads with.
            socket.socket.shutdown(sock, socket.SHUT_RDWR)


def _is_spoilt(wire: Wire) -> bool:
    """Whether there is something to read before anything was asked: an end, or somebody else's answer."""
    try:
        return wire.can_read()
    except (redis.ConnectionError, OSError):
        return True
