"""Client authentication: which credential a request has, and every way in which it is ambiguous."""

import base64
from urllib.parse import quote_plus, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from identity_service.domain.ids import PrincipalId
from identity_service.domain.secret import Secret
from identity_service.http_api.oauth.clients import ClientOfRequest, PublicClient, parse_basic, read_client
from identity_service.http_api.oauth.errors import OAuthError
from identity_service.http_api.oauth.forms import parse_form
from identity_service.services.authenticate import ClientAssertion, ClientSecret
from tests.unit.http_api.oauth_site import ASSERTION_TYPE, TOKEN_URL, basic

TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
RAW = st.from_regex(r"[A-Za-z0-9._@/:-]{1,20}", fullmatch=True)
REPORTS = PrincipalId("reports")
POST = {"client_id": "reports", "client_secret": "s"}
ASSERTION = {"client_assertion_type": ASSERTION_TYPE, "client_assertion": "a.b.c"}


def encoded(data: bytes) -> str:
    """Return the value of the header Authorization for these bytes."""
    return "Basic " + base64.b64encode(data).decode()


def read(params: dict[str, str], *authorization: str) -> ClientOfRequest | None:
    headers = {"authorization": authorization} if authorization else {}
    return read_client(headers, parse_form(urlencode(params).encode()), token_endpoint=TOKEN_URL)


def refusal(params: dict[str, str], *authorization: str) -> OAuthError:
    with pytest.raises(OAuthError) as refused:
        read(params, *authorization)
    return refused.value


# The header


@given(TEXT, TEXT)
def test_an_encoded_id_and_secret_are_read_as_they_were(client_id: str, secret: str) -> None:
    assert parse_basic(basic(client_id, secret)) == (client_id, Secret(secret))


@given(RAW, st.from_regex(r"[A-Za-z0-9_-]{1,20}", fullmatch=True))
def test_an_id_and_secret_that_are_not_encoded_are_read_as_they_were(client_id: str, secret: str) -> None:
    """They are split at the last colon, since ids may contain colons and secrets of this service do not."""
    assert parse_basic(basic(client_id, secret, encode=False)) == (client_id, Secret(secret))


@given(st.text(max_size=40) | TEXT.map(lambda text: f"Basic {text}") | st.binary(max_size=40).map(encoded))
def test_any_header_is_a_credential_or_an_error_that_quotes_nothing(header: str) -> None:
    try:
        parse_basic(header)
    except ValueError as error:
        refused = str(error)
    else:
        refused = ""

    assert refused in {"", "not Basic", "not base64", "no colon", "not percent-encoded", "not UTF-8"}


@pytest.mark.parametrize(
    "header",
    [
        "Bearer x",
        "Basic",
        "Basic ",
        "Basic !!!",
        "Basic cmVwb3J0czpzZQ",  # no padding
        "Basic cmVwb3J0czpz\n",
        "Basic cmVw*b3J0czpz",
        encoded(b"no colon"),
        encoded(b"reports:%zz"),
        encoded(b"reports:\xff"),
        encoded(b"reports:%ff"),
        encoded(b":secret"),
        encoded(b"r" * 129 + b":secret"),
        encoded(b"reports:" + b"s" * 257),
        "Basic \xe9",
    ],
)
def test_a_header_that_authenticates_no_client_is_refused_with_a_challenge(header: str) -> None:
    error = refusal({}, header)

    assert (error.code, error.status) == ("invalid_client", 401)
    assert error.headers == (("WWW-Authenticate", 'Basic realm="identity-service"'),)


def test_the_scheme_has_no_case() -> None:
    credential = ClientSecret(client_id=REPORTS, secret=Secret("s"))

    assert read({}, basic("reports", "s").replace("Basic", "bAsIc")) == credential


def test_a_client_id_with_control_characters_is_refused() -> None:
    assert refusal({}, basic("a\nb", "s")).code == "invalid_request"
    assert refusal({"client_id": "a\r\nSet-Cookie: x"}).code == "invalid_request"


# The methods


def test_each_method_gives_its_credential() -> None:
    secret = ClientSecret(client_id=REPORTS, secret=Secret("s"))
    assertion = ClientAssertion(jwt=Secret("a.b.c"), token_endpoint=TOKEN_URL)

    assert read({}, basic("reports", "s")) == read({"client_id": "reports"}, basic("reports", "s")) == secret
    assert read(POST) == secret
    assert read(ASSERTION) == assertion
    assert read({"client_id": "reports"}) == PublicClient(client_id=REPORTS)
    assert read({}, basic("reports", "")) == PublicClient(client_id=REPORTS)
    assert read({}) is None


def test_a_secret_without_a_value_is_none() -> None:
    """Some libraries send an empty secret for a client that has none."""
    assert read({"client_id": "reports", "client_secret": ""}) == PublicClient(client_id=REPORTS)


@pytest.mark.parametrize(
    ("params", "authorization"),
    [
        (POST, (basic("reports", "s"),)),
        (ASSERTION, (basic("reports", "s"),)),
        (POST | ASSERTION, ()),
        ({}, (basic("reports", "s"), basic("reports", "s"))),
        ({"client_id": "other"}, (basic("reports", "s"),)),
        ({"client_secret": "s"}, ()),
        ({"client_id": "x" * 129}, ()),
        ({"client_id": "reports", "client_secret": "s" * 257}, ()),
        ({"client_assertion": "a.b.c"}, ()),
        ({"client_assertion_type": ASSERTION_TYPE}, ()),
        (ASSERTION | {"client_assertion": "x" * 9000}, ()),
    ],
)
def test_a_request_with_several_methods_or_a_part_of_one_is_invalid(
    params: dict[str, str], authorization: tuple[str, ...]
) -> None:
    error = refusal(params, *authorization)

    assert (error.code, error.status) == ("invalid_request", 400)


def test_an_assertion_of_another_kind_is_no_client_authentication() -> None:
    assert refusal(ASSERTION | {"client_assertion_type": "saml2-bearer"}).code == "invalid_client"


def test_no_credential_is_shown() -> None:
    shown = [repr(read(POST | {"client_secret": "hidden"})), repr(read({}, basic("reports", "hidden")))]
    shown.append(str(refusal({}, "Basic " + quote_plus("hidden!"))))

    assert "hidden" not in "".join(shown)
