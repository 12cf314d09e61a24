"""A fake of the port `LogListener`."""

from collections.abc import Callable, Sequence

from identity_service.domain.ids import Link
from identity_service.domain.log import Change, Revision


class FakeLogListener:
    """Implements the port `LogListener`: passes the revision of each event to a function of the test."""

    def __init__(
        self,
        *,
        changed: Callable[[Revision], object] = lambda _: None,
        replaced: Callable[[Revision], object] = lambda _: None,
    ) -> None:
        self._changed, self._replaced = changed, replaced

    def on_changes(self, revision: Revision, changes: Sequence[tuple[Change, Link]]) -> None:
        self._changed(revision)

    def on_log_replaced(self, revision: Revision) -> None:
        self._replaced(revision)
