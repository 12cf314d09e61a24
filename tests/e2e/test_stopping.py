"""A process that is told to stop ends, even if a part of it hangs, and no process outlives its parent."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.settings import SettingCodes

from identity_client import IdentityError, UnauthenticatedError, UnavailableError
from identity_service.process.exit_codes import Exit
from tests.e2e.descendants import Descendants
from tests.e2e.fork_server import Process
from tests.e2e.hanging import HANGS, HANGS_INSIDE, HANGS_SERVING, NEVER_FORCED, hang_at
from tests.e2e.process import Installation, Running, open_calls
from tests.patience import PATIENCE, until
from tests.ports import reserve_port
from tests.tls import Certifier

ROOT = Path(__file__).parents[2]
ENVOY = b"/envoy\0"
WORKER = b"spawn_main"
PASSWORD = "correct horse battery staple"
WORKERS = ("--workers", "2")
ON_GRPCIO = [pytest.param("grpcio", (), id="grpcio"), pytest.param("grpcio", WORKERS, id="grpcio-2")]
ON_ENVOY = [pytest.param("envoy", (), id="envoy"), pytest.param("envoy", WORKERS, id="envoy-2")]

on_all_setups = pytest.mark.parametrize(
    ("installation", "words"), [*ON_GRPCIO, *ON_ENVOY], indirect=["installation"]
)
on_each_engine = pytest.mark.parametrize(
    ("installation", "words"), [ON_GRPCIO[0], ON_ENVOY[0]], indirect=["installation"]
)
on_envoy_setups = pytest.mark.parametrize(("installation", "words"), ON_ENVOY, indirect=["installation"])
on_envoy = pytest.mark.parametrize("installation", ["envoy"], indirect=True)


@pytest.fixture
def installation(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Installation]:
    """Yield an installation with its own directory for temporary files, which must be empty at the end."""
    temporary = Path(tempfile.mkdtemp(prefix="s"))  # short: a socket's path has 108 characters
    installation = Installation(
        folder=tmp_path,
        store="sqlite:///identity.db",
        environment={
            "IDENTITY_ENGINE": request.param,
            "IDENTITY_DRAIN_GRACE": "0s",
            "TMPDIR": str(temporary),
        },
    )
    installation.init()
    yield installation
    assert list(temporary.iterdir()) == []
    temporary.rmdir()


@pytest.fixture
def descendants(installation: Installation) -> Iterator[Descendants]:
    """The processes that the installation starts. After a failed test, those that still run are killed."""
    found = Descendants(installation)
    yield found
    for pid in found.alive():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def with_tls(installation: Installation, folder: Path) -> None:
    files = Certifier(folder).server().settings()
    installation.environment |= {f"IDENTITY_{name.upper()}": str(path) for name, path in files.items()}


def where(installation: Installation) -> Mapping[str, float]:
    """Return the seconds until a service that hangs is ended by force, depending on its engine."""
    return HANGS_INSIDE if installation.environment["IDENTITY_ENGINE"] == "envoy" else HANGS_SERVING


def launch(installation: Installation, words: tuple[str, ...]) -> Process:
    """Start the service on a free port, and return before it serves."""
    return installation.start(words, reserve_port())


def serving(installation: Installation) -> bool:
    return "serving on" in installation.log


def killed(process: Process) -> None:
    process.kill()
    process.wait(PATIENCE)


@contextlib.contextmanager
def raw_call(target: str, path: str, data: bytes, *, end: bool) -> Iterator[None]:
    """Open an HTTP/2 connection with a flow-control window of 0 bytes, so that the server can send no data.

    See RFC 9113 section 6.9.2. The connection carries a call of `path` with `data`; if `path` is empty, it
    carries no call.
    """
    host, _, port = target.rpartition(":")
    connection = H2Connection(H2Configuration())
    connection.local_settings[SettingCodes.INITIAL_WINDOW_SIZE] = 0
    connection.local_settings.acknowledge()
    connection.initiate_connection()
    if path:
        headers = {":method": "POST", ":path": path, ":scheme": "http", ":authority": target}
        headers |= {"content-type": "application/grpc", "te": "trailers"}
        connection.send_headers(1, list(headers.items()))
        connection.send_data(1, data, end_stream=end)
    with socket.create_connection((host, int(port)), PATIENCE) as sock:
        sock.sendall(connection.data_to_send())
        assert sock.recv(65536)
        yield


def connected(target: str) -> contextlib.AbstractContextManager[None]:
    """Open a connection whose client makes no call and reads nothing."""
    return raw_call(target, "", b"", end=False)


def unread_health_watch(target: str) -> contextlib.AbstractContextManager[None]:
    """Open a stream of Health.Watch whose client reads nothing."""
    return raw_call(target, "/grpc.health.v1.Health/Watch", b"\0\0\0\0\0", end=True)


def unfinished_call(target: str) -> contextlib.AbstractContextManager[None]:
    """Begin a call of Verify, but send only the first byte of its message."""
    return raw_call(target, "/identityapi.v1.IdentityService/Verify", b"\0", end=False)


def hashing(descendants: Descendants) -> set[int]:
    """Return the ids of the processes that hash passwords."""
    return descendants.running(b"password_child")


@on_all_setups
@pytest.mark.parametrize("how", ["terminated", "killed"])
def test_a_service_that_has_checked_passwords_ends_by_itself(
    installation: Installation, descendants: Descendants, words: tuple[str, ...], how: str
) -> None:
    """A worker and its process for password hashing once waited for each other until both were killed."""
    installation.environment["IDENTITY_DRAIN_GRACE"] = "60s"
    with installation.serve(*words) as service, service.client() as client:
        for _ in range(4):
            with pytest.raises(UnauthenticatedError):
                client.issue_with_password("nobody", PASSWORD)
        if how == "killed":
            service.kill()
        else:
            assert service.terminate() == 0

        until(lambda: not descendants.alive())

    # A process that has lost its parent ends by force after 1.5 s, which a busy machine may need for the
    # orderly way.
    assert how == "killed" or "stop_forced" not in installation.log


@on_all_setups
def test_a_process_for_passwords_that_stands_still_does_not_keep_it_from_ending(
    installation: Installation, descendants: Descendants, words: tuple[str, ...]
) -> None:
    """The process for passwords has the lowest priority, and may take long to end on a busy machine."""
    hang_at(installation, "", NEVER_FORCED)
    # Without a grace period, a call whose answer the client has just read can still count as cut off.
    installation.environment["IDENTITY_DRAIN_GRACE"] = "60s"
    with installation.serve(*words) as service, service.client() as client:
        with pytest.raises(UnauthenticatedError):
            client.issue_with_password("nobody", PASSWORD)
        for pid in hashing(descendants):
            os.kill(pid, signal.SIGSTOP)

        assert service.terminate() == 0

        until(lambda: not descendants.alive())
    assert "stop_forced" not in installation.log


@on_each_engine
def test_calls_that_wait_for_a_password_are_cut_off_when_it_stops(
    installation: Installation, descendants: Descendants, words: tuple[str, ...]
) -> None:
    hang_at(installation, "", NEVER_FORCED)
    metrics = f"127.0.0.1:{reserve_port()}"
    installation.environment |= {"IDENTITY_DRAIN_GRACE": "0s", "IDENTITY_METRICS_LISTEN": metrics}
    with installation.serve(*words) as service, service.client() as client, ThreadPoolExecutor(4) as pool:
        with pytest.raises(UnauthenticatedError):
            client.issue_with_password("nobody", PASSWORD)
        (pid,) = hashing(descendants)
        os.kill(pid, signal.SIGSTOP)
        with service.client(max_attempts=1) as other:
            calls = [pool.submit(other.issue_with_password, f"nobody-{n}", PASSWORD) for n in range(4)]
            until(lambda: open_calls(metrics) == len(calls))

            assert service.terminate() == Exit.FAILED, "calls were cut off, and nothing hung"

            for call in calls:
                with pytest.raises(UnavailableError):
                    call.result(PATIENCE)
        until(lambda: not descendants.alive())
    for event in ("stop_forced", "rpc_bug", "servicer_bug"):
        assert installation.events(event) == []


@on_each_engine
def test_the_exit_code_shows_that_a_call_was_cut_off(
    installation: Installation, descendants: Descendants, words: tuple[str, ...]
) -> None:
    hang_at(installation, "", NEVER_FORCED)
    metrics = f"127.0.0.1:{reserve_port()}"
    installation.environment |= {"IDENTITY_DRAIN_GRACE": "0s", "IDENTITY_METRICS_LISTEN": metrics}
    with installation.serve(*words) as service, unfinished_call(service.target):
        until(lambda: open_calls(metrics) == 1)

        assert service.terminate() == Exit.FAILED
        until(lambda: not descendants.alive())

    with installation.serve(*words) as service, connected(service.target):
        until(lambda: open_calls(metrics) == 0)  # that of the test, which waited until the service serves

        assert service.terminate() == 0, "no call was open on the connection"


@on_each_engine
def test_clients_that_read_nothing_do_not_keep_it_from_ending(
    installation: Installation, descendants: Descendants, words: tuple[str, ...]
) -> None:
    with installation.serve(*words) as service, contextlib.ExitStack() as stack:
        until(lambda: serving(installation))
        for _ in range(8):
            stack.enter_context(unread_health_watch(service.target))

        service.terminate()

        until(lambda: not descendants.alive())


@on_all_setups
def test_a_service_that_hangs_while_it_stops_is_ended_by_force(
    installation: Installation, descendants: Descendants, words: tuple[str, ...]
) -> None:
    """Each process that hangs logs `stop_forced`; a parent that sees its end exits with `FAILED`."""
    hang_at(installation, "stop", where(installation))
    with installation.serve(*words) as service:
        until(lambda: serving(installation))
        code = service.terminate()

        alone = installation.environment["IDENTITY_ENGINE"] == "grpcio" and not words
        assert code == (Exit.FORCED if alone else Exit.FAILED)
        until(lambda: not descendants.alive())
    forced = installation.events("stop_forced")
    assert len(forced) == (2 if words else 1)
    assert all(event["level"] == "error" and event["threads"] for event in forced)


@on_each_engine
def test_a_service_that_hangs_while_it_starts_is_ended_by_force(
    installation: Installation, descendants: Descendants, words: tuple[str, ...]
) -> None:
    hang_at(installation, "start", HANGS_SERVING)
    process = launch(installation, words)
    until(lambda: installation.log.count(HANGS) == (2 if words else 1))

    process.terminate()

    # No call was cut off by a worker that never served.
    assert process.wait(PATIENCE) == (Exit.DONE if words else Exit.FORCED)
    until(lambda: not descendants.alive())
    assert len(installation.events("stop_forced")) == (2 if words else 1)


@on_envoy_setups
def test_an_envoy_that_does_not_answer_is_killed(
    installation: Installation, descendants: Descendants, words: tuple[str, ...]
) -> None:
    hang_at(installation, "", HANGS_INSIDE | {"BETWEEN": 1.0})
    with installation.serve(*words) as service:
        until(lambda: serving(installation))
        for envoy in descendants.running(ENVOY):
            os.kill(envoy, signal.SIGSTOP)

        assert service.terminate() == Exit.FAILED

        until(lambda: not descendants.alive())


@on_all_setups
def test_nothing_outlives_a_service_that_is_killed_while_it_starts(
    installation: Installation, descendants: Descendants, words: tuple[str, ...]
) -> None:
    """The kill comes when the first child exists but runs no Python yet; without children, when it serves."""
    started = ENVOY if installation.environment["IDENTITY_ENGINE"] == "envoy" else WORKER
    process = launch(installation, words)
    until(lambda: bool(descendants.running(started)) or serving(installation))

    killed(process)

    until(lambda: not descendants.alive())


@on_each_engine
def test_no_process_outlives_a_service_that_is_killed_while_its_children_hang(
    installation: Installation, descendants: Descendants, words: tuple[str, ...]
) -> None:
    hang_at(installation, "start", HANGS_SERVING)
    process = launch(installation, words)
    until(lambda: installation.log.count(HANGS) == (2 if words else 1))

    killed(process)

    until(lambda: not descendants.alive())


@on_all_setups
def test_nothing_outlives_a_service_that_is_killed_while_it_serves(
    installation: Installation, descendants: Descendants, words: tuple[str, ...]
) -> None:
    """The service has clients that read nothing, and has just started a process that hashes passwords."""
    with installation.serve(*words) as service, contextlib.ExitStack() as stack:
        until(lambda: serving(installation))
        for _ in range(8):
            stack.enter_context(unread_health_watch(service.target))
        stack.enter_context(signing_in(service))
        until(lambda: bool(hashing(descendants)))

        service.kill()

        until(lambda: not descendants.alive())


@on_all_setups
def test_nothing_outlives_a_service_that_is_killed_while_calls_are_in_progress(
    installation: Installation, descendants: Descendants, words: tuple[str, ...]
) -> None:
    """The drain grace is ten minutes, for which the children would go on if they drained these calls."""
    installation.environment |= {"IDENTITY_DRAIN_GRACE": "10m", "IDENTITY_REQUEST_TIMEOUT": "10m"}
    with installation.serve(*words) as service, contextlib.ExitStack() as stack:
        until(lambda: serving(installation))
        for _ in range(8):  # so many that each worker has some
            stack.enter_context(unfinished_call(service.target))

        service.kill()

        until(lambda: not descendants.alive())


@on_all_setups
def test_nothing_outlives_a_service_that_is_killed_while_it_drains(
    installation: Installation, descendants: Descendants, words: tuple[str, ...]
) -> None:
    installation.environment |= {"IDENTITY_DRAIN_GRACE": "10m", "IDENTITY_REQUEST_TIMEOUT": "10m"}
    with installation.serve(*words) as service, contextlib.ExitStack() as stack:
        until(lambda: serving(installation))
        for _ in range(8):
            stack.enter_context(unfinished_call(service.target))
        os.kill(service.process.pid, signal.SIGTERM)
        until(lambda: "identity-service: stopping" in installation.log)

        service.kill()

        until(lambda: not descendants.alive())


@on_all_setups
def test_nothing_outlives_a_service_that_is_killed_while_it_stops(
    installation: Installation, descendants: Descendants, words: tuple[str, ...]
) -> None:
    hang_at(installation, "stop", where(installation))
    installation.environment["IDENTITY_DRAIN_GRACE"] = "1s"
    with installation.serve(*words) as service:
        until(lambda: serving(installation))
        os.kill(service.process.pid, signal.SIGTERM)
        until(lambda: HANGS in installation.log)

        service.kill()

        until(lambda: not descendants.alive())


@on_envoy
def test_no_envoy_outlives_a_service_that_is_killed_when_it_has_stopped(
    installation: Installation, descendants: Descendants
) -> None:
    """The service is killed after its own stop, before it has ordered Envoy to end."""
    with installation.serve() as service:
        until(lambda: serving(installation))
        (envoy,) = descendants.running(ENVOY)
        directory = Path(installation.environment["TMPDIR"])
        os.kill(service.process.pid, signal.SIGTERM)
        until(lambda: not list(directory.iterdir()))

        service.kill()

        until(lambda: envoy not in descendants.alive())


@on_envoy
def test_no_envoy_outlives_a_supervisor_that_is_killed_with_its_workers(
    installation: Installation, descendants: Descendants
) -> None:
    with installation.serve("--workers", "2") as service:
        until(lambda: serving(installation))
        envoys = descendants.running(ENVOY)
        assert len(envoys) == 2

        for pid in descendants.running(WORKER) - envoys:
            os.kill(pid, signal.SIGKILL)
        service.kill()

        until(lambda: not descendants.alive())


@on_envoy
def test_an_envoy_of_the_tests_ends_with_a_run_that_is_killed(
    installation: Installation, descendants: Descendants
) -> None:
    """The tests keep one Envoy for many services, and at times, as here, it serves none."""
    run = subprocess.Popen(
        [sys.executable, "-c", _A_RUN, str(installation.folder)],
        cwd=ROOT,
        env=installation.environ,
        stdout=subprocess.PIPE,
        text=True,
    )
    with run:
        assert run.stdout is not None
        assert run.stdout.readline() == "it listens\n"
        run.kill()

    until(lambda: not descendants.alive())


_A_RUN = """
import sys, time
from pathlib import Path
from identity_service.settings import Settings
from tests.rpc.engines import EnvoyHost

host = EnvoyHost(Settings(listen="127.0.0.1:0"), Path(sys.argv[1]))
print("it listens", flush=True)
time.sleep(1_000_000)
"""


@contextlib.contextmanager
def signing_in(service: Running) -> Iterator[None]:
    """Sign in during the block, for which the service starts a process that checks the password."""

    def sign_in() -> None:
        with service.client(max_attempts=1) as client, contextlib.suppress(IdentityError):
            client.issue_with_password("nobody", PASSWORD)

    thread = threading.Thread(target=sign_in)
    thread.start()
    try:
        yield
    finally:
        thread.join()
