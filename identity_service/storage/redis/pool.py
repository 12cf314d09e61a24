"""A bounded set of connections to one server: each is one caller's at a time, the last used goes first.

Knows nothing of what is sent. The pools of redis-py spend more time on a short call than the network
does: observability, locks, and a poll at each checkout.
"""

import contextlib
import threading
from collections.abc import Callable
from typing import Any, Final, Protocol

import redis

from identity_service.domain.errors import StoreUnavailableError


class Wire(Protocol):
    """What is used of a redis.Connection, which has no types of its own."""

    @property
    def is_connected(self) -> bool: ...

    def send_packed_command(self, command: list[bytes]) -> None: ...

    def read_response(self) -> Any: ...

    def can_read(self) -> bool: ...

    def disconnect(self) -> None: ...


class Pool:
    """Lends connections out; any thread may call any method."""

    def __init__(self, make: Callable[[], Wire], *, size: int, patience: float) -> None:
        """
        Args:
            make: gives a connection that is not yet open; it opens with its first command.
            size: how many there are at most.
            patience: seconds to wait for one that is free.
        """
        self._make = make
        self._patience: Final = patience
        self._free = threading.BoundedSemaphore(size)
        self._idle: list[Wire] = []
        self._all: list[Wire] = []
        self._closed = False

    def take(self, *, checked: bool) -> Wire:
        """A connection, to be given back. `checked` = one that the server has not closed meanwhile.

        Raises StoreUnavailableError where none is free in time, or after `close`.
        """
        self._require_open()
        if not self._free.acquire(timeout=self._patience):
            raise StoreUnavailableError("every connection to Redis is in use")
        try:
            self._require_open()
            connection = self._pop()
            if checked and connection.is_connected and _is_spoilt(connection):
                connection.disconnect()
        except BaseException:
            self._free.release()
            raise
        return connection

    def give(self, connection: Wire) -> None:
        """Take a connection back; one with an unread answer must have been disconnected."""
        if self._closed:
            connection.disconnect()
        self._idle.append(connection)
        self._free.release()

    def close(self) -> None:
        """Disconnect all, also those in use: whoever waits for an answer gets a connection error."""
        self._closed = True
        for connection in tuple(self._all):
            with contextlib.suppress(redis.RedisError, OSError):
                connection.disconnect()

    def _pop(self) -> Wire:
        try:
            return self._idle.pop()
        except IndexError:
            connection = self._make()
            self._all.append(connection)
            return connection

    def _require_open(self) -> None:
        if self._closed:
            raise StoreUnavailableError("the store is closed")


def _is_spoilt(connection: Wire) -> bool:
    """Whether there is something to read before anything was asked: an end, or somebody else's answer."""
    try:
        return connection.can_read()
    except (redis.ConnectionError, OSError):
        return True
