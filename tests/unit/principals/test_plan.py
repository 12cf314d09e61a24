"""Plans for a principals file: which differences between the file and the records count as changes."""

from dataclasses import replace
from datetime import timedelta

import pytest

from identity_service.domain.ids import Epoch, Link, PrincipalId
from identity_service.domain.issuers import TrustedIssuer, TrustRule
from identity_service.domain.log import Revision
from identity_service.domain.principals import Client, StoredSecret, User
from identity_service.principals.plan import (
    Action,
    Declared,
    Difference,
    Found,
    Wanted,
    plan_deletion,
    plan_one,
)

CLIENT = Client(client_id=PrincipalId("reports"), scopes=frozenset({"read"}))
USER = User(user_id=PrincipalId("u_1"), username="ana", scopes=frozenset({"read"}))
ISSUER = TrustedIssuer(
    issuer="https://ci.example",
    jwks='{"keys": [{"kty": "OKP", "kid": "k"}]}',
    rules=(TrustRule(claims={"sub": "x"}, client_id=PrincipalId("reports")),),
)
PLACE = Revision(epoch=Epoch("e"), position=1, link=Link("l"))


def found(record: Declared) -> Found:
    return Found(record=record, revision=PLACE)


def wanted(record: Declared, *fields: str, secret: bool = False) -> Wanted:
    return Wanted(record=record, fields=fields, secret=secret)


def test_an_absent_record_is_created_and_the_step_lists_its_declared_values() -> None:
    step = plan_one(wanted(CLIENT, "scopes", "audiences", "require_binding", secret=True), None)

    assert step is not None
    assert (step.action, step.kind, step.name, step.secret) == (Action.CREATE, "client", "reports", True)
    assert step.differences == (Difference(field="scopes", before=None, after=["read"]),)


def test_a_record_that_is_as_declared_is_left_alone() -> None:
    fields = ("scopes", "audiences", "display_name")

    assert plan_one(wanted(CLIENT, *fields), found(CLIENT)) is None
    assert plan_one(wanted(USER, *fields), found(USER)) is None


def test_each_field_that_differs_is_named() -> None:
    now = replace(CLIENT, scopes=frozenset({"write", "read"}), max_lifetime=timedelta(minutes=5))

    step = plan_one(wanted(CLIENT, "scopes", "max_lifetime", "audiences"), found(now))

    assert step is not None
    assert step.action is Action.CHANGE
    assert step.differences == (
        Difference(field="scopes", before=["read", "write"], after=["read"]),
        Difference(field="max_lifetime", before=300, after=None),
    )


def test_a_field_that_is_not_held_may_be_anything() -> None:
    assert plan_one(wanted(CLIENT, "scopes"), found(replace(CLIENT, disabled=True))) is None


def test_keys_are_compared_as_the_json_that_they_are() -> None:
    other = replace(ISSUER, jwks='{"keys":[{"kid":"k","kty":"OKP"}]}')
    spaced = replace(CLIENT, public_keys=('{"a": 1, "b": 2}',))

    assert plan_one(wanted(ISSUER, "jwks", "rules"), found(other)) is None
    assert (
        plan_one(wanted(spaced, "public_keys"), found(replace(CLIENT, public_keys=('{"b":2,"a":1}',))))
        is None
    )
    assert plan_one(wanted(ISSUER, "jwks"), found(replace(ISSUER, jwks='{"keys":[]}'))) is not None


def test_a_name_that_looks_like_json_is_a_name() -> None:
    first, second = replace(CLIENT, display_name='{"a":1}'), replace(CLIENT, display_name='{"a": 1}')

    assert plan_one(wanted(first, "display_name"), found(second)) is not None


def test_rules_are_compared_claim_by_claim() -> None:
    rule = TrustRule(claims={"sub": "y"}, client_id=PrincipalId("reports"))

    step = plan_one(wanted(ISSUER, "rules"), found(replace(ISSUER, rules=(rule,))))

    assert step is not None
    assert [difference.field for difference in step.differences] == ["rules"]


@pytest.mark.parametrize(("secrets", "gets"), [((), True), ((StoredSecret(digest=b"x"),), False)])
def test_a_client_without_a_secret_gets_one(secrets: tuple[StoredSecret, ...], gets: bool) -> None:
    step = plan_one(wanted(CLIENT, "scopes", secret=True), found(replace(CLIENT, secrets=secrets)))

    assert (step is not None) is gets
    assert step is None or (step.action, step.secret, step.differences) == (Action.CHANGE, True, ())


def test_a_secret_is_never_removed() -> None:
    assert plan_one(wanted(CLIENT), found(replace(CLIENT, secrets=(StoredSecret(digest=b"x"),)))) is None


def test_a_user_is_called_by_username() -> None:
    step = plan_deletion(found(USER))

    assert (step.action, step.kind, step.name) == (Action.DELETE, "user", "ana")
