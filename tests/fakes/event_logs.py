"""A fake of the port `EventLog`."""

import threading
from typing import Any

from tests.patience import PATIENCE


class RecordingEventLog:
    """Implements the port `EventLog`: keeps every event with its fields, in order."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []
        self._recorded = threading.Condition()

    def record(self, event: str, **fields: object) -> None:
        with self._recorded:
            self.events.append((event, fields))
            self._recorded.notify_all()

    @property
    def names(self) -> list[str]:
        """Return the names of all events, in order."""
        return [name for name, _ in self.events]

    def named(self, event: str) -> list[dict[str, Any]]:
        """Return the fields of every event of this name, in order."""
        return [fields for name, fields in self.events if name == event]

    def wait_for(self, event: str, **wanted: object) -> dict[str, Any]:
        """Wait for an event of this name with these fields; return all its fields."""

        def found() -> list[dict[str, Any]]:
            return [fields for fields in self.named(event) if wanted.items() <= fields.items()]

        with self._recorded:
            assert self._recorded.wait_for(found, PATIENCE), f"no {event} with {wanted}: {self.events}"
            return found()[0]
