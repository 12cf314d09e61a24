"""Tests in which the wall clock of the whole machine is wrong for a moment, or is corrected.

The service, Redis and a local verifier all use that clock, so that no comparison of two clocks shows the
step. The tokens live for 15 minutes.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from identity_client import IdentityError, Rejected
from tests.e2e.process import Installation, Running
from tests.faults.clocks import SteppedClock
from tests.faults.local_process import LocalProcess
from tests.faults.tally import Tally
from tests.patience import PATIENCE, until
from tests.redis_server import RedisServer, packaged_server

HOUR = 3600.0
PASSWORD = "correct horse battery staple"
ISSUER = "identity-service"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@dataclass(kw_only=True)
class Machine:
    """Service processes, a store and a local verifier that all use the same clock."""

    clock: SteppedClock
    installation: Installation
    services: list[Running] = field(default_factory=list)
    local: LocalProcess | None = None
    revoked: list[str] = field(default_factory=list)
    control: str = ""
    tally: Tally = field(default_factory=lambda: Tally(scenario=""))

    def start(self, stack: ExitStack, processes: int) -> None:
        self.services = [stack.enter_context(self.installation.serve()) for _ in range(processes)]
        self.local = stack.enter_context(
            LocalProcess(self.services[0].target, ISSUER, self.clock.environment)
        )

    def revoke_in_each_way(self) -> None:
        """Revoke twelve tokens, three in each of four ways, and issue one more as the control."""
        environment = self.installation.environment
        client_id, secret = environment["IDENTITY_CLIENT_ID"], environment["IDENTITY_CLIENT_SECRET"]
        with self.services[0].client() as client:
            bearer = client.issue_with_secret(client_id, secret, scopes=["identity.revoke"]).access_token
        with self.services[-1].client(bearer=bearer) as client:
            for way in ("token", "token_id", "session", "refresh token") * 3:
                tokens = client.issue_with_password("ana", PASSWORD)
                self.revoked.append(tokens.access_token)
                match way:
                    case "token":
                        client.revoke_token(tokens.access_token)
                    case "token_id":
                        client.revoke_token_id(tokens.token_id)
                    case "session":
                        client.revoke_session(tokens.session_id)
                    case _:
                        client.revoke_token(tokens.refresh_token)
            self.control = client.issue_with_password("ana", PASSWORD).access_token
        self.tally.revoked(len(self.revoked))

    def say(self) -> list[list[str]]:
        """Return the answers of each service and of the verifier about all tokens, the control's last."""
        assert self.local is not None
        tokens = [*self.revoked, self.control]
        said = [*(_asked(service, tokens) for service in self.services), self.local.say(tokens)]
        for answers in said:
            self.tally.answered(*(answer == "" for answer in answers[:-1]))
            self.tally.asked(1)
        return said

    def until_all_have_heard(self) -> None:
        """Wait until every service process and the local verifier reject all revoked tokens as REVOKED."""
        assert self.local is not None
        asked: list[Callable[[list[str]], list[str]]] = [self.local.say]
        asked += [partial(_asked, service) for service in self.services]
        until(lambda: all(set(say(self.revoked)) == {"REVOKED"} for say in asked), PATIENCE)

    def until_all_say(self, word: Callable[[bool], str]) -> None:
        """Wait until each answer is `word(True)` for a revoked token, and `word(False)` for the control."""
        wanted = [*(word(True) for _ in self.revoked), word(False)]
        said: list[list[str]] = []

        def agreed() -> bool:
            said[:] = self.say()
            return all(answers == wanted for answers in said)

        try:
            with self.tally.recovering():
                until(agreed, PATIENCE)
        except TimeoutError:
            pytest.fail(f"they say {said}, wanted {wanted}")
        assert self.tally.violations == 0, "a revoked token was verified meanwhile"


def _asked(service: Running, tokens: list[str]) -> list[str]:
    with service.client() as client:
        answers = []
        for token in tokens:
            try:
                said = client.verify(token, any_audience=True)
            except IdentityError as error:
                answers.append(error.reason or f"no answer: {error}")
            else:
                answers.append(said.reason if isinstance(said, Rejected) else "")
        return answers


@pytest.fixture(params=["SQLite", "Redis"])
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., Machine]]:
    """Yield a function that makes a machine whose clock has an offset in seconds, with a running service."""
    with ExitStack() as stack:

        def make(scenario: str, offset: float = 0.0) -> Machine:
            clock = SteppedClock(tmp_path / "clock")
            clock.step(offset)
            store = f"sqlite:///{tmp_path}/identity.db"
            if request.param == "Redis":
                (tmp_path / "redis").mkdir()
                server = RedisServer(
                    tmp_path / "redis", program=packaged_server(), environment=clock.environment
                )
                server.start()
                stack.callback(server.stop)
                store = server.url
            quick = {"IDENTITY_HEARTBEAT_INTERVAL": "100ms", "IDENTITY_WATCH_HEARTBEAT": "100ms"}
            installation = Installation(tmp_path, store, {**clock.environment, **quick}, forked=True)
            admin = installation.json("init")  # a process of its own, under the machine's clock
            installation.environment |= {
                "IDENTITY_CLIENT_ID": admin["client_id"],
                "IDENTITY_CLIENT_SECRET": admin["client_secret"],
            }
            machine = Machine(clock=clock, installation=installation)
            machine.tally.scenario = f"{scenario}, {request.param}"
            stack.callback(machine.tally.publish)
            machine.start(stack, 2 if request.param == "Redis" else 1)
            create = ("user", "create", "ana", "--audience", "api", "--password-stdin")
            machine.services[0].json(*create, stdin=f"{PASSWORD}\n")
            machine.revoke_in_each_way()
            machine.until_all_have_heard()
            return machine

        yield make


def as_ever(revoked: bool) -> str:
    return "REVOKED" if revoked else ""


def expired(revoked: bool) -> str:
    return "EXPIRED"


@pytest.mark.parametrize(
    "step", [HOUR, 30 * HOUR, -HOUR], ids=["an hour ahead", "30 hours ahead", "an hour back"]
)
def test_a_clock_that_is_wrong_for_a_moment_makes_no_revocation_forgotten(
    machine: Callable[..., Machine], step: float
) -> None:
    here = machine("clock of the whole machine wrong for a moment")
    here.until_all_say(as_ever)
    for _ in range(2):
        here.clock.step(step)
        # If the clock is ahead, each process uses it, because the store's clock is the same, and the tokens
        # have expired. If it is behind, each process reads the log again, and the tokens are not valid yet.
        here.until_all_say(expired if step > 0 else lambda revoked: "NOT_YET_VALID")
        here.clock.step(0)
        here.until_all_say(as_ever)


def test_a_clock_that_was_behind_at_the_start_is_corrected_without_a_restart(
    machine: Callable[..., Machine],
) -> None:
    here = machine("clock behind at the start, then right", -90.0)
    here.until_all_say(as_ever)
    here.clock.step(0)
    here.until_all_say(as_ever)


def test_a_clock_that_was_ahead_at_the_start_is_corrected_without_a_restart(
    machine: Callable[..., Machine],
) -> None:
    """Tokens issued while the clock was ahead are NOT_YET_VALID after the correction.

    They are valid again when the clock reaches the time of their issue.
    """
    here = machine("clock ahead at the start, then right", 4 * HOUR)
    here.until_all_say(as_ever)
    here.clock.step(0)
    here.until_all_say(lambda revoked: "NOT_YET_VALID")
    here.clock.step(4 * HOUR)
    here.until_all_say(as_ever)
