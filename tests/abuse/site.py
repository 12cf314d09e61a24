"""A service under abuse, with its memory and threads as the operating system reports them."""

import os
import shutil
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from identityapi.v1 import principal_pb2, token_pb2
from tests.abuse.bystander import AUDIENCE, Bystander
from tests.e2e.process import Installation, Running
from tests.patience import PATIENCE, until

_USER: Final = "ana"
_PASSWORD: Final = "correct horse battery staple"
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_STORE: Final = "sqlite:///identity.db"
_PATIENT: Final = f"""
from identity_service.process import last_resort
last_resort.SERVING = {PATIENCE}
from identity_service.__main__ import main
main()
"""
"""A program that runs the service with a longer time limit for its shutdown: on a busy machine it may need
longer, and tests/e2e/test_stopping.py tests the real limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A folder with a store that contains a client and a user; each test works on a copy of it."""

    folder: Path
    environment: Mapping[str, str]
    """Environment variables with the administrator's credentials, for commands."""
    client: token_pb2.Credential
    user: token_pb2.Credential


def prepare(folder: Path) -> Prepared:
    """Create the store with a client and a user, by a service that is stopped afterwards."""
    installation = Installation(folder, _STORE, forked=True)
    installation.init()
    with installation.serve() as running:
        with running.administrator() as administrator:
            reports = principal_pb2.Client(client_id="reports", audiences=[AUDIENCE])
            made = administrator.create_client(reports)
        running.create_user(_USER, _PASSWORD, audience=AUDIENCE)
        running.terminate()
    (folder / "service.log").unlink()
    secret = token_pb2.ClientSecret(client_id="reports", client_secret=made.client_secret)
    password = token_pb2.Password(username=_USER, password=_PASSWORD)
    return Prepared(
        folder=folder,
        environment=installation.environment,
        client=token_pb2.Credential(client_secret=secret),
        user=token_pb2.Credential(password=password),
    )


class Site:
    """One running service, and an honest client of it."""

    def __init__(self, installation: Installation, running: Running, prepared: Prepared) -> None:
        self.installation = installation
        self.running = running
        self.target = running.target
        self.bystander = Bystander(running.target, prepared.client, prepared.user)

    @property
    def resident_bytes(self) -> int:
        """Return the current resident memory of the process and its children, in bytes."""
        return sum(resident_bytes(pid) for pid in self._processes())

    @property
    def threads(self) -> int:
        """Return the current number of threads of the process and its children."""
        return sum(_threads(pid) for pid in self._processes())

    def terminate(self) -> None:
        """Send SIGTERM and wait for the end. Raises AssertionError if the service logs a traceback.

        The exit code must be 0, or 1 if the service has logged that it cut off calls after `drain_grace`.
        """
        process = self.running.process
        os.kill(process.pid, signal.SIGTERM)
        code = process.wait(PATIENCE)
        # 1 = the service cut off calls, which it must log.
        assert code in (0, 1), self.installation.log
        assert "Traceback" not in self.installation.log
        assert (code == 1) == ("drain_grace" in self.installation.log), self.installation.log

    def _processes(self) -> list[int]:
        pid = self.running.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [pid, *map(int, children)]


@contextmanager
def site(engine: str, prepared: Prepared, folder: Path, settings: Mapping[str, str]) -> Iterator[Site]:
    """Run a service on a copy of the store until the block ends."""
    shutil.copytree(prepared.folder, folder, dirs_exist_ok=True)
    own = {"IDENTITY_ENGINE": engine, "IDENTITY_DRAIN_GRACE": "1s"}
    names = {f"IDENTITY_{name.upper()}": value for name, value in settings.items()}
    environment = dict(prepared.environment) | own | names
    installation = Installation(folder, _STORE, environment, program=("-c", _PATIENT), forked=True)
    with installation.serve() as running:
        until(lambda: "serving on" in installation.log)
        yield Site(installation, running, prepared)


def resident_bytes(pid: int) -> int:
    """Return the current resident memory of one process in bytes (proc_pid_statm(5))."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE


def _threads(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Threads:"))
