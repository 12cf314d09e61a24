"""The store as the use cases need it: records, facts, sessions, audit, and the change log. Promises only.

Whoever implements it translates its library's exceptions into `domain/errors.py` at that seam.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Generic, Protocol, TypeVar

from identity_service.domain.audit import AuditEvent, AuditFilter, StoredEvent
from identity_service.domain.ids import Epoch, Link, PrincipalId, SessionId, TokenId
from identity_service.domain.issuers import TrustedIssuer
from identity_service.domain.keys import StoredKey
from identity_service.domain.log import (
    Appended,
    Fact,
    Generation,
    Head,
    Heartbeat,
    LogEntry,
    LogPage,
    Marks,
    PutBack,
    RecordKind,
    Revision,
)
from identity_service.domain.principals import Client, User
from identity_service.domain.sessions import Session

Record = Client | User | StoredKey | TrustedIssuer
NO_MARKS: Final = Marks()
STATUS_LENGTH: Final = 200
"""Characters that are kept of the status of a heartbeat."""
RecordT = TypeVar("RecordT", Client, User, StoredKey, TrustedIssuer)
RECORD_TYPES: Final[Mapping[RecordKind, type[Any]]] = {
    RecordKind.CLIENT: Client,
    RecordKind.USER: User,
    RecordKind.KEY: StoredKey,
    RecordKind.ISSUER: TrustedIssuer,
}
"""What the records of each kind are."""
_KINDS: Final = {record: kind for kind, record in RECORD_TYPES.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Versioned(Generic[RecordT]):
    """A record as the store has it, and where it was last changed (its etag)."""

    record: RecordT
    revision: Revision


@dataclass(frozen=True, slots=True, kw_only=True)
class SignIn:
    """What a sign-in with a username needs, read in one atomic step."""

    generations: Mapping[PrincipalId, Generation]
    """Of `*`, the user and the client, without the ones that were never raised."""
    user: User | None
    client: Client | None
    time: datetime
    """The store's clock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionState:
    """A session and everything that may forbid to refresh it, read in one atomic step."""

    session: Session
    version: int
    """Grows with every change of the record."""
    ended: bool
    """By the fact that it was ended, or by the mark on its record."""
    generations: Mapping[PrincipalId, Generation]
    """Of `*`, the subject and the client, without the ones that were never raised."""
    user: User | None
    client: Client | None
    time: datetime
    """The store's clock; grace windows and the session's end are counted by it."""


class ChangeLog(Protocol):
    """The log as a replica follows it. Every method raises StoreUnavailableError when it cannot be asked."""

    def head(self) -> Head:
        """The end of the log now. Raises StoreUninitializedError where there is no epoch."""

    def read(self, after: int, limit: int) -> LogPage:
        """Entries after position `after`, oldest first, at most `limit`, with the head of that moment."""

    def read_entries(self, after: int, limit: int) -> tuple[LogEntry, ...]:
        """The same without the head, which costs the store less."""

    def wait(self, after: int, timeout: float) -> None:
        """Return when there may be entries after `after`, or after `timeout` seconds. May return early."""

    def heartbeat(
        self,
        process: str,
        retention: timedelta = timedelta(0),
        *,
        marks: Marks = NO_MARKS,
        status: str = "",
    ) -> Head:
        """Write this process's heartbeat and return the head: a write that the store confirmed.

        In the same step the log's retention becomes at least `retention`, and the store's marks at least
        `marks`. `status`, of which 200 characters are kept, says how the process sees its clock and the
        store. Raises NotConfirmedError.
        """

    def heartbeats(self) -> Sequence[Heartbeat]:
        """The last heartbeat of every process that wrote one within the last hour, the latest first."""

    def generations(self) -> Mapping[PrincipalId, Generation]:
        """Every principal that was ever raised; they never expire, so the log need not reach back."""

    def adopt(self, epoch: Epoch) -> None:
        """Expect this epoch from now on in every write."""

    def renew(self, found: Epoch | None, epoch: Epoch) -> Epoch:
        """Give the log this epoch if it still has `found` (None = it has lost its own).

        From then on every entry up to its end may be missing (`Head.floor`). Returns the epoch that it
        has now: this one, or the one that somebody else was first to give.
        """

    def restore(self, facts: Sequence[Fact]) -> PutBack:
        """Append those facts that are absent, each once. A generation needs its origin.

        Confirmed as any mutation when it returns: by the server that was asked, which may be deposed. Raises
        StoreReplacedError under another epoch.
        """

    def rebuild(self) -> int:
        """Put back what the state holds and the log lacks, then clear the mark (`Head.complete`).

        That is every denial and every ended session without an entry; and the other way round, every
        generation that an entry raised and the state lacks. Returns how many facts were missing. Repeating
        it is safe, also by several processes at once, and one that ends in the middle leaves the mark.

        Raises StoreReplacedError under another epoch than the one adopted, StoreUnavailableError when
        entries vanish meanwhile, StoreDamagedError when the store is known to have held generations that
        nothing in it holds any more.
        """

    def trim(self, position: int, keep: Sequence[Fact] = ()) -> int:
        """Forget entries up to `position`, if the one there is older than the retention.

        In the same step `keep`, the facts of these entries that still count, are appended again. Returns the
        floor of the log. Never forgets the last entry.
        """


