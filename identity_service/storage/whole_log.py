"""The checks of a whole log that both stores make: for a copy, and for lost generations."""

from collections.abc import Iterable, Iterator, Mapping

from identity_service.domain.errors import StoreDamagedError
from identity_service.domain.ids import Link, PrincipalId
from identity_service.domain.log import (
    NEVER_RAISED,
    Change,
    Generation,
    GenerationRaised,
    Head,
    LogEntry,
    SessionEnded,
    TokenDenied,
)
from identity_service.domain.revocations import Revocations


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


def lost_generations(
    raises: Iterable[tuple[Change, Link]], held: Mapping[PrincipalId, Generation]
) -> list[GenerationRaised]:
    """Return the generations that entries of the log have raised and that the state does not hold."""
    raised = Revocations()
    for change, link in raises:
        raised.apply(change, link)
    return [
        GenerationRaised(principal=principal, number=generation.number, origin=generation.link)
        for principal, generation in raised.generations.items()
        if generation != held.get(principal) and generation.number >= held.get(principal, NEVER_RAISED).number
    ]


def require_none_lost(where: str, count: int) -> None:
    """Raise StoreDamagedError if `count` generations are lost for good; `where` names their table or key."""
    if count:
        raise StoreDamagedError(
            f"{where} has lost {count} of the generations that were raised, and the log has their entries no "
            "more: what they revoked would be accepted again. Start while a process that knows them runs, or "
            "restore a backup: `identity restore FILE --replace`"
        )
