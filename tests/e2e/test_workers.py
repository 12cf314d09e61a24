"""Workers: several processes on one port, replaced when they end, and renewed without a failed call."""

import contextlib
import os
import resource
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from identity_client import Rejected, Verified
from tests.e2e.calls import calling, token_of
from tests.e2e.conftest import installed
from tests.e2e.descendants import children, command_line
from tests.e2e.fork_server import Process
from tests.e2e.hanging import HANGS_SERVING, hang_at
from tests.e2e.process import Installation, Running
from tests.patience import PATIENCE, until
from tests.ports import reserve_address, reserve_port

on_both_stores = pytest.mark.parametrize("installation", ["sqlite", "redis"], indirect=True)


@pytest.fixture
def installation(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Installation]:
    """Yield an installation on the embedded store, or on both stores if the test asks for that."""
    with installed(getattr(request, "param", "sqlite"), tmp_path) as installation:
        yield installation


@pytest.fixture
def service(installation: Installation) -> Iterator[Running]:
    installation.init()
    with installation.serve("--workers", "2") as running:
        until(lambda: "serving on" in installation.log)
        yield running


def workers(service: Running) -> set[int]:
    """Return the ids of the worker processes of the service."""
    return spawned(service.process)


def spawned(process: Process) -> set[int]:
    """Return the ids of the workers of a supervisor, including those that do not serve yet."""
    return children(process.pid, b"spawn_main")


@on_both_stores
def test_all_workers_serve_and_know_a_revocation_of_one(installation: Installation, service: Running) -> None:
    token = token_of(installation, service)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(service.client()) for _ in range(16)]
        assert all(isinstance(client.verify(token, any_audience=True), Verified) for client in clients)

        clients[0].revoke_token(token)

        until(
            lambda: all(isinstance(client.verify(token, any_audience=True), Rejected) for client in clients)
        )
    assert service.terminate() == 0


@pytest.fixture
def two_cores() -> Iterator[set[int]]:
    """Limit this thread, and the processes that it starts, to two cores."""
    all_cores = os.sched_getaffinity(0)
    cores = set(sorted(all_cores)[:2])
    os.sched_setaffinity(0, cores)
    try:
        yield cores
    finally:
        os.sched_setaffinity(0, all_cores)


def cores_of(pids: set[int]) -> list[list[int]]:
    """Return for each process the cores that its threads may use, sorted."""
    return sorted(
        sorted(
            {
                core
                for thread in Path(f"/proc/{pid}/task").iterdir()
                for core in os.sched_getaffinity(int(thread.name))
            }
        )
        for pid in pids
    )


@pytest.mark.parametrize("engine", ["grpcio", "envoy"])
def test_as_many_as_cores_stay_on_a_core_each_also_when_they_are_replaced(
    installation: Installation, two_cores: set[int], engine: str
) -> None:
    installation.init()
    with installation.serve("--workers", str(len(two_cores)), "--engine", engine) as service:
        until(lambda: "serving on" in installation.log)
        before = workers(service)
        assert cores_of(before) == [[core] for core in sorted(two_cores)]

        os.kill(service.process.pid, signal.SIGHUP)
        installation.await_event("workers_renewed")
        until(lambda: not workers(service) & before)

        assert cores_of(workers(service)) == [[core] for core in sorted(two_cores)]
        assert cores_of({service.process.pid}) == [sorted(two_cores)]


@pytest.mark.parametrize(
    ("count", "pinned"), [(2, "false"), (3, "true")], ids=["switched off", "more than cores"]
)
def test_others_run_on_any_core(
    installation: Installation, two_cores: set[int], count: int, pinned: str
) -> None:
    installation.environment["IDENTITY_PIN_WORKERS"] = pinned
    installation.init()
    with installation.serve("--workers", str(count)) as service:
        until(lambda: "serving on" in installation.log)
        assert cores_of(workers(service)) == [sorted(two_cores)] * count


