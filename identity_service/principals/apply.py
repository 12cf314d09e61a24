"""Plans and carries out the steps that make records match a declaration, through a port.

The module knows neither where the records are stored nor where the file is. Several processes may apply the
same file at once: the slower process finds that nothing is left to do.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Final, Protocol

from identity_service.domain.errors import (
    AlreadyExistsError,
    ConfigurationError,
    InvalidRequestError,
    NotFoundError,
    StaleEtagError,
)
from identity_service.domain.ids import FIRST_PARTY_CLIENT
from identity_service.domain.secret import Secret
from identity_service.principals.plan import (
    KINDS,
    Action,
    Declaration,
    Declared,
    Found,
    Step,
    name_of,
    plan_deletion,
    plan_one,
)

FIRST_ADMIN: Final = "admin"
"""The id of the client that `identity init` creates."""
NEVER_PRUNED: Final = frozenset({FIRST_PARTY_CLIENT, FIRST_ADMIN})
"""Ids of clients that are kept although a file does not declare them."""
_CONFLICTS: Final = (AlreadyExistsError, NotFoundError, StaleEtagError)
"""The errors after a concurrent change: the record was created, deleted or changed since it was read."""
_ATTEMPTS: Final = 5
"""The largest number of attempts at one step, which is planned again after each conflict."""


class PrincipalRecords(Protocol):
    """The stored records of principals. Every method raises UnavailableError if they cannot be reached."""

    def find(self, record: Declared) -> Found | None:
        """Return the stored record of this kind and name; None if there is none."""

    def list(self, kind: type[Declared]) -> Iterable[Found]:
        """Return all records of a kind."""

    def create(self, record: Declared, *, secret: bool) -> Secret | None:
        """Create the record; return the secret of a client if `secret` is set. Raises AlreadyExistsError."""

    def update(self, record: Declared, fields: Sequence[str], found: Found) -> None:
        """Set these fields as in `record`, if the stored record is still as found.

        Raises NotFoundError, StaleEtagError, AlreadyExistsError.
        """

    def give_secret(self, client_id: str) -> Secret:
        """Create a client's first secret, and return it. Raises NotFoundError."""

    def delete(self, found: Found) -> None:
        """Delete the record if it is still as found. Raises NotFoundError, StaleEtagError."""


OnSecret = Callable[[str, Secret], None]
"""A function that gets the client id and the secret as soon as it is created: it cannot be read again."""


def plan(
    declaration: Declaration, records: PrincipalRecords, *, prune: bool = False, caller: str = ""
) -> tuple[Step, ...]:
    """Return the steps that make the records match the declaration; empty if they do.

    Args:
        declaration: the declared records.
        records: the stored records.
        prune: also delete undeclared records of the kinds that the declaration covers.
        caller: the id of the principal that asks for the plan, which is never deleted; "" = none.
    """
    found = (plan_one(wanted, records.find(wanted.record)) for wanted in declaration.wanted)
    steps = tuple(step for step in found if step is not None)
    return (*steps, *_deletions(declaration, records, {*NEVER_PRUNED, caller})) if prune else steps


def _deletions(declaration: Declaration, records: PrincipalRecords, kept: Collection[str]) -> Iterator[Step]:
    named = {(type(wanted.record), _key(wanted.record)) for wanted in declaration.wanted}
    for kind in reversed(KINDS):
        if kind in declaration.kinds:
            for found in records.list(kind):
                if (kind, _key(found.record)) not in named and found.record.id not in kept:
                    yield plan_deletion(found)


def _key(record: Declared) -> str:
    return name_of(record).casefold()


def carry_out(steps: Iterable[Step], records: PrincipalRecords, on_secret: OnSecret) -> None:
    """Carry out the steps in order. A refused step does not keep the later ones from being tried.

    Raises:
        ConfigurationError: some steps were refused; one line for each.
        UnavailableError: the records cannot be reached; the remaining steps were not tried.
    """
    refused: list[str] = []
    for step in steps:
        try:
            _carry_out_step(step, records, on_secret)
        except (InvalidRequestError, *_CONFLICTS) as error:
            refused.append(f"{step.kind} {step.name}: {str(error).removeprefix(f'{step.name}: ')}")
    if refused:
        raise ConfigurationError("\n".join(refused))


def _carry_out_step(step: Step, records: PrincipalRecords, on_secret: OnSecret) -> None:
    for left in reversed(range(_ATTEMPTS)):
        try:
            _try_step(step, records, on_secret)
        except _CONFLICTS:
            if step.wanted is None or not left:
                raise
        else:
            return
        again = plan_one(step.wanted, records.find(step.wanted.record))
        if again is None:
            return  # another process has already done it
        step = again


def _try_step(step: Step, records: PrincipalRecords, on_secret: OnSecret) -> None:
    found = step.found
    if found is None:
        secret = records.create(step.record, secret=step.secret)
        if secret is not None:
            on_secret(step.name, secret)
        return
    if step.action is Action.DELETE:
        with suppress(NotFoundError):
            records.delete(found)
        return
    if step.differences:
        records.update(step.record, [difference.field for difference in step.differences], found)
    if step.secret:
        on_secret(step.name, records.give_secret(step.name))
