"""Steps that a service and its model take in parallel: issue, refresh, revoke, restart, lose the store, wait.

`sides.py` compares the results of each step.
"""

from typing import Final

from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule

from tests.patience import until
from tests.rpc import model
from tests.rpc.parties import pick
from tests.rpc.sides import CUT_OFF, MAX_STALENESS, STALE, TwoSides

DAY: Final = 86_400

WHICH: Final = st.sampled_from([0, 0, 0, 1, 2, 5])
"""A strategy for the choice of a token or a session, counted back from the newest one (0)."""
BACK: Final = st.sampled_from([0, 0, 0, 1, 1, 2, 3])
"""A strategy for the refresh token that a client presents, counted back from its newest one (0)."""
LOST: Final = st.sampled_from([False, False, False, True])
"""A strategy for whether the reply of the store to a write is lost."""


class Machine(TwoSides):
    """A Hypothesis state machine that takes these steps in any order."""

    # Steps of clients

    @rule()
    def issue_by_secret(self) -> None:
        answer = self.parties.issue(self.world)
        if isinstance(answer, str):
            # While the store is cut off, the process may still issue from memory, since it knows the client.
            # If it refuses, it must name the trouble.
            assert answer == self.trouble
            return
        assert self.trouble != STALE
        self._issued(answer, self.model.issue(self.now, self.parties.client.id))

    @rule(by_portal=st.booleans(), lost=LOST)
    def sign_in(self, by_portal: bool, lost: bool) -> None:
        self._sign_in(by_portal, lost)

    @precondition(lambda self: self.signed_in)
    @rule(which=WHICH, back=BACK, lost=LOST, wait=st.sampled_from([0, 0, 60, 61, 2 * DAY]))
    def refresh(self, which: int, back: int, lost: bool, wait: int) -> None:
        if not self.trouble:
            self.place.wait(wait)
        held = pick(self.signed_in, which)
        self._refresh(held, held.number(back), lost)

    @precondition(lambda self: not self.trouble)
    @rule(
        by_portal=st.booleans(),
        backs=st.lists(BACK, min_size=1, max_size=4),
        lost=LOST,
        wait=st.sampled_from([0, 30, 60, 61, 61]),
    )
    def refresh_what_lives(self, by_portal: bool, backs: list[int], lost: bool, wait: int) -> None:
        """Refresh a session that is not over.

        Without this rule most runs would only refresh sessions that are over.
        """
        held = self._living(by_portal)
        self.place.wait(wait)
        for back in backs:
            self._refresh(held, held.number(back), lost)

    @precondition(lambda self: not self.trouble)
    @rule(by_portal=st.booleans(), waits=st.lists(st.sampled_from([0, 40, 60]), min_size=2, max_size=3))
    def repeat_a_refresh_whose_reply_was_lost(self, by_portal: bool, waits: list[int]) -> None:
        """Present one refresh token several times: the grace window counts from the first rotation only."""
        held = self._living(by_portal)
        shown = held.number(0)
        for wait in (0, *waits):
            self.place.wait(wait)
            self._refresh(held, shown)

    @precondition(lambda self: not self.trouble)
    @rule(by_portal=st.booleans(), wait=st.sampled_from([60, 61]))
    def show_what_is_older_than_the_parent(self, by_portal: bool, wait: int) -> None:
        """Present a refresh token older than the parent of the latest one, when the grace window closes.

        A client that is slow does so inside the window, a thief after it. Then the client refreshes with its
        newest token, which fails if the session was ended.
        """
        held = self._living(by_portal)
        shown = held.number(0)
        self._go_on(held, times=2)
        self.place.wait(wait)
        self._refresh(held, shown)
        self._go_on(held)

    @precondition(lambda self: not self.trouble)
    @rule(
        by_portal=st.booleans(),
        rotations=st.sampled_from([1, 2]),
        wait=st.sampled_from([0, 61]),
        backs=st.lists(BACK, max_size=3),
    )
    def the_store_forgets_rotations(
        self, by_portal: bool, rotations: int, wait: int, backs: list[int]
    ) -> None:
        held = self._living(by_portal)
        self._go_on(held, times=rotations)
        self.place.wait(wait)
        held.forget_rotations(self.world, rotations)
        for back in (*backs, 0):
            self._refresh(held, held.number(back))

    @precondition(lambda self: not self.trouble)
    @rule(by_portal=st.booleans(), before=st.sampled_from([300, 1]))
    def a_session_comes_to_its_end(self, by_portal: bool, before: int) -> None:
        """Let a session reach its end although it was refreshed shortly before.

        Its access tokens end with it.
        """
        self._sign_in(by_portal)
        held = self.signed_in[-1]
        for wait in (model.SESSION.total_seconds() - before, before):
            self.place.wait(wait)
            self._go_on(held)
        self.place.wait(model.LEEWAY.total_seconds() - 1)
        self.every_token_is_what_the_model_says()
        self.place.wait(1)

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

    # Faults of the service

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
    @rule(for_long=st.booleans(), steps=st.integers(min_value=1, max_value=5))
    def the_store_is_cut_off(self, for_long: bool, steps: int) -> None:
        """Cut the store off for a moment, or for so long that the process is stale and must not answer."""
        # The process drops the administrator's record that it is reading if it reads an entry about another
        # client meanwhile. So it reads all entries first, then the record, and then the store is cut off.
        self.world.service._replica.catch_up()
        self.parties.renew_admin_token(self.world)
        self.place.store.is_cut = True
        self.trouble, self.trouble_steps = CUT_OFF, steps + 1  # this step is one, too
        if for_long:
            self.place.clock.age(MAX_STALENESS.total_seconds() + 1)
            self.trouble = STALE

    @precondition(lambda self: self.trouble)
    @invariant()
    def the_store_comes_back_after_some_steps(self) -> None:
        """Reconnect the store after the chosen number of steps.

        A Hypothesis rule for this would be chosen so rarely that the store would be cut off most of the time.
        """
        self.trouble_steps -= 1
        if self.trouble_steps:
            return
        self.place.store.is_cut = False
        self.trouble = ""
        replica = self.world.service._replica
        until(lambda: replica.is_fresh() and replica.maintenance.unconfirmed == 0)
