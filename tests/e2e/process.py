"""The real service as a process, on a store of its own: tests start it, kill it, and start it again.

The service is run by its command line, as an operator does. Each process is ended by its own process id.
"""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryFile
from types import TracebackType
from typing import Any, Final, Self

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from identity_client import AdminClient, ClientOptions, IdentityClient
from identity_service.composition.store_admin import open_store_admin
from identity_service.config.sources import load_settings
from identityapi.v1 import principal_pb2
from tests.e2e.fork_server import SERVICE, Process, fork_server, is_possible
from tests.patience import PATIENCE, until
from tests.ports import reserve_port

MASTER_KEY = "a master key for tests, 32 characters or more"
CHEAP_PASSWORDS = {
    "IDENTITY_ARGON2_TIME_COST": "1",
    "IDENTITY_ARGON2_MEMORY_KIB": "64",
    "IDENTITY_ARGON2_PARALLELISM": "1",
}
_SOON = [
    ("grpc.enable_http_proxy", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 100),
]
"""Channel options that retry a connection every 100 ms. By default, gRPC may wait for seconds although the
service already serves."""
_LOOK: Final = 1.0
"""Seconds between two checks whether a process that has not begun to serve has ended."""


@dataclass
class Installation:
    """A folder, a store, and the environment in which the commands of `identity` run."""

    folder: Path
    store: str
    environment: dict[str, str] = field(default_factory=dict)
    program: tuple[str, ...] = SERVICE
    """The arguments of Python that run the service."""
    launcher: tuple[str, ...] = ()
    """A command that runs Python with the service, such as `unshare`; empty = Python is run directly."""
    forked: bool = False
    """True if commands are started by the fork server, for tests that are not about the start of a
    process."""

    @property
    def environ(self) -> dict[str, str]:
        """Return all environment variables of a command, without IDENTITY_* settings of the user."""
        outside = {name: value for name, value in os.environ.items() if not name.startswith("IDENTITY_")}
        own = {"IDENTITY_STORE": self.store, "IDENTITY_MASTER_KEY": MASTER_KEY}
        return outside | own | CHEAP_PASSWORDS | self.environment

    def run(self, *words: str, stdin: str = "", **changes: str) -> subprocess.CompletedProcess[str]:
        """Run a command of `identity`, and wait for its end."""
        if self._is_forked:
            return self._run_forked(words, stdin, self.environ | changes)
        return subprocess.run(
            [sys.executable, "-m", "identity_service", *words],
            cwd=self.folder,
            env=self.environ | changes,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    @property
    def _is_forked(self) -> bool:
        """Return whether commands are started by the fork server.

        The fork server can neither apply LD_PRELOAD nor be run by a launcher.
        """
        is_plain = not self.launcher and "LD_PRELOAD" not in self.environment
        return self.forked and is_plain and is_possible()

    def _run_forked(
        self, words: tuple[str, ...], stdin: str, environment: Mapping[str, str]
    ) -> subprocess.CompletedProcess[str]:
        with TemporaryFile("w+") as input_, TemporaryFile("w+") as output, TemporaryFile("w+") as errors:
            input_.write(stdin)
            input_.seek(0)
            streams = [input_.fileno(), output.fileno(), errors.fileno()]
            process = fork_server().start(words, folder=self.folder, environment=environment, streams=streams)
            try:
                code = process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise
            output.seek(0)
            errors.seek(0)
            return subprocess.CompletedProcess(words, code, output.read(), errors.read())

    def start_command(self, *words: str) -> "subprocess.Popen[str]":
        """Start a command of `identity`; the caller waits for its end."""
        return subprocess.Popen(
            [sys.executable, "-m", "identity_service", *words],
            cwd=self.folder,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def json(self, *words: str, stdin: str = "", **changes: str) -> Any:
        """Run a command with --json, which must exit with 0; return its output."""
        done = self.run(*words, "--json", stdin=stdin, **changes)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def init(self) -> dict[str, str]:
        """Initialise the store, and call commands as its first administrator from then on.

        The test process does this itself, in the way of `identity init`, since starting Python would take
        longer.
        """
        scheme, _, path = self.store.partition(":///")
        store = f"sqlite:///{self.folder / path}" if scheme == "sqlite" else self.store
        with open_store_admin(load_settings({"store": store}, environ=self.environ).settings) as store_admin:
            admin = store_admin.initialise()
        made = {"client_id": str(admin.client_id), "client_secret": admin.client_secret.reveal()}
        self.environment |= {f"IDENTITY_{name.upper()}": value for name, value in made.items()}
        return made

    def serve(self, *words: str, port: int | None = None) -> "Running":
        """Start the service; return once its health check answers SERVING."""
        return Running(self, words, port or reserve_port())

    def start(self, words: tuple[str, ...], port: int) -> Process:
        """Start the service, and return before it serves."""
        serve = ["serve", "--listen", f"127.0.0.1:{port}", *words]
        with (self.folder / "service.log").open("ab") as log:
            if self._is_forked:
                with Path(os.devnull).open("rb") as nothing:
                    streams = [nothing.fileno(), log.fileno(), log.fileno()]
                    return fork_server().start(
                        serve,
                        folder=self.folder,
                        environment=self.environ,
                        streams=streams,
                        program=self.program,
                    )
            return subprocess.Popen(
                [*self.launcher, sys.executable, *self.program, *serve],
                cwd=self.folder,
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return the events of this name in the log of the service."""
        lines = [json.loads(line) for line in self.log.splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == name]

    def await_event(self, name: str, count: int = 1) -> None:
        """Wait until the log has `count` events of this name.

        A killed process may never write its last lines.
        """
        until(lambda: len(self.events(name)) >= count)

    @property
    def has_log(self) -> bool:
        """Return whether a service was started, so that there is a log."""
        return (self.folder / "service.log").exists()

    @property
    def log(self) -> str:
        return (self.folder / "service.log").read_text()


class Running:
    """A service process that serves. The end of the block kills it."""

    def __init__(self, installation: Installation, words: tuple[str, ...], port: int) -> None:
        self._installation = installation
        self.target = f"127.0.0.1:{port}"
        self.process = installation.start(words, port)
        try:
            self._await_serving()
        except BaseException:
            if self.process.poll() is None:
                self.kill()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.kill()

    @property
    def store(self) -> str:
        """Return the URL of the service's store."""
        return self._installation.store

    def client(self, **options: Any) -> IdentityClient:
        """Return a client of the service, with a timeout that suffices on a very busy machine."""
        patient = {"timeout": timedelta(seconds=PATIENCE)}
        return IdentityClient(self.target, options=ClientOptions(**(patient | options)))

    @contextmanager
    def administrator(self) -> Iterator[AdminClient]:
        """Yield a client of the admin API, which is faster than a command: no process has to start."""
        environment = self._installation.environment
        with self.client() as client:
            token = client.issue_with_secret(
                environment["IDENTITY_CLIENT_ID"],
                environment["IDENTITY_CLIENT_SECRET"],
                scopes=["identity.admin"],
            ).access_token
        options = ClientOptions(timeout=timedelta(seconds=PATIENCE), bearer=token)
        with AdminClient(self.target, options=options) as administrator:
            yield administrator

    def create_user(
        self, name: str, password: str, *, audience: str = "api", scopes: Sequence[str] = ()
    ) -> None:
        """Create a user who can sign in with this password."""
        with self.administrator() as administrator:
            user = principal_pb2.User(username=name, audiences=[audience], scopes=scopes)
            administrator.create_user(user, password=password)

    def json(self, *words: str, stdin: str = "") -> Any:
        """Run a command with --json on this service, as the first administrator; return its output."""
        return self._installation.json(*words, stdin=stdin, IDENTITY_TARGET=self.target)

    def kill(self) -> None:
        """Send SIGKILL, after which the process writes nothing, and wait for its end."""
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait(PATIENCE)

    def terminate(self) -> int:
        """Send SIGTERM, wait for the end of the process, and return its exit code."""
        os.kill(self.process.pid, signal.SIGTERM)
        return self.process.wait(PATIENCE)

    def _await_serving(self) -> None:
        deadline = time.monotonic() + PATIENCE
        with grpc.insecure_channel(self.target, _SOON) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            while True:
                watch = stub.Watch(health_pb2.HealthCheckRequest(), timeout=_LOOK, wait_for_ready=True)
                try:
                    for answer in watch:
                        if answer.status == health_pb2.HealthCheckResponse.SERVING:
                            watch.cancel()
                            return
                except grpc.RpcError as error:
                    is_late = self.process.poll() is not None or time.monotonic() > deadline
                    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED and not is_late:
                        continue
                    if error.code() is grpc.StatusCode.UNAVAILABLE:  # it ends, and then says why
                        with suppress(subprocess.TimeoutExpired):
                            self.process.wait(PATIENCE)
                    raise AssertionError(f"the service does not serve: {self._installation.log}") from error
                raise AssertionError(f"the service does not serve: {self._installation.log}")


def open_calls(metrics: str) -> float:
    """Return the number of calls in progress, by the metrics that a service shows at this address."""
    with urllib.request.urlopen(f"http://{metrics}/metrics", timeout=PATIENCE) as answer:
        lines = answer.read().decode().splitlines()
    return next(
        float(line.split()[1]) for line in lines if line.startswith('identity_open{setting="max_calls"}')
    )
