"""The rules for JWTs of other parties: client assertions, and tokens of trusted issuers."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from identity_service.domain.assertions import (
    MAX_ASSERTION_LIFETIME,
    Assertion,
    UnverifiedAssertion,
    check_client_assertion,
    check_federated_token,
)
from identity_service.domain.credential_errors import CredentialRefusedError
from identity_service.domain.ids import KeyId
from identity_service.domain.issuers import TrustedIssuer
from tests.unit.domain.samples import MOMENT, START

HERE = "https://id.example"
ENDPOINT = f"{HERE}/token"
LEEWAY = timedelta(seconds=10)
MINUTE = timedelta(minutes=1)
ISSUER = TrustedIssuer(issuer="https://ci.example", audiences=("deploy", "build"))


def an_assertion(**changes: Any) -> Assertion:
    values: dict[str, Any] = {
        "type": "jwt",
        "issuer": "reports",
        "subject": "reports",
        "audience": HERE,
        "expire_time": START + MINUTE,
        "token_id": "one",
    }
    return Assertion(**(values | changes))


def checked(assertion: Assertion) -> str:
    return check_client_assertion(assertion, audiences={HERE, ENDPOINT}, now=START, leeway=LEEWAY)


def federated(assertion: Assertion, issuer: TrustedIssuer = ISSUER) -> str | None:
    return check_federated_token(assertion, issuer, audiences={HERE, ENDPOINT}, now=START, leeway=LEEWAY)


class Key:
    """A key for which exactly one signature of one message is valid."""

    key_id = KeyId("k")
    algorithm = "ES256"

    def verify(self, message: bytes, signature: bytes) -> bool:
        return (message, signature) == (b"header.claims", b"good")


def unverified(**changes: Any) -> UnverifiedAssertion:
    values: dict[str, Any] = {
        "algorithm": "ES256",
        "key_id": "k",
        "assertion": an_assertion(),
        "message": b"header.claims",
        "signature": b"good",
    }
    return UnverifiedAssertion(**(values | changes))


# The signature.


def test_an_assertion_is_proved_by_the_signature_of_a_key_of_its_algorithm() -> None:
    assert unverified().prove(Key()) == an_assertion()


@pytest.mark.parametrize("changes", [{"algorithm": "RS256"}, {"signature": b"bad"}, {"message": b"other"}])
def test_an_assertion_of_another_algorithm_or_signature_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(CredentialRefusedError):
        unverified(**changes).prove(Key())


def test_the_repr_of_an_assertion_shows_neither_its_text_nor_its_signature_nor_its_claims() -> None:
    shown = repr(unverified(assertion=an_assertion(claims={"secret": "value"})))

    assert not [text for text in ("header.claims", "good", "secret", "value") if text in shown]


# An assertion that a client signs itself.


@pytest.mark.parametrize("type_", ["", "jwt", "client-authentication+jwt"])
def test_an_assertion_of_a_client_gives_its_id(type_: str) -> None:
    assert checked(an_assertion(type=type_)) == "one"


def test_an_assertion_may_be_for_any_name_of_this_service() -> None:
    assert checked(an_assertion(audience=ENDPOINT)) == "one"


@pytest.mark.parametrize(
    "changes",
    [
        {"type": "at+jwt"},
        {"type": "jose"},
        {"issuer": "another"},
        {"audience": "https://other.example"},
        {"audience": (HERE,)},
        {"audience": (HERE, "https://other.example")},
        {"token_id": None},
    ],
    ids=str,
)
def test_an_assertion_with_a_wrong_claim_authenticates_no_client(changes: dict[str, Any]) -> None:
    with pytest.raises(CredentialRefusedError):
        checked(an_assertion(**changes))


LAST = START - LEEWAY + MOMENT
LONGEST = START + MAX_ASSERTION_LIFETIME + LEEWAY
EARLIEST = START + LEEWAY


@pytest.mark.parametrize(
    "changes",
    [
        {"expire_time": LAST},
        {"expire_time": LONGEST},
        {"issue_time": EARLIEST},
        {"not_before": EARLIEST},
        {"issue_time": START, "not_before": START},
    ],
    ids=str,
)
def test_the_leeway_is_added_to_each_bound_of_the_times(changes: dict[str, Any]) -> None:
    assert checked(an_assertion(**changes)) == "one"


@pytest.mark.parametrize(
    "changes",
    [
        {"expire_time": LAST - MOMENT},
        {"expire_time": LONGEST + MOMENT},
        {"issue_time": EARLIEST + MOMENT},
        {"not_before": EARLIEST + MOMENT},
        {"issue_time": START, "not_before": EARLIEST + MOMENT},
    ],
    ids=str,
)
def test_an_assertion_is_refused_a_moment_outside_of_its_times(changes: dict[str, Any]) -> None:
    with pytest.raises(CredentialRefusedError):
        checked(an_assertion(**changes))


def test_a_client_signs_assertions_for_at_most_an_hour() -> None:
    assert timedelta(hours=1) == MAX_ASSERTION_LIFETIME


# A token of a trusted issuer.


@pytest.mark.parametrize("type_", ["", "jwt", "jose"])
@pytest.mark.parametrize("audience", ["deploy", "build", ("other", "build")])
def test_a_token_for_one_of_the_issuers_audiences_is_accepted(
    type_: str, audience: str | tuple[str, ...]
) -> None:
    assert federated(an_assertion(type=type_, audience=audience)) is None


@pytest.mark.parametrize("audience", ["dep", "other", ("other",), (), HERE])
def test_a_token_for_another_audience_is_refused(audience: str | tuple[str, ...]) -> None:
    with pytest.raises(CredentialRefusedError):
        federated(an_assertion(audience=audience))


def test_without_audiences_of_the_issuer_a_token_must_be_for_this_service() -> None:
    plain = replace(ISSUER, audiences=())

    assert federated(an_assertion(audience=HERE), plain) is None
    with pytest.raises(CredentialRefusedError):
        federated(an_assertion(audience="deploy"), plain)


def test_an_access_token_of_the_issuer_is_refused() -> None:
    with pytest.raises(CredentialRefusedError):
        federated(an_assertion(type="at+jwt", audience="deploy"))


def test_an_expired_token_of_an_issuer_is_refused() -> None:
    with pytest.raises(CredentialRefusedError):
        federated(an_assertion(audience="deploy", expire_time=START - LEEWAY))


def test_a_token_is_accepted_up_to_the_issuers_longest_age_and_leeway() -> None:
    limited = replace(ISSUER, max_age=MINUTE)
    oldest = START - MINUTE - LEEWAY

    assert federated(an_assertion(audience="deploy", issue_time=oldest), limited) is None
    for time in (oldest - MOMENT, None):
        with pytest.raises(CredentialRefusedError):
            federated(an_assertion(audience="deploy", issue_time=time), limited)


def test_a_token_of_an_issuer_of_single_use_tokens_gives_its_id() -> None:
    single = replace(ISSUER, single_use=True)

    assert federated(an_assertion(audience="deploy"), single) == "one"
    with pytest.raises(CredentialRefusedError):
        federated(an_assertion(audience="deploy", token_id=None), single)
