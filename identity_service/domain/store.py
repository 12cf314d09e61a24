"""The port of the store: the state and its change log, in parts, so that a use case takes the parts it needs.

The module contains no implementation. Promises of all parts: every method raises StoreUnavailableError if the
store cannot be reached, and an exception of a library never leaves an implementation. A *mutation*, which is
a method that returns Appended, changes state and log in one atomic step, or neither. It names the epoch that
this process follows: if the store has another epoch, it changes nothing and raises StoreReplacedError. When
it returns, the change is as durable as the operator has configured. The `audit` event of a write is stored in
the same step: both are stored, or neither. Every write raises StoreFencedError once the store was moved,
except those of `attempts` and `copying`.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Protocol

from identity_service.domain.attempts import AttemptCounter
from identity_service.domain.audit import AuditEvent, AuditFilter, StoredEvent
from identity_service.domain.change_log import ChangeLog
from identity_service.domain.copying import Copying
from identity_service.domain.ids import Epoch, Link, PrincipalId, SessionId, TokenId
from identity_service.domain.log import Appended, Head, RecordKind, Revision
from identity_service.domain.principals import Client, User
from identity_service.domain.records import Record, RecordT, Versioned
from identity_service.domain.sessions import PlainRotation, Session, SessionState, SignIn


class FactStore(Protocol):
    """The facts, which are only added. Repeating one appends nothing and returns the place of its entry."""

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


class RecordStore(Protocol):
    """The records of the directory. The etag of a record is the revision of its last change."""

    def get(self, kind: type[RecordT], id_: str) -> Versioned[RecordT] | None:
        """Return a record by its id, or None."""

    def list_of(
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


class SessionStore(Protocol):
    """The sessions, and the data for a sign-in. Writes check the epoch like mutations, but append nothing."""

    def read_sign_in(self, username: str, client_id: PrincipalId) -> SignIn:
        """Return the data for a sign-in of this username through this client, read in one atomic step."""

    def create(self, session: Session, *, audit: AuditEvent | None = None) -> None:
        """Store a new session. Raises AlreadyExistsError if there is a session with this id.

        If sessions and audit events lie in different databases, no single step can write both. Then the event
        is written and confirmed first: no session exists without its event, and if the call fails, there may
        be an event without a session.
        """

    def read(self, session_id: SessionId, *, rotation: PlainRotation | None = None) -> SessionState | None:
        """Return a session and all that may forbid its refresh, or None if there is no such session.

        If `rotation` is given, a store may make it in the same step, as `PlainRotation` says; it then returns
        the state before the rotation, with `rotated`.
        """

    def replace(self, session: Session, *, expected_version: int) -> bool:
        """Replace the record if it still has this version.

        Returns False if the record has changed or the session has ended.

        Unlike other writes, this one is not confirmed: if a failover loses a rotation, the next refresh with
        the newer token makes it again (`decide_refresh`).
        """

    def list_of(self, owner: PrincipalId, *, before: str = "", limit: int = 100) -> Sequence[Session]:
        """Return the live sessions of a subject or through a client, the session that ends last first.

        That is the newest sign-in, unless `session_lifetime` was changed in between.

        `before` = the id of the last session of the previous page. Sessions that ended meanwhile may be left
        out.
        """


class SingleUse(Protocol):
    """The keys that work only once, such as the `jti` of an assertion."""

    def consume(self, key: str, until: datetime) -> bool:
        """Mark a single-use key as used until `until`, in one atomic step.

        Returns True for the first caller, False for all others. Does not check the epoch of the store; a
        store that is emptied forgets which keys were used.
        """


class AuditStore(Protocol):
    """The audit events: two ring buffers, one for each kind of event, which readers see as one sequence.

    In each the oldest events are deleted first, so events of traffic never displace events of changes.
    """

    def append(self, events: Sequence[AuditEvent]) -> None:
        """Append events that come with no change of the state, in this order.

        Each goes to the ring buffer of its kind. Does not check the epoch of the store.
        """

    def list_newest(
        self, wanted: AuditFilter, *, before: str = "", limit: int = 100
    ) -> tuple[Sequence[StoredEvent], str]:
        """Return events newest first, from before the event `before`, and the next `before` ("" = no more).

        A call looks at a bounded number of events, so a page may be short, even empty, before the end. Raises
        ValueError if `before` is neither an id of an event nor empty.
        """

    def read_after(self, after: str | None, limit: int) -> Sequence[StoredEvent]:
        """Return the events after the event `after`, oldest first; "" = from the first event on.

        With `after` None, the last event alone is returned, if there is one. Raises ValueError as
        `list_newest` does.
        """


class Store(Protocol):
    """One store: its parts, and the operations on it as a whole. Any thread may call any method."""

    @property
    def log(self) -> ChangeLog:
        """The change log."""

    @property
    def facts(self) -> FactStore:
        """The revocations."""

    @property
    def records(self) -> RecordStore:
        """The clients, users, keys and trusted issuers."""

    @property
    def sessions(self) -> SessionStore:
        """The sessions and sign-ins."""

    @property
    def single_use(self) -> SingleUse:
        """The keys that work only once."""

    @property
    def audit(self) -> AuditStore:
        """The audit events."""

    @property
    def attempts(self) -> AttemptCounter:
        """The counts of failed attempts at credentials, shared by all processes that use this store."""

    @property
    def copying(self) -> Copying:
        """The ports that read and write this store as a whole."""

    def initialise(self, epoch: Epoch) -> None:
        """Give an empty store its epoch, and adopt it.

        Raises AlreadyExistsError if the store has an epoch.
        """

    def accept_clock(self, time: datetime, *, audit: AuditEvent | None = None) -> Head:
        """Set the latest steady time (`Marks.time`) back to `time`, which an operator declares to be right.

        Does not check the epoch of the store.
        """

    def close(self) -> None:
        """Release all resources; a `wait` in progress returns."""


def all_records(
    records: RecordStore, kind: type[RecordT], *, page_size: int = 100
) -> Iterator[Versioned[RecordT]]:
    """Yield every record of a kind, ordered by id, reading a page at a time. Raises StoreUnavailableError."""
    after = ""
    while page := records.list_of(kind, after=after, limit=page_size):
        yield from page
        after = page[-1].record.id
