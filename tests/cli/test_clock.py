"""`identity clock accept`, and the finding of `identity doctor` about the clock of a running service."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from identity_client import UnavailableError, Verified
from identity_service.adapters.clock import SystemClock
from identity_service.domain.log import Marks
from identity_service.storage.sqlite import SqliteStore
from tests.cli.conftest import Run
from tests.e2e.process import Installation, Running
from tests.patience import until

PATIENCE = 30.0


def remember(folder: Path, hours: float) -> None:
    """Store a time that is `hours` from now, as a process does whose clock is ahead."""
    clock = SystemClock()
    store = SqliteStore.open(str(folder / "identity.db"), clock=clock)
    store.log.heartbeat("one that was ahead", marks=Marks(time=clock.now() + timedelta(hours=hours)))
    store.close()


def of_processes(lines: list[dict[str, str]], result: str) -> list[str]:
    return [
        line["advice"] for line in lines if line["check"].startswith("process") and line["result"] == result
    ]


def test_a_clock_that_is_behind_is_refused_until_an_operator_accepts_it(
    run: Run, run_json: Callable[..., Any], tmp_path: Path
) -> None:
    installation = Installation(tmp_path, f"sqlite:///{tmp_path}/identity.db", forked=True)
    admin = installation.init()
    with installation.serve() as service, service.client(max_attempts=1) as client:

        def issue() -> str:
            return client.issue_with_secret(admin["client_id"], admin["client_secret"]).access_token

        def refusal() -> str:
            try:
                issue()
            except UnavailableError as error:
                return f"{error.reason}: {error}"
            return ""

        token = issue()
        remember(tmp_path, hours=2)
        assert refusal() == ""
        remember(tmp_path, hours=4)
        until(lambda: "identity clock accept" in refusal(), PATIENCE)
        assert refusal().startswith("CLOCK_SKEWED")
        until(lambda: "clock accept" in str(of_processes(run_json("doctor", code=1), "FAIL")), PATIENCE)
        (clock,) = (line for line in run_json("doctor", code=1) if line["check"] == "clock")
        assert (clock["result"], "identity clock accept" in clock["advice"]) == ("FAIL", True)

        done = run_json("clock", "accept", "--yes", "--reason", "the year was wrong")

        assert done["accepted"] < done["remembered"]
        until(lambda: refusal() == "", PATIENCE)
        assert isinstance(client.verify(token, any_audience=True), Verified)
        until(lambda: run_doctor(run) == 0, PATIENCE)
        assert "fresh" in of_processes(run_json("doctor"), "ok")
        events = audit_of(service)
        assert [event["reason"] for event in events if event["type"] == "clock_accepted"] == [
            "the year was wrong"
        ]


def run_doctor(run: Run) -> int:
    """Run `identity doctor`; return its exit code, which is 1 while a process refuses to answer."""
    try:
        return run("doctor").exit_code
    except AssertionError:
        return 1


def audit_of(service: Running) -> Any:
    return service.json("audit", "list")


def test_it_changes_nothing_without_a_yes(run: Run, run_json: Callable[..., Any], tmp_path: Path) -> None:
    run("init")
    remember(tmp_path, hours=4)
    refused = run("clock", "accept", code=1, stdin="n\n")
    assert "UTC now?" in refused.output
    (clock,) = (line for line in run_json("doctor", code=1) if line["check"] == "clock")
    assert clock["result"] == "FAIL"
