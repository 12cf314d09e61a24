"""A journal for tests: remembers what it was told."""


class RecordingEventLog:
    """Implements the port EventLog."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, object]]] = []

    def record(self, event: str, **fields: object) -> None:
        self.events.append((event, fields))

    def named(self, event: str) -> list[dict[str, object]]:
        """The fields of every event of this name, in order."""
        return [fields for name, fields in self.events if name == event]
