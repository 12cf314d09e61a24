"""Strict base64url and JSON: every text has one meaning, every value one spelling, and both are bounded."""

import base64
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from identity_shared.strict import MAX_DEPTH, decode_base64url, parse_object
from tests.malformed_json import MALFORMED


@given(st.binary(max_size=200))
def test_base64url_without_padding_is_decoded(data: bytes) -> None:
    assert decode_base64url(base64.urlsafe_b64encode(data).rstrip(b"=").decode()) == data


@pytest.mark.parametrize(
    "text", ["AA==", "AA=", "A", "AAAAA", "A A", "AA\n", "A+/A", "AB", "AAB", "Ä", "\x00AAA", "AAA.", "AAA="]
)
def test_another_spelling_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="base64url"):
        decode_base64url(text)


@given(st.text(max_size=30))
def test_any_text_is_refused_or_is_the_encoding_of_its_decoded_bytes(text: str) -> None:
    try:
        data = decode_base64url(text)
    except ValueError:
        return
    assert base64.urlsafe_b64encode(data).rstrip(b"=").decode() == text


def test_a_pair_of_surrogates_is_one_character() -> None:
    assert parse_object(b'{"a":"\\ud83d\\ude00"}') == {"a": "\U0001f600"}


def test_an_object_is_parsed() -> None:
    assert parse_object(b'{"a":[1,2.5,"[[[[[[[[[[[[[[[[[[[[",null,true,{"b":{}}]}') == {
        "a": [1, 2.5, "[" * 20, None, True, {"b": {}}]
    }


@pytest.mark.parametrize(
    "data",
    MALFORMED,
    ids=lambda data: repr(data[:24]),
)
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # the text may be the parser's
        parse_object(data)


def test_the_deepest_that_is_allowed_is_parsed() -> None:
    depth = MAX_DEPTH - 1

    assert parse_object(b'{"a":' + b"[" * depth + b"]" * depth + b"}")


def test_brackets_in_a_text_do_not_count() -> None:
    assert parse_object(b'{"a":"\\"' + b"[" * 100 + b'\\\\"}')["a"] == '"' + "[" * 100 + "\\"


def test_a_number_of_thousands_of_digits_is_refused_at_once() -> None:
    """The digits are counted before they are parsed, so ten times as many take as little time."""
    for digits in (8_000, 80_000):
        with pytest.raises(ValueError, match="too long"):
            parse_object(b'{"a":' + b"9" * digits + b"}")


@given(st.binary(max_size=60))
def test_any_bytes_give_an_object_or_a_value_error(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        assert isinstance(parse_object(data), dict)
