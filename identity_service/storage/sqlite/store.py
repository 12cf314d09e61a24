"""The store on SQLite: opens the file, and composes the parts.

A write is on disk when the call returns (WAL, synchronous = FULL).
"""

from datetime import datetime
from typing import Self

from identity_service.domain.audit import AUDIT_ENTRIES, AuditEvent, RingSizes
from identity_service.domain.errors import AlreadyExistsError, StoreDamagedError, StoreUninitializedError
from identity_service.domain.ids import Epoch
from identity_service.domain.log import Head
from identity_service.domain.ports import Clock, EventLog
from identity_service.storage.codec import seconds
from identity_service.storage.sqlite.attempts import SqliteAttempts
from identity_service.storage.sqlite.audit import SqliteAudit
from identity_service.storage.sqlite.copying import SqliteCopying
from identity_service.storage.sqlite.database import MEMORY, Database
from identity_service.storage.sqlite.facts import SqliteFacts, SqliteSingleUse
from identity_service.storage.sqlite.log import SqliteLog, create_head
from identity_service.storage.sqlite.records import SqliteRecords
from identity_service.storage.sqlite.sessions import SqliteSessions
from identity_service.storage.sqlite.transactions import Transactions, read_head


class SqliteStore:
    """The store in one SQLite file; implements the port `Store`. Any thread may call any method."""

    def __init__(
        self, database: Database, clock: Clock, keep_events: RingSizes, attempts: SqliteAttempts
    ) -> None:
        self._database = database
        self._transactions = transactions = Transactions(database, clock, keep_events)
        self.log = SqliteLog(transactions)
        self.facts = SqliteFacts(transactions)
        self.records = SqliteRecords(transactions)
        self.sessions = SqliteSessions(transactions)
        self.single_use = SqliteSingleUse(transactions)
        self.audit = SqliteAudit(transactions)
        self.attempts = attempts
        self.copying = SqliteCopying(database, clock, keep_events)

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
            path: the path of the file; `:memory:` = a private store that ends with this object.
            clock: the store's clock; the embedded store has none of its own.
            timeout: seconds to wait for a lock of this or another process.
            audit_entries: the number of audit events of changes that are kept.
            audit_traffic_entries: the number of audit events of traffic that are kept.
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
            store.log.adopt(store.log.head().epoch)
        except StoreUninitializedError:
            pass  # the caller is about to initialise it
        except BaseException as error:
            if not (may_be_damaged and isinstance(error, StoreDamagedError)):
                store.close()
                raise
        return store

    def initialise(self, epoch: Epoch) -> None:
        """Write the head of an empty store, and adopt the epoch."""
        with self._transactions.writing() as connection:
            if not create_head(connection, epoch):
                raise AlreadyExistsError("the store is initialised already")
        self.log.adopt(epoch)

    def accept_clock(self, time: datetime, *, audit: AuditEvent | None = None) -> Head:
        """Set the latest steady time and the latest time back to `time`; returns the head."""
        with self._transactions.writing([audit] if audit is not None else ()) as connection:
            connection.execute("UPDATE log_head SET time = ?, latest = ?", (seconds(time), seconds(time)))
            return read_head(connection, self._transactions.now())

    def close(self) -> None:
        """Close the files, and end every `wait` in progress."""
        self.attempts.close()
        self._database.close()
