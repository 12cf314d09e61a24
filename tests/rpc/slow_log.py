"""A service whose start waits for its log until the test lets it continue."""

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
    """A store with a log of which one method waits until the test lets it continue."""

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
    """Begin to start a service on a new store, up to this method of its log; stop it after the block.

    Yields a function that lets the service continue and returns once it has started.
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
