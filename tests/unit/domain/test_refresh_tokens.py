"""Refresh tokens as text: each has one spelling, and only tokens that this service derived are accepted."""

import base64
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from identity_service.domain.credential_errors import RefreshTokenInvalidError
from identity_service.domain.ids import KeyId, SessionId, base64url
from identity_service.domain.secret import (
    KEY_ID_BYTES,
    REFRESH_TOKEN_PREFIX,
    RefreshToken,
    derive_refresh_token,
    read_refresh_token,
)
from identity_service.domain.sessions import MAX_NUMBER

SECRET = b"k" * 32
KEY_ID = KeyId(base64url(b"\xfb\xff\xfe" * 2 + b"ab"))
SESSION_ID = SessionId(base64url(b"\xff\xfe\xfb" * 5 + b"c"))
TOKEN = RefreshToken(key_id=KEY_ID, session_id=SESSION_ID, number=7)
TEXT = derive_refresh_token(SECRET, TOKEN)
TEXT_CHARS = len(REFRESH_TOKEN_PREFIX) + 80
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def find_key(key_id: KeyId) -> bytes | None:
    return SECRET if key_id == KEY_ID else None


@given(
    key=st.binary(min_size=32, max_size=32),
    key_id=st.binary(min_size=KEY_ID_BYTES, max_size=KEY_ID_BYTES).map(base64url),
    session_id=st.binary(min_size=16, max_size=16).map(base64url),
    number=st.integers(0, MAX_NUMBER),
)
def test_a_derived_token_is_parsed_again(key: bytes, key_id: str, session_id: str, number: int) -> None:
    token = RefreshToken(key_id=KeyId(key_id), session_id=SessionId(session_id), number=number)
    text = derive_refresh_token(key, token)
    assert len(text) == TEXT_CHARS
    assert text == derive_refresh_token(key, token)
    assert read_refresh_token(text, lambda asked: key if asked == key_id else None) == token


def test_the_text_is_found_by_a_secret_scanner() -> None:
    assert re.fullmatch(r"idrt_[A-Za-z0-9_-]{80}", TEXT)


@pytest.mark.parametrize("at", range(TEXT_CHARS))
def test_every_change_of_one_character_is_refused(at: int) -> None:
    for character in ALPHABET + "+/= \n\x00é\ud800":
        if character != TEXT[at]:
            with pytest.raises(RefreshTokenInvalidError):
                read_refresh_token(TEXT[:at] + character + TEXT[at + 1 :], lambda _: SECRET)


def test_the_other_base64_alphabet_is_not_a_second_spelling() -> None:
    body = TEXT.removeprefix(REFRESH_TOKEN_PREFIX)
    assert {"-", "_"} <= set(body)
    for old, new in (("-", "+"), ("_", "/")):
        respelled = body.replace(old, new)
        assert base64.b64decode(respelled, altchars=b"-_", validate=True), "the trap that this is about"
        with pytest.raises(RefreshTokenInvalidError):
            read_refresh_token(REFRESH_TOKEN_PREFIX + respelled, find_key)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            REFRESH_TOKEN_PREFIX,
            TEXT[:-1],
            TEXT + "A",
            TEXT + "=",
            TEXT + "\n",
            " " + TEXT,
            TEXT.upper(),
            TEXT[5:],
        ),
        *(
            "idcs_" + TEXT[5:],
            REFRESH_TOKEN_PREFIX + "=" * 80,
            REFRESH_TOKEN_PREFIX + "A" * 76 + "====",
            REFRESH_TOKEN_PREFIX + "A" * 80,
            "é" * 85,
        ),
    ],
)
def test_another_form_is_refused(text: str) -> None:
    with pytest.raises(RefreshTokenInvalidError):
        read_refresh_token(text, find_key)


@given(st.text(max_size=200))
def test_no_text_makes_reading_fail_in_another_way(text: str) -> None:
    for candidate in (
        text,
        REFRESH_TOKEN_PREFIX + text,
        (REFRESH_TOKEN_PREFIX + text).ljust(TEXT_CHARS, "A"),
    ):
        with pytest.raises(RefreshTokenInvalidError):
            read_refresh_token(candidate, lambda _: SECRET)


def test_a_token_of_another_key_is_refused() -> None:
    with pytest.raises(RefreshTokenInvalidError):
        read_refresh_token(derive_refresh_token(b"other" * 8, TOKEN), find_key)


def test_a_token_whose_key_is_unknown_is_refused() -> None:
    with pytest.raises(RefreshTokenInvalidError):
        read_refresh_token(TEXT, lambda _: None)


def test_a_refusal_shows_no_part_of_the_token() -> None:
    with pytest.raises(RefreshTokenInvalidError) as caught:
        read_refresh_token(TEXT[:-1] + ("A" if TEXT[-1] != "A" else "B"), find_key)
    assert TEXT[5:20] not in str(caught.value)
    assert caught.value.__cause__ is None


@given(st.integers(0, MAX_NUMBER), st.integers(0, MAX_NUMBER))
def test_different_numbers_have_different_secrets(first: int, second: int) -> None:
    """The MAC covers the number, so that a token does not reveal its successor."""
    texts = [
        derive_refresh_token(SECRET, RefreshToken(key_id=KEY_ID, session_id=SESSION_ID, number=n))[-42:]
        for n in (first, second)
    ]
    assert (texts[0] == texts[1]) is (first == second)


@pytest.mark.parametrize(
    ("key_id", "session_id"),
    [("", SESSION_ID), (KEY_ID, ""), (base64url(b"k" * 32), SESSION_ID), (KEY_ID, "AAAA")],
)
def test_ids_of_another_width_are_no_token_instead_of_an_unreadable_one(key_id: str, session_id: str) -> None:
    with pytest.raises(ValueError, match="bytes"):
        derive_refresh_token(
            SECRET, RefreshToken(key_id=KeyId(key_id), session_id=SessionId(session_id), number=0)
        )
