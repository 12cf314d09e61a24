"""The table that maps the service's errors to OAuth errors."""

import json
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from identity_service.domain import errors
from identity_service.domain.credential_errors import CredentialRefusedError
from identity_service.domain.errors import (
    FieldViolation,
    IdentityError,
    InvalidRequestError,
    StoreUnavailableError,
    TooManyAttemptsError,
    UnknownScopeError,
)
from identity_service.http_api.oauth.answers import error_response
from identity_service.http_api.oauth.errors import ANSWER_OF, OAuthError, from_error, invalid_client

ALLOWED = {chr(code) for code in range(0x20, 0x7F)} - {'"', "\\"}
"""The characters of an error_description (RFC 6749 section 5.2)."""
NOT_ANSWERED = {
    errors.ConfigurationError,
    errors.RequestTimeoutError,
    errors.NotImplementedYetError,
    errors.NotFoundError,
    errors.AlreadyExistsError,
    errors.StaleEtagError,
}
"""Errors that an OAuth endpoint can only meet because of a bug."""


def _tree(root: type[IdentityError]) -> Iterator[type[IdentityError]]:
    yield root
    for child in root.__subclasses__():
        yield from _tree(child)


@pytest.mark.parametrize("cls", [c for c in _tree(IdentityError) if c is not IdentityError])
def test_every_error_has_an_answer_or_is_a_bug(cls: type[IdentityError]) -> None:
    has_answer = any(kind in ANSWER_OF for kind in cls.__mro__)

    assert has_answer is (cls not in NOT_ANSWERED)


@given(st.text())
def test_a_description_has_only_the_characters_that_it_may_have(text: str) -> None:
    content = json.loads(error_response(OAuthError("invalid_request", text)).body)

    assert set(content.get("error_description", "")) <= ALLOWED


def test_an_unknown_error_is_answered_without_a_word_about_it() -> None:
    error = from_error(RuntimeError("the password is hunter2"))

    assert (error.status, error.code, error.description) == (500, "server_error", "")
    assert json.loads(error_response(error).body) == {"error": "server_error"}


def test_a_store_that_is_away_is_not_named() -> None:
    error = from_error(StoreUnavailableError("cannot reach Redis at 10.0.0.5:6379"))

    assert (error.status, error.code) == (503, "temporarily_unavailable")
    assert "10.0.0.5" not in error.description
    assert error.headers == (("Retry-After", "1"),)


def test_the_time_to_wait_is_whole_seconds() -> None:
    error = from_error(TooManyAttemptsError("wait", retry_after=7.2))

    assert (error.status, error.headers) == (429, (("Retry-After", "8"),))


@pytest.mark.parametrize(
    ("error", "code", "description"),
    [
        (InvalidRequestError.of("audiences[3]", "is wrong"), "invalid_target", "audience: is wrong"),
        (InvalidRequestError.of("scopes", "has 101 entries"), "invalid_scope", "scope: has 101 entries"),
        (UnknownScopeError.of("scopes[0]", "is unknown"), "invalid_scope", "scope: is unknown"),
        (InvalidRequestError.of("lifetime", "is wrong"), "invalid_request", "lifetime: is wrong"),
        (InvalidRequestError(), "invalid_request", ""),
    ],
)
def test_an_invalid_field_is_named_as_its_parameter(
    error: InvalidRequestError, code: str, description: str
) -> None:
    answered = from_error(error)

    assert (answered.code, answered.description) == (code, description)


def test_only_the_first_violation_is_described() -> None:
    violations = (FieldViolation(field=f"f{n}", description="is wrong") for n in range(2))

    assert from_error(InvalidRequestError(*violations)).description == "f0: is wrong"


@pytest.mark.parametrize(("refused", "status"), [("invalid_client", 401), ("invalid_grant", 400)])
def test_a_refused_credential_is_the_client_or_the_grant(refused: str, status: int) -> None:
    error = from_error(CredentialRefusedError("the secret does not match", "reports"), refused=refused)

    assert (error.code, error.status) == (refused, status)
    assert "reports" not in error.description


def test_a_client_that_is_not_authenticated_gets_one_challenge() -> None:
    headers = [name for name, _ in error_response(invalid_client()).headers]

    assert headers.count("WWW-Authenticate") == 1
