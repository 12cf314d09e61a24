"""A store for a service that the test keeps from becoming ready. Asserts nothing about the service."""

import threading
from typing import Any

from identity_service.domain.log import LogPage
from identity_service.domain.store import Store
from tests.patience import PATIENCE


class SlowLog:
    """A store whose log cannot be read until the test lets it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.asked, self.go_on = threading.Event(), threading.Event()

    def read(self, after: int, limit: int) -> LogPage:
        self.asked.set()
        assert self.go_on.wait(PATIENCE)
        return self._store.log.read(after, limit)

    @property
    def log(self) -> Any:
        return self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store if hasattr(self._store, name) else self._store.log, name)
