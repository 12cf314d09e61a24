"""Helpers for copying out of a store that both stores use. Knows no store."""

from collections.abc import Iterable, Iterator

from identity_service.domain.errors import StoreDamagedError
from identity_service.domain.log import Head, LogEntry, SessionEnded, TokenDenied


def require_copyable(head: Head) -> Head:
    """Return the head. Raises StoreDamagedError if the log lacks entries that the store knows of."""
    if head.whole and head.complete:
        return head
    raise StoreDamagedError(
        "the change log does not hold all that the store knows of, so a copy of it could lack a revocation: "
        "start the service on the store once, it completes the log; then copy it again"
    )


def revocations_in(entries: Iterable[LogEntry]) -> Iterator[TokenDenied | SessionEnded]:
    """Yield the denials and the ends of sessions among these entries of the log.

    A copy needs those of the log in addition to those of the state: a clock that was a day ahead for a moment
    has deleted live denials from the state, while every process still enforces them from the log.
    """
    for entry in entries:
        if isinstance(entry.change, TokenDenied | SessionEnded):
            yield entry.change
