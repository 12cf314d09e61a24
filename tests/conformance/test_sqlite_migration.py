"""Opening a file that an older version made: the current version migrates it, and loses no content."""

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from identity_service.domain.audit import AuditEvent, AuditType
from identity_service.domain.principals import Client
from identity_service.storage.codec import encode_event, encode_session
from identity_service.storage.record_codec import encode_record
from identity_service.storage.sqlite import SqliteStore, schema
from tests.conformance import samples
from tests.fakes.clocks import FakeClock


def test_a_file_of_the_first_version_is_brought_up_to_date(path: Path) -> None:
    """The test makes the file as that version did: users are found by name, and sessions are listed."""
    user, session = samples.a_user("u_1", "Alice"), samples.a_session("s1", generations={})
    with closing(sqlite3.connect(path)) as connection:
        for statement in schema._TABLES:
            connection.execute(statement)
        connection.execute("ALTER TABLE records ADD COLUMN username TEXT")
        connection.execute(
            "CREATE UNIQUE INDEX records_by_username ON records (username) WHERE username IS NOT NULL"
        )
        connection.execute("INSERT INTO head (one, epoch, position, link) VALUES (1, 'e', 0, '')")
        connection.execute(
            "INSERT INTO records (kind, id, value, username, epoch, position) VALUES (?, ?, ?, ?, ?, ?)",
            ("user", "u_1", encode_record(user), "alice", "e", 0),
        )
        connection.execute(
            "INSERT INTO sessions (id, version, expire_time, value) VALUES (?, ?, ?, ?)",
            ("s1", 1, session.expire_time.timestamp(), encode_session(session)),
        )
        connection.execute("PRAGMA user_version = 1")
        connection.commit()

    with closing(SqliteStore.open(str(path), clock=FakeClock())) as store:
        found = store.records.find_user("ALICE")
        assert found is not None
        assert found.record == user
        assert store.sessions.list_of(session.subject) == [session]
        assert store.sessions.list_of(session.client_id) == [session]
        store.records.update(replace(user, username="carol"), expected=found.revision)
        assert store.records.find_user("alice") is None


def test_a_file_of_the_first_release_is_brought_up_to_date(path: Path) -> None:
    """Records of that release have etags without a link, and keep them until they are written again."""
    client = samples.a_client("billing")
    with closing(sqlite3.connect(path)) as connection:
        for statement in (*schema._TABLES, *schema._SECOND):
            connection.execute(statement)
        connection.execute("INSERT INTO head (one, epoch, position, link) VALUES (1, 'e', 7, 'l')")
        connection.execute(
            "INSERT INTO records (kind, id, value, epoch, position) VALUES (?, ?, ?, ?, ?)",
            ("client", "billing", encode_record(client), "e", 7),
        )
        connection.execute("PRAGMA user_version = 2")
        connection.commit()

    with closing(SqliteStore.open(str(path), clock=FakeClock())) as store:
        found = store.records.get(Client, "billing")
        assert found is not None
        assert found.record == client
        assert str(found.revision) == "e.7"
        updated = store.records.update(client, expected=found.revision).revision
        assert updated == store.log.head().revision
        assert store.records.list_of(Client)[0].revision == updated


def test_a_file_with_one_ring_of_audit_events_gets_the_second_beside_processes_that_write_to_it(
    path: Path,
) -> None:
    """The older process goes on writing traffic events to the first ring, where they are still read."""
    clock = FakeClock()
    traffic = samples.an_event("issued", type=AuditType.TOKEN_ISSUED)
    with closing(sqlite3.connect(path)) as older:
        for statement in (*schema._TABLES, *schema._SECOND, *schema._THIRD):
            older.execute(statement)
        older.execute("INSERT INTO log_head (one, epoch, position, link) VALUES (1, 'e', 0, '')")
        older.execute("INSERT INTO beats (process, time) VALUES ('p-older', ?)", (clock.unix(),))
        older.execute("PRAGMA user_version = 3")

        def append_as_older_version(event: AuditEvent) -> None:
            older.execute("INSERT INTO audit (time, event) VALUES (0, ?)", (encode_event(event),))
            older.commit()

        append_as_older_version(traffic)
        with closing(SqliteStore.open(str(path), clock=clock)) as store:
            store.audit.append([samples.an_event("refused", type=AuditType.CALL_REFUSED)])
            append_as_older_version(traffic)

            assert [one.event.target for one in store.audit.read_after("", 10)] == [
                "issued",
                "refused",
                "issued",
            ]


def test_version_0_1_0_refuses_a_new_file_by_its_version(file_store: SqliteStore, path: Path) -> None:
    """Version 0.1.0 knows schema version 2, and refuses to open a file with a newer one."""
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() > (2,)
