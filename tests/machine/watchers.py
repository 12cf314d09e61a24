"""The watchers of the state machine: a LocalVerifier with its own clock, and a client that resumes Watch."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from unittest.mock import patch

from identity_client import LocalVerifier, NotFreshError, TrustClient, Verified, local, trust_follower
from identity_client.freshness import Freshness
from identity_client.trust_state import TrustState
from identity_service.domain.ids import KeyId, key_principal
from identity_service.domain.log import GenerationRaised
from tests.machine.clocks import PartyClock
from tests.machine.facts import Fact, Party, Token
from tests.machine.process import Process
from tests.patience import until
from tests.rpc.conftest import settings_for_tests


class QuickBackoff:
    """A replacement of `Backoff` whose pauses are 20 ms, so that watchers reconnect soon."""

    def reset(self) -> None:
        """Do nothing, since all pauses are equally long."""

    def next_pause(self, error: Exception | None = None) -> float:
        return 0.02


class LocalParty:
    """A LocalVerifier that follows one process over a real channel."""

    identity: Party = ("local", 0)
    name = "local"

    def __init__(self, feed: Process, clock: PartyClock) -> None:
        self.clock = clock
        self._feed = feed
        self._verifier: LocalVerifier | None = None

    @contextmanager
    def patched(self) -> Iterator[None]:
        """Run the LocalVerifier during the block, with this clock instead of the real one."""
        clock = self.clock
        with (
            patch.object(local, "Backoff", QuickBackoff),
            patch.object(
                trust_follower, "Freshness", partial(Freshness, steady=clock.monotonic, wall=clock.unix)
            ),
        ):
            self._verifier = LocalVerifier(self._feed.target, issuer=settings_for_tests().issuer)
            try:
                yield
            finally:
                self._verifier.close()

    @property
    def verifier(self) -> LocalVerifier:
        assert self._verifier is not None
        return self._verifier

    @property
    def is_confirmed(self) -> bool:
        """Return whether the process confirms its events, by a clock close to the LocalVerifier's."""
        feed = self._feed
        return feed.is_fresh and abs(feed.clock.unix() - self.clock.unix()) <= min(10.0, feed.leeway or 1.0)

    def catch_up(self) -> None:
        """Wait until the LocalVerifier has all facts of the process, and answers calls."""
        feed = self._feed

        def knows() -> bool:
            return self.verifier._is_fresh() and self.verifier._state.revision == str(feed.replica.revision)

        try:
            until(knows)
        except TimeoutError as error:
            state, fresh = self.verifier._state, self.verifier._fresh
            raise AssertionError(
                f"the LocalVerifier does not recover: {self.verifier._trouble}; "
                f"it knows {state.revision or 'nothing'} of {feed.replica.revision}, "
                f"fresh for {fresh.until - self.clock.monotonic():.1f} s, steady: {fresh.is_steady()}"
            ) from error

    def verify(self, texts: Sequence[str]) -> list[str]:
        return [self._verify(text) for text in texts]

    def _verify(self, text: str) -> str:
        try:
            said = self.verifier.verify(text, any_audience=True)
        except NotFreshError:
            return "NOT_FRESH"
        return "" if isinstance(said, Verified) else said.reason

    def is_ahead_of(self, token: Token) -> bool:
        """Return whether the LocalVerifier knows another generation than the token has.

        This happens if the generation is from a lost history. The LocalVerifier reports it to no other party,
        and refuses tokens that are issued under the lower generation; see docs/local-verification.md.
        """
        known = self.verifier._state.generations
        principals = {*token.generations, key_principal(KeyId(token.key_id))}
        for principal in principals & known.keys():
            issued = token.generations.get(principal)
            if issued is None or (issued.number, issued.link) != known[principal]:
                return True
        return False

    def remembers(self, fact: Fact) -> bool:
        state = self.verifier._state
        if fact.number:
            return state.generations.get(fact.id, (0, ""))[0] >= fact.number
        return fact.id in state.denied


class Resumer:
    """A client of Watch that remembers its state at each revision that it has received."""

    def __init__(self) -> None:
        self._known: dict[str, TrustState] = {"": TrustState()}
        self._received_at: dict[str, float] = {"": 0.0}
        """The time at which each revision was received, by the clock of the process. The process sends no
        denials that have expired by then."""

    @property
    def revisions(self) -> list[str]:
        """Return the revisions in the order in which they were received, after the empty one."""
        return list(self._known)

    def resume(self, process: Process, revision: str) -> tuple[bool, list[str]]:
        """Resume Watch at a revision, and read events up to the first heartbeat.

        Returns whether the process sent a snapshot, and the facts of the process that the client did not get.
        """
        state, restarted, received_at = _copied(self._known[revision]), False, self._received_at[revision]
        with TrustClient(process.target) as client:
            for event in client.watch(revision):
                if event.restarted:
                    restarted, received_at = True, 0.0
                state.fold(event)
                received_at = max(received_at, process.clock.unix())
                if state.complete:
                    self._known[state.revision], self._received_at[state.revision] = (
                        _copied(state),
                        received_at,
                    )
                if event.time is not None and state.complete:
                    break
        return restarted, list(_missing(process, state, received_at))


def _copied(state: TrustState) -> TrustState:
    copied = copy.copy(state)
    copied.denied, copied.generations = dict(state.denied), dict(state.generations)
    copied._unproven = dict(state._unproven)
    copied._buckets = {minute: list(ids) for minute, ids in state._buckets.items()}
    return copied


def _missing(process: Process, state: TrustState, received_at: float) -> Iterator[str]:
    revocations = process.replica.revocations
    for id_, deny_until in revocations.denylist.items():
        end = deny_until.timestamp()
        if state.denied.get(id_, -1) * 60 < end and end > received_at - process.leeway:
            yield id_
    for fact in revocations.facts():
        if isinstance(fact, GenerationRaised):
            number, _ = state.generations.get(fact.principal, (0, ""))
            if number < fact.number:
                yield f"{fact.principal} = {fact.number}"
