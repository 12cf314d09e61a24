"""The service against its model: issued, refreshed, revoked, restarted or cut off, they agree.

Both are given the same steps. After each of them every token ever issued must be verified or rejected as
the model says, and every refusal must carry the reason that it says; so nothing is ever INTERNAL.
"""

import os
import tempfile
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from identity_service.domain.ids import SessionId
from identity_service.domain.store import Store
from identity_service.storage.redis import RedisStore
from identity_service.storage.sqlite import SqliteStore
from identityapi.v1 import token_pb2
from tests.high_s import twin
from tests.redis_server import RedisServer
from tests.rpc import model
from tests.rpc.conftest import settings_for_tests
from tests.rpc.model import Given, Model, Refused
from tests.rpc.parties import Issued, Parties, SignedIn, pick, verify, verify_batch
from tests.rpc.restartable import Restartable
from tests.rpc.test_owed import eventually
from tests.rpc.world import ShiftedClock, World

OpenStore = Callable[[ShiftedClock, Path], Store]

EXAMPLES: Final = int(os.environ.get("CRASH_ROUNDS", "20"))
STEPS: Final = 50
MAX_STALENESS: Final = timedelta(seconds=60)
"""Longer than any example takes, so that only `age` makes a process stale."""
DAY: Final = 86_400
CUT_OFF: Final = "STORE_UNAVAILABLE"
STALE: Final = "REPLICA_STALE"

WHICH: Final = st.sampled_from([0, 0, 0, 1, 2, 5])
"""How long before the newest one a token or session was given out."""
BACK: Final = st.sampled_from([0, 0, 0, 1, 1, 2, 3])
"""How long before its newest refresh token a holder was given the one that it shows."""
LOST: Final = st.sampled_from([False, False, False, True])
"""Whether the store's reply to a write is lost."""


