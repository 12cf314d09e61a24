"""The limits on the fields of a trusted issuer, and the fields that an error names."""

from datetime import timedelta
from typing import Any

import pytest

from identity_service.domain.errors import InvalidRequestError
from identity_service.domain.ids import PrincipalId
from identity_service.domain.issuers import IssuerNames, TrustedIssuer, TrustRule
from identity_service.services.admin.issuer_checks import check_issuer
from tests.fakes.public_keys import FakePublicKeys

OWN = "https://id.example"
FORMER = "https://former.example"
LONG = "x" * 512


def a_rule(claims: dict[str, str] | None = None, client_id: str = "shop") -> TrustRule:
    return TrustRule(claims=claims or {"sub": "x"}, client_id=PrincipalId(client_id))


def refused(changes: dict[str, Any], *, stored: bool = False, own: str | None = OWN) -> set[str]:
    """Return the fields of an issuer's record that are refused."""
    values: dict[str, Any] = {"issuer": "https://ci.example", "rules": (a_rule(),)}
    if not {"jwks", "jwks_uri", "jwks_file"} & changes.keys():
        values["jwks"] = "keys"
    names = IssuerNames(own, former=(FORMER,)) if own is not None else None
    try:
        check_issuer(TrustedIssuer(**(values | changes)), FakePublicKeys(), own=names, stored=stored)
    except InvalidRequestError as error:
        return {violation.field.removeprefix("trusted_issuer.") for violation in error.violations}
    return set()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"issuer": "x"},
        {"issuer": "x" * 256},
        {"audiences": ("x",) * 16},
        {"algorithms": ("ES256", "EdDSA")},
        {"max_age": timedelta(seconds=1)},
        {"max_age": timedelta(days=3650)},
        {"jwks_uri": "https://ci.example/keys"},
        {"jwks_file": "/etc/keys.json"},
        {"jwks_file": "/" + "x" * 2047},
        {"rules": (a_rule(),) * 100},
        {"rules": (a_rule({f"claim-{number}": LONG for number in range(20)}),)},
        {"rules": (a_rule({LONG: "x"}),)},
    ],
    ids=lambda changes: "-".join(changes),
)
def test_the_record_of_an_issuer_is_accepted_up_to_each_bound(changes: dict[str, Any]) -> None:
    assert refused(changes) == set()


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("issuer", {"issuer": ""}),
        ("issuer", {"issuer": "x" * 257}),
        ("issuer", {"issuer": "with space"}),
        ("issuer", {"issuer": f"{OWN}/"}),
        ("issuer", {"issuer": f"{FORMER}/"}),
        ("audiences", {"audiences": ("x",) * 17}),
        ("audiences", {"audiences": ("x", "with space")}),
        ("algorithms", {"algorithms": ("ES256", "HS256"), "jwks": "bad"}),
        ("max_age", {"max_age": timedelta(0)}),
        ("max_age", {"max_age": timedelta(days=3651)}),
        ("keys", {"jwks": None}),
        ("keys", {"jwks": "keys", "jwks_file": "/etc/keys.json"}),
        ("keys", {"jwks": "keys", "jwks_file": "/k", "jwks_uri": "https://ci.example/keys"}),
        ("jwks", {"jwks": "bad"}),
        ("jwks", {"jwks": "bad", "algorithms": ("ES256",)}),
        ("jwks_uri", {"jwks_uri": "http://ci.example/keys"}),
        ("jwks_file", {"jwks_file": "keys.json"}),
        ("jwks_file", {"jwks_file": "/keys\n"}),
        ("jwks_file", {"jwks_file": "/" + "x" * 2048}),
        ("rules", {"rules": ()}),
        ("rules", {"rules": (a_rule(),) * 101}),
        ("rules[1].client_id", {"rules": (a_rule(), a_rule(client_id="u_ana"))}),
        ("rules[0].claims", {"rules": (TrustRule(claims={}, client_id=PrincipalId("shop")),)}),
        ("rules[0].claims", {"rules": (a_rule({f"claim-{number}": "x" for number in range(21)}),)}),
        ("rules[0].claims", {"rules": (a_rule({"sub": ""}),)}),
        ("rules[0].claims", {"rules": (a_rule({"": "x"}),)}),
        ("rules[0].claims", {"rules": (a_rule({"sub": f"{LONG}x"}),)}),
        ("rules[0].claims", {"rules": (a_rule({"sub": "x", "ref": "a\nb"}),)}),
    ],
)
def test_the_record_of_an_issuer_is_refused_beyond_each_bound(field: str, changes: dict[str, Any]) -> None:
    assert refused(changes) == {field}


def test_an_error_names_all_fields_that_are_wrong() -> None:
    assert refused({"issuer": "", "rules": ()}) == {"issuer", "rules"}


def test_a_name_that_is_older_than_the_rule_may_stay_unless_it_is_our_own() -> None:
    assert refused({"issuer": "with space"}, stored=True) == set()
    assert refused({"issuer": OWN}, stored=True) == {"issuer"}
    assert refused({"issuer": OWN}, own=None) == set()
