"""A store whose operations are counted, with their durations and whether they failed."""

import time
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any, Final, TypeAlias, cast

from identity_service.domain.attempts import AttemptCounter
from identity_service.domain.audit import AuditEvent
from identity_service.domain.change_log import ChangeLog
from identity_service.domain.copying import Copying
from identity_service.domain.errors import IdentityError, UnavailableError
from identity_service.domain.ids import Epoch
from identity_service.domain.log import Head
from identity_service.domain.store import AuditStore, FactStore, RecordStore, SessionStore, SingleUse, Store
from identity_service.telemetry.counters import DurationsByLabels

Wrap: TypeAlias = Callable[[Callable[..., Any], str], Callable[..., Any]]
"""A function that returns a method of a store, wrapped; it also gets the name of the operation."""
_WAITING: Final = "log.wait"
"""The operation that waits for the next change, and is therefore not measured."""


class MeasuredStore:
    """A store that passes every operation to another one. Implements the port Store.

    The outcome of an operation is `ok`; `unavailable` if the store could not be reached or did not confirm a
    write; `refused` if it answered otherwise than hoped, such as "not found"; `bug` for any other exception.
    """

    def __init__(self, store: Store, wrap: Wrap | None = None) -> None:
        """Measure the operations of this store; `wrap`, if it is given, wraps each, except waiting."""
        self._store = store
        self.durations = durations = DurationsByLabels("operation", "outcome")
        self.log = cast("ChangeLog", _Part(store, "log", durations, wrap))
        self.facts = cast("FactStore", _Part(store, "facts", durations, wrap))
        self.records = cast("RecordStore", _Part(store, "records", durations, wrap))
        self.sessions = cast("SessionStore", _Part(store, "sessions", durations, wrap))
        self.single_use = cast("SingleUse", _Part(store, "single_use", durations, wrap))
        self.audit = cast("AuditStore", _Part(store, "audit", durations, wrap))
        self.attempts = cast("AttemptCounter", _Part(store, "attempts", durations, wrap))

    @property
    def copying(self) -> Copying:
        """Return the ports that read and write the store as a whole; they are not measured."""
        return self._store.copying

    def initialise(self, epoch: Epoch) -> None:
        """Give an empty store its epoch."""
        self._store.initialise(epoch)

    def accept_clock(self, time: datetime, *, audit: AuditEvent | None = None) -> Head:
        """Set the latest steady time back."""
        return self._store.accept_clock(time, audit=audit)

    def close(self) -> None:
        """Release all resources."""
        self._store.close()


class _Part:
    """One part of a store. Every method is looked up when it is called."""

    def __init__(self, store: Store, name: str, durations: DurationsByLabels, wrap: Wrap | None) -> None:
        self._store = store
        self._wrap = wrap
        self._name = name
        self._durations = durations

    def __getattr__(self, name: str) -> Any:
        found, operation = getattr(getattr(self._store, self._name), name), f"{self._name}.{name}"
        if not callable(found) or operation == _WAITING:
            return found
        method = found if self._wrap is None else self._wrap(found, operation)
        return partial(self._measure, method, operation)

    def _measure(self, method: Callable[..., Any], operation: str, /, *args: Any, **kwargs: Any) -> Any:
        started, outcome = time.perf_counter(), "bug"
        try:
            found = method(*args, **kwargs)
            outcome = "ok"
        except UnavailableError:
            outcome = "unavailable"
            raise
        except IdentityError:
            outcome = "refused"
            raise
        finally:
            self._durations[operation, outcome].add(time.perf_counter() - started)
        return found
