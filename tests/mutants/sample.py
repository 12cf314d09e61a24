"""The choice of the mutants that `make mutants` tries.

A sample is the same on each machine for the same code and seed. A change of one file changes the part of the
sample in that file alone.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Protocol, TypeVar


class Mutation(Protocol):
    """A change of one place in a file; the part of cosmic-ray's `MutationSpec` that the choice needs."""

    @property
    def module_path(self) -> Path:
        """Return the path of the file."""

    @property
    def operator_name(self) -> str:
        """Return the name of the kind of change, such as `core/NumberReplacer`."""

    @property
    def occurrence(self) -> int:
        """Return which of the places in the file that this kind of change applies to is meant."""

    @property
    def start_pos(self) -> tuple[int, int]:
        """Return the line, from 1, and the column, from 0."""


M = TypeVar("M", bound=Mutation)


def choose(mutations: Iterable[M], seed: int) -> Iterator[M]:
    """Yield one mutation of each place, in an order that looks random.

    Only one, since an operator has up to eleven replacements: most of a plain sample would be of few places.
    """
    places: dict[tuple[Path, tuple[int, int]], list[M]] = defaultdict(list)
    for mutation in mutations:
        places[mutation.module_path, mutation.start_pos].append(mutation)
    for place in sorted(places, key=lambda place: _rank(seed, *place)):
        yield min(places[place], key=lambda each: _rank(seed, *place, each.operator_name, each.occurrence))


def _rank(*parts: object) -> bytes:
    return sha256("\n".join(map(str, parts)).encode()).digest()
