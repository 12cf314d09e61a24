"""Two processes on one store, a LocalVerifier, a client that resumes, and the facts that each must know.

Knows what follows from a step for who must refuse what; `machine.py` takes the steps.
"""

import base64
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from google.protobuf.duration_pb2 import Duration

from identity_service.bootstrap import Office
from identity_service.domain.errors import (
    StoreDamagedError,
    StoreUninitializedError,
    UnavailableError,
)
from identity_service.domain.ids import EVERYONE, FIRST_PARTY_CLIENT, KeyId, PrincipalId, key_principal
from identity_service.domain.principals import Client
from identity_service.domain.secret import Secret
from identity_service.domain.tokens import RejectionReason
from identity_service.opening import open_hasher
from identity_service.services.admin import NewUser
from identity_service.wiring import office_administration
from identityapi.v1 import admin_service_pb2 as admin_pb
from identityapi.v1 import identity_service_pb2 as pb
from identityapi.v1 import token_pb2
from tests.machine.clocks import SteppedClock, TrueTime
from tests.machine.facts import OF_SESSIONS, OF_TOKENS, Fact, Kind, Party, Token
from tests.machine.process import HEARTBEAT, MAX_STALENESS, Events, Process, attempt
from tests.machine.stores import RECORDS, Held, Target
from tests.machine.watchers import LocalParty, Resumer
from tests.patience import PATIENCE
from tests.rpc.conftest import settings_for_tests
from tests.rpc.world import API, PASSWORD, client_secret, password

LONG_OVER: Final = 36 * 3600.0
"""What Revoke says of its effect: none on a token that expired so long ago by the clock of the process."""
HEARTBEATS: Final = int(5.0 / HEARTBEAT)
"""How many heartbeats of each process fit into the five seconds that a recovery may take."""
SETTLING: Final = 4
"""Heartbeats until every process has noticed a loss, sent what it knows, and read what others sent."""
CACHED: Final = 48
"""Tokens that are asked about after each step: the newest ones."""
NO_TOKEN: Final = frozenset(reason.name for reason in RejectionReason)
WHO: Final = ("client", "user", "control")
PASSWORDS: Final = open_hasher(settings_for_tests())


@dataclass(kw_only=True)
class Accounts:
    """The principals, and what they prove themselves with."""

    credentials: dict[str, token_pb2.Credential]
    principals: dict[str, tuple[PrincipalId, ...]]


