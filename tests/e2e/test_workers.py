"""Workers: several processes on one port, replaced when they end, renewed without a failed call."""

import contextlib
import os
import resource
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import grpc
import pytest

from identity_client import ClientOptions, IdentityClient, IdentityError, Rejected, Verified
from tests.e2e.conftest import installed
from tests.e2e.hanging import HANGS_SERVING, hang_at
from tests.e2e.process import Installation, Running
from tests.patience import PATIENCE
from tests.patience import until as eventually
from tests.ports import reserve_address, reserve_port

on_both_stores = pytest.mark.parametrize("installation", ["sqlite", "redis"], indirect=True)


@pytest.fixture
def installation(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Installation]:
    """On the embedded store unless a test asks for both: how processes live and die is the same."""
    with installed(getattr(request, "param", "sqlite"), tmp_path) as installation:
        yield installation


@pytest.fixture
def service(installation: Installation) -> Iterator[Running]:
    installation.init()
    with installation.serve("--workers", "2") as running:
        eventually(lambda: "serving on" in installation.log)
        yield running


def workers(service: Running) -> set[int]:
    """The processes that are the service's."""
    return spawned(service.process)


def spawned(process: "subprocess.Popen[bytes]") -> set[int]:
    """Its workers, as soon as each has begun."""
    return children(process.pid, b"spawn_main")


def children(pid: int, command: bytes) -> set[int]:
    """Those whose command line has this in it, by what Linux knows of a process and its own."""
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return {int(child) for child in text.split() if command in _command(int(child))}


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def token_of(installation: Installation, service: Running) -> str:
    secret = service.json("client", "create", "reports", "--audience", "api")["client_secret"]
    with service.client() as client:
        return client.issue_with_secret("reports", secret).access_token


@contextlib.contextmanager
def calling(target: str, token: str) -> Iterator[list[str]]:
    """Verify again and again on many connections until the block ends; what went wrong."""
    stop, wrong, calls = threading.Event(), list[str](), [0]
    options = ClientOptions(timeout=timedelta(seconds=PATIENCE))  # a busy machine is no failure
    arguments = [*options.channel_arguments(), ("grpc.use_local_subchannel_pool", 1)]

    def call() -> None:
        while not stop.is_set():
            with (
                grpc.insecure_channel(target, arguments) as channel,
                IdentityClient(channel=channel, options=options) as client,
            ):
                for _ in range(50):  # then it connects anew
                    try:
                        answer = client.verify(token, any_audience=True)
                    except IdentityError as error:
                        wrong.append(repr(error))
                    else:
                        calls[0] += 1
                        if not isinstance(answer, Verified):
                            wrong.append(repr(answer))

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        yield wrong
        eventually(lambda: calls[0] > 100)
    finally:
        stop.set()
        for thread in threads:
            thread.join()


@on_both_stores
def test_all_of_them_serve_and_know_what_one_was_told(installation: Installation, service: Running) -> None:
    token = token_of(installation, service)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(service.client()) for _ in range(16)]
        assert all(isinstance(client.verify(token, any_audience=True), Verified) for client in clients)

        clients[0].revoke_token(token)

        eventually(
            lambda: all(isinstance(client.verify(token, any_audience=True), Rejected) for client in clients)
        )
    assert service.terminate() == 0


def test_one_that_dies_is_replaced_while_the_others_serve(
    installation: Installation, service: Running
) -> None:
    token = token_of(installation, service)
    before = workers(service)
    victim = min(before)

    os.kill(victim, signal.SIGKILL)
    eventually(lambda: len(workers(service) - {victim}) == 2)

    with service.client() as client:
        assert isinstance(client.verify(token, any_audience=True), Verified)
    installation.await_event("worker_ended")
    assert victim in [event["pid"] for event in installation.events("worker_ended")]


@on_both_stores
def test_they_are_renewed_one_by_one_without_a_failed_call(
    installation: Installation, service: Running
) -> None:
    token = token_of(installation, service)
    before = workers(service)

    with calling(service.target, token) as wrong:
        for times in (1, 2, 3):
            os.kill(service.process.pid, signal.SIGHUP)
            eventually(lambda: installation.log.count("workers_renewed") == times)  # noqa: B023
        eventually(lambda: len(workers(service)) == 2)

    assert wrong == []
    assert not workers(service) & before


def test_a_setting_that_is_wrong_by_then_renews_nobody(installation: Installation) -> None:
    file = installation.folder / "identity.toml"
    file.write_text('leeway = "10s"\n')
    installation.init()
    with installation.serve("--workers", "1") as service:
        eventually(lambda: len(workers(service)) == 1)
        before = workers(service)
        file.write_text('leeway = "a while"\n')

        os.kill(service.process.pid, signal.SIGHUP)
        eventually(lambda: "workers_not_renewed" in installation.log)

        assert workers(service) == before
        assert service.terminate() == 0


def test_new_ones_that_cannot_start_change_nothing(installation: Installation) -> None:
    file = installation.folder / "identity.toml"
    installation.init()
    with installation.serve("--workers", "2") as service:
        eventually(lambda: "serving on" in installation.log)
        before = workers(service)
        file.write_text('tls_certificate = "absent.pem"\ntls_key = "absent.key"\n')

        os.kill(service.process.pid, signal.SIGHUP)
        eventually(lambda: "workers_not_renewed" in installation.log)

        assert workers(service) == before
        assert service.terminate() == 0  # and nobody was cut off


def test_settings_for_which_the_store_is_not_good_enough_renew_nobody(
    installation: Installation, service: Running
) -> None:
    before = workers(service)
    (installation.folder / "identity.toml").write_text('durability = "replicas:1"\n')

    os.kill(service.process.pid, signal.SIGHUP)
    eventually(lambda: "workers_not_renewed" in installation.log)

    assert workers(service) == before


