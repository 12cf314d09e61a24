"""Watchers of a service that ends and is started again: each is fresh soon, and knows what it missed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from identity_client import TokenSet
from tests.e2e.process import Installation, Running
from tests.e2e.test_workers import children
from tests.faults.conftest import FULL
from tests.faults.site import until

ROUNDS: Final = 20 if FULL else 2
PROCESSES: Final = 4 if FULL else 2
LIGHT: Final = 245 if FULL else 5
REAL: Final = 5 if FULL else 2
"""Watchers of one process: coroutines, and local verifiers with their threads."""
BOUND: Final = 10.0
"""Seconds after the service answers again. Only the full form holds it, on an idle machine."""
_PATIENCE: Final = timedelta(seconds=60)
_ROOT: Final = Path(__file__).parents[2]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300 + 180 * ROUNDS)]


class Watchers:
    """Client processes, asked all at once."""

    def __init__(self, processes: list["subprocess.Popen[str]"]) -> None:
        self.processes = processes

    def accepting(self, token: TokenSet) -> int:
        """How many are fresh and take this token for good."""
        return sum(self._ask(f"control {token.access_token} {token.token_id}"))

    def moments(self, token: TokenSet) -> list[float | None]:
        """When each was fresh and refused it; waits for that."""
        found = self._ask(f"revoked {token.access_token} {token.token_id}")
        return [moment for moments in found for moment in moments]

    def _ask(self, line: str) -> list[Any]:
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.write(f"{line}\n")
            process.stdin.flush()
        return [_answer(process) for process in self.processes]


@contextmanager
def watching(target: str, folder: Path, processes: int, light: int, real: int) -> Iterator[Watchers]:
    """Client processes that know what is live."""
    words = (target, "identity-service", str(light), str(real))
    with ExitStack() as stack:
        started = [stack.enter_context(_client(words, folder)) for _ in range(processes)]
        assert [_answer(process) for process in started] == ["ready"] * processes
        yield Watchers(started)


@contextmanager
def _client(words: tuple[str, ...], folder: Path) -> Iterator["subprocess.Popen[str]"]:
    with (folder / "watchers.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.watcher_process", *words],
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    with process:
        try:
            yield process
            assert process.stdin is not None
            process.stdin.close()
            assert process.wait(_PATIENCE.total_seconds()) == 0
        finally:
            process.kill()  # a stopped one, too


def _answer(process: "subprocess.Popen[str]") -> Any:
    assert process.stdout is not None
    return json.loads(process.stdout.readline())


@pytest.fixture(params=["grpcio", "envoy"])
def installation(request: pytest.FixtureRequest, tmp_path: Path) -> Installation:
    environment = {"IDENTITY_ENGINE": request.param}
    return Installation(tmp_path, f"sqlite:///{tmp_path}/identity.db", environment)


def issue(installation: Installation, service: Running) -> TokenSet:
    name, secret = (installation.environment[f"IDENTITY_CLIENT_{part}"] for part in ("ID", "SECRET"))
    with service.client(timeout=_PATIENCE) as client:
        return client.issue_with_secret(name, secret, scopes=["identity.verify"])


def revoke(service: Running, token: TokenSet) -> None:
    with service.client(timeout=_PATIENCE) as client:
        client.revoke_token(token.access_token)


def end(service: Running, number: signal.Signals) -> None:
    """Also the Envoy that notices that its parent is gone, and refuses calls until it has ended by itself."""
    envoys = children(service.process.pid, b"/envoy")
    os.kill(service.process.pid, number)
    service.process.wait(_PATIENCE.total_seconds())
    until(lambda: not any(Path(f"/proc/{envoy}").exists() for envoy in envoys), _PATIENCE.total_seconds())


def await_accepted(watchers: Watchers, token: TokenSet, count: int) -> None:
    until(lambda: watchers.accepting(token) == count, _PATIENCE.total_seconds())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_all_are_fresh_again_soon_after_the_service_answers(
    installation: Installation, tmp_path: Path, number: signal.Signals
) -> None:
    """What is revoked right after the start each must know by then; the token beside it stays good."""
    installation.init()
    everybody = PROCESSES * (LIGHT + REAL)
    longest: list[float] = []
    with ExitStack() as stack:
        service = stack.enter_context(installation.serve())
        port = int(service.target.rpartition(":")[2])
        kept = issue(installation, service)
        watchers = stack.enter_context(watching(service.target, tmp_path, PROCESSES, LIGHT, REAL))
        for _ in range(ROUNDS):
            token = issue(installation, service)
            await_accepted(watchers, token, everybody)

            end(service, number)
            service = stack.enter_context(installation.serve(port=port))
            answering = time.monotonic()
            revoke(service, token)
            moments = watchers.moments(token)

            assert len(moments) == everybody
            behind = sorted(float("inf") if moment is None else moment - answering for moment in moments)
            longest.append(behind[-1])
            _publish(f"round {len(longest)}: p50 {behind[everybody // 2]:.2f} s, longest {behind[-1]:.2f} s")
            await_accepted(watchers, kept, everybody)
    middle, most = sorted(longest)[len(longest) // 2], max(longest)
    _publish(
        f"FAULT {number.name}, {everybody} watchers on {installation.environment['IDENTITY_ENGINE']}: "
        f"rounds {ROUNDS}, longest of a round: median {middle:.2f} s, most {most:.2f} s"
    )
    assert most < (BOUND if FULL else float("inf"))


def test_a_client_that_slept_through_a_restart_takes_nothing_revoked_for_good(
    installation: Installation, tmp_path: Path
) -> None:
    installation.init()
    with ExitStack() as stack:
        service = stack.enter_context(installation.serve())
        port = int(service.target.rpartition(":")[2])
        token, kept = issue(installation, service), issue(installation, service)
        watchers = stack.enter_context(watching(service.target, tmp_path, 1, LIGHT, REAL))
        (client,) = watchers.processes
        await_accepted(watchers, token, LIGHT + REAL)

        os.kill(client.pid, signal.SIGSTOP)
        end(service, signal.SIGKILL)
        service = stack.enter_context(installation.serve(port=port))
        revoke(service, token)
        asleep_until_nothing_is_fresh()
        os.kill(client.pid, signal.SIGCONT)

        assert watchers.accepting(token) == 0
        assert None not in watchers.moments(token)
        await_accepted(watchers, kept, LIGHT + REAL)


def asleep_until_nothing_is_fresh() -> None:
    """`max_staleness` of the watchers; it began before this."""
    time.sleep(5)


def _publish(line: str) -> None:
    """Seen with `pytest -s`."""
    sys.stdout.write(f"\n{line}\n")