class Site:
    """The parties, and what each of them must refuse."""

    def __init__(self, time: TrueTime, target: Target, clocks: Mapping[str, SteppedClock]) -> None:
        self.time = time
        self.target = target
        self.clocks = clocks
        self.events = Events()
        self.processes = [
            Process(name, clocks[name], target.open, PASSWORDS, self.events) for name in ("A", "B")
        ]
        self.local = LocalParty(self.processes[0], clocks["local"])
        self.resumer = Resumer()
        self.tokens: list[Token] = []
        self.facts: list[Fact] = []
        self.took = Counter[str]()
        self.records_missing = False
        """Whether a record was deleted behind the back of the service, and not put back yet."""
        self.step = 0
        self._read: dict[Party, int] = {}
        """In which step each process has read the log to its end."""
        self._cleanup = ExitStack()

    def begin(self, settings: Mapping[str, object]) -> None:
        """Initialise the store, make the accounts, and start everything."""
        self.accounts = self._make_accounts()
        for process in self.processes:
            process.settings = dict(settings)
            self.start(process)
        self._cleanup.enter_context(self.local.patched())
        self.settle()

    def end(self) -> None:
        self._cleanup.close()
        for process in self.processes:
            process.stop()
        self.target.close()

    def _make_accounts(self) -> Accounts:
        settings = settings_for_tests()
        store = self.target.open(self.clocks["A"], self.events)
        administrator = office_administration(store, PASSWORDS, self.clocks["A"])
        office = Office(settings=settings, store=store, administrator=administrator, clock=self.clocks["A"])
        made = office.initialise()
        credentials = {"admin": client_secret(made.client_id, made.client_secret.reveal())}
        principals: dict[str, tuple[PrincipalId, ...]] = {"admin": (EVERYONE, made.client_id)}
        for name in ("client", "control"):
            _, secret = administrator.clients.create(
                Client(client_id=PrincipalId(name), audiences=frozenset({API}), scopes=frozenset({"read"}))
            )
            assert secret is not None
            credentials[name] = client_secret(name, secret.reveal())
            principals[name] = (EVERYONE, PrincipalId(name))
        user = administrator.users.create(
            NewUser(
                username="ana",
                audiences=frozenset({API}),
                scopes=frozenset({"read"}),
                password=Secret(PASSWORD),
            )
        )
        credentials["user"] = password("ana")
        principals["user"] = (EVERYONE, user.record.user_id, FIRST_PARTY_CLIENT)
        store.close()
        return Accounts(credentials=credentials, principals=principals)

    # Time and processes

    @property
    def working(self) -> list[Process]:
        return [process for process in self.processes if process.works]

    @property
    def memories(self) -> dict[Party, Any]:
        """What each process that runs, or is paused, holds."""
        return {identity(p): p.replica.revocations for p in self.processes if p.runs}

    def start(self, process: Process) -> None:
        """Start a process; what the store holds it must know at once. Raises UnavailableError."""
        process.start()
        self._read[identity(process)] = self.step
        held = self.target.held()
        for fact in self.living_facts():
            if fact.is_stored(held):
                fact.known.add(identity(process))

    def stop(self, process: Process) -> None:
        """End a process; what only it knew is lost."""
        if not process.runs:
            return
        process.stop()
        self.note_losses()

    def beat(self, process: Process) -> bool:
        """One heartbeat; whatever has an entry in the log is known afterwards."""
        if not process.beat():
            return False
        self._read[identity(process)] = self.step
        for fact in self.living_facts():
            if fact.logged:
                fact.known.add(identity(process))
        return True

    def settle(self, heartbeats: int = SETTLING) -> None:
        """Let all that work have some heartbeats; afterwards each knows what any of them, or the store, held."""
        held, memories = self.target.held(), [p.replica.revocations for p in self.working]
        told = [
            fact
            for fact in self.living_facts()
            if fact.is_stored(held) or any(fact.is_remembered(memory) for memory in memories)
        ]
        for _ in range(heartbeats):
            self.time.pass_(HEARTBEAT)
            for process in self.working:
                self.beat(process)
        after = self.target.held()
        for fact in told:
            fact.logged = fact.is_logged(after)
            for process in self.working:
                if not process.trouble and process.is_fresh:
                    fact.known.add(identity(process))
        self.tell_local()

    def tell_local(self) -> None:
        """Where the process that it follows is fresh, the LocalVerifier comes to know what that one knows."""
        if self.records_missing or not self.local.is_told:
            return
        self.local.catch_up()
        feed = identity(self.processes[0])
        for fact in self.living_facts():
            if feed in fact.known:
                fact.known.add(self.local.identity)
        self._read[self.local.identity] = self._read[feed]

    # Facts

    def living_facts(self) -> Iterator[Fact]:
        return (fact for fact in self.facts if not fact.lost)

    def note_losses(self, *, only_log: bool = False) -> None:
        """After a damage: what neither the store nor a process holds is lost, for all but who remembers it.

        Args:
            only_log: state does not count: nobody reads it, since the log holds as much as it should.
        """
        held, memories = self.target.held(), self.memories
        for fact in self.living_facts():
            fact.logged = fact.is_logged(held)
            remembering = {party for party, memory in memories.items() if fact.is_remembered(memory)}
            stored = fact.logged if only_log and not fact.number else fact.is_stored(held)
            if fact.ends_refresh and not fact.ends_still(held, list(memories.values())):
                fact.ends_refresh = False
            if not stored and not remembering:
                fact.lost = True
                fact.known = {self.local.identity} if self.local.remembers(fact) else set()

    def note_lost_keys(self) -> None:
        """After an older copy was put back: what was signed with a key that is not in it is good no more."""
        held = self.target.key_ids()
        for token in self.tokens:
            token.doubtful |= token.key_id not in held

    # Calls

    def issue(self, process: Process, who: str, lifetime: int) -> Token | None:
        """A token of this principal, or None if the process refuses.

        While records are missing nobody is asked for one: a client that is refused too often is locked out.
        """
        if self.records_missing:
            return None
        request = pb.IssueRequest(
            credential=self.accounts.credentials[who],
            audiences=[] if who == "admin" else [API],
            scopes=["identity.revoke", "identity.admin"] if who == "admin" else [],
            lifetime=Duration(seconds=lifetime),
        )
        now = process.clock.unix()
        answer = attempt(lambda: process.stub.Issue(request, timeout=PATIENCE).token_set)
        if isinstance(answer, str):
            return None
        generations = process.replica.revocations.generations
        token = Token(
            text=answer.access_token,
            token_id=answer.token_id,
            key_id=key_id_of(answer.access_token),
            session_id=answer.session_id,
            refresh_token=answer.refresh_token,
            generations={p: generations.get(p) for p in self.accounts.principals[who]},
            issue_time=now,
            expire_time=answer.expire_time.ToSeconds(),
            issued=self.step,
        )
        if who != "admin":
            self.tokens.append(token)
        return token

    def revoke(self, process: Process, kind: Kind, token: Token) -> Fact | None:
        """Revoke by way of a token; the fact, if it was acknowledged and has an effect."""
        covered, id_, target = self._target(kind, token)
        has_effect = kind not in (Kind.TOKEN, Kind.REFRESH_TOKEN) or self._is_opened(process, kind, token)
        bearer = self.issue(process, "admin", 300)
        if bearer is None:
            return None
        if kind is Kind.KEY:
            reason = self._retire(process, bearer.text, token.key_id)
        else:
            reason = process.revoke(bearer.text, **target)
        if reason or not has_effect:
            for one in covered:
                one.doubtful = True
            return None
        generations = process.replica.revocations.generations
        number = 0 if kind in (*OF_TOKENS, *OF_SESSIONS) else generations[PrincipalId(id_)].number
        fact = Fact(
            kind=kind,
            id=id_,
            number=number,
            known={identity(process)},
            ends_refresh=kind in OF_SESSIONS,
        )
        self.facts.append(fact)
        for one in covered:
            if one.is_ahead_of(fact):
                self.took["token of a forgotten history"] += 1
                one.doubtful = True
            else:
                one.facts.append(fact)
        self.took[f"revoke by {kind}"] += 1
        return fact

    def _target(self, kind: Kind, token: Token) -> tuple[list[Token], str, dict[str, Any]]:
        """Which tokens it takes back, the id of the fact, and the fields of the request."""
        same_session = [t for t in self.tokens if t.session_id == token.session_id]
        subject = next(p for p in reversed(self.accounts.principals["user"]) if p != FIRST_PARTY_CLIENT)
        match kind:
            case Kind.TOKEN:
                return [token], token.token_id, {"token": token.text}
            case Kind.TOKEN_ID:
                return [token], token.token_id, {"token_id": token.token_id}
            case Kind.SESSION:
                return same_session, token.session_id, {"session_id": token.session_id}
            case Kind.REFRESH_TOKEN:
                return same_session, token.session_id, {"token": token.refresh_token}
            case Kind.SUBJECT:
                return self._of(subject), subject, {"subject": subject}
            case Kind.CLIENT:
                return self._of(PrincipalId("client")), "client", {"client_id": "client"}
            case Kind.EVERYTHING:
                return list(self.tokens), EVERYONE, {"everything": True}
            case Kind.KEY:
                same_key = [t for t in self.tokens if t.key_id == token.key_id]
                return same_key, key_principal(KeyId(token.key_id)), {}

    def _of(self, principal: PrincipalId) -> list[Token]:
        return [token for token in self.tokens if principal in token.generations]

    def _is_opened(self, process: Process, kind: Kind, token: Token) -> bool:
        """Whether a revocation by the token itself has an effect: its signature verifies, and it can live."""
        if self.records_missing:
            return False
        if kind is Kind.REFRESH_TOKEN:
            return True
        (word,) = process.verify([token.text])
        return word in ("", "EXPIRED", "REVOKED", "NOT_YET_VALID") and (
            process.clock.unix() < token.expire_time + LONG_OVER
        )

    def _retire(self, process: Process, bearer: str, key_id: str) -> str:
        request = admin_pb.RetireKeyRequest(key_id=key_id, reason="a test")
        metadata = (("authorization", f"Bearer {bearer}"),)
        answer = attempt(lambda: process.admin_stub.RetireKey(request, metadata=metadata, timeout=PATIENCE))
        return answer if isinstance(answer, str) else ""

    # What must be so

    def check(self) -> None:
        """Nothing that a party must refuse is verified; what was not revoked is, wherever a party is fresh."""
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
                    f"(number {fact.number}, lost: {fact.lost}, logged: {fact.logged}); it names the generations "
                    f"{dict(token.generations)}"
                )
        self.took["verified"] += 1

    def _may_have_forgotten(self, party: Party, fact: Fact, token: Token) -> bool:
        """Whether only the LocalVerifier remembered it, and its clock has been past the end since."""
        is_over = self.local.clock.highest > token.expire_time
        return fact.lost and party == self.local.identity and is_over and not self.local.remembers(fact)

    def _is_good(self, process: Process, token: Token) -> bool:
        """Whether the token was not revoked, lives by the clock of the process, and the process can know it."""
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
        """No session that was ended is refreshed by a process that must know of it."""
        for token in self.tokens[-CACHED:]:
            for fact in token.facts:
                if not (fact.kind in OF_SESSIONS and fact.ends_refresh and token.refresh_token):
                    continue
                for process in self.working:
                    if identity(process) in fact.known:
                        request = pb.RefreshRequest(refresh_token=token.refresh_token)
                        answer = attempt(lambda p=process, r=request: p.stub.Refresh(r, timeout=PATIENCE))
                        assert isinstance(answer, str), f"{process.name} refreshes an ended session"

    def require_recovered(self) -> None:
        """Everything works within five seconds of heartbeats: nothing is UNAVAILABLE, no watcher is stale."""
        self.settle(HEARTBEATS)
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
        """Start a process; if the store has lost what it cannot go on without, others that run put that back.

        If none of them knows it, the operator does.
        """
        try:
            self.start(process)
            return
        except (StoreDamagedError, StoreUninitializedError) as error:
            self.took[f"start refused: {type(error).__name__}"] += 1
        self.settle()
        try:
            self.start(process)
            self.took["start after others put back"] += 1
        except (StoreDamagedError, StoreUninitializedError):
            self.target.put_back_deleted(("head", "generations"))
            self.start(process)

    def heal(self) -> None:
        """Undo every fault that can be undone."""
        self.target.mend()
        self.put_back_records()
        for name, clock in self.clocks.items():
            if clock.error:
                self.took[f"clock set right: {name}"] += 1
            clock.step(-clock.error)
        for process in self.processes:
            process.paused = False
            if not process.runs:
                self.start_with_help(process)
        self.settle()
        for process in self.processes:
            if process.trouble.startswith("UnsafeStoreError"):
                self.took["file replaced under a paused process"] += 1
                self.stop(process)  # as its message says
                self.start_with_help(process)
        if any("3 hours behind" in process.replica.status for process in self.working):
            self.accept_clock()

    def put_back_records(self) -> None:
        """Put back what was deleted of the directory; a process reads it when it starts."""
        if not self.records_missing:
            return
        self.target.put_back_deleted(RECORDS)
        self.records_missing = False
        for process in self.processes:
            if process.runs:
                self.stop(process)
            self.start_with_help(process)

    def accept_clock(self) -> None:
        """The operator says that the clock is right: what was trimmed while it was wrong is given up."""
        store = self.target.open(self.clocks["A"], self.events)
        try:
            store.accept_clock(self.clocks["A"].now())
        except UnavailableError:
            return
        finally:
            store.close()
        self.took["clock accepted"] += 1
        self.note_losses(only_log=True)


def identity(process: Process) -> Party:
    """Names the process that runs there now."""
    return process.name, process.life


def key_id_of(text: str) -> str:
    """The `kid` of a token."""
    header = text.partition(".")[0]
    found: str = json.loads(base64.urlsafe_b64decode(header + "=" * (-len(header) % 4)))["kid"]
    return found