def test_one_that_dies_is_replaced_while_another_one_is_renewed(
    installation: Installation, service: Running
) -> None:
    before = workers(service)
    os.kill(service.process.pid, signal.SIGHUP)
    eventually(lambda: len(workers(service)) == 3)
    (new,) = workers(service) - before
    os.kill(new, signal.SIGSTOP)  # its start takes for ever
    victim = max(before)

    os.kill(victim, signal.SIGKILL)
    eventually(lambda: len(workers(service) - {victim}) == 3)

    os.kill(new, signal.SIGCONT)
    eventually(lambda: "workers_renewed" in installation.log)
    assert service.terminate() == 0


def test_renewing_again_and_again_keeps_no_file_open_and_no_process(
    installation: Installation, service: Running
) -> None:
    def renew(times: int) -> None:
        """Returns once so many renewals are over."""
        os.kill(service.process.pid, signal.SIGHUP)
        eventually(lambda: installation.log.count("workers_renewed") == times)
        # With what multiprocessing keeps beside them.
        eventually(lambda: len(children(service.process.pid, b"")) == 3)

    def open_files() -> int:
        return len(list(Path(f"/proc/{service.process.pid}/fd").iterdir()))

    before = open_files()
    for times in (1, 2, 3):
        renew(times)
    eventually(lambda: open_files() <= before)  # a process that has ended is let go of a moment later


def test_told_twice_they_are_renewed_twice(installation: Installation, service: Running) -> None:
    """The second time for settings that may have changed after the first was begun."""
    os.kill(service.process.pid, signal.SIGHUP)
    eventually(lambda: len(workers(service)) == 3)
    os.kill(service.process.pid, signal.SIGHUP)

    eventually(lambda: installation.log.count("workers_renewed") == 2)

    eventually(lambda: len(workers(service)) == 2)
    assert service.terminate() == 0


def test_who_cannot_start_another_one_tries_again(installation: Installation, service: Running) -> None:
    pid = service.process.pid
    victim = min(workers(service))
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (4, hard))  # fewer than it has open

    os.kill(victim, signal.SIGKILL)
    eventually(lambda: "worker_not_started" in installation.log)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))

    eventually(lambda: len(workers(service) - {victim}) == 2)
    assert service.terminate() == 0


def test_being_told_to_renew_while_stopping_costs_nothing(installation: Installation) -> None:
    installation.init()
    installation.environment["IDENTITY_DRAIN_GRACE"] = "0s"
    hang_at(installation, "", HANGS_SERVING | {"BETWEEN": 2.0})
    with installation.serve("--workers", "1") as service:
        eventually(lambda: "serving on" in installation.log)
        (stuck,) = workers(service)
        os.kill(stuck, signal.SIGSTOP)  # it is killed in the end

        os.kill(service.process.pid, signal.SIGTERM)
        os.kill(service.process.pid, signal.SIGHUP)
        before = _cpu_seconds(service.process.pid)
        while _command(stuck):
            spent = _cpu_seconds(service.process.pid) - before
            time.sleep(0.02)

        assert spent < 1
        assert service.process.wait(PATIENCE) == 1


def _cpu_seconds(pid: int) -> float:
    """User and system (proc_pid_stat(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_those_that_die_again_and_again_end_the_service(installation: Installation, service: Running) -> None:
    while service.process.poll() is None:
        for pid in workers(service):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)

    assert service.process.returncode == 1
    assert "workers_give_up" in installation.log


def test_one_that_is_killed_before_it_serves_fails_the_start(installation: Installation) -> None:
    installation.init()
    process = installation.start(("--workers", "2"), reserve_port())
    eventually(lambda: bool(spawned(process)))
    os.kill(min(spawned(process)), signal.SIGKILL)

    assert process.wait(PATIENCE) == 1
    assert "serving on" not in installation.log


def test_none_of_them_outlives_a_service_that_is_killed(service: Running) -> None:
    pids = workers(service)

    service.kill()

    eventually(lambda: not any(_command(pid) for pid in pids))


def test_none_of_them_outlives_a_service_that_is_killed_while_it_starts(installation: Installation) -> None:
    installation.init()
    process = installation.start(("--workers", "2"), reserve_port())
    eventually(lambda: len(spawned(process)) == 2)
    pids = spawned(process)

    process.kill()
    process.wait(PATIENCE)

    eventually(lambda: not any(_command(pid) for pid in pids))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_service_that_is_stopped_while_it_starts_ends_as_it_should(
    installation: Installation, number: signal.Signals
) -> None:
    installation.init()
    process = installation.start(("--workers", "2"), reserve_port())
    eventually(lambda: len(spawned(process)) == 2)
    pids = spawned(process)

    if number == signal.SIGINT:  # a terminal sends it to everybody
        for pid in pids:
            os.kill(pid, number)
    os.kill(process.pid, number)

    assert process.wait(PATIENCE) == 0
    assert not any(_command(pid) for pid in pids)
    assert "Traceback" not in installation.log


def test_a_start_that_fails_says_why_once_and_ends_as_one_process_would(installation: Installation) -> None:
    alone = installation.run("serve", "--listen", reserve_address())
    together = installation.run("serve", "--workers", "2", "--listen", reserve_address())

    assert together.returncode == alone.returncode != 0
    assert "identity init" in together.stderr


def test_a_port_that_is_taken_is_not_shared_with_strangers(
    installation: Installation, service: Running
) -> None:
    other = installation.start(("--workers", "1"), int(service.target.rpartition(":")[2]))

    try:
        assert other.wait(PATIENCE) == 1
    except subprocess.TimeoutExpired:
        other.kill()
        raise
    assert "stop the process that listens there" in installation.log
