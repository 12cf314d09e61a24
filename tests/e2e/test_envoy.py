"""The Envoy engine as an operator runs it: start, stop, renewal of workers, and unexpected ends."""

import os
import signal
import stat
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from identity_client import Verified
from tests.e2e.calls import calling, token_of
from tests.e2e.descendants import children
from tests.e2e.process import Installation, Running, open_calls
from tests.patience import PATIENCE, until
from tests.ports import reserve_address, reserve_port
from tests.tls import Certifier

ENVOY = b"/envoy"
PASSWORD = "correct horse battery staple"


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    """An installation with its own directory for temporary files, which must be empty at the end."""
    temporary = Path(tempfile.mkdtemp(prefix="e"))  # short: a socket's path has 108 characters
    yield Installation(
        folder=tmp_path,
        store="sqlite:///identity.db",
        environment={"IDENTITY_ENGINE": "envoy", "TMPDIR": str(temporary)},
    )
    assert list(temporary.iterdir()) == []
    temporary.rmdir()


@pytest.fixture
def service(installation: Installation) -> Iterator[Running]:
    installation.init()
    with installation.serve() as running:
        until(lambda: "serving on" in installation.log)
        yield running
        if running.process.poll() is None:
            running.terminate()


def envoys(service: Running) -> set[int]:
    return children(service.process.pid, ENVOY)


def test_it_serves_and_sigterm_ends_it_with_0(installation: Installation, service: Running) -> None:
    token = token_of(installation, service)
    (envoy,) = envoys(service)
    with service.client() as client:
        assert isinstance(client.verify(token, any_audience=True), Verified)

    assert service.terminate() == 0
    until(lambda: not Path(f"/proc/{envoy}").exists())


def test_calls_in_progress_end_before_it_does(installation: Installation) -> None:
    """The calls sign in with a password, which takes a while: a process must be started to hash it."""
    metrics = reserve_address()
    installation.environment |= {"IDENTITY_METRICS_LISTEN": metrics, "IDENTITY_DRAIN_GRACE": f"{PATIENCE}s"}
    installation.init()
    outcome: list[object] = []

    def sign_in() -> None:
        outcome.append(client.issue_with_password("ana", PASSWORD, audiences=["api"]))

    with installation.serve() as service, service.client() as client:
        service.create_user("ana", PASSWORD)
        client.verify("x", any_audience=True)  # connected
        until(lambda: open_calls(metrics) == 0)
        calls = [threading.Thread(target=sign_in) for _ in range(4)]
        for call in calls:
            call.start()
        until(lambda: open_calls(metrics) + len(outcome) >= len(calls))
        assert service.terminate() == 0
        for call in calls:
            call.join()

    assert len(outcome) == 4


def test_only_its_own_user_may_read_the_files_for_envoy(installation: Installation, tmp_path: Path) -> None:
    """No file contains the master key. The TLS key is in a directory that only this user can read."""
    holder = Certifier(tmp_path / "tls").server()
    names = {f"IDENTITY_{name.upper()}": str(path) for name, path in holder.settings().items()}
    installation.init()
    installation.environment |= names
    process = installation.start((), reserve_port())
    try:
        until(lambda: "serving on" in installation.log)
        (directory,) = Path(installation.environment["TMPDIR"]).glob("identity-*")
        files = {path.name: path for path in directory.iterdir()}

        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        assert stat.S_IMODE(files["server.json"].stat().st_mode) == 0o600
        written = b"".join(path.read_bytes() for path in files.values() if path.is_file())
        assert b"a master key for tests" not in written
        (envoy,) = children(process.pid, ENVOY)
        assert b"a master key for tests" not in Path(f"/proc/{envoy}/cmdline").read_bytes()
    finally:
        process.terminate()
        assert process.wait(PATIENCE) == 0


def test_an_envoy_that_dies_ends_the_service(installation: Installation, service: Running) -> None:
    (envoy,) = envoys(service)

    os.kill(envoy, signal.SIGKILL)

    assert service.process.wait(PATIENCE) != 0
    assert "envoy_ended" in installation.log


def test_no_envoy_outlives_a_service_that_is_killed(installation: Installation, service: Running) -> None:
    """The service's files for Envoy must be removed too, which the fixture checks after each test."""
    (envoy,) = envoys(service)

    service.kill()

    until(lambda: not Path(f"/proc/{envoy}").exists())


def test_a_failed_start_is_reported_as_with_the_other_engine(installation: Installation) -> None:
    envoy = installation.run("serve", "--listen", reserve_address())
    grpcio = installation.run("serve", "--engine", "grpcio", "--listen", reserve_address())

    assert envoy.returncode == grpcio.returncode != 0
    assert grpcio.stderr in envoy.stderr
    assert "identity init" in envoy.stderr


def test_a_port_in_use_is_refused_with_a_fix(installation: Installation, service: Running) -> None:
    other = installation.run("serve", "--listen", service.target)

    assert other.returncode == 1
    assert "stop the process that listens there" in other.stderr


def test_workers_are_renewed_without_a_failed_call(installation: Installation) -> None:
    installation.init()
    with installation.serve("--workers", "2") as service:
        until(lambda: "serving on" in installation.log)
        token = token_of(installation, service)
        with calling(service.target, token) as wrong:
            os.kill(service.process.pid, signal.SIGHUP)
            until(lambda: "workers_renewed" in installation.log)
        assert wrong == []
        assert service.terminate() == 0


def test_without_the_extra_the_error_names_it(installation: Installation) -> None:
    """The test hides the module pyvoy, as if the extra `envoy` were not installed."""
    hidden = installation.folder / "pyvoy.py"
    hidden.write_text("raise ModuleNotFoundError('hidden', name='pyvoy')\n")

    done = installation.run("serve", PYTHONPATH=str(installation.folder))

    assert done.returncode != 0
    assert "identity-service[envoy]" in done.stderr


def test_a_connected_client_gets_every_answer_while_the_service_stops(
    installation: Installation, service: Running
) -> None:
    """Every call that the service has begun is answered; the last call of the client may be UNAVAILABLE."""
    token = token_of(installation, service)
    answered: list[object] = []
    stopped = threading.Event()

    def call() -> None:
        with service.client() as client:
            while not stopped.is_set():
                try:
                    answered.append(client.verify(token, any_audience=True))
                except Exception as error:  # noqa: BLE001  # looked at below
                    answered.append(error)
                    return

    caller = threading.Thread(target=call)
    caller.start()
    until(lambda: len(answered) > 100)
    code = service.terminate()
    stopped.set()
    caller.join()

    assert code == 0
    *good, last = answered
    assert all(isinstance(answer, Verified) for answer in good)
    assert isinstance(last, Verified) or getattr(last, "code", None) in (None, grpc.StatusCode.UNAVAILABLE)
