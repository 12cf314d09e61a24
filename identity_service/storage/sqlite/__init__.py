"""The embedded store: one SQLite file, durable, nothing to install, for one machine."""

from identity_service.storage.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]
