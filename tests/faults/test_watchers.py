"""Tests of watchers while their service restarts: each must soon be fresh and know all changes."""

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
from tests.e2e.descendants import children
from tests.e2e.process import Installation, Running
from tests.faults.conftest import FULL
from tests.faults.watcher_process import MAX_STALENESS
from tests.patience import until

ROUNDS: Final = 20 if FULL else 2
PROCESSES: Final = 4 if FULL else 2
LIGHT: Final = 245 if FULL else 5
REAL: Final = 5 if FULL else 2
"""Number of watchers in each client process: LIGHT are coroutines, REAL are LocalVerifiers with their
threads."""
BOUND: Final = 10.0
"""Seconds after the service's return within which all watchers must know. It is checked only in the full form
of the tests, on an idle machine."""
_PATIENCE: Final = timedelta(seconds=60)
_ROOT: Final = Path(__file__).parents[2]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300 + 180 * ROUNDS)]


class Watchers:
    """Several client processes with watchers, which are all asked at the same time."""

    def __init__(self, processes: list["subprocess.Popen[str]"]) -> None:
        self.processes = processes

    def accepting(self, token: TokenSet) -> int:
        """Return the number of watchers that are fresh and accept this token."""
        return sum(self._ask(f"control {token.access_token} {token.token_id}"))

    def moments(self, token: TokenSet) -> list[float | None]:
        """Wait until each watcher is fresh and refuses the token; return the times (None after 120 s)."""
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
    """Start client processes whose watchers follow the service, and stop them at the end of the block."""
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
    return Installation(tmp_path, f"sqlite:///{tmp_path}/identity.db", environment, forked=True)


def issue(installation: Installation, service: Running) -> TokenSet:
    name, secret = (installation.environment[f"IDENTITY_CLIENT_{part}"] for part in ("ID", "SECRET"))
    with service.client(timeout=_PATIENCE) as client:
        return client.issue_with_secret(name, secret, scopes=["identity.verify"])


def revoke(service: Running, token: TokenSet) -> None:
    with service.client(timeout=_PATIENCE) as client:
        client.revoke_token(token.access_token)


def end(service: Running, number: signal.Signals) -> None:
    """Send a signal to the service, and wait until the service and its Envoy have ended.

    Envoy notices that its parent has gone, and refuses calls from then until it ends by itself.
    """
    envoys = children(service.process.pid, b"/envoy")
    os.kill(service.process.pid, number)
    service.process.wait(_PATIENCE.total_seconds())
    until(lambda: not any(Path(f"/proc/{envoy}").exists() for envoy in envoys), _PATIENCE.total_seconds())


def await_accepted(watchers: Watchers, token: TokenSet, count: int) -> None:
    until(lambda: watchers.accepting(token) == count, _PATIENCE.total_seconds())


class Restarts:
    """Restarts a service, and measures when each of its watchers knows the changes that it missed."""

    def __init__(self, installation: Installation, stack: ExitStack, processes: int = PROCESSES) -> None:
        installation.init()
        self._installation = installation
        self._stack = stack
        self.count = processes * (LIGHT + REAL)
        self.service = stack.enter_context(installation.serve())
        target = self.service.target
        self.watchers = stack.enter_context(watching(target, installation.folder, processes, LIGHT, REAL))

    def start(self) -> None:
        """Start the service again on the same port."""
        port = int(self.service.target.rpartition(":")[2])
        self.service = self._stack.enter_context(self._installation.serve(port=port))

    def issue(self) -> TokenSet:
        """Issue a token, and wait until every watcher accepts it."""
        token = issue(self._installation, self.service)
        await_accepted(self.watchers, token, self.count)
        return token

    def round(self, number: signal.Signals, away: float = 0.0) -> list[float]:
        """Stop and start the service, revoke a token, and return when each watcher knew of it.

        Returns:
            Seconds from the service's return until each watcher refused the token, in ascending order.
        """
        token, kept = self.issue(), self.issue()
        end(self.service, number)
        pass_time(away)
        self.start()
        answering = time.monotonic()
        revoke(self.service, token)
        moments = self.watchers.moments(token)
        await_accepted(self.watchers, kept, self.count)

        assert len(moments) == self.count
        behind = sorted(float("inf") if moment is None else moment - answering for moment in moments)
        _publish(f"round: p50 {behind[len(behind) // 2]:.2f} s, longest {behind[-1]:.2f} s")
        return behind


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_all_are_fresh_again_soon_after_the_service_answers(
    installation: Installation, number: signal.Signals
) -> None:
    """After each restart every watcher must refuse a newly revoked token, and still accept another one.

    In the full form of the tests, the slowest watcher must do so within `BOUND` seconds.
    """
    with ExitStack() as stack:
        restarts = Restarts(installation, stack)
        longest = sorted(restarts.round(number)[-1] for _ in range(ROUNDS))
    _publish(
        f"FAULT {number.name}, {restarts.count} watchers on {installation.environment['IDENTITY_ENGINE']}: "
        f"rounds {ROUNDS}, longest of a round: median {longest[ROUNDS // 2]:.2f} s, most {longest[-1]:.2f} s"
    )
    assert longest[-1] < (BOUND if FULL else float("inf"))


@pytest.mark.skipif(not FULL, reason="the service is away for a minute")
def test_a_service_that_was_stopped_for_long_is_found_as_soon(installation: Installation) -> None:
    """Unless bounded, the pauses between a gRPC channel's connection attempts grow while a server is away."""
    with ExitStack() as stack:
        longest = Restarts(installation, stack).round(signal.SIGKILL, away=60)[-1]
    _publish(f"FAULT away for 60 s: longest {longest:.2f} s")
    assert longest < BOUND


def test_a_client_that_slept_through_a_restart_takes_nothing_revoked_for_good(
    installation: Installation,
) -> None:
    with ExitStack() as stack:
        restarts = Restarts(installation, stack, processes=1)
        token, kept = restarts.issue(), restarts.issue()
        (client,) = restarts.watchers.processes

        os.kill(client.pid, signal.SIGSTOP)
        end(restarts.service, signal.SIGKILL)
        restarts.start()
        revoke(restarts.service, token)
        pass_time(MAX_STALENESS)
        os.kill(client.pid, signal.SIGCONT)

        assert restarts.watchers.accepting(token) == 0
        assert None not in restarts.watchers.moments(token)
        await_accepted(restarts.watchers, kept, restarts.count)


def pass_time(seconds: float) -> None:
    """Wait in real time, because other processes cannot use an injected clock; a longer wait does no harm."""
    time.sleep(seconds)


def _publish(line: str) -> None:
    """Print a line that `pytest -s` shows."""
    sys.stdout.write(f"\n{line}\n")
