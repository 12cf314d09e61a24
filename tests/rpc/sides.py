"""The service next to its model: both take the same step, and must give the same answer.

After each step, the service must accept or reject every token ever issued as the model does, and every
refusal must carry the model's reason, so no answer can be INTERNAL. A subclass names the store; `machine.py`
chooses the steps.
"""

import tempfile
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition

from identity_service.domain.ids import SessionId
from identity_service.domain.store import Store
from identityapi.v1 import token_pb2
from tests.high_s import twin
from tests.rpc import model
from tests.rpc.conftest import settings_for_tests
from tests.rpc.model import Given, Model, Refused
from tests.rpc.parties import Issued, Parties, SignedIn, verify, verify_batch
from tests.rpc.restartable import Restartable
from tests.rpc.world import ShiftedClock, World

OpenStore = Callable[[ShiftedClock, Path], Store]

MAX_STALENESS: Final = timedelta(seconds=60)
"""The bound of staleness: longer than any example runs, so that a process is stale only after `age`."""
CUT_OFF: Final = "STORE_UNAVAILABLE"
STALE: Final = "REPLICA_STALE"


class TwoSides(RuleBasedStateMachine):
    """Steps that are taken on the service and on the model, and compared."""

    open_store: OpenStore
    seen: Counter[str]
    """The number of times that each answer of Verify and each event of Refresh was seen, with the service and
    the model in agreement."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.issued: list[Issued] = []
        self.signed_in: list[SignedIn] = []
        self.trouble = ""
        """The reason with which calls that need the store fail now, "" if they succeed. If it is
        REPLICA_STALE, all calls fail."""
        self.trouble_steps = 0
        self.folder = tempfile.TemporaryDirectory()
        self.place = Restartable(
            # Verify answers EXPIRED only while it has the token's key, so no key must be deleted here.
            settings_for_tests(max_staleness=MAX_STALENESS, rotate_every=timedelta(days=400)),
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

    # Invariants

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
        self.seen.update(said)

    # Shared steps

    def _sign_in(self, by_portal: bool, lost: bool = False) -> None:
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

    def _living(self, by_portal: bool) -> SignedIn:
        """Return the latest session of this app that is not over, or a new one."""
        for held in reversed(self.signed_in):
            if held.by_portal == by_portal and not self.model.is_over(held.session, self.now):
                return held
        self._sign_in(by_portal)
        return self.signed_in[-1]

    def _go_on(self, held: SignedIn, times: int = 1) -> None:
        """Refresh with the newest refresh token, as a client does that works correctly."""
        for _ in range(times):
            self._refresh(held, held.number(0))

    def _refresh(self, held: SignedIn, number: int, lost: bool = False) -> None:
        expected: Given | Refused = Refused(self.trouble)
        if not self.trouble:
            expected = self._refresh_in_model(held, number)
        lost = lost and expected.writes
        with self.place.store.losing_replies(lost):
            answer = self.parties.refresh(self.world, held, number)
        if expected.event is not None and not lost:  # otherwise the effect was not observed
            self.seen[expected.event] += 1
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
        state, chain = self.world.store.sessions.read(held.session_id), held.session.chain
        expected = self.model.refresh(held.session, number, self.now)
        if state is not None and held.session.chain is not chain:
            held.before.append((state.session, chain))
        return expected

    def _revoke(self, lost: bool, *, may_be_moot: bool = False, as_admin: bool = True, **target: Any) -> bool:
        """Revoke a target; return True if the revocation took effect, confirmed by the store or not.

        A stale process refuses the call, and the revocation has no effect.
        """
        if as_admin and self.trouble != STALE:
            self.parties.renew_admin_token(self.world)
        with self.place.store.losing_replies(lost):
            reason = self.parties.revoke(self.world, as_admin=as_admin, **target)
        expected = {self._refusal(lost)}
        if may_be_moot and self.trouble != STALE:
            expected.add("")  # an expired token need not be denied
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
