"""The parser of forms: every body has exactly one meaning, or it is an error."""

from contextlib import suppress
from urllib.parse import parse_qsl, quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from identity_service.http_api.oauth.errors import OAuthError
from identity_service.http_api.oauth.forms import MAX_FORM_BYTES, check_media_type, parse_form

TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
PIECES = st.sampled_from(
    [
        b"a",
        b"scope",
        b"audience",
        b"=",
        b"&",
        b"+",
        b"%",
        b"%20",
        b"%C3%A9",
        b"%ff",
        b"%zz",
        b"\xc3\xa9",
        b"\0",
    ]
)


@given(st.dictionaries(TEXT, TEXT.filter(bool), max_size=5))
def test_encoded_parameters_are_read_as_they_were(params: dict[str, str]) -> None:
    for encoded in (urlencode(params), urlencode(params, quote_via=quote)):
        assert parse_form(encoded.encode()).values == {name: (value,) for name, value in params.items()}


@given(st.binary(max_size=60) | st.lists(PIECES, max_size=12).map(b"".join))
def test_any_bytes_are_a_form_or_an_invalid_request(body: bytes) -> None:
    with suppress(OAuthError):
        form = parse_form(body)
        pairs = parse_qsl(body.decode("ascii"), errors="strict")
        assert sorted((n, v) for n, values in form.values.items() for v in values) == sorted(pairs)


@pytest.mark.parametrize(
    "body",
    [
        b"scope=%",
        b"scope=%2",
        b"scope=%zz",
        b"scope=%ff",
        b"scope=%ED%A0%80",  # half of a surrogate pair
        "scope=é".encode(),
        b"scope=a\nb",
        b"scope=a\0b",
        b"\xff\xfe",
        b"%ff=a",
    ],
)
def test_a_body_that_is_not_percent_encoded_utf_8_is_refused(body: bytes) -> None:
    with pytest.raises(OAuthError) as refused:
        parse_form(body)

    assert refused.value.code == "invalid_request"


@pytest.mark.parametrize("body", [b"scope=a&scope=b", b"scope=a&scope=a", b"scope=&scope=a", b"x=1&x=2"])
def test_a_parameter_that_is_repeated_is_refused(body: bytes) -> None:
    with pytest.raises(OAuthError):
        parse_form(body)


def test_audience_and_resource_may_be_repeated() -> None:
    form = parse_form(b"audience=a&resource=c&audience=b&audience=")

    assert (form.all("audience"), form.all("resource"), form.all("scope")) == (("a", "b"), ("c",), ())


def test_a_parameter_without_a_value_counts_as_absent() -> None:
    form = parse_form(b"scope=&token&&=&grant_type=a=b")

    assert [form.get(name) for name in ("scope", "token", "grant_type")] == [None, None, "a=b"]


def test_a_plus_is_a_space() -> None:
    assert parse_form(b"scope=a+b%2Bc%20d").get("scope") == "a b+c d"


def test_a_body_that_is_too_long_is_refused() -> None:
    assert parse_form(b"a=" + b"x" * (MAX_FORM_BYTES - 2)).get("a")
    with pytest.raises(OAuthError):
        parse_form(b"a=" + b"x" * (MAX_FORM_BYTES - 1))


def test_a_body_of_too_many_parameters_is_refused() -> None:
    body = "&".join(f"p{n}=x" for n in range(256))

    assert parse_form(body.encode()).get("p255") == "x"
    with pytest.raises(OAuthError):
        parse_form(f"{body}&more=x".encode())


def test_a_value_that_is_too_long_is_refused_by_its_name() -> None:
    with pytest.raises(OAuthError) as refused:
        parse_form(b"username=abc").get("username", 2)

    assert refused.value.description == "the parameter username must have at most 2 characters"


def test_a_form_shows_no_value() -> None:
    assert "secret" not in repr(parse_form(b"password=secret"))


@pytest.mark.parametrize(
    "value",
    [
        "application/x-www-form-urlencoded",
        "Application/X-WWW-Form-Urlencoded;charset=UTF-8",
        'application/x-www-form-urlencoded; charset="utf-8"',
    ],
)
def test_a_form_may_say_its_character_set(value: str) -> None:
    check_media_type((value,))


@pytest.mark.parametrize(
    "values",
    [
        (),
        ("application/json",),
        ("multipart/form-data; boundary=x",),
        ("application/x-www-form-urlencoded; charset=iso-8859-1",),
        ("application/x-www-form-urlencoded", "application/json"),
        ("application/x-www-form-urlencoded", "application/x-www-form-urlencoded"),
    ],
)
def test_anything_but_a_form_in_utf_8_is_refused(values: tuple[str, ...]) -> None:
    with pytest.raises(OAuthError):
        check_media_type(values)