def test_one_that_dies_is_replaced_while_the_others_serve(
    installation: Installation, service: Running
) -> None:
    token = token_of(installation, service)
    before = workers(service)
    victim = min(before)

    os.kill(victim, signal.SIGKILL)
    until(lambda: len(workers(service) - {victim}) == 2)

    with service.client() as client:
        assert isinstance(client.verify(token, any_audience=True), Verified)
    installation.await_event("worker_ended")
    assert victim in [event["pid"] for event in installation.events("worker_ended")]


@on_both_stores
def test_they_are_renewed_one_by_one_without_a_failed_call(installation: Installation) -> None:
    installation.environment["IDENTITY_DRAIN_GRACE"] = f"{PATIENCE:.0f}s"  # a busy machine is no failure
    installation.init()
    with installation.serve("--workers", "2") as service:
        until(lambda: "serving on" in installation.log)
        token = token_of(installation, service)
        before = workers(service)

        with calling(service.target, token) as wrong:
            for times in (1, 2, 3):
                os.kill(service.process.pid, signal.SIGHUP)
                until(lambda: installation.log.count("workers_renewed") == times)  # noqa: B023
            until(lambda: len(workers(service)) == 2)

        assert wrong == []
        assert not workers(service) & before
        assert service.terminate() == 0
    assert installation.events("worker_cut_off") == []


def test_a_setting_that_became_invalid_renews_no_worker(installation: Installation) -> None:
    file = installation.folder / "identity.toml"
    file.write_text('leeway = "10s"\n')
    installation.init()
    with installation.serve("--workers", "1") as service:
        until(lambda: len(workers(service)) == 1)
        before = workers(service)
        file.write_text('leeway = "a while"\n')

        os.kill(service.process.pid, signal.SIGHUP)
        until(lambda: "workers_not_renewed" in installation.log)

        assert workers(service) == before
        assert service.terminate() == 0


def test_another_address_for_metrics_renews_no_worker(installation: Installation) -> None:
    file = installation.folder / "identity.toml"
    file.write_text(f'metrics_listen = "{reserve_address()}"\n')
    installation.init()
    with installation.serve("--workers", "1") as service:
        until(lambda: "serving on" in installation.log)
        before = workers(service)
        file.write_text(f'metrics_listen = "{reserve_address()}"\n')

        os.kill(service.process.pid, signal.SIGHUP)
        until(lambda: "metrics_listen: a change takes effect only after a restart" in installation.log)

        assert workers(service) == before


def test_new_workers_that_cannot_start_change_nothing(installation: Installation) -> None:
    file = installation.folder / "identity.toml"
    installation.init()
    with installation.serve("--workers", "2") as service:
        until(lambda: "serving on" in installation.log)
        before = workers(service)
        file.write_text('tls_certificate = "absent.pem"\ntls_key = "absent.key"\n')

        os.kill(service.process.pid, signal.SIGHUP)
        until(lambda: "workers_not_renewed" in installation.log)

        assert workers(service) == before
        assert service.terminate() == 0  # and no call was cut off


def test_settings_that_the_store_cannot_satisfy_renew_no_worker(
    installation: Installation, service: Running
) -> None:
    before = workers(service)
    (installation.folder / "identity.toml").write_text('durability = "replicas:1"\n')

    os.kill(service.process.pid, signal.SIGHUP)
    until(lambda: "workers_not_renewed" in installation.log)

    assert workers(service) == before


def test_one_that_dies_is_replaced_while_another_one_is_renewed(
    installation: Installation, service: Running
) -> None:
    before = workers(service)
    os.kill(service.process.pid, signal.SIGHUP)
    until(lambda: len(workers(service)) == 3)
    (new,) = workers(service) - before
    os.kill(new, signal.SIGSTOP)  # its start takes for ever
    victim = max(before)

    os.kill(victim, signal.SIGKILL)
    until(lambda: len(workers(service) - {victim}) == 3)

    os.kill(new, signal.SIGCONT)
    until(lambda: "workers_renewed" in installation.log)
    assert service.terminate() == 0


