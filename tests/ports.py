"""Loopback ports for servers that are started by number: held for this process until it ends.

A port that the kernel assigns (port 0) is no longer reserved once its socket is closed: any connection of
another process may take it, before the server starts or while it restarts. The ports here lie outside of the
kernel's range for such connections, in blocks that one process at a time owns. Owning a block means holding a
socket bound to its first port, so the kernel ends it with the process, however that ends.
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
"""The range if there is no such file, as on macOS."""


class PortReservation:
    """Hands out each port once, from blocks that no other process hands ports out of."""

    def __init__(self, blocks: Sequence[range]) -> None:
        """Take blocks in random order, so that a run does not meet ports that an earlier one still uses."""
        self._blocks = blocks
        self._lock = threading.Lock()
        self._guards: list[socket.socket] = []
        self._ports: Iterator[int] = iter(())
        self._pid = 0

    def take(self) -> int:
        """Return a port on which nothing listens. Raises RuntimeError if every block is owned."""
        with self._lock:
            if self._pid != os.getpid():  # after a fork the blocks are the parent's
                self._pid, self._ports = os.getpid(), iter(())
            while True:
                for port in self._ports:
                    if _is_free(port):
                        return port
                self._ports = self._own_block()

    def close(self) -> None:
        """Give up every block."""
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
    """Return a loopback port that stays this process's own, also while no server listens on it."""
    return _RESERVATION.take()


def reserve_address() -> str:
    """Return host:port with a reserved port."""
    return f"{LOOPBACK}:{reserve_port()}"


@contextlib.contextmanager
def refusing_address() -> Iterator[str]:
    """Give a host:port at which connections are refused until the block ends: bound, never listening."""
    with socket.socket() as holder:
        holder.bind((LOOPBACK, 0))
        yield f"{LOOPBACK}:{holder.getsockname()[1]}"


def _is_free(port: int) -> bool:
    """Return whether a server can bind the port. Servers set SO_REUSEADDR: old connections do not count."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def _blocks(ephemeral: tuple[int, int]) -> Sequence[range]:
    """Return the blocks outside of the kernel's range; all of them if it leaves too few."""
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
