"""State machines of one session: what its owner, and a thief with a copied refresh token, can do.

The session is kept in a plain object. In the first machine only the owner acts: responses get lost, calls are
repeated, and the store forgets its last rotations. In the second, owner and thief act in any order. It checks
three promises, and there are no others:

- Within a grace window, two holders of one token get the same successor and cannot be told apart.

- Once they hold different tokens and the windows have passed, at most one of them is ever served.

- Three calls, each after all windows have passed (by one holder, the other, and the first again), end the
session.
"""

from datetime import datetime, timedelta

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from identity_service.domain.sessions import (
    MAX_ROTATIONS_IN_WINDOW,
    Replayed,
    Reused,
    Rotated,
    Session,
    Superseded,
    decide_refresh,
)
from tests.unit.domain.samples import GRACE, KEY, MOMENT, START, a_session

PASSING = st.sampled_from([MOMENT, GRACE / 3, GRACE / 2, GRACE, GRACE + MOMENT, timedelta(days=1)])
LOST = st.booleans()


class Server:
    """The server's part of Refresh for one session, after it has verified the MAC of the token."""

    def __init__(self) -> None:
        self.session: Session = a_session()
        self.ended = False
        self.now: datetime = START

    def refresh(self, number: int) -> int | None:
        """Present the token of this number; return the number of the next one, or None if it is refused."""
        if self.ended:
            return None
        decision = decide_refresh(self.session, number, now=self.now, grace=GRACE, key_id=KEY)
        match decision:
            case Rotated(session=session) | Replayed(session=session):
                self.session = session
                return session.latest
            case Reused():
                self.ended = True
            case Superseded():
                pass
            case _:
                raise AssertionError(decision)
        return None


class OwnerAlone(RuleBasedStateMachine):
    """A holder that always presents its newest token stays signed in, whichever responses are lost."""

    def __init__(self) -> None:
        super().__init__()
        self.server = Server()
        self.token = 0
        self.replaced: dict[int, datetime] = {}
        self.before: list[Session] = []

    @rule(passing=PASSING)
    def time_passes(self, passing: timedelta) -> None:
        self.server.now += passing

    @rule(lost=LOST)
    def refreshes(self, lost: bool) -> None:
        self._take(self._call(), lost)

    @rule(lost=st.lists(LOST, min_size=2, max_size=5))
    def refreshes_from_several_threads_at_once(self, lost: list[bool]) -> None:
        """Several threads send the same token before any response arrives: all get the same successor."""
        answers = [self._call() for _ in lost]
        assert len(set(answers)) == 1
        for answer, missing in zip(answers, lost, strict=True):
            self._take(answer, missing)

    @precondition(lambda self: self.replaced)
    @rule(data=st.data())
    def a_slow_call_arrives_within_the_window_of_its_token(self, data: st.DataObject) -> None:
        """The slow call may be refused, but the owner's newest token stays valid."""
        recent = [n for n, t in self.replaced.items() if self.server.now - t <= GRACE]
        if recent:
            self.server.refresh(data.draw(st.sampled_from(recent)))

    @precondition(lambda self: self.before)
    @rule(steps=st.integers(min_value=1, max_value=5))
    def a_failover_forgets_the_last_rotations(self, steps: int) -> None:
        del self.before[max(1, len(self.before) - steps + 1) :]
        self.server.session = self.before.pop()
        self.replaced.clear()

    def _call(self) -> int:
        session = self.server.session
        answer = self.server.refresh(self.token)
        assert answer is not None
        if self.server.session is not session:
            self.before.append(session)
        return answer

    def _take(self, answer: int, lost: bool) -> None:
        if lost or answer == self.token:
            return
        self.replaced[self.token] = self.server.session.rotate_times[self.token]
        self.token = answer

    @invariant()
    def the_owner_is_signed_in(self) -> None:
        assert not self.server.ended

    @invariant()
    def the_record_stays_bounded(self) -> None:
        assert len(self.server.session.rotate_times) <= MAX_ROTATIONS_IN_WINDOW


class Holder:
    """A party that presents the newest token it was given."""

    def __init__(self, token: int) -> None:
        self.token = token
        self.served_since_split = False


class OwnerAndThief(RuleBasedStateMachine):
    """A stolen refresh token is detected once both owner and thief have used it."""

    def __init__(self) -> None:
        super().__init__()
        self.server = Server()
        self.owner = Holder(0)
        self.thief = Holder(0)
        self.split = False

    @initialize(rotations=st.integers(min_value=0, max_value=3), lost=LOST)
    def the_thief_copies_the_token(self, rotations: int, lost: bool) -> None:
        """Copy the token some time after the sign-in, perhaps just after a response to the owner was lost."""
        for _ in range(rotations):
            self._show(self.owner, lost=False)
            self.server.now += GRACE / 2
        if lost:
            self._show(self.owner, lost=True)
        self.thief.token = self.owner.token

    @rule(passing=PASSING)
    def time_passes(self, passing: timedelta) -> None:
        self.server.now += passing
        self._notice_split(passing)

    @rule(lost=LOST)
    def the_owner_refreshes(self, lost: bool) -> None:
        self._show(self.owner, lost)

    @rule(lost=LOST)
    def the_thief_refreshes(self, lost: bool) -> None:
        self._show(self.thief, lost)

    def _show(self, holder: Holder, lost: bool) -> None:
        answer = self.server.refresh(holder.token)
        if answer is None:
            return
        holder.served_since_split = holder.served_since_split or self.split
        if not lost:
            holder.token = answer

    def _notice_split(self, passing: timedelta) -> None:
        """Note that the two hold different tokens, and that the grace window of their common one is over."""
        if passing > GRACE and self.owner.token != self.thief.token:
            self.split = True

    @invariant()
    def once_they_have_parted_at_most_one_of_them_is_served(self) -> None:
        assert not (self.owner.served_since_split and self.thief.served_since_split)

    def teardown(self) -> None:
        """Check that three calls, each after all windows have passed, end the session after any history."""
        for holder in (self.owner, self.thief, self.owner):
            self.server.now += GRACE + MOMENT
            self._show(holder, lost=False)
        assert self.server.ended


TestOwnerAlone = OwnerAlone.TestCase
TestOwnerAlone.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
TestOwnerAndThief = OwnerAndThief.TestCase
TestOwnerAndThief.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
