"""SQLite as the target of faults: rows are deleted, files are removed or replaced by an older copy."""

import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from identity_service.domain.ports import EventLog
from identity_service.domain.store import Store
from identity_service.storage.codec import decode_change
from identity_service.storage.sqlite import SqliteStore
from tests.machine.clocks import PartyClock
from tests.machine.facts import Kind
from tests.machine.stores import Held
from tests.unsynced import unsynced

if TYPE_CHECKING:
    from tests.machine.site import Site

_TABLES: Final = {
    "head": "log_head",
    "log": "log",
    "generations": "generations",
    "denial": "denied",
    "end": "ended",
    "session": "sessions",
    "heartbeat": "beats",
    "audit": "audit",
    "used": "used",
    "request": "requests",
    "client": "records WHERE kind = 'client'",
    "user": "records WHERE kind = 'user'",
    "key": "records WHERE kind = 'key'",
    "names": "names",
}
WHOLE: Final = ("log", "generations")
"""Kinds whose rows are all deleted at once, as Redis has a single key for them; other kinds lose one row."""


class SqliteTarget:
    """An SQLite file in a folder of its own."""

    name = "sqlite"
    kinds = (*_TABLES, "generation")
    has_clock = False

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (folder / "data").mkdir()
        self.path = folder / "data" / "identity.db"
        self._moved = 0
        self._deleted: dict[str, list[tuple[str, list[str], tuple[Any, ...]]]] = {}

    def open(self, clock: PartyClock, event_log: EventLog) -> Store:
        with unsynced():
            return SqliteStore.open(str(self.path), clock=clock, event_log=event_log)

    def held(self) -> Held:
        held = Held()
        with closing(sqlite3.connect(self.path)) as connection:
            for (change,) in connection.execute("SELECT change FROM log"):
                held.fold(decode_change(change))
            for table in ("denied", "ended"):
                held.kept |= {id_ for (id_,) in connection.execute(f"SELECT id FROM {table}")}  # noqa: S608
            ended = "SELECT id FROM ended UNION SELECT id FROM sessions WHERE ended"
            held.ended = {id_ for (id_,) in connection.execute(ended)}
            held.generations = dict(connection.execute("SELECT principal, number FROM generations"))
        return held

    def positions(self) -> Sequence[int]:
        return [position for (position,) in self._rows("SELECT position FROM log ORDER BY position")]

    def head(self) -> tuple[str, int, str, int]:
        rows = self._rows("SELECT epoch, position, link, floor FROM log_head")
        return rows[0] if rows else ("", 0, "", 0)

    def key_ids(self) -> set[str]:
        return {id_ for (id_,) in self._rows("SELECT id FROM records WHERE kind = 'key'")}

    def remove_entries(self, first: int, last: int) -> int:
        return self._execute("DELETE FROM log WHERE position BETWEEN ? AND ?", first, last)

    def delete(self, kind: str, which: int) -> str:
        table, _, condition = _TABLES[kind if kind != "generation" else "generations"].partition(" WHERE ")
        where = f" WHERE {condition}" if condition else ""
        with closing(sqlite3.connect(self.path)) as connection:
            connection.row_factory = sqlite3.Row
            rows = connection.execute(f"SELECT * FROM {table}{where}").fetchall()  # noqa: S608
            if not rows:
                return ""
            chosen = rows if kind in WHOLE else [rows[which % len(rows)]]
            for row in chosen:
                columns = list(row.keys())
                match = " AND ".join(f"{column} IS ?" for column in columns)
                connection.execute(f"DELETE FROM {table} WHERE {match}", tuple(row))  # noqa: S608
                if table != "log":
                    saved = "generations" if kind == "generation" else kind
                    self._deleted.setdefault(saved, []).append((table, columns, tuple(row)))
            connection.commit()
        return str(chosen[0][0])

    def restore_deleted(self, kinds: Sequence[str]) -> None:
        for kind in kinds:
            for table, columns, row in self._deleted.get(kind, []):
                marks = ", ".join("?" for _ in columns)
                self._execute(
                    f"INSERT OR IGNORE INTO {table} ({', '.join(columns)}) VALUES ({marks})",  # noqa: S608
                    *row,
                )

    def copy(self) -> None:
        """Copy the file by SQLite's backup, since opening it otherwise would drop the locks on it."""
        target = self._folder / "copy.db"
        target.unlink(missing_ok=True)
        with (
            closing(sqlite3.connect(self.path)) as source,
            closing(sqlite3.connect(target)) as destination,
        ):
            source.backup(destination)

    def restore_copy(self) -> None:
        """Move the current files away, and put the copy in their place. No process may be running."""
        self._moved += 1
        self.path.parent.rename(self._folder / f"moved-{self._moved}")
        self.path.parent.mkdir()
        shutil.copy(self._folder / "copy.db", self.path)

    def spoil(self, site: "Site", how: int, which: int, crashes: bool) -> Sequence[str]:
        """Remove the write-ahead log, its index or both under a process, which then makes a revocation.

        The other process is stopped meanwhile: both belong to one process of the operating system, so that
        SQLite would share the index between them. At the end the first process may be restarted.
        """
        process, other = site.processes[which], site.processes[1 - which]
        if not process.works or other.paused:
            return ()
        endings = (("-wal", "-shm"), ("-wal",), ("-shm",))[how]
        site.stop(other)
        reopened = site.event_log.names.count("store_reopened")
        for ending in endings:
            self.path.with_name(self.path.name + ending).unlink(missing_ok=True)
        if (token := site.issue(process, "client", 300)) is not None:
            site.revoke(process, Kind.TOKEN, token)
        site.heartbeat(process)
        if crashes:
            site.stop(process)
            site.start_with_help(process)
        site.start_with_help(other)
        return ["files removed: " + " ".join(endings)] * (
            site.event_log.names.count("store_reopened") > reopened
        )

    def mend(self) -> None:
        """Do nothing: a process repairs its files by itself."""

    def close(self) -> None:
        """Do nothing, since nothing is open."""

    def _rows(self, statement: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.path)) as connection:
            return connection.execute(statement).fetchall()

    def _execute(self, statement: str, *words: object) -> int:
        with closing(sqlite3.connect(self.path)) as connection:
            count = connection.execute(statement, words).rowcount
            connection.commit()
        return count
