"""Text from outside: which characters are escaped, and that escaped JSON still has the same meaning."""

import json
import unicodedata

import pytest

from identity_service.domain.visible import escape, escape_lines, has_controls, shown, to_json

NASTY = (
    "\n",
    "\r",
    "\x1b[2J",
    "\x7f",
    "\x9b1m",
    "\u2028",
    "\u2029",
    "\u202e",
    "\u2066",
    "\ud800",
    "\U000e0041",
)


def test_all_of_unicodes_control_and_formatting_characters_are_found_but_joiners() -> None:
    controls = {
        chr(code)
        for code in range(0x110000)
        if unicodedata.category(chr(code)) in ("Cc", "Cf", "Cs", "Zl", "Zp")
    }

    assert [c for c in sorted(controls) if not has_controls(c)] == ["\u200c", "\u200d"]


@pytest.mark.parametrize("text", NASTY)
def test_escaped_text_is_one_printable_line(text: str) -> None:
    assert escape(f"a{text}b").isprintable()
    assert escape_lines(f"x\na{text}").splitlines()[0] == "x"


@pytest.mark.parametrize("text", NASTY)
def test_json_means_the_same_and_shows_no_control_character(text: str) -> None:
    written = to_json({text: [text]}, indent=2)

    assert json.loads(written) == {text: [text]}
    assert not any(map(has_controls, written.split("\n")))


def test_other_text_stays_as_it_is() -> None:
    assert escape("[/] C:\\new Zoë 山 👩\u200d💻") == "[/] C:\\new Zoë 山 👩\u200d💻"


def test_a_text_for_a_log_is_escaped_and_cut_after_200_characters() -> None:
    assert shown("x" * 200) == "x" * 200
    assert shown("x" * 201) == "x" * 200 + "…"
    assert shown("a\nb") == "a\\nb"
