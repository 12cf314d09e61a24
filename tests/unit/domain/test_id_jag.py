"""ID-JAGs (Identity Assertion JWT Authorization Grants): the rules for their claims.

A token for an ID-JAG has at most the scopes that both the client and the ID-JAG have.
"""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from identity_service.domain.assertions import MAX_ASSERTION_LIFETIME, Assertion
from identity_service.domain.credential_errors import CredentialRefusedError
from identity_service.domain.grants import Entitlement
from identity_service.domain.id_jag import IdJagLimits, check_id_jag, limits_of
from identity_service.domain.ids import PrincipalId
from identity_service.domain.issuers import TrustedIssuer
from tests.unit.domain.samples import MOMENT, START

HERE, FORMER = "https://id.example", "https://old.example"
LEEWAY = timedelta(seconds=10)
MINUTE = timedelta(minutes=1)
ISSUER = TrustedIssuer(issuer="https://idp.example", audiences=("elsewhere",))
CLAIMS = {"client_id": "portal"}
NAMES = st.sets(st.sampled_from(["a", "b", "c", "d"]))


def an_id_jag(**changes: Any) -> Assertion:
    values: dict[str, Any] = {
        "type": "oauth-id-jag+jwt",
        "issuer": ISSUER.issuer,
        "subject": "ana",
        "audience": HERE,
        "issue_time": START,
        "expire_time": START + MINUTE,
        "token_id": "one",
        "claims": CLAIMS,
    }
    return Assertion(**(values | changes))


def checked(assertion: Assertion, issuer: TrustedIssuer = ISSUER) -> str:
    return check_id_jag(
        assertion,
        issuer,
        client_id=PrincipalId("portal"),
        audiences=(HERE, FORMER),
        now=START,
        leeway=LEEWAY,
    )


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"audience": (HERE,)},
        {"audience": FORMER},
        {"issue_time": START + LEEWAY, "not_before": START + LEEWAY},
        {"expire_time": START - LEEWAY + MOMENT},
        {"expire_time": START + MAX_ASSERTION_LIFETIME + LEEWAY},
    ],
)
def test_an_id_jag_for_this_service_and_client_is_accepted(changes: dict[str, Any]) -> None:
    assert checked(an_id_jag(**changes)) == "one"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"type": "jwt"}, "typ"),
        ({"type": ""}, "typ"),
        ({"audience": "elsewhere"}, "aud"),
        ({"audience": (HERE, "elsewhere")}, "aud"),
        ({"audience": (HERE, HERE)}, "aud"),
        ({"audience": f"{HERE}/"}, "aud"),
        ({"claims": {}}, "client_id"),
        ({"claims": {"client_id": "other"}}, "client_id"),
        ({"claims": {"client_id": ["portal"]}}, "client_id"),
        ({"token_id": None}, "jti"),
        ({"issue_time": None}, "iat"),
        ({"issue_time": START + LEEWAY + MOMENT}, "not valid yet"),
        ({"not_before": START + LEEWAY + MOMENT}, "not valid yet"),
        ({"expire_time": START - LEEWAY}, "expired"),
        ({"expire_time": START + MAX_ASSERTION_LIFETIME + LEEWAY + MOMENT}, "more than an hour"),
    ],
)
def test_every_other_id_jag_is_refused_for_its_reason(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(CredentialRefusedError) as refused:
        checked(an_id_jag(**changes))

    assert why in refused.value.why


@pytest.mark.parametrize("name", ["act", "aud_tenant", "authorization_details", "cnf", "tenant"])
@pytest.mark.parametrize("value", [None, {}, "acme"])
def test_an_id_jag_with_a_restriction_that_would_be_ignored_is_refused(name: str, value: object) -> None:
    with pytest.raises(CredentialRefusedError, match="refused") as refused:
        checked(an_id_jag(claims={**CLAIMS, name: value}))

    assert f"the claim {name}," in refused.value.why


def test_the_max_age_of_the_issuer_holds_for_id_jags_too() -> None:
    short = replace(ISSUER, max_age=MINUTE)

    assert checked(an_id_jag(issue_time=START - MINUTE - LEEWAY), short)
    with pytest.raises(CredentialRefusedError):
        checked(an_id_jag(issue_time=START - MINUTE - LEEWAY - MOMENT), short)


@pytest.mark.parametrize(
    ("claims", "limits"),
    [
        ({}, IdJagLimits()),
        ({"scope": "read"}, IdJagLimits(scopes=frozenset({"read"}))),
        ({"scope": "read write"}, IdJagLimits(scopes=frozenset({"read", "write"}))),
        ({"resource": "api"}, IdJagLimits(audiences=frozenset({"api"}))),
        ({"resource": ["api", "mail"]}, IdJagLimits(audiences=frozenset({"api", "mail"}))),
    ],
)
def test_the_limits_are_those_of_the_claims(claims: dict[str, object], limits: IdJagLimits) -> None:
    assert limits_of(an_id_jag(claims=claims)) == limits


@pytest.mark.parametrize(
    "claims",
    [
        {"scope": ""},
        {"scope": "read  write"},
        {"scope": " read"},
        {"scope": None},
        {"scope": ["read"]},
        {"scope": 1},
        {"resource": ""},
        {"resource": []},
        {"resource": None},
        {"resource": ["api", 1]},
        {"resource": ["api", ""]},
        {"resource": {"api": 1}},
    ],
)
def test_a_malformed_limit_is_refused_and_not_ignored(claims: dict[str, object]) -> None:
    with pytest.raises(CredentialRefusedError) as refused:
        limits_of(an_id_jag(claims=claims))

    assert refused.value.why.startswith(f"its {next(iter(claims))} must be")


@given(st.none() | st.text() | st.integers() | st.lists(st.text() | st.integers()), st.booleans())
def test_any_limit_is_read_as_sent_or_refused(value: object, of_scopes: bool) -> None:
    name = "scope" if of_scopes else "resource"
    try:
        limits = limits_of(an_id_jag(claims={name: value}))
    except CredentialRefusedError:
        return
    found = limits.scopes if of_scopes else limits.audiences
    assert found
    assert all(found)
    sent = value.split(" ") if of_scopes and isinstance(value, str) else value
    assert found == frozenset(sent if isinstance(sent, list) else [sent])


@given(NAMES, NAMES, st.none() | NAMES, st.none() | NAMES)
def test_limits_only_take_away(
    audiences: set[str], scopes: set[str], of_audiences: set[str] | None, of_scopes: set[str] | None
) -> None:
    held = Entitlement(audiences=frozenset(audiences), scopes=frozenset(scopes), max_lifetime=MINUTE)
    limits = IdJagLimits(
        audiences=None if of_audiences is None else frozenset(of_audiences),
        scopes=None if of_scopes is None else frozenset(of_scopes),
    )

    left = limits.narrow(held)

    assert left.audiences == audiences & (audiences if of_audiences is None else of_audiences)
    assert left.scopes == scopes & (scopes if of_scopes is None else of_scopes)
    assert left.max_lifetime == MINUTE
