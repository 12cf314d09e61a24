"""`identity session`: users see their own sessions without any scope, administrators see all."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from identity_client import IdentityClient, TokenSet, UnauthenticatedError
from tests.cli.conftest import PASSWORD, Run, RunJson, Served

SignIn = Callable[..., TokenSet]


@pytest.fixture
def person(request: pytest.FixtureRequest, admin: Run) -> str:
    """A user that only this test has, who can call the service but has none of its scopes."""
    name: str = request.node.name
    words = ("user", "create", name, "-a", "api", "-a", "identity-service", "--password-stdin")
    admin(*words, stdin=f"{PASSWORD}\n")
    return name


@pytest.fixture
def sign_in(served: Served, person: str) -> SignIn:
    def sign_in(device: str = "") -> TokenSet:
        with served.running.client() as client:
            return client.issue_with_password(person, PASSWORD, audiences=["api"], device=device)

    return sign_in


@pytest.fixture
def own(run: Run, served: Served, person: str) -> Run:
    """Return a function that runs a command as the user `person`."""

    def as_person(*words: str, **options: Any) -> Any:
        env = {"IDENTITY_TARGET": served.target, "IDENTITY_PASSWORD": PASSWORD}
        return run(*words, "--username", person, **(env | options))

    return as_person


def lives(client: IdentityClient, tokens: TokenSet) -> bool:
    try:
        client.refresh(tokens.refresh_token)
    except UnauthenticatedError:
        return False
    return True


def test_a_user_sees_their_own_sessions_newest_first(own: Run, sign_in: SignIn, person: str) -> None:
    phone, laptop = sign_in("phone"), sign_in("laptop")

    rows = json.loads(own("session", "list", "--json").stdout)

    assert [row["device"] for row in rows] == ["identity command line", "laptop", "phone"]
    assert [row["current"] for row in rows] == [True, False, False]
    assert [row["session_id"] for row in rows[1:]] == [laptop.session_id, phone.session_id]
    assert "phone" in own("session", "list").stdout


def test_the_session_of_a_command_ends_with_it(own: Run, admin_json: RunJson, person: str) -> None:
    own("session", "list")

    assert admin_json("session", "list", "--user", person) == []


def test_an_administrator_sees_those_of_a_user_or_a_client(
    admin_json: RunJson, sign_in: SignIn, person: str
) -> None:
    tokens = sign_in("phone")

    (row,) = admin_json("session", "list", "--user", person)
    through = admin_json("session", "list", "--client", "first-party")

    assert (row["session_id"], row["client_id"]) == (tokens.session_id, "first-party")
    assert row["peer"].startswith("127.0.0.1:")
    assert tokens.session_id in [row["session_id"] for row in through]


def test_a_user_ends_one_of_their_own(own: Run, sign_in: SignIn, served: Served) -> None:
    phone, laptop = sign_in(), sign_in()

    own("session", "revoke", phone.session_id, "--reason", "lost")

    with served.running.client() as client:
        assert (lives(client, phone), lives(client, laptop)) == (False, True)


def test_a_user_ends_all_of_their_own_but_one(own: Run, sign_in: SignIn, served: Served) -> None:
    phone, laptop = sign_in(), sign_in()

    own("session", "revoke", "--all-but", laptop.session_id)

    with served.running.client() as client:
        assert (lives(client, phone), lives(client, laptop)) == (False, True)


def test_an_administrator_ends_all_of_a_user(
    admin_json: RunJson, sign_in: SignIn, served: Served, person: str
) -> None:
    tokens = [sign_in(), sign_in()]

    ended = admin_json("session", "revoke", "--all", "--user", person)

    assert ended["count"] == 2
    assert ended["revision"]
    with served.running.client() as client:
        assert [lives(client, each) for each in tokens] == [False, False]


def test_a_user_may_not_touch_those_of_others(own: Run, admin: Run, served: Served) -> None:
    admin("user", "create", "other", "-a", "api", "--password-stdin", stdin=f"{PASSWORD}\n")
    with served.running.client() as client:
        others = client.issue_with_password("other", PASSWORD)
        own("session", "list", "--user", "other", code=3)
        own("session", "list", "--client", "first-party", code=3)
        own("session", "revoke", "--all", "--user", "other", code=3)
        own("session", "revoke", others.session_id, code=1)  # nor learn that there is one
        assert lives(client, others)


def test_the_sessions_to_end_must_be_named_exactly_once(admin: Run) -> None:
    admin("session", "revoke", code=2)
    admin("session", "revoke", "x", "--all", code=2)
    admin("session", "revoke", "x", "--user", "ana", code=2)
    admin("session", "list", "--user", "a", "--client", "b", code=2)
