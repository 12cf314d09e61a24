"""The store on SQLite: each call is one transaction. Owns the epoch that its writes name, and no SQL.

A write is on disk when the call returns (WAL, synchronous = FULL).
"""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Self

from identity_service.domain.audit import AuditEvent, AuditFilter, StoredEvent
from identity_service.domain.errors import AlreadyExistsError, StoreDamagedError, StoreUninitializedError
from identity_service.domain.ids import Epoch, Link, PrincipalId, SessionId, TokenId
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
from identity_service.domain.ports import Clock, EventLog
from identity_service.domain.principals import Client, User
from identity_service.domain.sessions import Session
from identity_service.domain.store import (
    NO_MARKS,
    STATUS_LENGTH,
    Record,
    RecordT,
    SessionState,
    SignIn,
    Versioned,
)
from identity_service.storage.audit_codec import AUDIT_ENTRIES, RingSizes
from identity_service.storage.sqlite import audit as audit_log
from identity_service.storage.sqlite import changes, fencing, heartbeats, rebuilding, records, sessions
from identity_service.storage.sqlite import facts as revocations
from identity_service.storage.sqlite.attempts import SqliteAttempts
from identity_service.storage.sqlite.changes import Mutation
from identity_service.storage.sqlite.copying import SqliteCopying
from identity_service.storage.sqlite.database import MEMORY, Database


