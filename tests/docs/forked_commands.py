"""A program `identity` for the recipes of the documentation, whose commands the fork server runs.

Starting Python and importing the service takes most of the time of a command (tests/e2e/fork_server.py). The
program itself is a small script: it sends its arguments, environment, folder and streams to this process,
passes signals on to the copy that does its work, and exits with the copy's exit code.
"""

import os
import signal
import socket
import socketserver
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from tests.e2e.fork_server import LARGEST, STREAMS, Copy, fork_server

_PROGRAM: Final = """#!{python} -IS
import os, signal, socket, sys

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
environment = [name + b"=" + value for name, value in os.environb.items()]
words = [os.fsencode(word) for word in sys.argv[1:]]
signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as tests:
    tests.connect({path!r})
    request = [b"%d" % len(words), *words, os.fsencode(os.getcwd()), *environment]
    socket.send_fds(tests, [b"\\0".join(request)], [0, 1, 2])
    pid = int(tests.recv(100))
    for number in SIGNALS:
        signal.signal(number, lambda number, _: os.kill(pid, number))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    code = int(tests.recv(100))
if code < 0:
    signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
sys.exit(code)
"""


class _Commands(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """A server to which the program connects. It has the fork server run each command, in its own thread."""

    socket_type = socket.SOCK_SEQPACKET

    def __init__(self, path: Path) -> None:
        self.copies: list[Copy] = []
        super().__init__(str(path), _Command)


class _Command(socketserver.BaseRequestHandler):
    """Starts the command of one connection, and sends the process id and the exit code of the copy."""

    server: _Commands

    def handle(self) -> None:
        message, streams, _, _ = socket.recv_fds(self.request, LARGEST, STREAMS)
        count, *texts = [os.fsdecode(text) for text in message.split(b"\0")]
        words, (folder, *variables) = texts[: int(count)], texts[int(count) :]
        environment = dict(variable.split("=", 1) for variable in variables)
        try:
            copy = fork_server().start(
                words, folder=Path(folder), environment=environment, streams=streams, terminal=False
            )
        finally:
            for stream in streams:
                os.close(stream)
        self.server.copies.append(copy)
        self.request.sendall(str(copy.pid).encode())
        self.request.sendall(str(copy.wait()).encode())


@contextmanager
def forked_commands() -> Iterator[Path]:
    """Yield the path of the program. Commands that still run at the end of the block are killed."""
    fork_server()  # one for all threads
    with tempfile.TemporaryDirectory(prefix="s") as folder:  # short: a socket's path has 108 characters
        path = Path(folder) / "socket"
        program = Path(folder) / "bin" / "identity"
        program.parent.mkdir()
        program.write_text(_PROGRAM.format(python=sys.executable, path=str(path)))
        program.chmod(0o755)
        with _Commands(path) as commands:
            threading.Thread(target=commands.serve_forever).start()
            try:
                yield program
            finally:
                commands.shutdown()
                for copy in commands.copies:
                    if copy.returncode is None:
                        with suppress(ProcessLookupError):
                            os.kill(copy.pid, signal.SIGKILL)
