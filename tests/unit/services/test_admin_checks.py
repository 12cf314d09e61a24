"""The limits on the fields of clients and users, and the fields that an error names."""

from datetime import timedelta
from typing import Any

import pytest

from identity_service.domain.errors import InvalidRequestError
from identity_service.domain.principals import Grant
from identity_service.services.admin.checks import check_client, check_user, is_client_id
from tests.fakes.public_keys import FakePublicKeys
from tests.unit.domain.samples import a_client, a_user

SECOND, LONGEST = timedelta(seconds=1), timedelta(days=3650)
LINE = "a\nb"


def refused(changes: dict[str, Any], before: dict[str, Any] | None = None) -> set[str]:
    """Return the fields of a client's record that are refused."""
    old = a_client(**before) if before is not None else None
    try:
        check_client(a_client(**changes), FakePublicKeys(), before=old)
    except InvalidRequestError as error:
        return {violation.field.removeprefix("client.") for violation in error.violations}
    return set()


def refused_user(changes: dict[str, Any], before: dict[str, Any] | None = None) -> set[str]:
    """Return the fields of a user's record that are refused."""
    try:
        check_user(a_user(**changes), before=a_user(**before) if before is not None else None)
    except InvalidRequestError as error:
        return {violation.field.removeprefix("user.") for violation in error.violations}
    return set()


def names(count: int) -> frozenset[str]:
    return frozenset(f"name-{number}" for number in range(count))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"display_name": "x" * 128},
        {"audiences": names(100), "scopes": names(100), "exchange_audiences": names(100)},
        {"audiences": frozenset("*"), "scopes": frozenset({"*", "identity.admin"})},
        {"max_lifetime": SECOND},
        {"max_lifetime": LONGEST},
        {"certificates": frozenset(f"dns:{name}" for name in names(20))},
        {"public_keys": tuple(names(10))},
        {"encryption_key": "key"},
        {"grants": frozenset({Grant.CLIENT_CREDENTIALS, Grant.TOKEN_EXCHANGE})},
        {"grants": frozenset({Grant.PASSWORD, Grant.REFRESH_TOKEN})},
        {"grants": frozenset(Grant), "public_keys": ("key",)},
    ],
    ids=lambda changes: "-".join(changes) or "nothing",
)
def test_the_record_of_a_client_is_accepted_up_to_each_bound(changes: dict[str, Any]) -> None:
    assert refused(changes) == set()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("client_id", "u_alice"),
        ("client_id", "f_alice"),
        ("client_id", "with space"),
        ("display_name", "x" * 129),
        ("display_name", LINE),
        ("audiences", names(101)),
        ("audiences", frozenset({"orders", "with space"})),
        ("scopes", names(101)),
        ("scopes", frozenset({"read", "identity.other"})),
        ("scopes", frozenset({"with space", "*"})),
        ("exchange_audiences", names(101)),
        ("exchange_audiences", frozenset({""})),
        ("max_lifetime", timedelta(0)),
        ("max_lifetime", LONGEST + SECOND),
        ("max_lifetime", SECOND * 1.5),
        ("certificates", frozenset(f"dns:{name}" for name in names(21))),
        ("certificates", frozenset({"dns:a", "CN=a"})),
        ("public_keys", tuple(names(11))),
        ("encryption_key", "bad"),
        ("grants", frozenset({Grant.PASSWORD, Grant.CLIENT_CREDENTIALS})),
        ("grants", frozenset({Grant.PASSWORD, Grant.TOKEN_EXCHANGE})),
    ],
    # A set has another text in each process, and pytest-xdist compares the ids.
    ids=lambda value: value if isinstance(value, str) and len(value) < 20 else "",
)
def test_the_record_of_a_client_is_refused_beyond_each_bound(field: str, value: Any) -> None:
    assert refused({field: value}) == {field}


def test_each_public_key_must_be_one_and_have_an_id_of_its_own() -> None:
    assert refused({"public_keys": ("a", "bad", "a", "b")}) == {"public_keys[1]", "public_keys[2]"}


def test_an_error_names_all_fields_that_are_wrong() -> None:
    assert refused({"display_name": LINE, "max_lifetime": timedelta(0)}) == {"display_name", "max_lifetime"}


def test_a_display_name_that_is_older_than_the_rule_may_stay() -> None:
    assert refused({"display_name": LINE}, before={"display_name": LINE}) == set()
    assert refused({"display_name": LINE}, before={"display_name": "another"}) == {"display_name"}
    assert refused_user({"display_name": LINE}, before={"display_name": LINE}) == set()
    assert refused_user({"display_name": LINE}, before={"display_name": "another"}) == {"display_name"}


def test_a_username_that_is_older_than_the_rule_may_stay() -> None:
    assert refused_user({"username": LINE}, before={"username": LINE}) == set()
    assert refused_user({"username": LINE}, before={"username": "another"}) == {"username"}
    assert refused_user({"username": LINE}) == {"username"}


@pytest.mark.parametrize("field", ["audiences", "scopes"])
def test_the_record_of_a_user_spells_out_what_the_user_may_have(field: str) -> None:
    assert refused_user({}) == set()
    assert refused_user({field: frozenset({"*", "orders"})}) == {field}


def test_no_client_has_the_id_of_a_user_or_of_a_principal_without_a_record() -> None:
    assert [is_client_id(text) for text in ("shop", "u_shop", "f_shop", "", "u", "-shop")] == [
        True,
        False,
        False,
        False,
        True,
        False,
    ]
