"""The grant policy: default and largest audiences, scopes and lifetimes of a principal, and refusals."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from identity_service.domain.errors import (
    AudienceNotAllowedError,
    GrantNotAllowedError,
    InvalidRequestError,
    LifetimeOutOfBoundsError,
    ScopeNotAllowedError,
    UnknownScopeError,
)
from identity_service.domain.grants import (
    MAX_AUDIENCES,
    MAX_SCOPES,
    OWN_SCOPES,
    Entitlement,
    Granted,
    GrantRequest,
    LifetimeBounds,
    check_names,
    client_entitlement,
    decide_grant,
    is_audience,
    is_known_scope,
    narrow,
    require_grant,
    user_entitlement,
)
from identity_service.domain.principals import ANY, Grant, first_party_client
from tests.unit.domain.samples import a_client, a_user

BOUNDS = LifetimeBounds()


def entitlement(**changes: Any) -> Entitlement:
    values: dict[str, Any] = {"audiences": frozenset({"a", "b"}), "scopes": frozenset({"x", "y"})}
    return Entitlement(**(values | changes))


def decide(
    request: GrantRequest, held: Entitlement | None = None, bounds: LifetimeBounds = BOUNDS
) -> Granted:
    return decide_grant(held or entitlement(), request, bounds)


def both_of(held: Entitlement) -> tuple[set[str], set[str]]:
    return set(held.audiences), set(held.scopes)


# The most that each principal may have.


@pytest.mark.parametrize("grant", Grant)
def test_a_grant_that_the_client_does_not_have_is_refused(grant: Grant) -> None:
    with pytest.raises(GrantNotAllowedError, match=grant.value):
        require_grant(a_client(grants=frozenset(Grant) - {grant}), grant)


@pytest.mark.parametrize("grant", Grant)
def test_a_grant_that_the_client_has_passes(grant: Grant) -> None:
    require_grant(a_client(grants=frozenset({grant})), grant)


def test_a_client_is_granted_the_audiences_and_scopes_of_its_record() -> None:
    held = client_entitlement(a_client(max_lifetime=timedelta(minutes=1)))
    assert held == Entitlement(
        audiences=frozenset({"orders", "stock"}),
        scopes=frozenset({"orders.read", "orders.write"}),
        max_lifetime=timedelta(minutes=1),
    )


def test_any_gives_a_client_nothing_for_itself() -> None:
    held = client_entitlement(a_client(audiences=frozenset({ANY, "orders"}), scopes=frozenset({ANY})))
    assert both_of(held) == ({"orders"}, set())


def test_a_user_is_granted_through_a_client_only_what_both_may_have() -> None:
    held = user_entitlement(a_client(max_lifetime=timedelta(minutes=2)), a_user())
    assert held == Entitlement(
        audiences=frozenset({"orders"}), scopes=frozenset({"orders.read"}), max_lifetime=timedelta(minutes=2)
    )


def test_any_in_a_client_gives_a_user_all_that_is_theirs() -> None:
    held = user_entitlement(first_party_client(), a_user())
    assert both_of(held) == ({"orders", "mail"}, {"orders.read", "mail.read"})


@pytest.mark.parametrize("of_client", [frozenset({ANY}), frozenset({ANY, "orders"}), frozenset({"orders"})])
def test_any_in_a_user_record_is_no_audience_and_no_scope(of_client: frozenset[str]) -> None:
    """A receiver could take a token with the literal scope `*` for one that may do anything."""
    user = a_user(audiences=frozenset({ANY, "orders"}), scopes=frozenset({ANY, "orders"}))
    held = user_entitlement(a_client(audiences=of_client, scopes=of_client), user)
    assert both_of(held) == ({"orders"}, {"orders"})


def test_any_is_a_client_privilege_that_covers_audiences_and_scopes_apart() -> None:
    held = user_entitlement(a_client(audiences=frozenset({ANY})), a_user())
    assert both_of(held) == ({"orders", "mail"}, {"orders.read"})


# Names.


@pytest.mark.parametrize(
    "scope", ["x", "orders.read", "https://a.example/s", "!", "a" * 128, *sorted(OWN_SCOPES)]
)
def test_every_well_formed_scope_is_known_if_none_are_listed(scope: str) -> None:
    assert is_known_scope(scope)


@pytest.mark.parametrize(
    "scope", ["", " ", "a b", 'a"b', "a\\b", "a\n", "a\x7f", "ä", "a" * 129, "identity."]
)
def test_a_scope_that_rfc_6749_does_not_allow_is_unknown(scope: str) -> None:
    assert not is_known_scope(scope)


@pytest.mark.parametrize("scope", ["identity.verify2", "identity.all", "identity.*", "identity.Admin"])
def test_a_scope_of_the_service_that_does_not_exist_is_unknown_even_if_it_is_listed(scope: str) -> None:
    assert not is_known_scope(scope)
    assert not is_known_scope(scope, frozenset({scope}))


def test_if_there_is_a_list_only_its_scopes_and_those_of_the_service_are_known() -> None:
    known = frozenset({"orders.read"})
    assert is_known_scope("orders.read", known)
    assert not is_known_scope("orders.write", known)
    assert is_known_scope("identity.admin", known)


@pytest.mark.parametrize("text", ["a", "a" * 256, "https://a.example"])
def test_an_audience_is_visible_ascii_text(text: str) -> None:
    assert is_audience(text)


@pytest.mark.parametrize("text", ["", "a" * 257, "a b", "a\n", "ä", "\x00", "\ud800"])
def test_another_text_is_no_audience(text: str) -> None:
    assert not is_audience(text)


def test_names_within_the_limits_pass() -> None:
    audiences = [f"a{n}" for n in range(MAX_AUDIENCES)]
    check_names(GrantRequest(audiences=audiences, scopes=[f"s{n}" for n in range(MAX_SCOPES)]))
    check_names(GrantRequest())


def test_every_violation_is_named_by_its_field() -> None:
    request = GrantRequest(audiences=["ok", "not ok", ""], scopes=["s"] * (MAX_SCOPES + 1))
    with pytest.raises(InvalidRequestError) as caught:
        check_names(request)
    assert [v.field for v in caught.value.violations] == ["scopes", "audiences[1]", "audiences[2]"]
    assert not isinstance(caught.value, UnknownScopeError)


def test_ten_thousand_names_give_few_violations() -> None:
    """The error for an enormous request must stay small."""
    with pytest.raises(InvalidRequestError) as caught:
        check_names(GrantRequest(audiences=[""] * 10_000, scopes=[""] * 10_000))
    assert len(caught.value.violations) == 2 + MAX_AUDIENCES
    assert "10000 entries; at most 16" in str(caught.value)


def test_unknown_scopes_are_named_by_their_index() -> None:
    with pytest.raises(UnknownScopeError) as caught:
        check_names(GrantRequest(scopes=["x", "a b", "nope"]), frozenset({"x"}))
    assert [v.field for v in caught.value.violations] == ["scopes[1]", "scopes[2]"]


def test_no_violation_repeats_what_was_sent() -> None:
    """A caller may have put a secret into the wrong field."""
    for request in (GrantRequest(audiences=["hunter2 "]), GrantRequest(scopes=["hunter2 "])):
        with pytest.raises(InvalidRequestError) as caught:
            check_names(request)
        assert "hunter2" not in str(caught.value)


# Audiences.


def test_the_audiences_come_in_the_order_of_the_request_without_repetition() -> None:
    assert decide(GrantRequest(audiences=["b", "a", "b"])).audiences == ("b", "a")


def test_the_only_audience_is_the_default() -> None:
    assert decide(GrantRequest(), entitlement(audiences=frozenset({"a"}))).audiences == ("a",)


@pytest.mark.parametrize("audiences", [frozenset[str](), frozenset({"a", "b"})])
def test_without_a_single_audience_to_take_one_must_be_named(audiences: frozenset[str]) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        decide(GrantRequest(), entitlement(audiences=audiences))
    assert [v.field for v in caught.value.violations] == ["audiences"]


@pytest.mark.parametrize("audiences", [["c"], ["a", "c"], [ANY]])
def test_an_audience_that_the_principal_may_not_have_is_refused(audiences: list[str]) -> None:
    with pytest.raises(AudienceNotAllowedError):
        decide(GrantRequest(audiences=audiences))


# Scopes.


def test_the_scopes_come_in_the_order_of_the_request_without_repetition() -> None:
    assert decide(GrantRequest(audiences=["a"], scopes=["y", "x", "y"])).scopes == ("y", "x")


def test_all_scopes_of_the_principal_are_the_default_but_never_those_of_the_service() -> None:
    held = entitlement(scopes=frozenset({"y", "x"}) | OWN_SCOPES)
    assert decide(GrantRequest(audiences=["a"]), held).scopes == ("x", "y")


def test_a_scope_of_the_service_is_granted_only_if_it_is_requested_and_permitted() -> None:
    held = entitlement(scopes=frozenset({"x", "identity.revoke"}))
    assert decide(GrantRequest(audiences=["a"], scopes=["identity.revoke"]), held).scopes == (
        "identity.revoke",
    )


@pytest.mark.parametrize("scopes", [["z"], ["x", "z"], ["identity.admin"], [ANY]])
def test_a_scope_that_the_principal_may_not_have_is_refused(scopes: list[str]) -> None:
    with pytest.raises(ScopeNotAllowedError):
        decide(GrantRequest(audiences=["a"], scopes=scopes))


def test_the_default_scopes_are_bounded() -> None:
    held = entitlement(scopes=frozenset(f"s{n:03}" for n in range(MAX_SCOPES + 50)))
    assert decide(GrantRequest(audiences=["a"]), held).scopes == tuple(f"s{n:03}" for n in range(MAX_SCOPES))


# Lifetimes.


@pytest.mark.parametrize(
    ("asked", "of_client", "expected"),
    [
        (None, None, timedelta(minutes=15)),
        (None, timedelta(minutes=5), timedelta(minutes=5)),
        (None, timedelta(hours=1), timedelta(minutes=15)),
        (None, timedelta(seconds=90, milliseconds=500), timedelta(seconds=90)),
        (timedelta(seconds=1), None, timedelta(seconds=1)),
        (timedelta(hours=24), None, timedelta(hours=24)),
        (timedelta(hours=1), timedelta(hours=1), timedelta(hours=1)),
        (timedelta(seconds=2, microseconds=999_999), None, timedelta(seconds=2)),
    ],
)
def test_a_lifetime_within_the_bounds_is_granted_in_whole_seconds(
    asked: timedelta | None, of_client: timedelta | None, expected: timedelta
) -> None:
    granted = decide(GrantRequest(audiences=["a"], lifetime=asked), entitlement(max_lifetime=of_client))
    assert granted.lifetime == expected


@pytest.mark.parametrize(
    ("asked", "of_client"),
    [
        (timedelta(0), None),
        (timedelta(microseconds=999_999), None),
        (timedelta(seconds=-1), None),
        (timedelta.min, None),
        (timedelta.max, None),
        (timedelta(hours=24, microseconds=1), None),
        (timedelta(minutes=6), timedelta(minutes=5)),
        (timedelta(hours=25), timedelta(hours=48)),
        (timedelta(minutes=1), timedelta(0)),
        (None, timedelta(0)),
    ],
)
def test_a_lifetime_out_of_bounds_is_refused(asked: timedelta | None, of_client: timedelta | None) -> None:
    """A client whose longest lifetime is zero gets no token, and not one without a limit."""
    with pytest.raises(LifetimeOutOfBoundsError) as caught:
        decide(GrantRequest(audiences=["a"], lifetime=asked), entitlement(max_lifetime=of_client))
    assert [v.field for v in caught.value.violations] == ["lifetime"]


def test_a_default_over_the_maximum_gives_the_maximum() -> None:
    bounds = LifetimeBounds(default=timedelta(hours=2), maximum=timedelta(hours=1))
    assert decide(GrantRequest(audiences=["a"]), bounds=bounds).lifetime == timedelta(hours=1)


NAMES = st.lists(st.sampled_from("abcxyz"), max_size=4)


@given(audiences=NAMES, scopes=NAMES)
def test_no_principal_is_granted_more_than_it_may_have(audiences: list[str], scopes: list[str]) -> None:
    held = entitlement()
    try:
        granted = decide(GrantRequest(audiences=audiences, scopes=scopes), held)
    except (AudienceNotAllowedError, ScopeNotAllowedError, InvalidRequestError):
        assert not (audiences and held.audiences.issuperset(audiences) and held.scopes.issuperset(scopes))
    else:
        assert held.audiences.issuperset(granted.audiences)
        assert held.scopes.issuperset(granted.scopes)
        assert set(granted.audiences) == set(audiences)


# Narrowing a session.


def test_nothing_asked_for_is_all_that_the_session_holds_in_its_order() -> None:
    assert narrow("scopes", ["y", "x"], []) == ("y", "x")


def test_a_part_of_the_sessions_scopes_is_granted_in_the_requested_order() -> None:
    assert narrow("scopes", ["x", "y", "z"], ["z", "x", "z"]) == ("z", "x")


@pytest.mark.parametrize(
    ("field", "error"), [("scopes", ScopeNotAllowedError), ("audiences", AudienceNotAllowedError)]
)
def test_more_than_the_session_holds_is_refused(field: str, error: type[Exception]) -> None:
    with pytest.raises(error, match=field):
        narrow(field, ["x"], ["x", "y"])


def test_tokens_live_15_minutes_and_at_most_a_day_unless_the_settings_say_otherwise() -> None:
    assert LifetimeBounds() == LifetimeBounds(default=timedelta(minutes=15), maximum=timedelta(hours=24))
