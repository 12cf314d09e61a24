"""Entries of the log are read back as they were written; an entry of a newer version is refused."""

import json
from datetime import UTC, datetime
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from identity_service.domain.ids import Link, PrincipalId, SessionId, TokenId
from identity_service.domain.log import (
    Change,
    GenerationRaised,
    RecordChanged,
    RecordKind,
    SessionEnded,
    TokenDenied,
)
from identity_service.storage.codec import decode_change, encode_change

TEXTS = st.text(st.characters(codec="utf-8"), max_size=20)
TIMES = st.datetimes(datetime(1970, 1, 2), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001  # zone added
CHANGES: st.SearchStrategy[Change] = st.one_of(
    st.builds(TokenDenied, token_id=TEXTS.map(TokenId), deny_until=TIMES),
    st.builds(SessionEnded, session_id=TEXTS.map(SessionId), deny_until=TIMES, end_until=TIMES),
    st.builds(
        GenerationRaised,
        principal=TEXTS.map(PrincipalId),
        number=st.integers(1, 2**63 - 1),
        origin=st.none() | TEXTS.map(Link),
    ),
    st.builds(RecordChanged, kind=st.sampled_from(RecordKind), id=TEXTS),
)


@given(CHANGES)
def test_a_change_is_read_back_as_it_was_written(change: Change) -> None:
    assert decode_change(encode_change(change)) == change


@given(CHANGES)
def test_an_encoded_change_is_one_json_object_in_utf_8(change: Change) -> None:
    assert isinstance(json.loads(encode_change(change).encode()), dict)


def test_every_kind_of_change_is_tested_here() -> None:
    assert set(get_args(Change)) == {TokenDenied, SessionEnded, GenerationRaised, RecordChanged}


@pytest.mark.parametrize(
    "text",
    [
        '{"k":"forgive","id":"a"}',
        '{"k":null,"id":"a"}',
        '{"k":["deny"],"id":"a","until":1}',
        '{"k":"record","kind":"tenant","id":"a"}',
        '{"k":"record","kind":"key","id":"a"}{"until":1}',
        "not json",
        "",
    ],
)
def test_an_unknown_change_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode_change(text)
