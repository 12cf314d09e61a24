"""A TCP proxy that impairs the traffic through it: delays, losses, cut messages, and silence.

The module owns sockets and two threads for each connection. It knows nothing of the protocol that it carries.
"""

import contextlib
import random
import socket
import threading
from dataclasses import dataclass
from typing import Final

_CHUNK: Final = 65536


@dataclass(frozen=True, slots=True, kw_only=True)
class Impairment:
    """The impairment of each piece of data on its way, in either direction."""

    delay: float = 0.0
    """Seconds at most that it takes; each piece another time."""
    drop: float = 0.0
    """The probability that the connection ends instead of carrying the data."""
    truncate: float = 0.0
    """The probability that a part of the data passes, and then the connection ends."""
    silent: bool = False
    """A black hole: nothing passes and nothing fails until the impairment changes; what waits then passes."""
    refused: bool = False
    """Every new connection is closed at once."""


CLEAR: Final = Impairment()


class Proxy:
    """Listens on a free loopback port and carries every connection to the port behind it."""

    def __init__(self, upstream: int, *, seed: int = 0) -> None:
        self.upstream = upstream
        self._impairment = CLEAR
        self._changed = threading.Condition()
        self._closed = False
        self._random = random.Random(seed)  # noqa: S311  # faults are to be repeatable, not secret
        self._sockets: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.accidents = 0
        """The number of connections that the impairment has ended."""
        self._acceptor = threading.Thread(target=self._accept, name="proxy", daemon=True)
        self._acceptor.start()

    def set(self, impairment: Impairment) -> None:
        """Change the impairment; pieces that wait in a black hole go on when it ends."""
        with self._changed:
            self._impairment = impairment
            self._changed.notify_all()
        if impairment.refused:
            self.cut()

    def cut(self) -> None:
        """End every connection."""
        with self._changed:
            ended, self._sockets = self._sockets, set()
        for connection in ended:
            _end(connection)

    def close(self) -> None:
        """Release everything; the threads end by themselves."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        _end(self._listener)
        self.cut()
        self._acceptor.join()
        self._listener.close()

    def _accept(self) -> None:
        while not self._closed:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return  # closed
            if self._impairment.refused:
                near.close()
                continue
            try:
                far = socket.create_connection(("127.0.0.1", self.upstream), timeout=5)
            except OSError:
                near.close()  # as the server behind would refuse it
                continue
            far.settimeout(None)
            for end in (near, far):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._changed:
                self._sockets |= {near, far}
            threading.Thread(target=self._serve, args=(near, far), name="proxy", daemon=True).start()

    def _serve(self, near: socket.socket, far: socket.socket) -> None:
        """Carry both ways; no thread closes a socket while the other one may still read from it."""
        with near, far:
            back = threading.Thread(target=self._carry, args=(far, near), name="proxy", daemon=True)
            back.start()
            self._carry(near, far)
            back.join()
        with self._changed:
            self._sockets -= {near, far}

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):  # either end has gone
            while piece := source.recv(_CHUNK):
                passing = self._spoil(piece)
                if passing:
                    sink.sendall(passing)
                if passing != piece:
                    self.accidents += 1
                    break
        _end(source)
        _end(sink)

    def _spoil(self, piece: bytes) -> bytes:
        """Return the part of this piece that passes, once the impairment lets it."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or not self._impairment.silent)
            impairment = self._impairment
            if impairment.delay:
                # Not a wait for another impairment: the piece is already on its way.
                self._changed.wait_for(lambda: self._closed, self._random.uniform(0, impairment.delay))
            if self._random.random() < impairment.drop:
                return b""
            if self._random.random() < impairment.truncate:
                return piece[: self._random.randrange(len(piece))]
            return piece


def _end(connection: socket.socket) -> None:
    """Wakes the threads that read from it, which closing does not."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
