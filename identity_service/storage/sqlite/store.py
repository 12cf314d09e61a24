"""The store on SQLite: each call is one transaction. Owns the epoch that its writes name, and no SQL.

A write is on disk when it returns (WAL, synchronous = FULL).
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
    PutBack,
    RecordKind,
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
    """Implements the port `CopyableStore`. Any thread may call any method."""

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
        """Open or create the store, and follow its epoch where it has one.

        Args:
            path: of the file; `:memory:` = a private store that ends with this object.
            clock: the store's clock; the embedded store has none of its own.
            timeout: seconds to wait for a lock, here or of another process.
            audit_entries: how many audit events of changes are kept.
            audit_traffic_entries: how many of traffic.
            journal: where it is said that the files are not as they should be.
            may_be_damaged: return a store whose head is damaged, too: it is about to be replaced.

        Raises:
            ConfigurationError: the file is no store of this version.
            StoreUnavailableError: it cannot be opened.
        """
        database = Database(path, timeout=timeout, event_log=event_log)
        counted = path if path == MEMORY else f"{path}-attempts"
        attempts = SqliteAttempts(counted, clock.boot, timeout=timeout)
        keep_events = RingSizes(changes=audit_entries, traffic=audit_traffic_entries)
        store = cls(database, clock, keep_events, attempts)
        try:
            store.adopt(store.head().epoch)
        except StoreUninitializedError:
            pass  # it is about to be initialised
        except BaseException as error:
            if not (may_be_damaged and isinstance(error, StoreDamagedError)):
                store.close()
                raise
        return store

    def initialise(self, epoch: Epoch) -> None:
        with self._writing() as connection:
            if not changes.create_head(connection, epoch):
                raise AlreadyExistsError("the store is initialised already")
        self._epoch = epoch

    def accept_clock(self, time: datetime, *, audit: AuditEvent | None = None) -> Head:
        with self._writing() as connection:
            now = self._clock.now()
            changes.accept_clock(connection, time)
            if audit is not None:
                audit_log.append(connection, [audit], now, self._keep_events)
            return changes.read_head(connection, now)

    @property
    def copying(self) -> SqliteCopying:
        return self._copying

    def attempts(self) -> SqliteAttempts:
        """Return the counts of failed attempts, for all processes on this file together."""
        return self._attempts

    def close(self) -> None:
        self._attempts.close()
        self._database.close()

    # The change log.

    def head(self) -> Head:
        with self._database.reading() as connection:
            head = changes.read_head(connection, self._clock.now())
            if self._counted == head.epoch:
                return head
            # Counting looks at every row: once for each log that this store follows, until it is right.
            whole = changes.holds_what_it_counts(connection)
        self._counted = head.epoch if whole else None
        return replace(head, whole=whole)

    def read(self, after: int, limit: int) -> LogPage:
        with self._database.reading() as connection:
            return changes.read_log(connection, self._clock.now(), after, limit)

    def read_entries(self, after: int, limit: int) -> tuple[LogEntry, ...]:
        with self._database.reading() as connection:
            return changes.read_entries(connection, after, limit)

    def wait(self, after: int, timeout: float) -> None:
        self._database.wait(lambda: self._position() > after, timeout)

    def heartbeat(
        self,
        process: str,
        retention: timedelta = timedelta(0),
        *,
        marks: Marks = NO_MARKS,
        status: str = "",
    ) -> Head:
        # Under whatever epoch: the head that comes back is how a process learns of another one.
        with self._writing() as connection:
            now = self._clock.now()
            head = changes.read_head(connection, now)
            heartbeats.write(connection, process, status[:STATUS_LENGTH], now)
            revocations.forget_expired(connection, now)
            return changes.keep(connection, head, retention, marks)

    def heartbeats(self) -> Sequence[Heartbeat]:
        with self._database.reading() as connection:
            return heartbeats.read(connection, self._clock.now())

    def generations(self) -> Mapping[PrincipalId, Generation]:
        with self._database.reading() as connection:
            return revocations.all_generations(connection)

    def adopt(self, epoch: Epoch) -> None:
        self._epoch = epoch

    def renew(self, found: Epoch | None, epoch: Epoch) -> Epoch:
        with self._writing() as connection:
            return changes.renew(connection, found, epoch)

    def restore(self, facts: Sequence[Fact]) -> PutBack:
        with self._mutation() as mutation:
            for fact in facts:
                revocations.restore(mutation, fact)
            return PutBack(end=mutation.revision, absent=mutation.count)

    def rebuild(self) -> int:
        # One epoch for all of it: another thread may adopt a new one meanwhile, whose mark must stand.
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
        with self._mutation(audit) as mutation:
            return revocations.raise_generation(mutation, principal, above, request_id, link)

    # Records of the directory.

    def get(self, kind: type[RecordT], id_: str) -> Versioned[RecordT] | None:
        with self._database.reading() as connection:
            return records.get(connection, kind, id_)

    def list_records(
        self, kind: type[RecordT], *, after: str = "", limit: int = 100
    ) -> Sequence[Versioned[RecordT]]:
        with self._database.reading() as connection:
            return records.list_after(connection, kind, after, limit)

    def find_user(self, username: str) -> Versioned[User] | None:
        with self._database.reading() as connection:
            return records.find_user(connection, username)

    def find_client(self, certificate: str) -> Versioned[Client] | None:
        with self._database.reading() as connection:
            return records.find_client(connection, certificate)

    def create(self, record: Record, *, audit: AuditEvent | None = None) -> Appended:
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
        with self._mutation(audit) as mutation:
            return records.delete(mutation, kind, id_, expected, above=above, link=link)

    # Sign-ins and sessions.

    def read_sign_in(self, username: str, client_id: PrincipalId) -> SignIn:
        with self._database.reading() as connection:
            return sessions.read_sign_in(connection, username, client_id, self._clock.now())

    def create_session(self, session: Session, *, audit: AuditEvent | None = None) -> None:
        with self._mutation(audit) as mutation:
            sessions.create(mutation.connection, session)

    def read_session(self, session_id: SessionId) -> SessionState | None:
        with self._database.reading() as connection:
            return sessions.read(connection, session_id, self._clock.now())

    def replace_session(self, session: Session, *, expected_version: int) -> bool:
        with self._mutation() as mutation:
            return sessions.replace(mutation.connection, session, expected_version, mutation.now)

    def list_sessions(self, owner: PrincipalId, *, before: str = "", limit: int = 100) -> Sequence[Session]:
        with self._database.reading() as connection:
            return sessions.list_of(connection, owner, before, limit, self._clock.now())

    def consume(self, key: str, until: datetime) -> bool:
        with self._writing() as connection:
            return sessions.consume(connection, key, until, self._clock.now())

    # Audit events.

    def append_audit(self, events: Sequence[AuditEvent]) -> None:
        with self._writing() as connection:
            audit_log.append(connection, events, self._clock.now(), self._keep_events)

    def list_audit(
        self, wanted: AuditFilter, *, before: str = "", limit: int = 100
    ) -> tuple[Sequence[StoredEvent], str]:
        with self._database.reading() as connection:
            return audit_log.list_newest(connection, wanted, before, limit)

    def read_audit(self, after: str | None, limit: int) -> Sequence[StoredEvent]:
        with self._database.reading() as connection:
            return audit_log.read_after(connection, after, limit)

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction that writes. Raises StoreFencedError: every write of this store begins here."""
        with self._database.writing() as connection:
            fencing.require_none(connection)
            yield connection

    def _position(self) -> int:
        with self._database.reading() as connection:
            return changes.read_head(connection, self._clock.now()).position

    @contextmanager
    def _mutation(self, audit: AuditEvent | None = None, *, epoch: Epoch | None = None) -> Iterator[Mutation]:
        """One transaction: with the event of what it does, or neither; under `epoch`, or the one adopted."""
        with self._writing() as connection:
            mutation = Mutation(connection, self._clock.now(), epoch or self._epoch)
            yield mutation
            if audit is not None:
                audit_log.append(connection, [audit], mutation.now, self._keep_events)
