"""Invisible characters: refused in names and in texts for people, ignored when a password is like a name."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from identity_service.domain.principals import is_name_as_password
from identity_service.domain.visible import (
    MAX_MARKS,
    comparable,
    has_controls,
    has_invisible,
    is_visible_name,
    is_visible_text,
)

BLANK = (
    "\u2800",
    "\u3164",
    "\u115f",
    "\uffa0",
    "\u034f",
    "\u17b4",
    "\ufffe",
    "\uffff",
    "\U0010ffff",
    "\ufdd0",
)
FINE = (
    "Zoë 山",
    "👩\u200d💻",
    "❤\ufe0f\u200d🔥",
    "1\ufe0f\u20e3",
    "👁\ufe0f\u200d🗨\ufe0f",
    "🙂\u200d↔\ufe0f",
    "👩🏽\u200d❤\ufe0f\u200d💋\u200d👨🏻",
    "\U0001fae8\u200d\U0001fae8",
    "\u2139\ufe0f",
    "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
    "क\u094d\u200dष",
    "র\u200d\u09cdয",
    "a" + "\u0300" * MAX_MARKS,
)
UNFIT = (
    *BLANK,
    "ana\ufe0f",
    "\ufe0f",
    "❤\ufe0f\ufe0f",
    "ana\u200d",
    "a\u200db",
    "\u200da",
    "👩\u200d",
    "👩\u200d\u200d👩",
    "\u2800\ufe0f",
    "a" + "\u0300" * (MAX_MARKS + 1),
    "a" + "\u20dd" * (MAX_MARKS + 1),
)


@pytest.mark.parametrize("text", BLANK, ids=ascii)
def test_no_name_has_a_character_that_is_not_seen(text: str) -> None:
    assert has_invisible(text)
    assert is_visible_name("ana")
    assert not is_visible_name(f"ana{text}")


def test_every_format_character_is_refused_in_a_name() -> None:
    """The Unicode category Cf has most invisible characters; a list has the invisible letters and marks."""
    found = [
        c
        for c in map(chr, range(0x110000))
        if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp", "Zs")
    ]

    assert not [c for c in found if is_visible_name(c)]


@pytest.mark.parametrize("text", FINE, ids=ascii)
def test_a_text_for_people_has_emoji_and_joiners_that_have_an_effect(text: str) -> None:
    assert is_visible_text(text)


@pytest.mark.parametrize("text", UNFIT, ids=ascii)
def test_a_text_for_people_has_no_other_invisible_character(text: str) -> None:
    assert not is_visible_text(text)


@given(st.text(max_size=20))
def test_the_comparable_form_has_nothing_that_is_not_seen(text: str) -> None:
    form = comparable(text)

    assert comparable(form) == form
    assert not has_invisible(form)
    assert not has_controls(form)
    assert not any(c.isspace() for c in form)


@given(st.text(st.characters(categories=["Lu", "Ll", "Nd", "Lo"]), min_size=1), st.sampled_from(BLANK))
def test_an_invisible_character_anywhere_makes_no_other_password(name: str, unseen: str) -> None:
    assert is_name_as_password(unseen.join(name), name) == is_name_as_password(name, name)


@pytest.mark.parametrize(
    ("password", "username"),
    [("anaanab", "ana"), ("anna", "ana"), ("", "ana"), ("\u200b", "ana"), ("ana", "\u200b"), ("", "\u200b")],
)
def test_a_password_that_is_more_than_the_username_is_accepted(password: str, username: str) -> None:
    assert not is_name_as_password(password, username)
