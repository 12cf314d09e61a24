"""The sample of mutants is reproducible and spread over the whole code."""

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from tests.mutants.sample import choose


@dataclass(frozen=True, kw_only=True)
class Change:
    """A mutation, as cosmic-ray describes it."""

    module_path: Path
    start_pos: tuple[int, int]
    operator_name: str = "core/NumberReplacer"
    occurrence: int = 0


IN_ONE_FILE = [
    Change(module_path=Path("keys.py"), start_pos=(line, 4), occurrence=occurrence)
    for line in range(20)
    for occurrence in range(3)
]


def test_a_sample_has_one_mutant_of_each_place() -> None:
    chosen = list(choose(IN_ONE_FILE, 0))

    assert set(Counter(each.start_pos for each in chosen).values()) == {1}
    assert len(chosen) == 20
    assert {each.occurrence for each in chosen} == {0, 1, 2}


def test_a_sample_does_not_depend_on_the_order_in_which_mutants_are_found() -> None:
    assert list(choose(reversed(IN_ONE_FILE), 0)) == list(choose(IN_ONE_FILE, 0))


def test_another_seed_gives_another_sample() -> None:
    assert list(choose(IN_ONE_FILE, 1))[:5] != list(choose(IN_ONE_FILE, 0))[:5]


def test_the_mutants_of_one_file_keep_their_order_when_another_file_changes() -> None:
    other = [replace(each, module_path=Path("ids.py")) for each in IN_ONE_FILE]

    together = [each for each in choose([*other, *IN_ONE_FILE], 0) if each.module_path == Path("keys.py")]

    assert together == list(choose(IN_ONE_FILE, 0))
