"""A service whose start is held up: it is not ready until the test lets it read the log of the store."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from identity_service.adapters.clock import SystemClock
from identity_service.bootstrap import Service
from identity_service.composition.opening import open_store
from identity_service.composition.store_admin import open_store_admin
from identity_service.domain.store import Store
from identity_service.settings import Settings
from tests.patience import PATIENCE


class _SlowLog:
    """A store in whose log one method blocks until the test releases it."""

    def __init__(self, store: Store, method: str) -> None:
        self._store = store
        self._method = method
        self.asked, self.go_on = threading.Event(), threading.Event()

    @property
    def log(self) -> Any:
        return self

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store if hasattr(self._store, name) else self._store.log, name)
        if name != self._method:
            return found

        def wait(*args: Any) -> Any:
            self.asked.set()
            assert self.go_on.wait(PATIENCE)
            return found(*args)

        return wait


@contextmanager
def starting(settings: Settings, method: str = "read") -> Iterator[Callable[[], None]]:
    """Start a service on a new store, and block it in this method of the log; stop it after the block.

    Yields a function that releases the service, and returns once the service has started.
    """
    with open_store_admin(settings) as store_admin:
        store_admin.initialise()
    store: Any = _SlowLog(open_store(settings, SystemClock()), method)
    service = Service(settings, store=store)
    thread = threading.Thread(target=service.start)
    thread.start()

    def go_on() -> None:
        store.go_on.set()
        thread.join(PATIENCE)

    try:
        assert store.asked.wait(PATIENCE)
        yield go_on
    finally:
        go_on()
        service.stop()
