"""The claims of a token are parsed in a fast or a strict way, and both have the strict parser's result."""

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from identity_service.jose.claims import parse_claims
from identity_shared.strict import parse_object
from tests.malformed_json import MALFORMED

LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
)
OBJECTS = st.dictionaries(st.text(max_size=3), VALUES, max_size=4)
NEAR_JSON = st.text(alphabet='{}[]:,"\\ud8E09.-+aN \n', max_size=24).map(
    lambda text: f'{{"a":{text}}}'.encode()
)


def outcome(parse: Any, data: bytes) -> str:
    """Return the parsed object with the types of its values, or that the parser refused the data."""
    try:
        return repr(parse(data))
    except ValueError:
        return "refused"


@given(OBJECTS)
def test_an_object_is_parsed_in_every_spelling(value: dict[str, Any]) -> None:
    for text in (json.dumps(value), json.dumps(value, separators=(",", ":"), ensure_ascii=False)):
        data = text.encode("utf-8", "surrogatepass")
        assert outcome(parse_claims, data) == outcome(parse_object, data)


@given(NEAR_JSON | st.binary(max_size=24))
def test_other_bytes_are_refused_or_parsed_as_by_the_strict_parser(data: bytes) -> None:
    assert outcome(parse_claims, data) == outcome(parse_object, data)


@pytest.mark.parametrize(
    "data",
    MALFORMED,
    ids=lambda data: repr(data[:24]),
)
def test_claims_with_two_meanings_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # the text may be the parser's
        parse_claims(data)


@pytest.mark.parametrize(
    "data",
    [
        b'{"a":18446744073709551616}',
        b'{"a":12345678901234567890123456789012}',
        b'{"a":1.0}',
        b'{"a":-0}',
        b'{"a":-0.0}',
        b'{"a":1E2}',
        b'{"a":1.7976931348623157e308}',
        b'{"a":0.1000000000000000055511151231}',
    ],
)
def test_a_number_is_the_same_with_both_parsers(data: bytes) -> None:
    assert outcome(parse_claims, data) == outcome(parse_object, data) != "refused"


def test_claims_as_this_service_writes_them_need_no_second_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("identity_service.jose.claims.parse_object")
    claims = {"iss": "https://identity.example", "aud": ["api"], "exp": 1, "x": {"ä": [1.5, None, "\n"]}}

    assert parse_claims(orjson.dumps(claims)) == claims
