"""Sees to it that what is committed lies in the files that the next process will find.

SQLite goes on with files that were removed, moved or replaced under it, as if nothing had happened. This
compares them before a transaction, and after a commit before it is acknowledged. Where only the log
(`-wal`) or its index (`-shm`) is gone, the open handles still reach it: it is written into the file, and
everything is opened anew. What cannot be kept is refused, until it is mended.
"""

import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Final, NoReturn
from urllib.parse import quote

from identity_service.domain.errors import StoreUnavailableError, UnsafeStoreError
from identity_service.domain.ports import EventLog
from identity_service.storage.sqlite.connection import Connection
from identity_service.storage.sqlite.files import (
    FileIds,
    create_private,
    directory_locked,
    file_ids,
    leave_to_owner,
    not_the_last,
)

_EXAMINED_BYTES: Final = 16 * 2**20
"""Size of a file up to which all of it is examined: that takes about 50 ms."""
_EXAMINE_INTERVAL: Final = 10.0
_SAVED_LOGS: Final = 16
_DAMAGE: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def is_damage(error: Exception) -> bool:
    """Whether SQLite says that what is in the file is no database, or not a whole one."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGE


class FileGuard:
    """Looks after the files of one database; any thread may call any method."""

    def __init__(
        self, path: Path, connections: Sequence[Connection], timeout: float, event_log: EventLog | None
    ) -> None:
        """
        Args:
            path: of the file, absolute.
            connections: all that this process has to it, the one that writes first; open, with a log.
            timeout: seconds to wait for locks.
            journal: where it is said that something is wrong.
        """
        self._path = path
        self._name = str(path)
        self._connections = connections
        self._writer = connections[0]
        self._lent: list[Connection] = []
        """Those of `another`, whose blocks have not ended."""
        self._timeout = timeout
        self._event_log = event_log
        self._changing = threading.Lock()
        self._ids = file_ids(self._name)
        self.is_open = True
        """Whether the connections are; not where opening them again has failed, until the next `check`."""
        self._refusal: tuple[FileIds, UnsafeStoreError] | None = None
        self._damage: UnsafeStoreError | None = None
        self._examined = self._look()
        self._examine_time = float("-inf")
        self.losses = 0
        """How often commits that were not acknowledged have been left behind in a log that was removed."""
        with self._writer.held() as connection:
            self._forget_saved(connection)

    def check(self) -> None:
        """Return if everything that was committed is in the files at the path, and they are open.

        Raises UnsafeStoreError, which names the file, and StoreUnavailableError where that cannot be seen to
        now.
        """
        if self._damage is not None:
            raise UnsafeStoreError(str(self._damage))
        if self.is_open and self._refusal is None and file_ids(self._name) == self._ids:
            return
        with self._held():
            self._follow(file_ids(self._name))

    @contextmanager
    def another(self) -> Iterator[Connection]:
        """Open one more connection for the block, and look after it like after the others.

        SQLite gives it the index that the others have, so it must not outlive theirs: if the files are
        opened anew it is the first to be closed, and what it was reading fails.
        """
        self.check()
        with self._held(), directory_locked(self._path, self._timeout, alone=False):
            if file_ids(self._name) != self._ids:
                raise StoreUnavailableError("the store's files were replaced; try again")
            connection = Connection(self._name, self._timeout)
            self._lent.append(connection)
        try:
            yield connection
        finally:
            with self._changing:
                self._lent.remove(connection)
                connection.close()

    def examine(self) -> None:
        """Look for other content in the same file, as `cp` puts it there; SQLite itself does not notice.

        That is found where the file was written to and is not whole in itself. A large file is not examined.
        Raises UnsafeStoreError.
        """
        found = self._look()
        if found == self._examined or self._damage is not None:
            return
        shrunk = found[0] < self._examined[0]
        if not shrunk and time.monotonic() - self._examine_time < _EXAMINE_INTERVAL:
            return
        if found[0] <= _EXAMINED_BYTES and file_ids(self._name) == self._ids and not self._is_whole():
            raise self.refuse_damaged()
        self._examined, self._examine_time = found, time.monotonic()

    def refuse_damaged(self) -> UnsafeStoreError:
        """Use the file no more in this process; returns what to raise."""
        if self._damage is None:
            self._damage = self._refused(
                f"the store's file {self._name} is damaged, or was written over while it was open",
                "stop every process that uses it, put a backup in its place, remove "
                f"{self._name}-wal and {self._name}-shm, and start again",
            )
        return UnsafeStoreError(str(self._damage))

    def close(self) -> None:
        """Close the connections, and leave alone what another process has begun at the path."""
        with self._changing:
            for connection in self._lent:
                connection.close()
            found = file_ids(self._name)
            if found.main is None or found.main != self._ids.main or not self._others_began(found):
                return  # SQLite does it right, also where the file was moved
            with suppress(OSError), not_the_last(self._path):
                for connection in self._connections:
                    connection.close()

    @contextmanager
    def _held(self) -> Iterator[None]:
        """Keep the connections as they are, or change them."""
        if not self._changing.acquire(timeout=self._timeout):
            raise StoreUnavailableError("the store's files are being opened again; try again")
        try:
            yield
        finally:
            self._changing.release()

    def _follow(self, found: FileIds) -> None:
        """Open what lies at the path by now, with all that was committed, or refuse it."""
        if self.is_open and found == self._ids:
            self._mended()
            return
        if self._refusal is not None and self._refusal[0] == found:
            raise UnsafeStoreError(str(self._refusal[1]))
        self._require_file(found)
        with ExitStack() as stack:
            stack.enter_context(directory_locked(self._path, self._timeout, alone=True))
            for connection in (*self._lent, *self._connections):
                stack.enter_context(connection.held())
            self._reopen(file_ids(self._name))
        self._mended()

    def _reopen(self, found: FileIds) -> None:
        """No other process of this program opens the file meanwhile, and no thread uses it."""
        self._require_file(found)
        if self.is_open:
            for connection in self._lent:
                connection.disconnect()  # its transaction would keep the log from being written into the file
            kept = not self._others_began(found)
            if kept:
                self._save()
                self._disconnect()
            else:
                # A process that had the same log has saved it, and has begun the new one; or it is not so.
                if not self._was_saved():
                    self._refuse_split(found)
                with not_the_last(self._path):
                    self._disconnect()
                self.losses += 1
            if self._event_log is not None:
                self._event_log.record("store_reopened", file=self._name, kept=kept)
        for connection in (*self._connections, *self._lent):
            connection.reconnect()
        self._forget_saved(self._writer.raw)  # a first read, with which SQLite makes its other files
        self._ids, self.is_open = file_ids(self._name), True

    def _disconnect(self) -> None:
        """All of them: SQLite gives connections of one process to one file the same index, old or new."""
        self.is_open = False
        for connection in self._connections:
            connection.disconnect()

    def _others_began(self, found: FileIds) -> bool:
        """Whether another log or index lies at the path, which another process has made."""
        ours = self._ids
        return found.wal not in (None, ours.wal) or found.shm not in (None, ours.shm)

    # A log that was removed.

    def _save(self) -> None:
        """Write the whole log into the file, with a mark by which processes that have it too know of that."""
        raw = self._writer.raw
        with self._writer.nested_transaction() as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS saved_logs (log TEXT NOT NULL)")
            connection.execute("INSERT INTO saved_logs (log) VALUES (?)", (self._log_name,))
            connection.execute(
                "DELETE FROM saved_logs WHERE rowid <= (SELECT max(rowid) FROM saved_logs) - ?",
                (_SAVED_LOGS,),
            )
        busy, _, _ = raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy:
            raise StoreUnavailableError("the store's log was removed and cannot be saved now; try again")
        found = file_ids(self._name)
        self._require_file(found)
        if self._others_began(found):
            self._refuse_split(found)

    @property
    def _log_name(self) -> str:
        """Names the log and index that this process has open: nobody else gets these numbers meanwhile."""
        return f"{self._ids.wal} {self._ids.shm}"

    def _was_saved(self) -> bool:
        """Read from the file itself, without a log: SQLite would take the index that this process has."""
        name = f"file:{quote(self._name)}?immutable=1"
        try:
            with closing(sqlite3.connect(name, uri=True)) as connection:
                tables = "SELECT 1 FROM sqlite_master WHERE name = 'saved_logs'"
                if connection.execute(tables).fetchone() is None:
                    return False
                marks = connection.execute("SELECT 1 FROM saved_logs WHERE log = ?", (self._log_name,))
                return marks.fetchone() is not None
        except sqlite3.Error as error:
            # The other process may be writing to the file at this moment.
            raise StoreUnavailableError("the store's files were replaced; try again") from error

    def _forget_saved(self, connection: sqlite3.Connection) -> None:
        """Numbers of files are given again: a mark of an older log is no mark of the one in use."""
        ids = file_ids(self._name)
        tables = "SELECT 1 FROM sqlite_master WHERE name = 'saved_logs'"
        if connection.execute(tables).fetchone() is None:
            return
        name = (f"{ids.wal} {ids.shm}",)
        if connection.execute("SELECT 1 FROM saved_logs WHERE log = ?", name).fetchone() is not None:
            connection.execute("DELETE FROM saved_logs WHERE log = ?", name)

    # What cannot be kept.

    def _require_file(self, found: FileIds) -> None:
        if found.main != self._ids.main:
            self._refuse(
                found,
                f"the store's file {self._name} was moved, removed or replaced while it was open",
                "move it back, or stop every process that uses it, put the right file there and start again",
            )

    def _refuse_split(self, found: FileIds) -> NoReturn:
        """Both have written: no process can tell how to bring that together."""
        copy = self._rescue()
        self._refuse(
            found,
            f"{self._name}-wal or {self._name}-shm was removed, and another process has begun another",
            "stop every process that uses the store"
            + (f"; all that this one had is in {copy}: put that in the place of {self._name}" if copy else "")
            + f", remove {self._name}-wal and {self._name}-shm, and start again",
        )

    def _rescue(self) -> Path | None:
        """Copy what this process sees to a file beside; None where that fails."""
        copy = self._path.with_name(f"{self._path.name}.rescued-{os.getpid()}")
        try:
            create_private(copy)
            leave_to_owner(copy)
            self._writer.raw.execute("VACUUM INTO ?", (str(copy),))
        except (sqlite3.Error, OSError):
            return copy if copy.exists() and copy.stat().st_size else None
        return copy

    def _refuse(self, found: FileIds, what: str, fix: str) -> NoReturn:
        error = self._refused(what, fix)
        self._refusal = (found, error)
        raise error

    def _refused(self, what: str, fix: str) -> UnsafeStoreError:
        if self._event_log is not None:
            self._event_log.record("store_refused", what=what, fix=fix)
        return UnsafeStoreError(f"{what}: {fix}")

    def _mended(self) -> None:
        if self._refusal is not None:
            self._refusal = None
            if self._event_log is not None:
                self._event_log.record("store_mended")

    # Other content in the same file.

    def _look(self) -> tuple[int, int]:
        """Size and time of the last write; both change when SQLite writes its log into the file."""
        try:
            status = self._path.stat()
        except OSError:
            return 0, 0
        return status.st_size, status.st_mtime_ns

    def _is_whole(self) -> bool:
        """By a connection of its own: the others remember pages that they have read before."""
        try:
            with closing(sqlite3.connect(self._name, timeout=self._timeout)) as connection:
                found: str
                (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
                return found == "ok"
        except sqlite3.Error as error:
            return not is_damage(error)
