"""Every fuzz target with its seeds, with the inputs found so far, and with mutations of both."""

from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.inputs import CORPUS, WORDS, known
from tests.fuzz.targets import TARGETS

NAMES: Final = list(TARGETS)


@pytest.mark.parametrize("name", NAMES)
def test_every_known_input_keeps_the_promise_of_its_target(name: str) -> None:
    target = TARGETS[name]

    for data in (*target.seeds, *known(name), b""):
        target.run(data)


def test_every_file_of_the_corpus_belongs_to_a_target() -> None:
    files = {path.stem for path in CORPUS.glob("*.json")}

    assert files
    assert files <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_mutated_inputs_keep_the_promise_of_their_target(name: str) -> None:
    target = TARGETS[name]
    pool = [*target.seeds, *known(name)]

    @settings(max_examples=150, deadline=None)
    @given(
        st.sampled_from(pool),
        st.lists(
            st.tuples(st.floats(0, 1), st.integers(0, 8), st.sampled_from(WORDS) | st.binary(max_size=4)),
            min_size=1,
            max_size=4,
        ),
    )
    def changed(data: bytes, cuts: list[tuple[float, int, bytes]]) -> None:
        for place, length, word in cuts:
            at = int(place * len(data))
            data = data[:at] + word + data[at + length :]
        target.run(data)

    changed()
