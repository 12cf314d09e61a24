"""A TCP proxy that impairs the traffic through it: delays, dropped connections, cut messages, and silence.

The proxy knows nothing of the protocol that it carries. It runs two threads for each connection.
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
    """The faults that a proxy adds to each chunk of data, in either direction."""

    delay: float = 0.0
    """Maximum delay of a chunk in seconds; the actual delay of each chunk is random."""
    drop: float = 0.0
    """Probability that the proxy ends the connection instead of forwarding a chunk."""
    truncate: float = 0.0
    """Probability that the proxy forwards only a part of a chunk, and then ends the connection."""
    silent: bool = False
    """If true, the proxy holds all data without an error, and forwards it once the impairment is changed."""
    refused: bool = False
    """If true, the proxy closes every new connection at once."""


CLEAR: Final = Impairment()


class Proxy:
    """A proxy that listens on a free loopback port and forwards each connection to the port `upstream`."""

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
        """Number of connections that the proxy has dropped or truncated."""
        self._acceptor = threading.Thread(target=self._accept, name="proxy", daemon=True)
        self._acceptor.start()

    def set(self, impairment: Impairment) -> None:
        """Change the impairment; a silent proxy then forwards the data it held, unless it stays silent."""
        with self._changed:
            self._impairment = impairment
            self._changed.notify_all()
        if impairment.refused:
            self.cut()

    def cut(self) -> None:
        """End every open connection."""
        with self._changed:
            ended, self._sockets = self._sockets, set()
        for connection in ended:
            _end(connection)

    def close(self) -> None:
        """Stop listening and end every connection; the threads of the connections then end by themselves."""
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
        """Forward data in both directions; close both sockets when neither thread reads from them."""
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
        """Wait as the impairment demands; return the part of this chunk that is to be forwarded."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or not self._impairment.silent)
            impairment = self._impairment
            if impairment.delay:
                # The delay has begun, so a change of the impairment does not shorten it.
                self._changed.wait_for(lambda: self._closed, self._random.uniform(0, impairment.delay))
            if self._random.random() < impairment.drop:
                return b""
            if self._random.random() < impairment.truncate:
                return piece[: self._random.randrange(len(piece))]
            return piece


def _end(connection: socket.socket) -> None:
    """Shut the connection down, which wakes the threads that read from it; closing the socket would not."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
