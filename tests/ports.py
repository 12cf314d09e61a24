"""Reserves loopback ports for servers that take a port number, until this process ends.

A port that the kernel assigns (port 0) is free again once its socket is closed: a connection of another
process may take it before the server starts, or while it restarts. The ports of this module lie outside the
range from which the kernel takes ports for connections. They are divided into blocks, and each block belongs
to one process at a time: the process that has a socket bound to the first port of the block. When that
process ends, however it ends, the kernel closes the socket and so frees the block.
"""

import atexit
import contextlib
import os
import random
import socket
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

LOOPBACK: Final = "127.0.0.1"
_BLOCK: Final = 64
_LOWEST: Final = 10_000
_HIGHEST: Final = 65_535
_FEW: Final = 4_096
_EPHEMERAL: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")
_IANA_EPHEMERAL: Final = (49_152, 65_535)
"""The kernel's range on systems without the file that names it, such as macOS."""


class PortReservation:
    """Hands out each port once, from blocks that belong to this process."""

    def __init__(self, blocks: Sequence[range]) -> None:
        """Create a reservation; blocks are tried in random order.

        A run thus rarely meets ports on which connections of an earlier run are still being closed.
        """
        self._blocks = blocks
        self._lock = threading.Lock()
        self._guards: list[socket.socket] = []
        self._ports: Iterator[int] = iter(())
        self._pid = 0

    def take(self) -> int:
        """Return a port on which nothing listens. Raises RuntimeError if other processes own every block."""
        with self._lock:
            if self._pid != os.getpid():  # after a fork the blocks are the parent's
                self._pid, self._ports = os.getpid(), iter(())
            while True:
                for port in self._ports:
                    if _is_free(port):
                        return port
                self._ports = self._own_block()

    def close(self) -> None:
        """Release every block."""
        for guard in self._guards:
            guard.close()

    def _own_block(self) -> Iterator[int]:
        for block in random.sample(self._blocks, len(self._blocks)):
            guard = socket.socket()
            try:
                guard.bind((LOOPBACK, block.start))
            except OSError:  # another process owns it, or a stranger serves there
                guard.close()
            else:
                self._guards.append(guard)
                return iter(block[1:])
        raise RuntimeError("no block of ports is free: too many test runs on this machine at the same time")


def reserve_port() -> int:
    """Return a loopback port that is reserved for this process, even while no server listens on it."""
    return _RESERVATION.take()


def reserve_address() -> str:
    """Return `host:port` with a reserved loopback port."""
    return f"{LOOPBACK}:{reserve_port()}"


@contextlib.contextmanager
def refusing_address() -> Iterator[str]:
    """Yield a `host:port` that refuses connections until the block ends: nothing listens on the port."""
    with socket.socket() as holder:
        holder.bind((LOOPBACK, 0))
        yield f"{LOOPBACK}:{holder.getsockname()[1]}"


def _is_free(port: int) -> bool:
    """Return whether a server can bind the port.

    Connections of earlier servers do not matter, since servers set SO_REUSEADDR.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def _blocks(ephemeral: tuple[int, int]) -> Sequence[range]:
    """Return the blocks outside the kernel's range; if too few are outside, return all blocks."""
    low, high = ephemeral
    every = [range(start, start + _BLOCK) for start in range(_LOWEST, _HIGHEST - _BLOCK, _BLOCK)]
    outside = [block for block in every if block[-1] < low or block.start > high]
    return outside if len(outside) * _BLOCK >= _FEW else every


def _ephemeral_range() -> tuple[int, int]:
    if not _EPHEMERAL.exists():
        return _IANA_EPHEMERAL
    low, high = _EPHEMERAL.read_text().split()
    return int(low), int(high)


_RESERVATION: Final = PortReservation(_blocks(_ephemeral_range()))
atexit.register(_RESERVATION.close)
