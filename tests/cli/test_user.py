"""`identity user` with a running service."""

import pytest

from identityapi.v1 import principal_pb2
from tests.cli.conftest import PASSWORD, Run, RunJson, Served


def test_a_user_is_created_shown_listed_disabled_and_deleted(admin: Run, admin_json: RunJson) -> None:
    made = admin_json("user", "create", "ana", "-a", "api", "--password-stdin", stdin=f"{PASSWORD}\n")

    assert made["user_id"].startswith("u_")
    assert admin_json("user", "show", "ANA")["user_id"] == made["user_id"]
    assert set(admin_json("user", "show", "ana")) == set(principal_pb2.User.DESCRIPTOR.fields_by_name)
    assert admin_json("user", "show", made["user_id"])["username"] == "ana"
    assert "ana" in [row["username"] for row in admin_json("user", "list")]
    admin("user", "disable", "ana")
    assert admin_json("user", "show", "ana")["disabled"] is True
    admin("user", "disable", "ana", "--enable")
    assert admin_json("user", "show", "ana")["disabled"] is False
    taken = admin("user", "create", "Ana", "--no-password", "--json", code=1)
    assert "ALREADY_EXISTS" in taken.stdout
    admin("user", "delete", "ana", code=1, stdin="n\n")
    admin("user", "delete", "ana", "--yes")
    assert "NOT_FOUND" in admin("user", "show", "ana", "--json", code=1).stdout
    assert "NOT_FOUND" in admin("user", "show", made["user_id"], "--json", code=1).stdout


def test_a_password_is_asked_for_twice_and_never_shown(admin: Run, served: Served) -> None:
    made = admin("user", "create", "asked", "-a", "api", stdin=f"{PASSWORD}\n{PASSWORD}\n")
    short = admin("user", "create", "short", stdin="short\nshort\n", code=1)

    assert "password" in short.stderr
    assert PASSWORD not in made.output
    with served.running.client() as client:
        assert client.issue_with_password("asked", PASSWORD).session_id


def test_without_an_answer_the_option_for_scripts_is_named(admin: Run) -> None:
    unanswered = admin("user", "create", "unasked", stdin="", code=2).stderr

    assert "New password: no answer; give it with --password-stdin" in unanswered


def test_a_user_may_get_a_password_later(admin: Run, admin_json: RunJson, served: Served) -> None:
    admin("user", "create", "later", "-a", "api", "--no-password")
    assert admin_json("user", "show", "later")["has_password"] is False

    changed = admin_json("user", "set-password", "later", "--password-stdin", stdin=f"{PASSWORD}\n")

    assert changed == {"user": "later", "revoked": True}
    with served.running.client() as client:
        tokens = client.issue_with_password("later", PASSWORD)
        admin("user", "set-password", "later", "--keep-sessions", stdin=f"{PASSWORD}!\n{PASSWORD}!\n")
        assert client.refresh(tokens.refresh_token).session_id == tokens.session_id


def test_an_update_changes_only_the_given_fields(admin: Run, admin_json: RunJson) -> None:
    made = admin_json("user", "create", "bea", "-a", "api", "-s", "read", "--no-password")

    changed = admin_json("user", "update", "bea", "--new-username", "beate", "--name", "Beate")

    assert (changed["user_id"], changed["username"]) == (made["user_id"], "beate")
    assert (changed["display_name"], changed["scopes"]) == ("Beate", ["read"])
    assert admin_json("user", "update", "beate", "-s", "")["scopes"] == []
    admin("user", "update", "beate", "--name", "x", "--etag", changed["etag"], code=1)
    admin("user", "update", "beate", code=2)


def test_a_user_without_password_is_wanted_in_so_many_words(admin: Run) -> None:
    assert "--no-password" in admin("user", "create", "cleo", "--password-stdin", stdin="\n", code=2).stderr


@pytest.mark.parametrize("username", ["", "a b", "x" * 129, "a\tb"])
def test_a_username_that_cannot_be_is_refused(admin: Run, username: str) -> None:
    assert "username" in admin("user", "create", username, "--no-password", code=1).stderr
