"""A Secret shows its text only to code that asks for it by name."""

import copy
import json
import logging
import pickle
import traceback

import pytest

from identity_service.domain.secret import Secret

TEXT = "hunter2-hunter2"
SECRET = Secret(TEXT)


def test_it_reveals_its_text_when_asked() -> None:
    assert SECRET.reveal() == TEXT


@pytest.mark.parametrize(
    "shown",
    [
        *(repr(SECRET), str(SECRET), f"{SECRET}", f"{SECRET!r}", format(SECRET)),
        *(repr([SECRET]), repr({"password": SECRET}), repr((SECRET,))),
        *(str.format("{}", SECRET), str.__mod__("%s", SECRET), str.__mod__("%r", SECRET)),
    ],
)
def test_no_way_to_print_it_shows_its_text(shown: str) -> None:
    assert TEXT not in shown
    assert "***" in shown


def test_a_log_line_does_not_show_it(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("test").warning("password %s", SECRET)
    assert "***" in caplog.text
    assert TEXT not in caplog.text


def test_a_traceback_does_not_show_it() -> None:
    error = ValueError("wrong password", SECRET)
    assert TEXT not in "".join(traceback.format_exception(error))


def test_it_cannot_be_serialised_by_accident() -> None:
    with pytest.raises(TypeError, match="pickle"):
        pickle.dumps(SECRET)
    with pytest.raises(TypeError, match="pickle"):
        copy.deepcopy(SECRET)
    with pytest.raises(TypeError):
        json.dumps(SECRET)
    assert not hasattr(SECRET, "__dict__")


def test_two_secrets_are_equal_by_text_and_never_to_a_plain_text() -> None:
    assert Secret(TEXT) == SECRET
    assert Secret("other") != SECRET
    assert SECRET != TEXT
    assert Secret("é") == Secret("é")


def test_it_is_not_a_key_of_a_dictionary() -> None:
    """A dictionary compares its keys in a time that depends on their content."""
    with pytest.raises(TypeError, match="unhashable"):
        hash(SECRET)


def test_an_empty_secret_is_false() -> None:
    assert (bool(Secret("")), bool(SECRET)) == (False, True)
