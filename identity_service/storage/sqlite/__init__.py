"""The embedded store: one SQLite file for one machine; durable, without any server."""

from identity_service.storage.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]
