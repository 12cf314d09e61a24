"""Every target with its seeds, with what was found once, and with what hypothesis makes of both."""

import json
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import TARGETS

CORPUS: Final = Path(__file__).parent / "corpus"
NAMES: Final = list(TARGETS)
WORDS: Final = [
    b'"alg":"none"', b'"zip":"DEF"', b'"p2c":99999999', b'"crit":["exp"]', b'"b64":false', b'"kid":"../x"',
    b"\xff", b"\0", b".", b"=", b"{", b"[", b"1e999", b"NaN", b'\\ud800', b'"exp":-1', b"1" * 40, b"\r\n",
]  # fmt: skip
"""What attacks are made of."""


def known(name: str) -> list[bytes]:
    """Latin-1 texts by what was wrong with them."""
    path = CORPUS / f"{name}.json"
    if not path.exists():
        return []
    return [text.encode("latin-1") for text in json.loads(path.read_text(encoding="utf-8")).values()]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_known_keeps_every_promise(name: str) -> None:
    target = TARGETS[name]

    for data in (*target.seeds, *known(name), b""):
        target.run(data)


def test_every_file_of_the_corpus_belongs_to_a_target() -> None:
    files = {path.stem for path in CORPUS.glob("*.json")}

    assert files
    assert files <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_made_of_good_ones_keeps_every_promise(name: str) -> None:
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
