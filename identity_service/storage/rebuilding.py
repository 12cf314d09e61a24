"""Finding generations that a store has lost, for the rebuild of its log. Knows no store."""

from collections.abc import Iterable, Mapping

from identity_service.domain.errors import StoreDamagedError
from identity_service.domain.ids import Link, PrincipalId
from identity_service.domain.log import NEVER_RAISED, Change, Generation, GenerationRaised
from identity_service.domain.revocations import Revocations


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
    """Raise StoreDamagedError if `count` generations are lost for good; `where` names what held them."""
    if count:
        raise StoreDamagedError(
            f"{where} has lost {count} of the generations that were raised, and the log has their entries no "
            "more: what they revoked would be accepted again. Start while a process that knows them runs, or "
            "restore a backup: `identity restore FILE --replace`"
        )
