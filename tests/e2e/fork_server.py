"""A fork server: runs commands of `identity` as forks of a process that has imported the service already.

Starting Python and importing the service takes 0.3 s of CPU time, and the tests of faults start hundreds of
processes. The fork server imports the service once in a test run. Each command is then a fork of it
(fork(2)), which continues as `python -m identity_service` does, with its own arguments, environment, folder
and streams. The fork is a real process, which tests can kill, pause and wait for. Tests of the start itself
use `subprocess`.
"""

import atexit
import gc
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, Final

_MODULES: Final = (
    "identity_service.cli.app",
    "identity_service.cli.backup",
    "identity_service.cli.client",
    "identity_service.cli.migrate",
    "identity_service.cli.restore",
    "identity_service.cli.serve",
    "identity_service.cli.token",
    "identity_service.cli.user",
    "identity_service.composition.redis_opening",
    "identity_service.grpc_api.grpcio_engine",
    "identity_service.storage.redis",
    "identity_service.storage.sqlite",
)
"""Modules to import before the first fork. They import nearly everything that the commands of the tests
need."""
LARGEST: Final = 2**17
"""The maximum size of a request, in bytes; most of it is the environment."""
STREAMS: Final = 3
"""The number of file descriptors in a request: standard input, output and error."""
SERVICE: Final = ("-m", "identity_service")
"""The arguments of Python that run the command `identity`."""


class Copy:
    """A process that the fork server has started, with the methods of `subprocess.Popen` that tests use."""

    def __init__(self, server: "ForkServer", pid: int) -> None:
        """Represent the process `pid`, a child of the fork server that has not been waited for."""
        self.pid = pid
        self.returncode: int | None = None
        self._server = server
        # The pid belongs to this process until the fork server waits for it, which it does when asked to.
        self._ended = os.pidfd_open(pid)

    def poll(self) -> int | None:
        """Return the exit code, or None if the process has not ended."""
        return self._await(0)

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code once the process has ended. Raises subprocess.TimeoutExpired."""
        code = self._await(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0)
        return code

    def send_signal(self, sig: int) -> None:
        """Send a signal, unless the process has ended."""
        if self.poll() is None:
            os.kill(self.pid, sig)

    def terminate(self) -> None:
        """Send SIGTERM, unless the process has ended."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL, unless the process has ended."""
        self.send_signal(signal.SIGKILL)

    def _await(self, timeout: float | None) -> int | None:
        if self.returncode is None:
            poll = select.poll()
            poll.register(self._ended, select.POLLIN)
            if poll.poll(None if timeout is None else timeout * 1000):
                self.returncode = self._server.reap(self.pid)
                os.close(self._ended)
        return self.returncode


Process = subprocess.Popen[bytes] | Copy


class ForkServer:
    """The client of the fork server, which it starts and asks for copies. All methods are thread-safe."""

    def __init__(self) -> None:
        """Start the fork server, which ends with this process, even if this process is killed."""
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._lock = threading.Lock()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.e2e.fork_server", str(theirs.fileno())],
                cwd=Path(__file__).parents[2],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )
        atexit.register(self._close)

    def start(
        self,
        words: Sequence[str],
        *,
        folder: Path,
        environment: Mapping[str, str],
        streams: Sequence[int],
        program: Sequence[str] = SERVICE,
        terminal: bool = True,
    ) -> Copy:
        """Start a program with the arguments `words`.

        Args:
            folder: The working directory.
            environment: All environment variables.
            streams: The descriptors of standard input, output and error; the caller closes its own.
            program: The program as arguments of Python: -m and a module, or -c and the code.
            terminal: Keep the controlling terminal of the tests. If false, the program leads its own session.
        """
        request = {
            "words": words,
            "folder": str(folder),
            "environment": {**environment},
            "program": program,
            "terminal": terminal,
        }
        return Copy(self, self._ask(request, streams))

    def reap(self, pid: int) -> int:
        """Return the exit code of a process that has ended; the system may reuse its id after that."""
        return self._ask({"reap": pid})

    def _close(self) -> None:
        """End the fork server, but not the processes that it has started."""
        self._channel.close()
        self._process.wait()

    def _ask(self, request: Mapping[str, Any], descriptors: Sequence[int] = ()) -> int:
        with self._lock:
            socket.send_fds(self._channel, [json.dumps(request).encode()], descriptors)
            answer = self._channel.recv(LARGEST)
        if not answer:
            raise RuntimeError("the fork server has ended; its error is on standard error")
        return int(answer)


def is_possible() -> bool:
    """Return whether this system supports the fork server, which needs pidfd_open(2)."""
    return hasattr(os, "pidfd_open")


@cache
def fork_server() -> ForkServer:
    """Return the fork server of this process; the first call starts it."""
    return ForkServer()


def _import_all() -> None:
    """Import the modules. Raises RuntimeError if an import starts a thread, which a fork would not have."""
    for module in _MODULES:
        import_module(module)
    if len(list(Path("/proc/self/task").iterdir())) > 1:
        raise RuntimeError("an import has started a thread, which a copy of this process would lack")
    gc.freeze()  # else the first collection of each copy would copy the memory of all objects


def _become_copies(channel: socket.socket) -> Sequence[str]:
    """Fork for each request until the tests end.

    Returns the program to run in each fork, and nothing in the fork server itself.
    """
    while True:
        message, descriptors, _, _ = socket.recv_fds(channel, LARGEST, STREAMS)
        if not message:
            return ()
        request: dict[str, Any] = json.loads(message)
        if "reap" in request:
            _, status = os.waitpid(request["reap"], 0)
            answer = os.waitstatus_to_exitcode(status)
        else:
            answer = os.fork()
            if answer == 0:
                channel.close()
                _become(request, descriptors)
                return tuple(request["program"])
            for descriptor in descriptors:
                os.close(descriptor)
        channel.send(str(answer).encode())


def _become(request: Mapping[str, Any], descriptors: Sequence[int]) -> None:
    """Set the arguments, environment, folder and streams of this fork to those of its command."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    if not request["terminal"]:
        os.setsid()
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv[1:] = request["words"]


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal: the tests end first, and then this process
    _import_all()
    program = _become_copies(socket.socket(fileno=int(sys.argv[1])))
    if program:
        kind, text = program
        if kind == "-m":
            runpy.run_module(text, run_name="__main__", alter_sys=True)
        else:
            exec(text, {"__name__": "__main__"})  # noqa: S102  # the code of a test
