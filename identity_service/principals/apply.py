"""Makes the records as declared, through a port. Knows neither where they are nor where the file is.

Several processes may apply the same file at once: whoever was slower finds that nothing is left to do.
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
    Wanted,
    name_of,
    plan_deletion,
    plan_one,
)

FIRST_ADMIN: Final = "admin"
"""As `identity init` calls it."""
NEVER_PRUNED: Final = frozenset({FIRST_PARTY_CLIENT, FIRST_ADMIN})
_OVERTAKEN: Final = (AlreadyExistsError, NotFoundError, StaleEtagError)
_ATTEMPTS: Final = 5
"""How often a step is planned anew because somebody else was faster."""


class PrincipalRecords(Protocol):
    """Where the records are. Every method raises UnavailableError where they cannot be reached."""

    def find(self, record: Declared) -> Found | None:
        """The record of this kind and name as it is now."""

    def list(self, kind: type[Declared]) -> Iterable[Found]:
        """All records of a kind."""

    def create(self, record: Declared, *, secret: bool) -> Secret | None:
        """Make it; returns a client's secret where it is to have one. Raises AlreadyExistsError."""

    def update(self, record: Declared, fields: Sequence[str], found: Found) -> None:
        """Change these fields of what was found. Raises NotFoundError, StaleEtagError, AlreadyExistsError."""

    def give_secret(self, client_id: str) -> Secret:
        """Give a client its first secret. Raises NotFoundError."""

    def delete(self, found: Found) -> None:
        """Delete what was found. Raises NotFoundError, StaleEtagError."""


OnSecret = Callable[[str, Secret], None]
"""Gets each client id and its new secret, at once: nobody can ask for it again."""


def plan(
    declaration: Declaration, records: PrincipalRecords, *, prune: bool = False, caller: str = ""
) -> tuple[Step, ...]:
    """What is to be done.

    Args:
        prune: also delete the records of the kinds in the file that it does not name.
        caller: the id of a principal that is not deleted: whoever asks for it.
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
    """Do it. What is refused does not hold up the rest.

    Raises:
        ConfigurationError: what was refused, one line each.
        UnavailableError: the rest was not tried.
    """
    refused: list[str] = []
    for step in steps:
        try:
            _carry_out(step, records, on_secret)
        except (InvalidRequestError, *_OVERTAKEN) as error:
            refused.append(f"{step.kind} {step.name}: {error}")
    if refused:
        raise ConfigurationError("\n".join(refused))


def _carry_out(step: Step, records: PrincipalRecords, on_secret: OnSecret) -> None:
    for left in reversed(range(_ATTEMPTS)):
        try:
            _do(step, records, on_secret)
        except _OVERTAKEN:
            if step.wanted is None or not left:
                raise
            again = _plan_again(step.wanted, records)
            if again is None:
                return  # somebody else has made it so
            step = again
        else:
            return


def _plan_again(wanted: Wanted, records: PrincipalRecords) -> Step | None:
    return plan_one(wanted, records.find(wanted.record))


def _do(step: Step, records: PrincipalRecords, on_secret: OnSecret) -> None:
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
