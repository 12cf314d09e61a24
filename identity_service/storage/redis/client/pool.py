"""A bounded LIFO pool of connections to one Redis server.

This module does not know which commands are sent. It replaces the pools of redis-py: these report that all
connections are in use with the same error as a server that cannot be reached, and they cannot be closed while
other threads use connections (docs/decisions/0028 has the measurements).
"""

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

import redis

from identity_service.domain.errors import StoreUnavailableError


class RawConnection(Protocol):
    """The part of `redis.Connection` that is used here; redis-py has no types for it."""

    @property
    def is_connected(self) -> bool:
        """True if the connection is open, as far as this process knows."""

    def connect(self) -> None:
        """Open the connection, authenticate, and select the database."""

    def send_packed_command(self, command: list[bytes], check_health: bool = True) -> None:
        """Send bytes in the Redis protocol."""

    def read_response(self) -> Any:
        """Return the next answer, or raise `redis.ResponseError` if it is an error reply."""

    def can_read(self) -> bool:
        """Return whether there is something to read: bytes, or the end of the connection."""

    def disconnect(self) -> None:
        """Close the connection; nothing happens if it is closed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmation:
    """The command that waits until enough copies have the write, and the number that it must answer.

    It covers the writes of the connection on which it is sent, so it is sent directly after the write.
    """

    command: str
    """The name of the command: `WAIT` or `WAITAOF`."""
    needed: int
    """The number of copies that must have the write: replicas for `WAIT`, for `WAITAOF` the append-only file
    of the server (1)."""

    def words(self, patience: float) -> tuple[str | int, ...]:
        """Return the command and its arguments; the server stops waiting after `patience` seconds."""
        milliseconds = max(1, int(patience * 1000))
        if self.command == "WAITAOF":
            return ("WAITAOF", self.needed, 0, milliseconds)
        return ("WAIT", self.needed, milliseconds)

    def is_given(self, answer: Any) -> bool:
        """Return whether the answer to the command confirms the write."""
        # WAITAOF answers two numbers: of the server itself, and of its replicas.
        count = answer[0] if isinstance(answer, list) else answer
        return int(count) >= self.needed


Handshake = Callable[[RawConnection], Confirmation | None]
"""A function that checks the server behind a connection, and returns the confirmation of writes there (None =
the answer to the write).

Raises the exceptions of redis-py, and UnsafeStoreError if that server must not be used.
"""


class PooledConnection:
    """A connection of a pool, with the result of the last check of its server."""

    __slots__ = ("confirmation", "era", "looked", "raw")

    def __init__(self, raw: RawConnection) -> None:
        self.raw = raw
        self.confirmation: Confirmation | None = None
        """The command that confirms a write; None = the answer to the write confirms it."""
        self.era = 0
        """The number of calls of `ConnectionPool.distrust` before the connection was opened."""
        self.looked = float("-inf")
        """The time at which the last check of the server began, in seconds of the monotonic clock."""

    def look(self, handshake: Handshake) -> None:
        """Check the server and keep the result. Raises the exceptions of `handshake`."""
        begun = time.monotonic()
        self.confirmation = handshake(self.raw)
        self.looked = begun


class ConnectionPool:
    """A bounded LIFO pool of connections to one Redis server. Thread-safe."""

    def __init__(
        self, make: Callable[[], RawConnection], handshake: Handshake, *, size: int, patience: float
    ) -> None:
        """Create an empty pool; connections are opened when they are first needed.

        Args:
            make: creates a connection that is not yet open.
            handshake: checks the server of each connection after it was opened, before its first use.
            size: the largest number of connections.
            patience: seconds that a caller waits for a free connection.
        """
        self._make = make
        self._handshake = handshake
        self._patience: Final = patience
        self._free = threading.BoundedSemaphore(size)
        self._idle: list[PooledConnection] = []
        self._all: list[PooledConnection] = []
        self._era = 0
        self._closed = False

    def take(self, *, checked: bool) -> PooledConnection:
        """Take an open connection out of the pool; the caller returns it with `give`.

        With `checked`, a connection that the server has closed meanwhile is reopened first.

        Raises BusyError if no connection is free in time, or after `close`. If the connection cannot be
        opened, raises the exceptions of redis-py and of the handshake.
        """
        self._require_open()
        if not self._free.acquire(timeout=self._patience):
            raise BusyError("every connection to Redis is in use")
        try:
            pooled = self._pop()
        except BaseException:
            self._free.release()
            raise
        try:
            self._require_open()
            raw = pooled.raw
            if raw.is_connected and (pooled.era != self._era or (checked and _has_unread_data(raw))):
                raw.disconnect()
            if not raw.is_connected:
                self._open(pooled)
        except BaseException:
            self.give(pooled)
            raise
        return pooled

    def give(self, pooled: PooledConnection) -> None:
        """Take a connection back. The caller must have disconnected it if an answer was not read."""
        self._idle.append(pooled)
        if self._closed:
            self._disconnect_idle()
        self._free.release()

    def distrust(self) -> None:
        """Have every connection reopened before its next use: the address may lead to another server now."""
        self._era += 1

    def close(self) -> None:
        """Close all connections; a caller that waits for an answer on one gets a connection error."""
        self._closed = True
        self._disconnect_idle()
        for pooled in tuple(self._all):
            _shut_down(pooled.raw)

    def _open(self, pooled: PooledConnection) -> None:
        pooled.era = self._era  # before it is opened: a `distrust` during that also covers this connection
        try:
            pooled.raw.connect()
            pooled.look(self._handshake)
            self._require_open()
        except BaseException:
            pooled.raw.disconnect()
            raise

    def _pop(self) -> PooledConnection:
        try:
            return self._idle.pop()
        except IndexError:
            pooled = PooledConnection(self._make())
            self._all.append(pooled)
            return pooled

    def _disconnect_idle(self) -> None:
        while self._idle:
            with contextlib.suppress(redis.RedisError, OSError, IndexError):
                self._idle.pop().raw.disconnect()

    def _require_open(self) -> None:
        if self._closed:
            raise BusyError("the store is closed")


class BusyError(StoreUnavailableError):
    """Every connection of this process is in use, or the pool is closed; the server may be available."""


def _shut_down(raw: RawConnection) -> None:
    """Shut the socket of a connection down that another thread uses; that thread then disconnects it.

    Not by `disconnect`: redis-py would find its socket gone during the call of the other thread.
    """
    sock: socket.socket | None = getattr(raw, "_sock", None)
    if sock is not None:
        with contextlib.suppress(OSError):
            # Not `shutdown` of a TLS socket, which also removes the TLS object through which the other thread
            # reads.
            socket.socket.shutdown(sock, socket.SHUT_RDWR)


def _has_unread_data(raw: RawConnection) -> bool:
    """Return whether there is data to read although nothing was sent: an end of file, or a stale answer."""
    try:
        return raw.can_read()
    except (redis.ConnectionError, OSError):
        return True
