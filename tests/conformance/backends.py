"""The kinds of stores that the conformance suite tests: each opens stores on one set of data, and damages it.

There is one class for each kind. A new kind of store needs one more class here, and one more row in the table
`BACKENDS` of `conftest.py`: the suite runs on the rows of that table. A kind of store that version 0.1.0 did
not have has no data of that version, so its methods that make such data call `pytest.skip`.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Protocol

import redis

from identity_service.domain.audit import AUDIT_ENTRIES, AuditEvent
from identity_service.domain.ids import PrincipalId, SessionId, TokenId
from identity_service.domain.store import Store
from identity_service.storage.codec import encode_event
from identity_service.storage.redis import keyspace
from identity_service.storage.sqlite import SqliteStore
from tests.fakes.clocks import FakeClock
from tests.redis_server import RedisServer
from tests.redis_topology import ClusterGroup
from tests.unsynced import unsynced


class Backend(Protocol):
    """One set of stored data, and the `Store` instances that are open on it."""

    clock: FakeClock
    copies_at_once: bool
    """True if a copy is read, or written, in one transaction.

    If true, a copy shows its source at one point in time, and a copy that fails leaves nothing in its
    target."""
    keeps_exact_counts: bool
    """True if the store keeps exactly the configured number of audit events; if false, it may keep up to one
    block more."""

    def open(
        self, *, audit_entries: int = AUDIT_ENTRIES, audit_traffic_entries: int = AUDIT_ENTRIES
    ) -> Store:
        """Return another store instance on the same data, as another process would have."""

    def wipe(self) -> None:
        """Delete all data while stores are open, as an operator may do by mistake."""

    def lose_entries(self, after: int, *, rewind: bool, generations: bool = False) -> None:
        """Delete the log entries after a position.

        With `rewind` the head of the log goes back to that position as well, as in a failover that loses
        writes. With `generations` the table of generations is lost, too.
        """

    def forget_links_of_etags(self) -> None:
        """Rewrite the etags of all records as version 0.1.0 did, without a link: `<epoch>.<position>`."""

    def remove_entries(self, first: int, last: int) -> None:
        """Delete the log entries from `first` to `last`, both included, and keep the head as it is."""

    def lose_log(self) -> None:
        """Delete the whole log, and keep its head and the state."""

    def lose_head(self) -> None:
        """Delete the head of the log, and keep the log and the state."""

    def forget_generation(self, principal: PrincipalId) -> None:
        """Delete the generation of a principal from the state, but not from the log."""

    def forget_denial(self, token_id: TokenId) -> None:
        """Delete the denial of a token from the state, but not from the log."""

    def forget_end(self, session_id: SessionId) -> None:
        """Delete the stored end of a session, but keep its entry in the log and the mark in its record."""

    def append_event_of_older_version(self, event: AuditEvent) -> None:
        """Store an audit event as an older version did, which kept events of every type in a single ring."""

    def refuse_events(self) -> None:
        """Make every later attempt to store an audit event fail."""

    def spoil_fence(self) -> None:
        """Replace the fence, which must be set, by a text that cannot be parsed."""

    def read_head_as_version_0_1_0(self) -> object:
        """Read the head of the log as version 0.1.0 did.

        Raises the driver's error if that version cannot read it.
        """

    def cut_off(self) -> None:
        """Make the data unreachable for every open store, permanently."""

    def close(self) -> None:
        """Close every store that this backend opened."""


class SqliteBackend:
    """The embedded store: an SQLite file in a temporary directory."""

    copies_at_once = True
    keeps_exact_counts = True

    def __init__(self, directory: Path) -> None:
        self.clock = FakeClock()
        self.path = directory / "identity.db"
        self._open: list[SqliteStore] = []

    def open(
        self, *, audit_entries: int = AUDIT_ENTRIES, audit_traffic_entries: int = AUDIT_ENTRIES
    ) -> Store:
        with unsynced():
            store = SqliteStore.open(
                str(self.path),
                clock=self.clock,
                audit_entries=audit_entries,
                audit_traffic_entries=audit_traffic_entries,
            )
        self._open.append(store)
        return store

    def wipe(self) -> None:
        with closing(sqlite3.connect(self.path)) as connection:
            tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
            for (table,) in tables:
                connection.execute(f"DELETE FROM {table}")  # noqa: S608  # names from the file itself
            connection.commit()

    def lose_entries(self, after: int, *, rewind: bool, generations: bool = False) -> None:
        with closing(sqlite3.connect(self.path)) as connection:
            connection.execute("DELETE FROM log WHERE position > ?", (after,))
            if generations:
                connection.execute("DELETE FROM generations")
            if rewind:
                last = connection.execute("SELECT link FROM log WHERE position = ?", (after,)).fetchone()
                link = last[0] if last else ""
                connection.execute(
                    "UPDATE log_head SET position = ?, link = ?, kept = (SELECT count(*) FROM log),"
                    " raised = (SELECT count(*) FROM generations)",
                    (after, link),
                )
                connection.execute("UPDATE sqlite_sequence SET seq = ? WHERE name = 'log'", (after,))
            connection.commit()

    def forget_links_of_etags(self) -> None:
        self.execute("UPDATE records SET link = NULL")

    def remove_entries(self, first: int, last: int) -> None:
        self.execute("DELETE FROM log WHERE position BETWEEN ? AND ?", first, last)

    def lose_log(self) -> None:
        self.execute("DELETE FROM log")

    def lose_head(self) -> None:
        self.execute("DELETE FROM log_head")

    def forget_generation(self, principal: PrincipalId) -> None:
        self.execute("DELETE FROM generations WHERE principal = ?", principal)

    def forget_denial(self, token_id: TokenId) -> None:
        self.execute("DELETE FROM denied WHERE id = ?", token_id)

    def forget_end(self, session_id: SessionId) -> None:
        self.execute("DELETE FROM ended WHERE id = ?", session_id)

    def append_event_of_older_version(self, event: AuditEvent) -> None:
        time = self.clock.now().timestamp()
        self.execute("INSERT INTO audit (time, event) VALUES (?, ?)", time, encode_event(event))

    def refuse_events(self) -> None:
        for table in ("audit", "audit_traffic"):
            self.execute(f"ALTER TABLE {table} RENAME TO {table}_away")

    def spoil_fence(self) -> None:
        self.execute("UPDATE log_head SET fence = '[]'")

    def read_head_as_version_0_1_0(self) -> object:
        with closing(sqlite3.connect(self.path)) as connection:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            found: tuple[object, ...] = connection.execute(
                "SELECT epoch, position, link, floor, retention FROM head"
            ).fetchone()
        return version, *found

    def execute(self, statement: str, *words: object) -> None:
        """Execute an SQL statement on the file without the knowledge of the open stores."""
        with closing(sqlite3.connect(self.path)) as connection:
            connection.execute(statement, words)
            connection.commit()

    def cut_off(self) -> None:
        self.path.rename(self.path.with_suffix(".moved"))

    def close(self) -> None:
        for store in self._open:
            store.close()


class RedisBackend:
    """A Redis server that the whole test run shares, emptied for each test."""

    copies_at_once = False
    keeps_exact_counts = False

    def __init__(self, server: RedisServer) -> None:
        self.clock = FakeClock()
        self.server = server
        self.server.start()
        self.server.flush()
        self._open: list[Store] = []

    @property
    def url(self) -> str:
        return self.server.url

    def open(
        self, *, audit_entries: int = AUDIT_ENTRIES, audit_traffic_entries: int = AUDIT_ENTRIES
    ) -> Store:
        from identity_service.storage.redis import RedisStore

        store = RedisStore.connect(
            self.url,
            clock=self.clock,
            audit_entries=audit_entries,
            audit_traffic_entries=audit_traffic_entries,
        )
        self._open.append(store)
        return store

    def wipe(self) -> None:
        self.server.flush()

    def lose_entries(self, after: int, *, rewind: bool, generations: bool = False) -> None:
        client: Any  # its stubs allow for both protocols and for pipelines at once
        with closing(redis.Redis(port=self.server.port, decode_responses=True)) as client:
            if generations:
                client.delete(keyspace.GENERATIONS)
            if not rewind:
                for id_, _ in client.xrange(keyspace.LOG, f"({after}-0"):
                    client.xdel(keyspace.LOG, id_)
                return
            kept = client.xrange(keyspace.LOG, "-", f"{after}-0")
            client.delete(keyspace.LOG)
            for id_, fields in kept:
                client.xadd(keyspace.LOG, fields, id_)
            link = kept[-1][1]["link"] if kept else ""
            counts = {"kept": len(kept), "raised": client.hlen(keyspace.GENERATIONS)}
            client.hset(keyspace.HEAD, mapping={"position": after, "link": link, **counts})

    def remove_entries(self, first: int, last: int) -> None:
        with self.client() as client:
            for id_, _ in client.xrange(keyspace.LOG, f"{first}-0", f"{last}-0"):
                client.xdel(keyspace.LOG, id_)

    def lose_log(self) -> None:
        with self.client() as client:
            client.delete(keyspace.LOG)

    def lose_head(self) -> None:
        with self.client() as client:
            client.delete(keyspace.HEAD)

    def forget_generation(self, principal: PrincipalId) -> None:
        with self.client() as client:
            client.hdel(keyspace.GENERATIONS, principal)

    def forget_denial(self, token_id: TokenId) -> None:
        with self.client() as client:
            client.delete(keyspace.denial(token_id))

    def forget_end(self, session_id: SessionId) -> None:
        with self.client() as client:
            client.delete(keyspace.ended(session_id))

    def append_event_of_older_version(self, event: AuditEvent) -> None:
        with self.client() as client:
            fields = {"time": repr(self.clock.now().timestamp()), "event": encode_event(event)}
            client.xadd(keyspace.AUDIT, fields)

    def refuse_events(self) -> None:
        with self.client() as client:
            for key in (keyspace.AUDIT, keyspace.AUDIT_TRAFFIC):
                client.set(key, "no stream")

    def spoil_fence(self) -> None:
        with self.client() as client:
            client.hset(keyspace.HEAD, "fence", "[]")

    def read_head_as_version_0_1_0(self) -> object:
        with self.client() as client:
            found: Any = client.hmget("{idn}:head", "epoch", "position", "link", "floor", "retention")
        return found

    @contextmanager
    def client(self) -> Iterator[Any]:
        """Return a plain Redis client of the server that holds all keys except those of sessions."""
        # Its stubs allow for both protocols and for pipelines at once, hence Any.
        with closing(redis.Redis(port=self.server.port, decode_responses=True)) as client:
            yield client

    def forget_links_of_etags(self) -> None:
        client: Any
        with closing(redis.Redis(port=self.server.port, decode_responses=True)) as client:
            for key in client.scan_iter(_type="hash"):
                if (etag := client.hget(key, "revision")) is not None:
                    client.hset(key, "revision", etag.rpartition(".")[0])

    def cut_off(self) -> None:
        self.server.kill()

    def close(self) -> None:
        try:
            for store in self._open:
                store.close()
        finally:
            self.server.start()


class ClusterBackend(RedisBackend):
    """A Redis Cluster of three servers that the whole test run shares, emptied for each test."""

    def __init__(self, group: ClusterGroup) -> None:
        self._group = group
        super().__init__(group.home)
        self.wipe()

    @property
    def url(self) -> str:
        return self._group.url

    def wipe(self) -> None:
        for server in self._group.servers:
            server.flush()

    def cut_off(self) -> None:
        for server in self._group.servers:
            server.kill()

    def close(self) -> None:
        try:
            super().close()
        finally:
            self._group.revive()
