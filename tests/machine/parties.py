"""The parties around one store, and which of them must know which revocation.

The parties are two processes, a LocalVerifier that follows the first one, and a client that resumes Watch.
The module derives from each start, heartbeat and loss which party must refuse which token; it makes no calls.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

from identity_service.composition.opening import open_hasher
from identity_service.composition.store_admin import StoreAdmin
from identity_service.composition.wiring import store_administration
from identity_service.domain.ids import EVERYONE, FIRST_PARTY_CLIENT, PrincipalId
from identity_service.domain.principals import Client
from identity_service.domain.revocations import Revocations
from identity_service.domain.secret import Secret
from identity_service.services.admin.administration import NewUser
from identityapi.v1 import token_pb2
from tests.fakes.event_logs import RecordingEventLog
from tests.machine.clocks import PartyClock, TrueTime
from tests.machine.facts import Fact, Party, Token
from tests.machine.process import HEARTBEAT, Process
from tests.machine.stores import Target
from tests.machine.watchers import LocalParty, Resumer
from tests.rpc.conftest import settings_for_tests
from tests.rpc.world import API, PASSWORD, client_secret, password

SETTLING: Final = 4
"""Heartbeats after which every process has noticed a loss, sent the facts it knows, and read those of
others."""
PASSWORDS: Final = open_hasher(settings_for_tests())


@dataclass(kw_only=True)
class Principals:
    """The principals of the tests, by name, and the credentials with which tokens are issued to them."""

    credentials: dict[str, token_pb2.Credential]
    principals: dict[str, tuple[PrincipalId, ...]]


class Parties:
    """All parties around one store, and the revocations that each of them must know."""

    def __init__(self, time: TrueTime, target: Target, clocks: Mapping[str, PartyClock]) -> None:
        self.time = time
        self.target = target
        self.clocks = clocks
        self.event_log = RecordingEventLog()
        self.processes = [
            Process(name, clocks[name], target.open, PASSWORDS, self.event_log) for name in ("A", "B")
        ]
        self.local = LocalParty(self.processes[0], clocks["local"])
        self.resumer = Resumer()
        self.tokens: list[Token] = []
        self.facts: list[Fact] = []
        self.took = Counter[str]()
        self.records_missing = False
        """True while a record is missing that a step has deleted from the store."""
        self.step = 0
        self._read: dict[Party, int] = {}
        """For each party, the last step in which it has read the log to the end."""
        self._cleanup = ExitStack()

    def begin(self, *settings: Mapping[str, object]) -> None:
        """Initialise the store, create the principals, and start the processes and the LocalVerifier."""
        self.principals = self._make_principals()
        for process, own in zip(self.processes, settings, strict=True):
            process.settings = dict(own)
            self.start(process)
        self._cleanup.enter_context(self.local.patched())
        self.settle()

    def end(self) -> None:
        self._cleanup.close()
        for process in self.processes:
            process.stop()
        self.target.close()

    def _make_principals(self) -> Principals:
        settings = settings_for_tests()
        store = self.target.open(self.clocks["A"], self.event_log)
        administrator = store_administration(
            store.records, PASSWORDS, self.clocks["A"], settings.issuer_names
        )
        store_admin = StoreAdmin(
            settings=settings, store=store, administrator=administrator, clock=self.clocks["A"]
        )
        made = store_admin.initialise()
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
        return Principals(credentials=credentials, principals=principals)

    # Time and processes

    @property
    def working(self) -> list[Process]:
        return [process for process in self.processes if process.works]

    @property
    def memories(self) -> dict[Party, Revocations]:
        """Return the revocations that each process has in memory, whether it is paused or not."""
        return {identity(p): p.replica.revocations for p in self.processes if p.runs}

    def start(self, process: Process) -> None:
        """Start a process, which must know all facts in the store at once. Raises UnavailableError."""
        process.start()
        self._read[identity(process)] = self.step
        held = self.target.held()
        for fact in self.living_facts():
            if fact.is_stored(held):
                fact.known.add(identity(process))

    def stop(self, process: Process) -> None:
        """End a process; facts that no other party and no store has are lost."""
        if not process.runs:
            return
        process.stop()
        self.note_losses()

    def heartbeat(self, process: Process) -> bool:
        """Send one heartbeat, after which the process knows every entry of the log.

        Returns whether the heartbeat was confirmed.
        """
        if not process.heartbeat():
            return False
        self._read[identity(process)] = self.step
        for fact in self.living_facts():
            if fact.logged:
                fact.known.add(identity(process))
        return True

    def heartbeat_all(self) -> None:
        """Send one heartbeat of each process that runs and is not paused."""
        self.time.pass_(HEARTBEAT)
        for process in self.working:
            self.heartbeat(process)

    def settle(self, heartbeats: int = SETTLING) -> None:
        """Send heartbeats, after which each working process knows the facts of all, and of the store."""
        held, memories = self.target.held(), [p.replica.revocations for p in self.working]
        confirmed = [
            fact
            for fact in self.living_facts()
            if fact.is_stored(held) or any(fact.is_remembered(memory) for memory in memories)
        ]
        for _ in range(heartbeats):
            self.heartbeat_all()
        after = self.target.held()
        for fact in confirmed:
            fact.logged = fact.is_logged(after)
            for process in self.working:
                if not process.trouble and process.is_fresh:
                    fact.known.add(identity(process))
        self.tell_local()

    def tell_local(self) -> None:
        """Note that the LocalVerifier learns all facts that the process it follows has read in the log."""
        if self.records_missing or self.processes[0].trouble or not self.local.is_confirmed:
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
        """Mark facts as lost which, after some damage, neither the store nor a process has any more.

        Args:
            only_log: Ignore denials in the state: no process reads them while the log looks complete.
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
        """Mark tokens as doubtful whose signing key is missing in the copy that was restored."""
        held = self.target.key_ids()
        for token in self.tokens:
            token.doubtful |= token.key_id not in held


def identity(process: Process) -> Party:
    """Return the party that is the process running there now."""
    return process.name, process.life
