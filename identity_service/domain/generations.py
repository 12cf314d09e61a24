"""The generations of the principals, merged from the histories of the log that one process has read.

The module decides nothing about a token; `revocations.py` does.
"""

from collections.abc import Mapping

from identity_service.domain.ids import PrincipalId
from identity_service.domain.log import NEVER_RAISED, Generation


class MergedGenerations:
    """The generation of each principal that was ever raised. One thread at a time writes."""

    __slots__ = ("_generations", "_overtaken", "_unproven")

    def __init__(self) -> None:
        self._generations: dict[PrincipalId, Generation] = {}
        self._unproven: dict[PrincipalId, Generation] = {}
        """Generations known before the log was replaced, which the new history has not shown yet."""
        self._overtaken: dict[tuple[PrincipalId, int], Generation] = {}
        """Generations known before the log was replaced that were lower than the store's, by principal and
        number; the new history may not contain them."""

    def begin_history(
        self,
        generations: Mapping[PrincipalId, Generation],
        known_before: Mapping[PrincipalId, Generation] | None = None,
    ) -> None:
        """Merge the generations of a store whose log was replaced, or is read for the first time.

        A generation that is higher here was raised in another history. If the store has raised the principal
        as well, that may have revoked tokens issued under the higher generation. Until the log shows that the
        higher generation is in it, or a raise above both, a number with the links of both is kept, which
        refuses both.

        A generation that is lower here may be of another history as well, for example after the store was
        replaced twice. The log shows that by another raise to the same number: then the store's number does
        not include it.

        Args:
            generations: the generations of the store.
            known_before: the generations known here when the store was asked; None = those known now. A
                raise by this process since then belongs to the new history, and is only missing from the
                store's answer.
        """
        remembered = self._generations if known_before is None else known_before
        self._unproven = {
            principal: known
            for principal, known in remembered.items()
            if known == self._generations[principal]
            and known.number > generations.get(principal, NEVER_RAISED).number
        }
        self._overtaken |= {
            (principal, known.number): known
            for principal, known in remembered.items()
            if known.number < generations.get(principal, NEVER_RAISED).number
        }
        for principal, generation in generations.items():
            self.raise_to(principal, generation)

    def history_is_read(self) -> None:
        """Stop comparing with generations that were lower here.

        The log was read to its end, and numbers only grow.
        """
        self._overtaken.clear()

    def raise_to(self, principal: PrincipalId, generation: Generation) -> None:
        """Raise the principal's generation to at least this one. Idempotent, in any order."""
        known = self._generations.get(principal)
        unproven = self._unproven.get(principal)
        if known is None:
            merged = generation
        elif unproven is None:
            merged = known.merged(generation)
        elif generation == unproven:
            merged = generation
            del self._unproven[principal]
        elif generation.number < unproven.number:
            merged = unproven.refusing(generation)
        else:
            merged = known.merged(generation)
            del self._unproven[principal]
        overtaken = self._overtaken.pop((principal, generation.number), generation)
        if overtaken != generation:
            merged = merged.refusing(overtaken)
        self._generations[principal] = merged
