"""The ports of the store: records, facts, sessions, audit events and the change log.

Contains no implementation.

An implementation translates the exceptions of its library into those of `domain/errors.py`.
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
    RecordKind,
    RepairResult,
    Revision,
)
from identity_service.domain.principals import Client, User
from identity_service.domain.sessions import Session

Record = Client | User | StoredKey | TrustedIssuer
NO_MARKS: Final = Marks()
STATUS_LENGTH: Final = 200
"""The number of characters of a heartbeat's status that the store keeps."""
RecordT = TypeVar("RecordT", Client, User, StoredKey, TrustedIssuer)
RECORD_TYPES: Final[Mapping[RecordKind, type[Any]]] = {
    RecordKind.CLIENT: Client,
    RecordKind.USER: User,
    RecordKind.KEY: StoredKey,
    RecordKind.ISSUER: TrustedIssuer,
}
"""The type of the records of each kind."""
_KINDS: Final = {record: kind for kind, record in RECORD_TYPES.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Versioned(Generic[RecordT]):
    """A record as the store holds it, with the revision of its last change (its etag)."""

    record: RecordT
    revision: Revision


@dataclass(frozen=True, slots=True, kw_only=True)
class SignIn:
    """The data for a sign-in with a username, read in one atomic step."""

    generations: Mapping[PrincipalId, Generation]
    """The generations of `*`, the user and the client; a generation that was never raised is absent."""
    user: User | None
    client: Client | None
    time: datetime
    """The time by the store's clock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionState:
    """A session and everything that may forbid its refresh, read in one atomic step."""

    session: Session
    version: int
    """The version of the record; it grows with every change."""
    ended: bool
    """Whether the session has ended, by a SessionEnded fact or by the mark on its record."""
    generations: Mapping[PrincipalId, Generation]
    """The generations of `*`, the subject and the client; a generation that was never raised is absent."""
    user: User | None
    client: Client | None
    time: datetime
    """The time by the store's clock; grace windows and the end of the session are measured by it."""


class ChangeLog(Protocol):
    """The change log as a replica reads it.

    Every method raises StoreUnavailableError if the store cannot be reached.
    """

    def head(self) -> Head:
        """Return the current end of the log. Raises StoreUninitializedError if the store has no epoch."""

    def read(self, after: int, limit: int) -> LogPage:
        """Return at most `limit` entries after position `after`, oldest first, with the head.

        The head is that of the same moment.
        """

    def read_entries(self, after: int, limit: int) -> tuple[LogEntry, ...]:
        """Return the same entries as `read`, without the head, which costs the store less."""

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
        """Write this process's heartbeat, have the store confirm it, and return the head.

        In the same step the log's retention becomes at least `retention`, and the store's marks at least
        `marks`. `status`, of which 200 characters are kept, says how the process sees its clock and the
        store. Raises NotConfirmedError.
        """

    def heartbeats(self) -> Sequence[Heartbeat]:
        """Return the last heartbeat of each process that wrote one in the last hour, the latest first."""

    def generations(self) -> Mapping[PrincipalId, Generation]:
        """Return the generation of every principal whose generation was ever raised.

        Generations never expire, so the log need not reach back to the entries that raised them.
        """

    def adopt(self, epoch: Epoch) -> None:
        """Expect this epoch in every write from now on."""

    def renew(self, found: Epoch | None, epoch: Epoch) -> Epoch:
        """Give the log this epoch if it still has the epoch `found` (None = it has lost its epoch).

        From then on every entry up to the end of the log may be missing (`Head.floor`). Returns the epoch
        that the log then has: this one, or the epoch that another process set first.
        """

    def repair(self, facts: Sequence[Fact]) -> RepairResult:
        """Append those facts that the log lacks, each once (repair). A generation needs its `origin`.

        The write is confirmed as every mutation is: by the server that was asked, even if that server is no
        longer the primary. Raises StoreReplacedError if the store has another epoch.
        """

    def rebuild(self) -> int:
        """Append what the state holds and the log lacks, then set `Head.complete`.

        That is every denial and every ended session without an entry; and conversely, the state gets every
        generation that an entry raised and the state lacks. Returns how many facts were missing. Repeating it
        is safe, also from several processes at once; if a process dies halfway, `Head.complete` stays False.

        Raises StoreReplacedError if the store has another epoch than the one adopted, StoreUnavailableError
        if entries vanish meanwhile, StoreDamagedError if the store is known to have held generations of which
        nothing in it is left.
        """

    def trim(self, position: int, keep: Sequence[Fact] = ()) -> int:
        """Delete the entries up to `position` if the entry there is older than the retention.

        In the same step `keep`, the facts of these entries that still count, are appended again. Returns the
        floor of the log. Never deletes the last entry.
        """


class Store(ChangeLog, Protocol):
    """The state and its change log: every mutation changes both in one atomic step, or neither.

    A mutation names the epoch that this process follows; if the store has another epoch, it changes nothing
    and raises StoreReplacedError. When it returns, the change is as durable as the operator has configured.
    The `audit` event of a mutation is stored in the same step: both are stored, or neither.
    """

    def initialise(self, epoch: Epoch) -> None:
        """Give an empty store its epoch, and adopt it.

        Raises AlreadyExistsError if the store has an epoch.
        """

    def accept_clock(self, time: datetime, *, audit: AuditEvent | None = None) -> Head:
        """Set the latest steady time (`Marks.time`) back to `time`, which an operator declares to be right.

        Does not check the epoch of the store.
        """

    # Facts. Writing a fact again appends nothing and returns the place of its entry.

    def deny_token(
        self, token_id: TokenId, deny_until: datetime, *, audit: AuditEvent | None = None
    ) -> Appended:
        """Deny a token id; a denial can be extended, never shortened."""

    def end_session(
        self,
        session_id: SessionId,
        *,
        deny_until: datetime,
        end_until: datetime,
        audit: AuditEvent | None = None,
    ) -> Appended:
        """End a session at least until `end_until`, and mark its record if there is one.

        If the record lies in another database that cannot be reached, the session is ended all the same.
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
        """Raise a principal's generation to max(the store's number, `above`) + 1.

        A call with the same `request_id` within 24 hours raises nothing more. `link` is the link of the new
        entry; None = a random one.
        """

    # Records of the directory. The etag of a record is the revision of its last change.

    def get(self, kind: type[RecordT], id_: str) -> Versioned[RecordT] | None:
        """Return a record by its id, or None."""

    def list_records(
        self, kind: type[RecordT], *, after: str = "", limit: int = 100
    ) -> Sequence[Versioned[RecordT]]:
        """Return the records with an id greater than `after`, ordered by id, at most `limit`."""

    def find_user(self, username: str) -> Versioned[User] | None:
        """Return the user with a username, compared after `normalize_username`, or None."""

    def find_client(self, certificate: str) -> Versioned[Client] | None:
        """Return the client that has registered this name of a certificate, or None."""

    def create(self, record: Record, *, audit: AuditEvent | None = None) -> Appended:
        """Create a record. Raises AlreadyExistsError if its id, username or certificate is taken."""

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

        Raises NotFoundError, StaleEtagError (changed since `expected`), AlreadyExistsError (another record
        has the username or certificate).
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
        """Delete a record and raise the generation of its principal.

        `above` and `link` are as in `raise_generation`.

        Raises NotFoundError, StaleEtagError (changed since `expected`; None = delete in any case).
        """

    # Sign-ins and sessions.

    def read_sign_in(self, username: str, client_id: PrincipalId) -> SignIn:
        """Return the data for a sign-in of this username through this client."""

    def create_session(self, session: Session, *, audit: AuditEvent | None = None) -> None:
        """Store a new session. Raises AlreadyExistsError if there is a session with this id.

        If sessions and audit events lie in different databases, no single step can write both. Then the event
        is written and confirmed first: no session exists without its event, and if the call fails, there may
        be an event without a session.
        """

    def read_session(self, session_id: SessionId) -> SessionState | None:
        """Return a session and all that may forbid its refresh, or None if there is no such session."""

    def replace_session(self, session: Session, *, expected_version: int) -> bool:
        """Replace the record if it still has this version.

        Returns False if the record has changed or the session has ended.

        Not confirmed as other mutations are: if a failover loses a rotation, the client that presents the
        newer token has it made again (semantics 2).
        """

    def list_sessions(self, owner: PrincipalId, *, before: str = "", limit: int = 100) -> Sequence[Session]:
        """Return the live sessions of a subject or through a client, the session that ends last first.

        That is the newest sign-in, unless `session_lifetime` was changed in between.

        `before` = the id of the last session of the previous page. Sessions that ended meanwhile may be left
        out.
        """

    def consume(self, key: str, until: datetime) -> bool:
        """Mark a single-use key as used until `until`.

        Returns True for the first caller, False for all others. Does not check the epoch of the store; a
        store that is emptied forgets which keys were used.
        """

    # Audit: two ring buffers, one for each kind of event. In each the oldest events are deleted first, so
    # events of traffic never displace events of changes. Readers see both ring buffers as one sequence.

    def append_audit(self, events: Sequence[AuditEvent]) -> None:
        """Append events that come with no change of the state, in this order.

        Each goes to the ring buffer of its kind. Does not check the epoch of the store.
        """

    def list_audit(
        self, wanted: AuditFilter, *, before: str = "", limit: int = 100
    ) -> tuple[Sequence[StoredEvent], str]:
        """Return events newest first, from before the event `before`, and the next `before` ("" = no more).

        A call looks at a bounded number of events, so a page may be short, even empty, before the end.
        """

    def read_audit(self, after: str | None, limit: int) -> Sequence[StoredEvent]:
        """Return the events after the event `after`, oldest first.

        With `after` None, the last event alone is returned, if there is one.
        """

    def close(self) -> None:
        """Release all resources; a `wait` in progress returns."""


def kind_of(record: type[Record]) -> RecordKind:
    """Return the kind of the records of a type."""
    return _KINDS[record]


def all_records(store: Store, kind: type[RecordT]) -> Iterator[Versioned[RecordT]]:
    """Yield every record of a kind, ordered by id, reading a page at a time. Raises StoreUnavailableError."""
    after = ""
    while page := store.list_records(kind, after=after):
        yield from page
        after = page[-1].record.id
