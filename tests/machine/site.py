"""The invariants that must hold after each step, and the steps that undo the faults."""

from typing import Final

from identity_service.domain.errors import StoreDamagedError, StoreUninitializedError, UnavailableError
from identity_service.domain.ids import KeyId, PrincipalId, key_principal
from identity_service.domain.tokens import RejectionReason
from identityapi.v1 import identity_service_pb2 as pb
from tests.machine.calls import Calls
from tests.machine.facts import OF_SESSIONS, Fact, Kind, Party, Token
from tests.machine.parties import identity
from tests.machine.process import HEARTBEAT, MAX_STALENESS, Process
from tests.machine.stores import RECORDS

HEARTBEATS: Final = int(5.0 / HEARTBEAT)
"""The number of heartbeats of a process within five seconds, the time that a recovery may take."""
CACHED: Final = 48
"""The number of tokens, the newest ones, that are verified after each step."""
NO_TOKEN: Final = frozenset(reason.name for reason in RejectionReason)
"""The reasons with which Verify rejects a token. Any other reason means that there is no answer."""


class Site(Calls):
    """The parties and their calls, with the invariants of the state machine and the undoing of faults."""

    def check(self) -> None:
        """Check that parties refuse the tokens they must refuse, and that processes accept good ones."""
        tokens = self.tokens[-CACHED:]
        texts = [token.text for token in tokens]
        if not texts:
            return
        for process in self.working:
            words = process.verify(texts)
            for token, word in zip(tokens, words, strict=True):
                self._check(process.name, identity(process), token, word)
                if word in NO_TOKEN and self._is_good(process, token):
                    raise AssertionError(f"process {process.name} rejects a good token: {word}")
        for token, word in zip(tokens, self.local.verify(texts), strict=True):
            self._check(self.local.name, self.local.identity, token, word)

    def _check(self, name: str, party: Party, token: Token, word: str) -> None:
        if word:
            return
        for fact in token.facts:
            if party in fact.known and not self._may_have_forgotten(party, fact, token):
                raise AssertionError(
                    f"{name} verifies a token that was revoked by {fact.kind} {fact.id} "
                    f"(number {fact.number}, lost: {fact.lost}, logged: {fact.logged}); "
                    f"it names the generations {dict(token.generations)}"
                )
        self.took["verified"] += 1

    def _may_have_forgotten(self, party: Party, fact: Fact, token: Token) -> bool:
        """Return whether the LocalVerifier was the last to know the fact, and may have forgotten it.

        It forgets a denial once its clock has passed the expiry of the token.
        """
        is_over = self.local.clock.highest > token.expire_time
        return fact.lost and party == self.local.identity and is_over and not self.local.remembers(fact)

    def _is_good(self, process: Process, token: Token) -> bool:
        """Return whether the process must accept the token: it is valid, and no revocation affects it."""
        now, generations = process.clock.unix(), process.replica.revocations.generations
        return (
            not token.facts
            and not token.doubtful
            and not self.records_missing
            and self._read.get(identity(process), -1) > token.issued
            and token.issue_time - process.leeway <= now < token.expire_time
            and key_principal(KeyId(token.key_id)) not in generations
            and all(generations.get(PrincipalId(p)) == known for p, known in token.generations.items())
        )

    def check_refresh(self) -> None:
        """Check that no process which must know that a session has ended refreshes the session."""
        for token in self.tokens[-CACHED:]:
            for fact in token.facts:
                if not (fact.kind in OF_SESSIONS and fact.ends_refresh and token.refresh_token):
                    continue
                for process in self.working:
                    if identity(process) in fact.known:
                        request = pb.RefreshRequest(refresh_token=token.refresh_token)
                        assert process.refresh(request), f"{process.name} refreshes an ended session"

    def require_recovered(self) -> None:
        """Check that everything works again after five seconds of heartbeats.

        No call may be refused as UNAVAILABLE, and no watcher may be stale.
        """
        for _ in range(HEARTBEATS):
            self.heartbeat_all()
            if all(process.is_fresh and not process.trouble for process in self.processes):
                break
        self.settle()
        for process in self.processes:
            state = f"process {process.name}: {process.replica.status}; {process.trouble or 'no trouble'}"
            assert process.is_fresh, state
            token, revoked = (self.issue(process, "control", 300) for _ in range(2))
            assert token is not None, state
            assert revoked is not None, state
            assert self.revoke(process, Kind.TOKEN, revoked) is not None, state
        self.step += 1
        self.settle(2)
        self.check()
        for token in self.tokens[-2 * len(self.processes) :]:
            if not token.facts:
                words = [word for p in self.processes for word in p.verify([token.text])]
                assert words == [""] * len(words), "a token that was just issued verifies everywhere"
                if self.local.is_ahead_of(token):
                    self.took["watcher remembers a forgotten history"] += 1
                    continue
                assert self.local.verify([token.text]) == [""], "and for a LocalVerifier"
        assert not self.records_missing

    # Recovery

    def start_with_help(self, process: Process) -> None:
        """Start a process; if the store lacks data for that, the other processes repair it first.

        If none of the processes knows the lost data, the test restores them, as an operator would.
        """
        try:
            self.start(process)
        except (StoreDamagedError, StoreUninitializedError) as error:
            self.took[f"start refused: {type(error).__name__}"] += 1
        else:
            return
        self.settle()
        try:
            self.start(process)
            self.took["start after a repair by others"] += 1
        except (StoreDamagedError, StoreUninitializedError):
            self.target.restore_deleted(("head", "generations"))
            self.start(process)

    def heal(self) -> None:
        """Undo every fault that can be undone."""
        self.target.mend()
        self.restore_deleted_records()
        for name, clock in self.clocks.items():
            if clock.error:
                self.took[f"clock set right: {name}"] += 1
            clock.step(-clock.error)
        for process in self.processes:
            if not process.runs:
                self.start_with_help(process)
            elif process.paused:
                self.resume(process)
        self.heartbeat_all()
        for process in self.processes:
            if process.trouble.startswith("UnsafeStoreError"):
                self.took["file replaced under a paused process"] += 1
                self.stop(process)  # as its message says
                self.start_with_help(process)
        if any("3 hours behind" in process.replica.status for process in self.working):
            self.accept_clock()

    def resume(self, process: Process) -> None:
        """Resume a paused process, which keeps its memory."""
        position = self.target.head()[1]
        if process.replica.revision.position < position or process.replica.staleness > MAX_STALENESS:
            self.took["pause"] += 1
        process.paused = False
        self.check()

    def restore_deleted_records(self) -> None:
        """Restore the deleted records, and restart each process, since it reads records at its start."""
        if not self.records_missing:
            return
        self.target.restore_deleted(RECORDS)
        self.records_missing = False
        for process in self.processes:
            if process.runs:
                self.stop(process)
            self.start_with_help(process)

    def accept_clock(self) -> None:
        """Accept the clock as an operator does, which gives up entries trimmed while it was wrong."""
        store = self.target.open(self.clocks["A"], self.event_log)
        try:
            store.accept_clock(self.clocks["A"].now())
        except UnavailableError:
            return
        finally:
            store.close()
        self.took["clock accepted"] += 1
        self.note_losses(only_log=True)
