"""A service on an engine of the test's choice, and its state as seen from outside."""

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
"""The service, with as much time to stop as a machine may take that is very busy: how long it has is for
tests/e2e/test_stopping.py to say. Here it is to end by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A folder with a store that has a client and a user; tests work on copies."""

    folder: Path
    environment: Mapping[str, str]
    """The administrator, for commands."""
    client: token_pb2.Credential
    user: token_pb2.Credential


def prepare(folder: Path) -> Prepared:
    """Make the store, by a service that has ended when this returns."""
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
    """One service process and what belongs to it."""

    def __init__(self, installation: Installation, running: Running, prepared: Prepared) -> None:
        self.installation = installation
        self.running = running
        self.target = running.target
        self.bystander = Bystander(running.target, prepared.client, prepared.user)

    @property
    def resident_bytes(self) -> int:
        """The memory now of the process and its children."""
        return sum(resident_bytes(pid) for pid in self._processes())

    @property
    def threads(self) -> int:
        """The threads now of the process and its children."""
        return sum(_threads(pid) for pid in self._processes())

    def terminate(self) -> None:
        """End the service with SIGTERM. Raises AssertionError if it does not end in an orderly way."""
        process = self.running.process
        os.kill(process.pid, signal.SIGTERM)
        code = process.wait(PATIENCE)
        # 1 = calls were cut off, which it says.
        assert code in (0, 1), self.installation.log
        assert "Traceback" not in self.installation.log
        assert (code == 1) == ("drain_grace" in self.installation.log), self.installation.log

    def _processes(self) -> list[int]:
        pid = self.running.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [pid, *map(int, children)]


@contextmanager
def site(engine: str, prepared: Prepared, folder: Path, settings: Mapping[str, str]) -> Iterator[Site]:
    """Serve a copy of the store until the block ends."""
    shutil.copytree(prepared.folder, folder, dirs_exist_ok=True)
    own = {"IDENTITY_ENGINE": engine, "IDENTITY_DRAIN_GRACE": "1s"}
    names = {f"IDENTITY_{name.upper()}": value for name, value in settings.items()}
    environment = dict(prepared.environment) | own | names
    installation = Installation(folder, _STORE, environment, program=("-c", _PATIENT), forked=True)
    with installation.serve() as running:
        until(lambda: "serving on" in installation.log)
        yield Site(installation, running, prepared)


def resident_bytes(pid: int) -> int:
    """Return the memory of one process now (proc_pid_statm(5))."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE


def _threads(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Threads:"))