class Store(ChangeLog, Protocol):
    """State and change log: every mutation changes both in one atomic step, or neither.

    A mutation names the epoch that this process follows; under another one it changes nothing and
    raises StoreReplacedError. When it returns, the change is durable as the operator chose. The `audit`
    event of a mutation is stored in that same step: both are there, or neither is.
    """

    def initialise(self, epoch: Epoch) -> None:
        """Give a virgin store its epoch, and adopt it. Raises AlreadyExistsError where it has one."""

    def accept_clock(self, time: datetime, *, audit: AuditEvent | None = None) -> Head:
        """Set the latest steady time (`Marks.time`) back to `time`: an operator says that it is right now.

        Under whatever epoch.
        """

    # Facts. Repeating one appends nothing and returns the place that holds it.

    def deny_token(
        self, token_id: TokenId, deny_until: datetime, *, audit: AuditEvent | None = None
    ) -> Appended:
        """Deny a token id; a denial is extended, never shortened."""

    def end_session(
        self,
        session_id: SessionId,
        *,
        deny_until: datetime,
        end_until: datetime,
        audit: AuditEvent | None = None,
    ) -> Appended:
        """End a session, known here or not, at least until its own end, and mark its record.

        The record may lie elsewhere and be out of reach; then the session is ended all the same.
        """

    def raise_generation(
        self,
        principal: PrincipalId,
        *,
        above: int,
        request_id: str | None,
        link: Link | None = None,
        audit: AuditEvent | None = None,
    ) -> Appended:
        """Raise to max(the store's number, `above`) + 1. A `request_id` raises once in 24 hours.

        With `link` the caller says what the entry will be known by; None = a new random one.
        """

    # Records of the directory. An etag is the revision of the last change.

    def get(self, kind: type[RecordT], id_: str) -> Versioned[RecordT] | None: ...

    def list_records(
        self, kind: type[RecordT], *, after: str = "", limit: int = 100
    ) -> Sequence[Versioned[RecordT]]:
        """Ordered by id, those with an id greater than `after`."""

    def find_user(self, username: str) -> Versioned[User] | None:
        """By username, compared after `normalize_username`."""

    def find_client(self, certificate: str) -> Versioned[Client] | None:
        """By one of the names of its certificates."""

    def create(self, record: Record, *, audit: AuditEvent | None = None) -> Appended:
        """Raises AlreadyExistsError where the id (or a username, or a certificate) is taken."""

    def update(
        self,
        record: Record,
        *,
        expected: Revision,
        revoke: bool = False,
        above: int = 0,
        link: Link | None = None,
        audit: AuditEvent | None = None,
    ) -> Appended:
        """Replace a record, and with `revoke` raise the principal's generation in the same step.

        `above` and `link` are those of `raise_generation`.

        Raises NotFoundError, StaleEtagError (changed since `expected`), AlreadyExistsError
        (username or certificate of another).
        """

    def delete(
        self,
        kind: RecordKind,
        id_: str,
        *,
        expected: Revision | None = None,
        above: int = 0,
        link: Link | None = None,
        audit: AuditEvent | None = None,
    ) -> Appended:
        """Delete a record and raise the generation of a principal; `above` and `link` are as for a raise.

        Raises NotFoundError, StaleEtagError (changed since `expected`; None = in any case).
        """

    # Sign-ins and sessions.

    def read_sign_in(self, username: str, client_id: PrincipalId) -> SignIn: ...

    def create_session(self, session: Session, *, audit: AuditEvent | None = None) -> None:
        """Store a new session. Raises AlreadyExistsError if there is one of this id.

        If the session lies elsewhere than the audit events, no one step can write both. Then the event is
        written and confirmed first: no session is without its event, and if the call fails, the event may
        be there alone.
        """

    def read_session(self, session_id: SessionId) -> SessionState | None: ...

    def replace_session(self, session: Session, *, expected_version: int) -> bool:
        """Replace the record if its version is still that; False when another was first, or it has ended.

        Not confirmed as other mutations are: a rotation that a failover lost is made again by whoever
        shows the newer token (semantics 2).
        """

    def list_sessions(self, owner: PrincipalId, *, before: str = "", limit: int = 100) -> Sequence[Session]:
        """The live sessions of a subject or through a client, the one that ends last first.

        That is the newest sign-in, unless `session_lifetime` was changed in between.

        `before` = the id of the last session of the page before. May leave out what ended meanwhile.
        """

    def consume(self, key: str, until: datetime) -> bool:
        """Use something up: True for the first caller with this key until then, False for all others.

        Under whatever epoch; a store that is emptied forgets what was used.
        """

    # Audit: two bounded rings, one for each kind of event; in either the oldest are forgotten first, and no
    # event of traffic makes the store forget one of a change. Readers see both rings as one sequence.

    def append_audit(self, events: Sequence[AuditEvent]) -> None:
        """Append events that record no change of their own; their order is kept. Under whatever epoch.

        Each goes to the ring of its kind.
        """

    def list_audit(
        self, wanted: AuditFilter, *, before: str = "", limit: int = 100
    ) -> tuple[Sequence[StoredEvent], str]:
        """The newest first, those before the event `before`, and where to go on ("" = that was all).

        Looks at a bounded number of events, so a page may be short, even empty, before the end.
        """

    def read_audit(self, after: str | None, limit: int) -> Sequence[StoredEvent]:
        """The oldest first, those after the event `after`; None = the last event alone, if there is one."""

    def close(self) -> None:
        """Release everything; wakes a `wait` in progress."""


def kind_of(record: type[Record]) -> RecordKind:
    """Return the kind of the records of a type."""
    return _KINDS[record]


def all_records(store: Store, kind: type[RecordT]) -> Iterator[Versioned[RecordT]]:
    """Every record of a kind, by id, a page at a time. Raises StoreUnavailableError."""
    after = ""
    while page := store.list_records(kind, after=after):
        yield from page
        after = page[-1].record.id
