"""Helpers of the tests of copying: one item of every kind, and a store that contains them."""

from collections import Counter
from collections.abc import Callable, Iterable
from datetime import timedelta

from identity_service.domain.audit import AuditFilter, AuditType
from identity_service.domain.copying import (
    CopiedEvent,
    CopiedGeneration,
    CopiedItem,
    CopiedMarks,
    CopiedRecord,
    CopiedSession,
    CopiedUse,
    Fence,
    RecordDeleted,
)
from identity_service.domain.ids import (
    EVERYONE,
    Epoch,
    KeyId,
    PrincipalId,
    SessionId,
    TokenId,
    key_principal,
    new_epoch,
)
from identity_service.domain.log import Generation, Marks, RecordKind, SessionEnded, TokenDenied
from identity_service.domain.records import RECORD_TYPES, Record, kind_of
from identity_service.domain.sessions import Session
from identity_service.domain.store import Store, all_records
from tests.conformance import samples
from tests.conformance.samples import LATER, MUCH_LATER, SOON, TIME

FENCE = Fence(target="redis://other.example:6379/0", epoch=Epoch("e1"))
MARKS = Marks(
    lifetime=timedelta(minutes=15),
    session=timedelta(days=30, microseconds=250_000),
    leeway=timedelta(seconds=7),
    time=SOON - timedelta(hours=2, milliseconds=250),
    latest=SOON - timedelta(hours=2),
)
RETENTION = timedelta(hours=7, seconds=0.5)

WRITES: dict[str, Callable[[Store], object]] = {
    **samples.MUTATIONS,
    "initialise": lambda s: s.initialise(new_epoch()),
    "accept_clock": lambda s: s.accept_clock(TIME),
    "log.heartbeat": lambda s: s.log.heartbeat("p1", timedelta(hours=1)),
    "log.renew": lambda s: s.log.renew(s.log.head().epoch, new_epoch()),
    "log.repair": lambda s: s.log.repair([TokenDenied(token_id=TokenId("t-new"), deny_until=LATER)]),
    "log.rebuild": lambda s: s.log.rebuild(),
    "log.trim": lambda s: s.log.trim(1),
    "single_use.consume": lambda s: s.single_use.consume("a-new-jti", LATER),
    "audit.append": lambda s: s.audit.append([samples.an_event()]),
}
"""Every method of the port `Store` that changes data in the store."""
READS = {*samples.READS, "log.read_entries", "log.heartbeats", "log.wait"}
HERE_ALONE = {"log.adopt", "close"}
"""Methods that change only the store instance in this process, not the stored data."""


def fill(store: Store) -> None:
    """Write at least one item of every kind to an initialised store."""
    store.log.heartbeat("p1", RETENTION, marks=MARKS)
    for record in (samples.a_client(), samples.a_user(), samples.a_key(), samples.an_issuer()):
        store.records.create(record)
    changed = store.records.create(samples.a_user("u_2", "bob"))
    store.records.update(samples.a_user("u_2", "robert"), expected=changed.revision, revoke=True)
    store.records.create(samples.a_user("u_gone", "gone"))
    store.records.delete(RecordKind.USER, "u_gone")
    for principal in (EVERYONE, key_principal(KeyId("key-0")), PrincipalId("billing"), EVERYONE):
        store.facts.raise_generation(principal, above=0, request_id=None)
    for number in range(5):
        store.facts.deny_token(TokenId(f't{number} "\N{SNOWMAN}\\'), LATER + timedelta(seconds=number / 4))
    for name, changes in (
        ("s-alive", {}),
        ("s-of-bob", {"subject": PrincipalId("u_2")}),
        ("s-expired", {"expire_time": SOON - timedelta(hours=2)}),
        ("s-ended", {}),
    ):
        store.sessions.create(samples.a_session(name, generations=store.log.generations(), **changes))
    for session in ("s-ended", "s-never-seen"):
        store.facts.end_session(SessionId(session), deny_until=LATER, end_until=MUCH_LATER)
    assert store.single_use.consume("jti-1", LATER)
    traffic = AuditType.CALL_REFUSED
    store.audit.append([samples.an_event("first"), samples.an_event("second", type=traffic)])
    store.audit.append([samples.an_event("third", type=traffic), samples.an_event("fourth")])


class Held:
    """The content of a store, read through its port: two stores with the same content are equal."""

    def __init__(self, store: Store) -> None:
        self.records: dict[str, Record] = {
            f"{kind}/{found.record.id}": found.record
            for kind, record_type in RECORD_TYPES.items()
            for found in all_records(store.records, record_type)
        }
        self.generations = dict(store.log.generations())
        head = store.log.head()
        self.marks, self.retention = head.marks, head.retention
        changes = [entry.change for entry in store.log.read(0, 1_000_000).entries]
        self.denials: dict[TokenId, object] = {}
        self.ends: dict[SessionId, object] = {}
        for change in changes:
            if isinstance(change, TokenDenied):
                self.denials[change.token_id] = change.deny_until
            if isinstance(change, SessionEnded):
                self.ends[change.session_id] = (change.deny_until, change.end_until)
        self.events = [
            (e.time, e.event) for e in reversed(store.audit.list_newest(AuditFilter(), limit=10_000)[0])
        ]
        self.sessions: dict[str, list[Session]] = {
            principal: list(store.sessions.list_of(PrincipalId(principal)))
            for principal in ("u_1", "u_2", "billing")
        }

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Held) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Held({vars(self)})"


class Copied:
    """The result of folding the items of a copy by the rules of the port.

    Of a record the last item counts; of each value that only grows, such as a generation, the largest counts.
    """

    def __init__(self, items: Iterable[CopiedItem]) -> None:
        self.marks = Marks()
        self.retention = timedelta(0)
        self.records: dict[tuple[RecordKind, str], Record] = {}
        self.generations: dict[PrincipalId, Generation] = {}
        self.denials: dict[TokenId, object] = {}
        self.ends: dict[SessionId, object] = {}
        self.used: dict[str, object] = {}
        self.sessions: dict[SessionId, Session] = {}
        self.events: list[object] = []
        self.kinds: Counter[str] = Counter()
        for item in items:
            self.kinds[type(item).__name__] += 1
            self._add(item)

    @property
    def state(self) -> dict[str, object]:
        """Return the folded content, without the number of items of each kind."""
        return {name: value for name, value in vars(self).items() if name != "kinds"}

    def _add(self, item: CopiedItem) -> None:
        match item:
            case CopiedMarks():
                self.marks = self.marks.merged(item.marks)
                self.retention = max(self.retention, item.retention)
            case CopiedRecord():
                self.records[kind_of(type(item.record)), item.record.id] = item.record
            case RecordDeleted():
                self.records.pop((item.kind, item.id), None)
            case CopiedSession():
                self.sessions[item.session.session_id] = item.session
            case CopiedEvent():
                self.events.append((item.event.time, item.event.event))
            case _:
                self._add_fact(item)

    def _add_fact(self, item: CopiedGeneration | TokenDenied | SessionEnded | CopiedUse) -> None:
        match item:
            case TokenDenied():
                self.denials[item.token_id] = item.deny_until
            case SessionEnded():
                self.ends[item.session_id] = (item.deny_until, item.end_until)
            case CopiedGeneration():
                known = self.generations.get(item.principal)
                if known is None or item.generation.number > known.number:
                    self.generations[item.principal] = item.generation
            case CopiedUse():
                self.used[item.key] = item.until


def exported(store: Store, *, whole: bool = True) -> Copied:
    """Export the store, and return the folded items."""
    with store.copying.export(whole=whole) as (_, items):
        return Copied(items)
