"""Trusted issuers: which rule applies to a token, according to its claims."""

from typing import Any

import pytest

from identity_service.domain.ids import PrincipalId
from identity_service.domain.issuers import TrustedIssuer, TrustRule, applies, federated_id

CLAIMS: dict[str, Any] = {
    "sub": "repo:shop:main",
    "number": 7,
    "protected": True,
    "groups": ["ops", "dev"],
    "kubernetes.io": {"namespace": "shop", "pod.name": "web-1"},
    "deep": {"a": {"b": "c"}},
    "nothing": None,
    "half": 0.5,
}


def a_rule(**claims: str) -> TrustRule:
    return TrustRule(claims=claims, client_id=PrincipalId("shop"))


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("sub", "repo:shop:main"),
        ("sub", "repo:shop:*"),
        ("sub", "*"),
        ("number", "7"),
        ("number", "7*"),
        ("protected", "true"),
        ("groups", "ops"),
        ("groups", "dev"),
        ("kubernetes.io.namespace", "shop"),
        ("kubernetes.io.pod.name", "web-*"),
        ("deep.a.b", "c"),
    ],
)
def test_a_rule_applies_to_a_token_whose_claim_has_the_value(path: str, wanted: str) -> None:
    assert applies(a_rule(**{path: wanted}), CLAIMS)


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("sub", "repo:shop"),
        ("sub", "repo:shop:main2*"),
        ("sub", "epo:shop:main"),
        ("number", "8"),
        ("protected", "True"),
        ("protected", "1"),
        ("protected", "t*"),
        ("groups", "sales"),
        ("kubernetes.io", "shop"),
        ("kubernetes.io.pod", "web-1"),
        ("deep.a", "c"),
        ("deep.a.b.c", "c"),
        ("sub.a", "*"),
        ("absent", "*"),
        ("nothing", "*"),
        ("nothing", "None"),
        ("half", "0.5"),
        ("", "*"),
    ],
)
def test_a_rule_does_not_apply_to_another_token(path: str, wanted: str) -> None:
    assert not applies(a_rule(**{path: wanted}), CLAIMS)


def test_each_claim_of_a_rule_must_match() -> None:
    assert applies(a_rule(number="7", groups="ops"), CLAIMS)
    assert not applies(a_rule(number="7", groups="sales"), CLAIMS)


def test_a_rule_without_claims_applies_to_no_token() -> None:
    assert not applies(a_rule(), CLAIMS)


def test_the_first_rule_that_applies_decides() -> None:
    rules = (a_rule(number="8"), a_rule(number="7"), a_rule(sub="*"))
    issuer = TrustedIssuer(issuer="https://ci.example", rules=rules)

    assert issuer.rule_for(CLAIMS) is rules[1]
    assert issuer.rule_for({"sub": "x"}) is rules[2]
    assert issuer.rule_for({}) is None


def test_a_new_issuer_trusts_asymmetric_algorithms_only_and_no_token_yet() -> None:
    issuer = TrustedIssuer(issuer="https://ci.example")

    assert set(issuer.algorithms) == {"ES256", "ES384", "EdDSA", "RS256", "PS256"}
    assert (issuer.id, issuer.rules, issuer.single_use) == ("https://ci.example", (), False)
    assert not a_rule(sub="x").per_subject


def test_no_two_pairs_of_issuer_and_subject_share_an_id() -> None:
    ids = {federated_id("ab", "c"), federated_id("a", "bc"), federated_id("", "abc"), federated_id("ab", "d")}

    assert len(ids) == 4
    assert federated_id("ab", "c") == federated_id("ab", "c")
    assert all(id_.startswith("f_") and len(id_) == 26 for id_ in ids)