class SqliteStore:
    """The store in one SQLite file; implements the port `CopyableStore`. Any thread may call any method."""

    def __init__(
        self, database: Database, clock: Clock, keep_events: RingSizes, attempts: SqliteAttempts
    ) -> None:
        self._database = database
        self._clock = clock
        self._keep_events = keep_events
        self._epoch: Epoch | None = None
        self._counted: Epoch | None = None
        self._copying = SqliteCopying(database, clock, keep_events)
        self._attempts = attempts

    @classmethod
    def open(
        cls,
        path: str,
        *,
        clock: Clock,
        timeout: float = 5.0,
        audit_entries: int = AUDIT_ENTRIES,
        audit_traffic_entries: int = AUDIT_ENTRIES,
        event_log: EventLog | None = None,
        may_be_damaged: bool = False,
    ) -> Self:
        """Open or create the store, and adopt its epoch if it has one.

        Args:
            path: of the file; `:memory:` = a private store that ends with this object.
            clock: the store's clock; the embedded store has none of its own.
            timeout: seconds to wait for a lock of this or another process.
            audit_entries: how many audit events of changes are kept.
            audit_traffic_entries: how many audit events of traffic are kept.
            event_log: records that the files were removed, replaced or damaged.
            may_be_damaged: return a store whose head is damaged, too, because it is about to be replaced.

        Raises:
            ConfigurationError: the file is not a store of this version.
            StoreUnavailableError: the file cannot be opened.
        """
        database = Database(path, timeout=timeout, event_log=event_log)
        counted = path if path == MEMORY else f"{path}-attempts"
        attempts = SqliteAttempts(counted, clock.boot, timeout=timeout)
        keep_events = RingSizes(changes=audit_entries, traffic=audit_traffic_entries)
        store = cls(database, clock, keep_events, attempts)
        try:
            store.adopt(store.head().epoch)
        except StoreUninitializedError:
            pass  # the caller is about to initialise it
        except BaseException as error:
            if not (may_be_damaged and isinstance(error, StoreDamagedError)):
                store.close()
                raise
        return store

    def initialise(self, epoch: Epoch) -> None:
        """Write the head of an empty store, and adopt the epoch."""
        with self._writing() as connection:
            if not changes.create_head(connection, epoch):
                raise AlreadyExistsError("the store is initialised already")
        self._epoch = epoch

    def accept_clock(self, time: datetime, *, audit: AuditEvent | None = None) -> Head:
        """Set the latest steady time back to `time`; returns the head."""
        with self._writing() as connection:
            now = self._clock.now()
            changes.accept_clock(connection, time)
            if audit is not None:
                audit_log.append(connection, [audit], now, self._keep_events)
            return changes.read_head(connection, now)

    @property
    def copying(self) -> SqliteCopying:
        """The ports that read and write the whole of this store."""
        return self._copying

    def attempts(self) -> SqliteAttempts:
        """Return the counts of failed attempts, which all processes on this file share."""
        return self._attempts

    def close(self) -> None:
        """Close the files, and end every `wait` in progress."""
        self._attempts.close()
        self._database.close()

    # The change log.

    def head(self) -> Head:
        """Return the head; count the rows (`Head.whole`) until they were complete once for this epoch."""
        with self._database.reading() as connection:
            head = changes.read_head(connection, self._clock.now())
            if self._counted == head.epoch:
                return head
            # Counting reads every row, so it is skipped once the rows of this epoch were complete.
            whole = changes.holds_what_it_counts(connection)
        self._counted = head.epoch if whole else None
        return replace(head, whole=whole)

    def read(self, after: int, limit: int) -> LogPage:
        """Return the entries after a position with the head, in one snapshot."""
        with self._database.reading() as connection:
            return changes.read_log(connection, self._clock.now(), after, limit)

    def read_entries(self, after: int, limit: int) -> tuple[LogEntry, ...]:
        """Return the entries after a position."""
        with self._database.reading() as connection:
            return changes.read_entries(connection, after, limit)

    def wait(self, after: int, timeout: float) -> None:
        """Wait for an entry after a position, at most `timeout` seconds; polls for other processes."""
        self._database.wait(lambda: self._position() > after, timeout)

    def heartbeat(
        self,
        process: str,
        retention: timedelta = timedelta(0),
        *,
        marks: Marks = NO_MARKS,
        status: str = "",
    ) -> Head:
        """Write the heartbeat, the retention and the marks; delete rows that expired a day ago."""
        # Under any epoch: a process learns of another epoch from the head that this returns.
        with self._writing() as connection:
            now = self._clock.now()
            head = changes.read_head(connection, now)
            heartbeats.write(connection, process, status[:STATUS_LENGTH], now)
            revocations.forget_expired(connection, now)
            return changes.keep(connection, head, retention, marks)

    def heartbeats(self) -> Sequence[Heartbeat]:
        """Return the heartbeats of the last hour."""
        with self._database.reading() as connection:
            return heartbeats.read(connection, self._clock.now())

    def generations(self) -> Mapping[PrincipalId, Generation]:
        """Return the generation of every principal that was ever raised."""
        with self._database.reading() as connection:
            return revocations.all_generations(connection)

    def adopt(self, epoch: Epoch) -> None:
        """Remember the epoch that writes must find."""
        self._epoch = epoch

    def renew(self, found: Epoch | None, epoch: Epoch) -> Epoch:
        """Give the log a new epoch, if it still has the epoch `found`."""
        with self._writing() as connection:
            return changes.renew(connection, found, epoch)

    def repair(self, facts: Sequence[Fact]) -> RepairResult:
        """Append the facts that are absent, in one transaction."""
        with self._mutation() as mutation:
            for fact in facts:
                revocations.restore(mutation, fact)
            return RepairResult(end=mutation.revision, absent=mutation.count)

    def rebuild(self) -> int:
        """Complete the log from the state, up to 1,000 facts in a transaction."""
        # One epoch for all steps: another thread may adopt a new one meanwhile, whose log stays incomplete.
        epoch = self._epoch
        with self._database.reading() as connection:
            lost = rebuilding.lost_generations(connection)
        missing = 0
        with self._mutation(epoch=epoch) as mutation:
            for fact in lost:
                revocations.restore(mutation, fact)
            missing += mutation.count
        for append in (rebuilding.append_denials, rebuilding.append_ends):
            after, is_all = "", False
            while not is_all:
                with self._mutation(epoch=epoch) as mutation:
                    ids = append(mutation, after)
                missing += len(ids)
                is_all = len(ids) < rebuilding.CHUNK
                after = ids[-1] if ids else ""
        with self._mutation(epoch=epoch) as mutation:
            lost_for_good = changes.finish_rebuild(mutation)
        if lost_for_good:
            raise StoreDamagedError(
                f"the table `generations` has lost {lost_for_good} of the generations that were raised, and "
                "the log has their entries no more: what they revoked would be accepted again. Start while a "
                "process that knows them runs, or restore a backup: `identity restore FILE --replace`"
            )
        return missing

    def trim(self, position: int, keep: Sequence[Fact] = ()) -> int:
        """Delete entries up to a position, and append those of `keep` that are absent then."""
        with self._mutation() as mutation:
            head = changes.read_head(mutation.connection, mutation.now)
            floor = changes.trim(mutation, head, position)
            if floor == position > head.floor:
                for fact in keep:
                    revocations.restore(mutation, fact)
            return floor

    # Facts.

    def deny_token(
        self, token_id: TokenId, deny_until: datetime, *, audit: AuditEvent | None = None
    ) -> Appended:
        """Insert or extend a denial."""
        with self._mutation(audit) as mutation:
            return revocations.deny_token(mutation, token_id, deny_until)

    def end_session(
        self,
        session_id: SessionId,
        *,
        deny_until: datetime,
        end_until: datetime,
        audit: AuditEvent | None = None,
    ) -> Appended:
        """Insert or extend the end of a session, and mark its row."""
        with self._mutation(audit) as mutation:
            return revocations.end_session(mutation, session_id, deny_until, end_until)

    def raise_generation(
        self,
        principal: PrincipalId,
        *,
        above: int,
        request_id: str | None,
        link: Link | None = None,
        audit: AuditEvent | None = None,
    ) -> Appended:
        """Raise the generation of a principal, once for each request id."""
        with self._mutation(audit) as mutation:
            return revocations.raise_generation(mutation, principal, above, request_id, link)

    # Records of the directory.

    def get(self, kind: type[RecordT], id_: str) -> Versioned[RecordT] | None:
        """Return a record by kind and id."""
        with self._database.reading() as connection:
            return records.get(connection, kind, id_)

    def list_records(
        self, kind: type[RecordT], *, after: str = "", limit: int = 100
    ) -> Sequence[Versioned[RecordT]]:
        """Return a page of records by id."""
        with self._database.reading() as connection:
            return records.list_after(connection, kind, after, limit)

    def find_user(self, username: str) -> Versioned[User] | None:
        """Return the user that has this username, or None."""
        with self._database.reading() as connection:
            return records.find_user(connection, username)

    def find_client(self, certificate: str) -> Versioned[Client] | None:
        """Return the client that has this certificate name, or None."""
        with self._database.reading() as connection:
            return records.find_client(connection, certificate)

    def create(self, record: Record, *, audit: AuditEvent | None = None) -> Appended:
        """Insert a record."""
        with self._mutation(audit) as mutation:
            return records.create(mutation, record)

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
        """Replace a record; with `revoke` raise the generation of its principal, too."""
        with self._mutation(audit) as mutation:
            return records.update(mutation, record, expected, revoke=revoke, above=above, link=link)

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
        """Delete a record; if it is a principal, raise its generation."""
        with self._mutation(audit) as mutation:
            return records.delete(mutation, kind, id_, expected, above=above, link=link)

    # Sign-ins and sessions.

    def read_sign_in(self, username: str, client_id: PrincipalId) -> SignIn:
        """Return what a sign-in needs, in one snapshot."""
        with self._database.reading() as connection:
            return sessions.read_sign_in(connection, username, client_id, self._clock.now())

    def create_session(self, session: Session, *, audit: AuditEvent | None = None) -> None:
        """Insert a session, with the audit event in the same transaction."""
        with self._mutation(audit) as mutation:
            sessions.create(mutation.connection, session)

    def read_session(self, session_id: SessionId) -> SessionState | None:
        """Return a session and everything that may forbid to refresh it, in one snapshot."""
        with self._database.reading() as connection:
            return sessions.read(connection, session_id, self._clock.now())

    def replace_session(self, session: Session, *, expected_version: int) -> bool:
        """Replace a session if it has the expected version."""
        with self._mutation() as mutation:
            return sessions.replace(mutation.connection, session, expected_version, mutation.now)

    def list_sessions(self, owner: PrincipalId, *, before: str = "", limit: int = 100) -> Sequence[Session]:
        """Return a page of live sessions, the one that ends last first."""
        with self._database.reading() as connection:
            return sessions.list_of(connection, owner, before, limit, self._clock.now())

    def consume(self, key: str, until: datetime) -> bool:
        """Use a key up until `until`; returns False if it is used up already."""
        with self._writing() as connection:
            return sessions.consume(connection, key, until, self._clock.now())

    # Audit events.

    def append_audit(self, events: Sequence[AuditEvent]) -> None:
        """Append audit events to their rings, in one transaction."""
        with self._writing() as connection:
            audit_log.append(connection, events, self._clock.now(), self._keep_events)

    def list_audit(
        self, wanted: AuditFilter, *, before: str = "", limit: int = 100
    ) -> tuple[Sequence[StoredEvent], str]:
        """Return a page of matching audit events, the newest first."""
        with self._database.reading() as connection:
            return audit_log.list_newest(connection, wanted, before, limit)

    def read_audit(self, after: str | None, limit: int) -> Sequence[StoredEvent]:
        """Return the audit events after one, the oldest first."""
        with self._database.reading() as connection:
            return audit_log.read_after(connection, after, limit)

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """Run a write transaction. Every write begins here: raises StoreFencedError if fenced."""
        with self._database.writing() as connection:
            fencing.require_none(connection)
            yield connection

    def _position(self) -> int:
        """Return the position of the last entry."""
        with self._database.reading() as connection:
            return changes.read_head(connection, self._clock.now()).position

    @contextmanager
    def _mutation(self, audit: AuditEvent | None = None, *, epoch: Epoch | None = None) -> Iterator[Mutation]:
        """Run a write transaction that changes the log, with its audit event in the same transaction.

        Raises StoreReplacedError unless the log has `epoch`, or by default the adopted epoch.
        """
        with self._writing() as connection:
            mutation = Mutation(connection, self._clock.now(), epoch or self._epoch)
            yield mutation
            if audit is not None:
                audit_log.append(connection, [audit], mutation.now, self._keep_events)