class Machine(RuleBasedStateMachine):
    """Runs the same steps on the service and on the model."""

    open_store: OpenStore

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.issued: list[Issued] = []
        self.signed_in: list[SignedIn] = []
        self.trouble = ""
        """Why the service cannot do what needs the store, or where it is stale anything."""
        self.trouble_steps = 0
        self.folder = tempfile.TemporaryDirectory()
        self.place = Restartable(
            settings_for_tests(max_staleness=MAX_STALENESS),
            lambda clock: type(self).open_store(clock, Path(self.folder.name)),
        )

    @initialize()
    def start(self) -> None:
        self.place.start()
        self.parties = Parties(self.world)
        self.parties.renew_admin_token(self.world)  # so that the process knows the client while it is cut off

    def teardown(self) -> None:
        self.place.stop()
        self.folder.cleanup()

    # What clients do

    @rule()
    def issue_by_secret(self) -> None:
        answer = self.parties.issue(self.world)
        if isinstance(answer, str):
            # While the store is cut off it works from memory, where this process knows the client already.
            assert answer == self.trouble
            return
        assert self.trouble != STALE
        self._issued(answer, self.model.issue(self.now, self.parties.client.id))

    @rule(by_portal=st.booleans(), lost=LOST)
    def sign_in(self, by_portal: bool, lost: bool) -> None:
        with self.place.store.losing_replies(lost):
            answer = self.parties.sign_in(self.world, by_portal=by_portal)
        if isinstance(answer, str):
            assert answer == self._refusal(lost)
            return
        assert not self._refusal(lost)
        session = self.model.sign_in(
            self.now, self.parties.user.id, self.parties.app(by_portal), survives_reuse=by_portal
        )
        self._issued(answer, self.model.issue_in(session, self.now))
        session_id, texts = SessionId(answer.session_id), {0: answer.refresh_token}
        self.signed_in.append(SignedIn(session, session_id, by_portal, texts))

    @precondition(lambda self: self.signed_in)
    @rule(which=WHICH, back=BACK, lost=LOST, wait=st.sampled_from([0, 0, 60, 61, 2 * DAY]))
    def refresh(self, which: int, back: int, lost: bool, wait: int) -> None:
        if not self.trouble:
            self.place.wait(wait)
        self._refresh(pick(self.signed_in, which), back, lost)

    @precondition(lambda self: not self.trouble)
    @rule(
        backs=st.lists(BACK, min_size=1, max_size=4),
        lost=LOST,
        wait=st.sampled_from([0, 30, 60, 61, 61]),
        forgotten=st.sampled_from([0, 0, 1, 2]),
    )
    def refresh_what_lives(self, backs: list[int], lost: bool, wait: int, forgotten: int) -> None:
        """There are many ways to end a session: this makes those that go on as frequent."""
        if not self.signed_in or self.model.is_over(self.signed_in[-1].session, self.now):
            self.sign_in(by_portal=lost, lost=False)
        held = self.signed_in[-1]
        self.place.wait(wait)
        held.forget_rotations(self.world, forgotten)
        for back in backs:
            self._refresh(held, back, lost)

    @precondition(lambda self: self.issued)
    @rule(which=WHICH, how=st.sampled_from(["holder", "token", "token_id"]), lost=LOST)
    def revoke_a_token(self, which: int, how: str, lost: bool) -> None:
        issued = pick(self.issued, which)
        expired = self.model.verify(issued.token, self.now) == "EXPIRED"
        target = {"token_id": issued.token_id} if how == "token_id" else {"token": issued.text}
        done = self._revoke(lost, may_be_moot=expired, as_admin=how != "holder", **target)
        issued.token.denied = issued.token.denied or done

    @precondition(lambda self: self.signed_in)
    @rule(which=WHICH, how=st.sampled_from(["holder", "session_id"]), back=BACK, lost=LOST)
    def sign_out(self, which: int, how: str, back: int, lost: bool) -> None:
        held = pick(self.signed_in, which)
        text = held.texts[held.number(back)]
        target = {"token": text} if how == "holder" else {"session_id": held.session_id}
        done = self._revoke(lost, as_admin=how != "holder", **target)
        held.session.ended = held.session.ended or done

    @rule(which=st.sampled_from(["user", "client", "portal", "first-party", "everything"]), lost=LOST)
    def revoke_all(self, which: str, lost: bool) -> None:
        principal, target = self.parties.principals()[which]
        if self._revoke(lost, **target):
            self.model.raise_generation(principal)

    # What befalls the service

    @precondition(lambda self: not self.trouble)
    @rule(seconds=st.sampled_from([1, 60, 61, 870, 870, 910, 2 * DAY, 31 * DAY]))
    def time_passes(self, seconds: int) -> None:
        self.place.wait(seconds)

    @precondition(lambda self: not self.trouble)
    @rule()
    def the_process_restarts(self) -> None:
        self.place.stop()
        self.place.start()
        self.parties.renew_admin_token(self.world)

    @precondition(lambda self: not self.trouble)
    @rule(for_long=LOST, steps=st.integers(min_value=1, max_value=5))
    def the_store_is_cut_off(self, for_long: bool, steps: int) -> None:
        """For a moment, or for so long that this process may not answer any more."""
        self.place.store.is_cut = True
        self.trouble, self.trouble_steps = CUT_OFF, steps + 1  # this step is one, too
        if for_long:
            self.place.clock.age(MAX_STALENESS.total_seconds() + 1)
            self.trouble = STALE

    @precondition(lambda self: self.trouble)
    @invariant()
    def the_store_comes_back_after_some_steps(self) -> None:
        """As a rule it would be chosen so rarely that the store is away most of the time."""
        self.trouble_steps -= 1
        if self.trouble_steps:
            return
        self.place.store.is_cut = False
        self.trouble = ""
        replica = self.world.service._replica
        assert eventually(lambda: replica.is_fresh() and replica.upkeep.owed == 0)

    # What must be so

    @precondition(lambda self: self.issued)
    @invariant()
    def every_token_is_what_the_model_says(self) -> None:
        said = [self.model.verify(issued.token, self.now) for issued in self.issued]
        if self.trouble == STALE:
            said = [STALE] * len(said)
        assert verify_batch(self.world, (issued.text for issued in self.issued)) == said
        newest, word = self.issued[-1].text, said[-1]
        assert verify(self.world, newest) == word
        assert verify(self.world, twin(newest)) == word, "nothing is decided by raw token text"

    # Shared steps

    def _refresh(self, held: SignedIn, back: int, lost: bool) -> None:
        number = held.number(back)
        expected: Given | Refused = Refused(self.trouble)
        if not self.trouble:
            expected = self._refresh_in_model(held, number)
        lost = lost and expected.writes
        with self.place.store.losing_replies(lost):
            answer = self.parties.refresh(self.world, held, number)
        if isinstance(answer, str):
            assert answer == (CUT_OFF if lost else getattr(expected, "reason", "no refusal"))
            return
        assert isinstance(expected, Given)
        assert not lost
        known = held.texts.setdefault(expected.number, answer.refresh_token)
        assert known == answer.refresh_token, "one successor"
        assert list(held.texts.values()).count(known) == 1, "each number has its own"
        self._issued(answer, self.model.issue_in(held.session, self.now))

    def _refresh_in_model(self, held: SignedIn, number: int) -> Given | Refused:
        state, chain = self.world.store.read_session(held.session_id), held.session.chain
        expected = self.model.refresh(held.session, number, self.now)
        if state is not None and held.session.chain is not chain:
            held.before.append((state.session, chain))
        return expected

    def _revoke(self, lost: bool, *, may_be_moot: bool = False, as_admin: bool = True, **target: Any) -> bool:
        """Whether it took effect: acknowledged, or owed to the store; but not where the process is stale."""
        if as_admin and self.trouble != STALE:
            self.parties.renew_admin_token(self.world)
        with self.place.store.losing_replies(lost):
            reason = self.parties.revoke(self.world, as_admin=as_admin, **target)
        expected = {self._refusal(lost)}
        if may_be_moot and self.trouble != STALE:
            expected.add("")  # what no Verify would take any more need not be written
        assert reason in expected
        return self.trouble != STALE

    def _refusal(self, lost: bool) -> str:
        return self.trouble or (CUT_OFF if lost else "")

    def _issued(self, answer: token_pb2.TokenSet, token: model.Token) -> None:
        self.issued.append(Issued(answer.access_token, answer.token_id, token))

    @property
    def world(self) -> World:
        return self.place.world

    @property
    def now(self) -> datetime:
        return self.place.clock.now()


def run(open_store: OpenStore) -> None:
    machine = type("OnStore", (Machine,), {"open_store": staticmethod(open_store)})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.slow
@pytest.mark.timeout(60 + 10 * EXAMPLES)
def test_the_service_agrees_with_the_model_on_sqlite() -> None:
    run(lambda clock, folder: SqliteStore.open(str(folder / "identity.db"), clock=clock))


@pytest.mark.slow
@pytest.mark.timeout(60 + 10 * EXAMPLES)
def test_the_service_agrees_with_the_model_on_redis(redis_server: RedisServer) -> None:
    fresh: set[Path] = set()

    def open_store(clock: ShiftedClock, folder: Path) -> Store:
        if folder not in fresh:
            fresh.add(folder)
            redis_server.flush()
        return RedisStore.connect(redis_server.url, clock=clock)

    run(open_store)
