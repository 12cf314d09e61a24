"""The choice of the mutants that `make mutants` tests.

For the same code and seed the sample is the same on each machine. A change in one file changes only that
file's part of the sample.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Protocol, TypeVar


class Mutation(Protocol):
    """A change at one place in a file: the members of cosmic-ray's `MutationSpec` that the choice needs."""

    @property
    def module_path(self) -> Path:
        """Return the path of the file."""

    @property
    def operator_name(self) -> str:
        """Return the name of the kind of change, such as `core/NumberReplacer`."""

    @property
    def occurrence(self) -> int:
        """Return the index of the place among those in the file to which this kind of change applies."""

    @property
    def start_pos(self) -> tuple[int, int]:
        """Return the line (from 1) and the column (from 0) of the place."""


M = TypeVar("M", bound=Mutation)


def choose(mutations: Iterable[M], seed: int) -> Iterator[M]:
    """Yield one mutation of each place, in pseudo-random order.

    An operator has up to eleven replacements, so a plain sample would have most of its mutations at few
    places.
    """
    places: dict[tuple[Path, tuple[int, int]], list[M]] = defaultdict(list)
    for mutation in mutations:
        places[mutation.module_path, mutation.start_pos].append(mutation)
    for place in sorted(places, key=lambda place: _rank(seed, *place)):
        yield min(places[place], key=lambda each: _rank(seed, *place, each.operator_name, each.occurrence))


def _rank(*parts: object) -> bytes:
    return sha256("\n".join(map(str, parts)).encode()).digest()
