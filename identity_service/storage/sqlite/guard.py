"""Makes sure that committed data is in the files that the next process will open.

SQLite goes on silently if its files are removed, moved or replaced while they are open. This module compares
the files before a transaction, and again after a commit before it is acknowledged. If only the log (`-wal`)
or its index (`-shm`) is gone, the open handles still reach it: the log is written into the file, and
everything is reopened. If data cannot be kept, the store is refused until the files are repaired.
"""

import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NoReturn

from identity_service.domain.errors import StoreUnavailableError, UnsafeStoreError
from identity_service.domain.ports import EventLog
from identity_service.storage.sqlite import saved_logs
from identity_service.storage.sqlite.connection import Connection, committed
from identity_service.storage.sqlite.content_check import ContentCheck
from identity_service.storage.sqlite.files import (
    FileIds,
    create_private,
    directory_locked,
    file_ids,
    leave_to_owner,
    not_the_last,
)


class FileGuard:
    """A guard that notices if the files of one open database were removed, replaced or damaged.

    Any thread may call any method.
    """

    def __init__(
        self, path: Path, connections: Sequence[Connection], timeout: float, event_log: EventLog | None
    ) -> None:
        """Note which files are open.

        Args:
            path: the absolute path of the file.
            connections: all connections of this process to it, the writing one first, the reading one last;
                open, in WAL mode.
            timeout: seconds to wait for locks.
            event_log: records refused, repaired and reopened files.
        """
        self._path = path
        self._name = str(path)
        self._connections = connections
        self._writer = connections[0]
        self._extra_connections: list[Connection] = []
        """The connections of `another` whose blocks have not ended."""
        self._timeout = timeout
        self._event_log = event_log
        self._changing = threading.Lock()
        self._ids = file_ids(self._name)
        self.is_open = True
        """True if the connections are open; False after reopening failed, until the next `check`."""
        self._refusal: tuple[FileIds, UnsafeStoreError] | None = None
        self._damage: UnsafeStoreError | None = None
        self._content = ContentCheck(path, connections[-1])
        self.losses = 0
        """The number of times that commits that were not acknowledged were left behind in a removed log."""
        with self._writer.held() as connection:
            saved_logs.forget(connection, file_ids(self._name))

    def check(self) -> None:
        """Return if the connections are open and everything committed is in the files at the path.

        Opens the files again first if that is needed and nothing is lost. Raises UnsafeStoreError, which
        names the file; StoreUnavailableError if the files cannot be opened again now.
        """
        if self._damage is not None:
            raise UnsafeStoreError(str(self._damage))
        if self.is_open and self._refusal is None and file_ids(self._name) == self._ids:
            return
        with self._held():
            self._follow(file_ids(self._name))

    @contextmanager
    def another(self) -> Iterator[Connection]:
        """Open one more connection for the block, and watch its files, too.

        SQLite gives the connections of a process a common index, so this one must not outlive the others: if
        the files are reopened, it is closed first, and its read in progress fails.
        """
        self.check()
        with self._held(), directory_locked(self._path, self._timeout, alone=False):
            if file_ids(self._name) != self._ids:
                raise StoreUnavailableError("the store's files were replaced; try again")
            connection = Connection(self._name, self._timeout)
            self._extra_connections.append(connection)
        try:
            yield connection
        finally:
            with self._changing:
                self._extra_connections.remove(connection)
                connection.close()

    def examine(self) -> None:
        """Raise UnsafeStoreError if the same file has foreign content, as `cp` writes it (`ContentCheck`).

        Raises StoreUnavailableError if the connection for the check is in use for too long.
        """
        if self._damage is None and file_ids(self._name) == self._ids and self._content.finds_damage():
            raise self.refuse_damaged()

    def refuse_damaged(self) -> UnsafeStoreError:
        """Refuse the file for the rest of this process; returns the error to raise."""
        if self._damage is None:
            self._damage = self._refused(
                f"the store's file {self._name} is damaged, or was written over while it was open",
                "stop every process that uses it, put a backup in its place, remove "
                f"{self._name}-wal and {self._name}-shm, and start again",
            )
        return UnsafeStoreError(str(self._damage))

    def close(self) -> None:
        """Close the connections, and leave files alone that another process has created at the path."""
        with self._changing:
            for connection in self._extra_connections:
                connection.close()
            found = file_ids(self._name)
            if found.main is None or found.main != self._ids.main or not self._others_created_files(found):
                return  # SQLite closes correctly by itself, even if the file was moved
            with suppress(OSError), not_the_last(self._path):
                for connection in self._connections:
                    connection.close()

    @contextmanager
    def _held(self) -> Iterator[None]:
        """Hold the lock that protects the list of connections and their files.

        Raises StoreUnavailableError after the timeout.
        """
        if not self._changing.acquire(timeout=self._timeout):
            raise StoreUnavailableError("the store's files are being opened again; try again")
        try:
            yield
        finally:
            self._changing.release()

    def _follow(self, found: FileIds) -> None:
        """Reopen the files that are at the path now, with all that was committed, or refuse them."""
        if self.is_open and found == self._ids:
            self._end_refusal()
            return
        if self._refusal is not None and self._refusal[0] == found:
            raise UnsafeStoreError(str(self._refusal[1]))
        self._require_file(found)
        with ExitStack() as stack:
            stack.enter_context(directory_locked(self._path, self._timeout, alone=True))
            for connection in (*self._extra_connections, *self._connections):
                stack.enter_context(connection.held())
            self._reopen(file_ids(self._name))
        self._end_refusal()

    def _reopen(self, found: FileIds) -> None:
        """Reopen all connections on the files that are at the path now.

        The caller holds the directory lock alone and all connections: no other process of this program opens
        the file meanwhile, and no thread uses it.
        """
        self._require_file(found)
        if self.is_open:
            for connection in self._extra_connections:
                connection.disconnect()  # its open transaction would prevent the checkpoint
            kept = not self._others_created_files(found)
            if kept:
                self._save()
                self._disconnect()
            else:
                # Either another process had the same log, saved it and began the new one, or data is split.
                if not saved_logs.holds(self._name, self._ids):
                    self._refuse_split(found)
                with not_the_last(self._path):
                    self._disconnect()
                self.losses += 1
            if self._event_log is not None:
                self._event_log.record("store_reopened", file=self._name, kept=kept)
        for connection in (*self._connections, *self._extra_connections):
            connection.reconnect()
        saved_logs.forget(self._writer.raw, file_ids(self._name))  # a first read: SQLite creates its files
        self._ids, self.is_open = file_ids(self._name), True

    def _disconnect(self) -> None:
        """Close all connections before any is reopened.

        SQLite shares one index among all connections of a process to a file, old or new.
        """
        self.is_open = False
        for connection in self._connections:
            connection.disconnect()

    def _others_created_files(self, found: FileIds) -> bool:
        """Return whether another process has created a new log or index at the path."""
        ours = self._ids
        return found.wal not in (None, ours.wal) or found.shm not in (None, ours.shm)

    # If the log was removed.

    def _save(self) -> None:
        """Write the whole log into the file, and note there that it was saved; see `saved_logs.py`.

        Raises StoreUnavailableError if a reader prevents the write; UnsafeStoreError if another log is at the
        path by then.
        """
        with committed(self._writer.raw, "BEGIN IMMEDIATE"):
            saved_logs.note(self._writer.raw, self._ids)
        busy, _, _ = self._writer.raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy:
            raise StoreUnavailableError("the store's log was removed and cannot be saved now; try again")
        found = file_ids(self._name)
        self._require_file(found)
        if self._others_created_files(found):
            self._refuse_split(found)

    # If data cannot be kept.

    def _require_file(self, found: FileIds) -> None:
        """Refuse the store if the file at the path is not the one that is open."""
        if found.main != self._ids.main:
            self._refuse(
                found,
                f"the store's file {self._name} was moved, removed or replaced while it was open",
                "move it back, or stop every process that uses it, put the right file there and start again",
            )

    def _refuse_split(self, found: FileIds) -> NoReturn:
        """Refuse the store because two processes wrote to different logs, which cannot be merged."""
        copy = self._rescue()
        self._refuse(
            found,
            f"{self._name}-wal or {self._name}-shm was removed, and another process has begun another",
            "stop every process that uses the store"
            + (f"; all that this one had is in {copy}: put that in the place of {self._name}" if copy else "")
            + f", remove {self._name}-wal and {self._name}-shm, and start again",
        )

    def _rescue(self) -> Path | None:
        """Copy all that this process sees to a file beside the store; returns None if that fails."""
        copy = self._path.with_name(f"{self._path.name}.rescued-{os.getpid()}")
        try:
            create_private(copy)
            leave_to_owner(copy)
            self._writer.raw.execute("VACUUM INTO ?", (str(copy),))
        except (sqlite3.Error, OSError):
            return copy if copy.exists() and copy.stat().st_size else None
        return copy

    def _refuse(self, found: FileIds, what: str, fix: str) -> NoReturn:
        """Raise UnsafeStoreError, and raise it again until the files at the path change."""
        error = self._refused(what, fix)
        self._refusal = (found, error)
        raise error

    def _refused(self, what: str, fix: str) -> UnsafeStoreError:
        """Record the refusal as an event; returns the error."""
        if self._event_log is not None:
            self._event_log.record("store_refused", what=what, fix=fix)
        return UnsafeStoreError(f"{what}: {fix}")

    def _end_refusal(self) -> None:
        """End a refusal, and record that as an event."""
        if self._refusal is not None:
            self._refusal = None
            if self._event_log is not None:
                self._event_log.record("store_mended")
