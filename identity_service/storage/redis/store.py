"""The store on Redis: opens the connection, and composes the parts.

Each mutation is one script, which changes both state and log, or neither: `lua/` has the scripts,
`keyspace.py` the names of the keys. Times are those of the server, unless a test injects a clock.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Self

from identity_service.domain.audit import AUDIT_ENTRIES, AuditEvent, RingSizes
from identity_service.domain.errors import StoreDamagedError, StoreUninitializedError
from identity_service.domain.ids import Epoch
from identity_service.domain.log import Head, RecordKind
from identity_service.domain.ports import Clock, EventLog
from identity_service.storage.redis import keyspace as keys
from identity_service.storage.redis.attempts import RedisAttempts
from identity_service.storage.redis.audit import RedisAudit
from identity_service.storage.redis.client.connection import RedisConnection
from identity_service.storage.redis.client.server_checks import Demands, Finding
from identity_service.storage.redis.copying import RedisCopying
from identity_service.storage.redis.exporting import Export
from identity_service.storage.redis.facts import RedisFacts, RedisSingleUse
from identity_service.storage.redis.keyspace import Writer, time_text
from identity_service.storage.redis.log import RedisLog, head_of
from identity_service.storage.redis.records import RedisRecords
from identity_service.storage.redis.sessions import RedisSessions, SpreadSessions
from identity_service.storage.upgrade import require_stopped


class RedisStore:
    """A store on Redis, implementing the port `Store`. Thread-safe."""

    def __init__(self, connection: RedisConnection, clock: Clock | None, keep_events: RingSizes) -> None:
        """Create a store on a connection, without calling the server; `clock` None = the server's time."""
        self._connection = connection
        self._writer = writer = Writer(connection, clock, keep_events)
        sessions = SpreadSessions if connection.is_spread else RedisSessions
        self.log = RedisLog(connection, writer)
        self.records = RedisRecords(connection, writer)
        self.sessions = sessions(connection, writer)
        self.facts = RedisFacts(writer, self.sessions)
        self.single_use = RedisSingleUse(connection, writer)
        self.audit = RedisAudit(connection, writer, keep_events)
        self.attempts = RedisAttempts(connection, writer)
        export = Export(connection, writer, self.log, self.records, self.audit)
        self.copying = RedisCopying(connection, self.log, export, keep_events)

    @classmethod
    def connect(
        cls,
        url: str,
        *,
        clock: Clock | None = None,
        timeout: float = 2.0,
        demands: Demands | None = None,
        wall_clock: Clock | None = None,
        event_log: EventLog | None = None,
        audit_entries: int = AUDIT_ENTRIES,
        audit_traffic_entries: int = AUDIT_ENTRIES,
        may_be_damaged: bool = False,
    ) -> Self:
        """Connect to a store, and adopt its epoch if it has one.

        Args:
            url: redis://, redis+sentinel:// or redis+cluster://, `rediss` for TLS; see `address.py`.
            clock: for tests; None = the time of the server.
            timeout: seconds that one call may take.
            demands: the requirements on every server before it is used, and the durability of writes; None =
                no server is checked, and the answer to a write is its only confirmation.
            wall_clock: the clock of this process, compared with that of each server; None = they are not
                compared.
            event_log: receives the findings about the configuration of the servers; None = they are not
                logged.
            audit_entries: the number of audit events of changes that are kept.
            audit_traffic_entries: the number of audit events of traffic that are kept.
            may_be_damaged: also return a store with a damaged head, which the caller is about to replace.

        Raises ConfigurationError, StoreUnavailableError, StoreDamagedError.
        """
        connection = RedisConnection(url, timeout, demands=demands, clock=wall_clock, event_log=event_log)
        store = cls(connection, clock, RingSizes(changes=audit_entries, traffic=audit_traffic_entries))
        try:
            store.open_log()
        except StoreUninitializedError:
            pass  # the caller may initialise it
        except BaseException as error:
            if not (may_be_damaged and isinstance(error, StoreDamagedError)):
                store.close()
                raise
        return store

    def open_log(self) -> None:
        """Adopt the epoch of the store, after upgrading a store of version 0.1.0.

        Raises StoreUninitializedError; ConfigurationError if a process of that version still runs.
        """
        try:
            head = self.log.head()
        except StoreUninitializedError:
            if not self._upgrade():
                raise
            head = self.log.head()
        self.log.adopt(head.epoch)

    def initialise(self, epoch: Epoch) -> None:
        """Give an empty store its epoch, and adopt it."""
        found = [keys.HEAD, keys.OLD_HEAD, keys.LOG, keys.GENERATIONS, keys.index(RecordKind.KEY)]
        words = [epoch, keys.OLD_HEAD_TEXT]
        self._connection.run("initialise", found, words, repeatable=False, durable=True)
        self.log.adopt(epoch)

    def accept_clock(self, time: datetime, *, audit: AuditEvent | None = None) -> Head:
        """Set the latest steady time back to `time`, and return the head."""
        audit_keys, audit_words = self._writer.event(audit)
        words = [self._writer.now(), time_text(time), *audit_words]
        found = [keys.HEAD, *audit_keys]
        return head_of(*self._connection.run("accept_clock", found, words, repeatable=False, durable=True))

    def check(self, demands: Demands) -> Sequence[Finding]:
        """Return the findings against these demands in the servers' configuration, refusals first."""
        return self._connection.check(demands)

    def close(self) -> None:
        """Close all connections."""
        self._connection.close()

    def _upgrade(self) -> bool:
        """Upgrade a store of version 0.1.0; return whether it was upgraded.

        Raises ConfigurationError if a process of that version still runs.
        """
        if not self._is_old():
            return False
        # The heartbeats first, then the version again: a process of this version writes heartbeats only after
        # the store was upgraded, so heartbeats in a store that is still old come from processes of version
        # 0.1.0.
        require_stopped(
            lambda: heartbeats if (heartbeats := self._old_heartbeats()) and self._is_old() else {}
        )
        found = [keys.HEAD, keys.OLD_HEAD, keys.LOG, keys.GENERATIONS]
        return bool(self._connection.run("upgrade", found, [keys.OLD_HEAD_TEXT], durable=True))

    def _is_old(self) -> bool:
        kind: str = self._connection.command("TYPE", keys.OLD_HEAD)
        return kind == "hash"

    def _old_heartbeats(self) -> Mapping[str, str]:
        prefix = keys.heartbeat("")
        with self._connection.servers()[0] as server:
            return {
                key.removeprefix(prefix): text
                for found in server.scan("scan_texts", [keys.HEAD], prefix)
                for key, text in zip(found[::2], found[1::2], strict=True)
            }