def test_renewing_again_and_again_keeps_no_file_open_and_no_process(
    installation: Installation, service: Running
) -> None:
    def renew(times: int) -> None:
        """Order a renewal, and wait until `times` renewals are complete."""
        os.kill(service.process.pid, signal.SIGHUP)
        until(lambda: installation.log.count("workers_renewed") == times)
        # With what multiprocessing keeps beside them.
        until(lambda: len(children(service.process.pid, b"")) == 3)

    def open_files() -> int:
        return len(list(Path(f"/proc/{service.process.pid}/fd").iterdir()))

    before = open_files()
    for times in (1, 2, 3):
        renew(times)
    until(lambda: open_files() <= before)  # a process that has ended is let go of a moment later


def test_two_orders_to_renew_renew_the_workers_twice(installation: Installation, service: Running) -> None:
    """The settings may have changed after the first renewal began, so the second order needs its own."""
    os.kill(service.process.pid, signal.SIGHUP)
    until(lambda: len(workers(service)) == 3)
    os.kill(service.process.pid, signal.SIGHUP)

    until(lambda: installation.log.count("workers_renewed") == 2)

    until(lambda: len(workers(service)) == 2)
    assert service.terminate() == 0


def test_a_worker_that_cannot_be_started_is_tried_again(installation: Installation, service: Running) -> None:
    pid = service.process.pid
    victim = min(workers(service))
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (4, hard))  # fewer than it has open

    os.kill(victim, signal.SIGKILL)
    until(lambda: "worker_not_started" in installation.log)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))

    until(lambda: len(workers(service) - {victim}) == 2)
    assert service.terminate() == 0


def test_an_order_to_renew_while_stopping_is_ignored(installation: Installation) -> None:
    installation.init()
    installation.environment["IDENTITY_DRAIN_GRACE"] = "0s"
    hang_at(installation, "", HANGS_SERVING | {"BETWEEN": 2.0})
    with installation.serve("--workers", "1") as service:
        until(lambda: "serving on" in installation.log)
        (stuck,) = workers(service)
        os.kill(stuck, signal.SIGSTOP)  # it is killed in the end

        os.kill(service.process.pid, signal.SIGTERM)
        os.kill(service.process.pid, signal.SIGHUP)
        before = _cpu_seconds(service.process.pid)
        while command_line(stuck):
            spent = _cpu_seconds(service.process.pid) - before
            time.sleep(0.02)

        assert spent < 1
        assert service.process.wait(PATIENCE) == 1


def _cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process in user and system mode, in seconds (proc_pid_stat(5))."""
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
    until(lambda: bool(spawned(process)))
    os.kill(min(spawned(process)), signal.SIGKILL)

    assert process.wait(PATIENCE) == 1
    assert "serving on" not in installation.log


def test_no_worker_outlives_a_service_that_is_killed(service: Running) -> None:
    pids = workers(service)

    service.kill()

    until(lambda: not any(command_line(pid) for pid in pids))


def test_no_worker_outlives_a_service_that_is_killed_while_it_starts(installation: Installation) -> None:
    installation.init()
    process = installation.start(("--workers", "2"), reserve_port())
    until(lambda: len(spawned(process)) == 2)
    pids = spawned(process)

    process.kill()
    process.wait(PATIENCE)

    until(lambda: not any(command_line(pid) for pid in pids))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_service_that_is_stopped_while_it_starts_ends_as_it_should(
    installation: Installation, number: signal.Signals
) -> None:
    installation.init()
    process = installation.start(("--workers", "2"), reserve_port())
    until(lambda: len(spawned(process)) == 2)
    pids = spawned(process)

    if number == signal.SIGINT:  # a terminal sends it to every process of its group
        for pid in pids:
            os.kill(pid, number)
    os.kill(process.pid, number)

    assert process.wait(PATIENCE) == 0
    assert not any(command_line(pid) for pid in pids)
    assert "Traceback" not in installation.log


def test_a_failed_start_is_reported_once_and_ends_like_a_single_process(installation: Installation) -> None:
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
