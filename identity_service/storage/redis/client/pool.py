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


class RawConnection(Protocol):
    """What is used of a redis.Connection, which has no types of its own."""

    @property
    def is_connected(self) -> bool: ...

    def connect(self) -> None: ...

    def send_packed_command(self, command: list[bytes], check_health: bool = True) -> None: ...

    def read_response(self) -> Any: ...

    def can_read(self) -> bool: ...

    def disconnect(self) -> None: ...


Handshake = Callable[[RawConnection], Confirmation | None]
"""Looks at the server behind a connection: what confirms a write there.

Raises what `redis` raises, and UnsafeStoreError where nobody should talk to that server.
"""


class PooledConnection:
    """A connection, and what was found out about its server when that was last looked at."""

    __slots__ = ("confirmation", "era", "looked", "raw")

    def __init__(self, raw: RawConnection) -> None:
        self.raw = raw
        self.confirmation: Confirmation | None = None
        self.era = 0
        self.looked = float("-inf")
        """When the last look began, by the monotonic clock."""

    def look(self, handshake: Handshake) -> None:
        """Look at the server. Raises what `handshake` raises."""
        begun = time.monotonic()
        self.confirmation = handshake(self.raw)
        self.looked = begun


class Pool:
    """Lends connections out; any thread may call any method."""

    def __init__(
        self, make: Callable[[], RawConnection], handshake: Handshake, *, size: int, patience: float
    ) -> None:
        """
        Args:
            make: gives a connection that is not yet open.
            greet: is shown each connection when it has been opened, before anybody uses it.
            size: how many there are at most.
            patience: seconds to wait for one that is free.
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
        """An open connection, to be given back. `checked` = one that the server has not closed meanwhile.

        Raises BusyError where none is free in time, or after `close`; what `redis` and `greet` raise
        where it cannot be opened.
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
            if raw.is_connected and (pooled.era != self._era or (checked and _is_spoilt(raw))):
                raw.disconnect()
            if not raw.is_connected:
                self._open(pooled)
        except BaseException:
            self.give(pooled)
            raise
        return pooled

    def give(self, pooled: PooledConnection) -> None:
        """Take a connection back; one with an unread answer must have been disconnected."""
        self._idle.append(pooled)
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
        for pooled in tuple(self._all):
            _hang_up(pooled.raw)

    def _open(self, pooled: PooledConnection) -> None:
        pooled.era = self._era  # before: whoever distrusts while it is being opened means this one too
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
    """This process has no connection to spare: says nothing about the server."""


def _hang_up(raw: RawConnection) -> None:
    """End a conversation of another thread, which then disconnects.

    `disconnect` itself is not for others: the library would find its socket gone amid a call.
    """
    sock: socket.socket | None = getattr(raw, "_sock", None)
    if sock is not None:
        with contextlib.suppress(OSError):
            # Not the method of a TLS socket, which also takes away what the other thread reads with.
            socket.socket.shutdown(sock, socket.SHUT_RDWR)


def _is_spoilt(raw: RawConnection) -> bool:
    """Whether there is something to read before anything was asked: an end, or somebody else's answer."""
    try:
        return raw.can_read()
    except (redis.ConnectionError, OSError):
        return True
