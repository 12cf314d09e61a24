"""Users through AdminService, on both stores: valid and refused changes, and their effect on tokens."""

from typing import Any

import grpc
import pytest

from identity_service.domain.ids import new_user_id
from identity_service.domain.principals import User
from identityapi.v1 import principal_pb2
from tests.rpc.administrator import SERVICE, Administrator, events, fails
from tests.rpc.world import API, PASSWORD, Principal, World, password

NEW_PASSWORD = "another horse battery staple"
WIDE = "".join(chr(ord(letter) + 0xFEE0) for letter in "password1")
"""The text `password1` in full-width letters."""


def create(admin: Administrator, username: str = "ana", **fields: Any) -> principal_pb2.User:
    user = {"username": username, "audiences": [API], "scopes": ["read"], **fields}
    made: principal_pb2.User = admin.call("CreateUser", user=user, password=PASSWORD).user
    return made


def update(admin: Administrator, user_id: str, *paths: str, **fields: Any) -> principal_pb2.User:
    request = {"user": {"user_id": user_id, **fields}, "update_mask": {"paths": paths}}
    changed: principal_pb2.User = admin.call("UpdateUser", **request).user
    return changed


def get(admin: Administrator, **name: str) -> principal_pb2.User:
    found: principal_pb2.User = admin.call("GetUser", **name).user
    return found


def principal(username: str = "ana", text: str = PASSWORD) -> Principal:
    return Principal(id="", credential=password(username, text))


def test_a_user_is_made_with_all_that_was_asked_for_and_signs_in(world: World, admin: Administrator) -> None:
    made = create(admin, "Ana", display_name="Ana A.", audiences=["api", "web"], scopes=["read", "write"])

    assert made.user_id.startswith("u_")
    assert (made.username, made.display_name) == ("Ana", "Ana A.")
    assert (list(made.audiences), list(made.scopes)) == (["api", "web"], ["read", "write"])
    assert made.has_password
    assert not made.disabled
    assert made.HasField("create_time")
    assert made == get(admin, user_id=made.user_id) == get(admin, username="aNA")
    tokens = world.issue(principal(), audiences=[API])
    assert world.verify(tokens.access_token).verified.subject == made.user_id


def test_a_user_without_a_password_cannot_sign_in_until_they_have_one(
    world: World, admin: Administrator
) -> None:
    made = admin.call("CreateUser", user={"username": "ana", "audiences": [API]}).user

    assert not made.has_password
    for text in ("x", PASSWORD):
        attempt = principal(text=text)
        assert fails(lambda attempt=attempt: world.issue(attempt)).reason == "CREDENTIAL_REFUSED"  # type: ignore[misc]
    assert admin.call("SetPassword", user_id=made.user_id, password=PASSWORD).user.has_password
    assert world.issue(principal()).access_token


def test_no_answer_holds_a_hash_of_a_password(world: World, admin: Administrator) -> None:
    made = create(admin)

    kept = world.store_admin.administrator.users.find("ana").record.password_hash

    assert kept is not None
    for answer in (made, get(admin, username="ana"), admin.call("ListUsers")):
        assert b"argon2" not in answer.SerializeToString()


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"username": ""}, "username"),
        ({"username": "a b"}, "username"),
        ({"username": "a" * 129}, "username"),
        ({"display_name": "n" * 129}, "display_name"),
        ({"audiences": ["a b"]}, "audiences"),
        ({"audiences": ["*"]}, "audiences"),
        ({"audiences": [f"a{number}" for number in range(101)]}, "audiences"),
        ({"scopes": ["*"]}, "scopes"),
        ({"scopes": ["identity.everything"]}, "scopes"),
        ({"scopes": [f"s{number}" for number in range(101)]}, "scopes"),
    ],
)
def test_a_field_that_cannot_be_so_is_named(
    world: World, admin: Administrator, fields: dict[str, Any], wrong: str
) -> None:
    assert f"user.{wrong}" in admin.invalid("CreateUser", user={"username": "ana", **fields})


@pytest.mark.parametrize("text", ["short", "p" * 1025, "password1", "PASSWORD1", WIDE, "pass\u00adword1"])
def test_a_password_that_is_easily_found_is_refused(world: World, admin: Administrator, text: str) -> None:
    user_id = create(admin).user_id

    assert admin.invalid("CreateUser", user={"username": "bo"}, password=text) == ["password"]
    assert admin.invalid("SetPassword", user_id=user_id, password=text) == ["password"]
    assert text not in admin.refused("SetPassword", user_id=user_id, password=text).message


@pytest.mark.parametrize("text", ["ana-maria-lopez", "Ana-Maria-LOPEZ", "  ana-maria-lopez "])
def test_a_username_is_no_password(world: World, admin: Administrator, text: str) -> None:
    """A password that equals the username is refused, because attackers guess it first.

    The comparison ignores case and surrounding spaces, as the comparison of usernames does.
    """
    named = {"username": "Ana-Maria-Lopez"}
    assert admin.invalid("CreateUser", user=named, password=text) == ["password"]
    user_id = create(admin, "Ana-Maria-Lopez").user_id
    assert admin.invalid("SetPassword", user_id=user_id, password=text) == ["password"]
    assert admin.call("SetPassword", user_id=user_id, password=f"{text} at home").user.has_password


NAMED_LIKE_THE_PASSWORD = {
    "a zero width space": ("ana-maria-lopez", "ana-maria-lopez\u200b"),
    "a soft hyphen": ("ana-maria-lopez", "ana\u00ad-maria-lopez"),
    "a variation selector": ("ana-maria-lopez", "ana-maria-lopez\ufe0f"),
    "a filler of Hangul": ("ana-maria-lopez", "\u3164ana-maria-lopez"),
    "a blank of Braille": ("ana-maria-lopez", "ana-maria-lopez\u2800"),
    "a NUL": ("ana-maria-lopez", "ana-maria-lopez\0"),
    "spaces within": ("ana-maria-lopez", "ana - maria - lopez"),
    "a dotted capital": ("\u0130stanbul1", "istanbul1"),
    "a dotted capital in lower case": ("\u0130stanbul1", "i\u0307stanbul1"),
    "a dotless letter": ("istanbul1", "\u0131stanbul1"),
    "the name twice": ("ana-maria-lopez", "ana-maria-lopezAna-Maria-Lopez"),
    "a short name often": ("bo", "bobobobo"),
}


@pytest.mark.parametrize(("username", "text"), NAMED_LIKE_THE_PASSWORD.values(), ids=NAMED_LIKE_THE_PASSWORD)
def test_no_spelling_of_a_username_is_its_password(
    world: World, admin: Administrator, username: str, text: str
) -> None:
    assert admin.invalid("CreateUser", user={"username": username}, password=text) == ["password"]
    user_id = create(admin, username).user_id
    assert admin.invalid("SetPassword", user_id=user_id, password=text) == ["password"]


@pytest.mark.parametrize("text", ["bobobobob", "x-bobobobo"])
def test_a_password_that_only_holds_the_username_is_another(
    world: World, admin: Administrator, text: str
) -> None:
    user_id = create(admin, "bobobo").user_id

    assert admin.call("SetPassword", user_id=user_id, password=text).user.has_password


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("carolinus99", "carolinus99"),
        ("Carolinus99", "carolinus99"),
        ("Carolinus99", "Carolinus99"),
        ("\uff23arolinus99", "Carolinus99"),
    ],
)
def test_no_user_is_renamed_to_the_password(world: World, admin: Administrator, name: str, text: str) -> None:
    user_id = create(admin).user_id
    admin.call("SetPassword", user_id=user_id, password=text)
    renaming = {"user": {"user_id": user_id, "username": name}, "update_mask": {"paths": ["username"]}}

    assert admin.invalid("UpdateUser", **renaming) == ["user.username"]
    assert get(admin, user_id=user_id).username == "ana"
    assert update(admin, user_id, "username", username=f"{name}.b").username == f"{name}.b"


UNSEEN = ("\u3164", "\ufe0f", "\u034f", "\u115f", "\u17b4", "\u2800", "\u200c", "\ufffe", "\U000e0101")


@pytest.mark.parametrize("unseen", UNSEEN, ids=ascii)
def test_a_username_has_no_invisible_character(world: World, admin: Administrator, unseen: str) -> None:
    create(admin, "carolinus")

    for name in (f"carolinus{unseen}", f"caro{unseen}linus"):
        refused = admin.refused("CreateUser", user={"username": name}, password=PASSWORD)
        assert "visible characters" in refused.message
    assert admin.invalid("CreateUser", user={"username": "a" + "\u0300" * 9}) == ["user.username"]


@pytest.mark.parametrize("unseen", UNSEEN[:6], ids=ascii)
def test_a_user_of_before_that_rule_signs_in_and_is_found_disabled_and_deleted(
    world: World, admin: Administrator, unseen: str
) -> None:
    name = f"carolinus{unseen}"
    old = User(user_id=new_user_id(), username=name, display_name=unseen)
    world.store.records.create(old)

    assert get(admin, username=name).user_id == get(admin, user_id=old.user_id).user_id == old.user_id
    admin.call("SetPassword", user_id=old.user_id, password=PASSWORD)
    assert update(admin, old.user_id, "audiences", audiences=[API]).username == name
    assert world.issue(principal(name), audiences=[API]).access_token
    assert update(admin, old.user_id, "disabled", disabled=True).username == name
    assert update(admin, old.user_id, "username", username="carolinus").display_name == unseen
    admin.call("DeleteUser", user_id=old.user_id)


@pytest.mark.parametrize(
    "text", ["👩\u200d💻 Ana", "❤\ufe0f", "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"], ids=ascii
)
def test_names_for_people_hold_emoji_and_the_joiners_of_their_script(
    world: World, admin: Administrator, text: str
) -> None:
    assert create(admin, display_name=text).display_name == text
    assert world.issue(principal(), audiences=[API], device=text).access_token


@pytest.mark.parametrize("text", ["Ana\ufe0f", "\u3164", "An\u200da", "a" + "\u0300" * 9], ids=ascii)
def test_names_for_people_hold_no_other_invisible_character(
    world: World, admin: Administrator, text: str
) -> None:
    create(admin)

    assert admin.invalid("CreateUser", user={"username": "bo", "display_name": text}) == ["user.display_name"]
    refused = fails(lambda: world.issue(principal(), audiences=[API], device=text))
    assert (refused.reason, "invisible characters" in refused.message) == ("INVALID_FIELD", True)
    assert admin.invalid("RetireKey", key_id="k", reason=text) == ["reason"]


def test_an_empty_password_cannot_be_set(world: World, admin: Administrator) -> None:
    user_id = create(admin).user_id

    assert admin.invalid("SetPassword", user_id=user_id) == ["password"]


def test_a_username_is_of_one_user_only_however_it_is_written(world: World, admin: Administrator) -> None:
    create(admin)
    other = create(admin, "bo")

    taken = admin.refused("CreateUser", user={"username": "ANA"})
    renamed = fails(lambda: update(admin, other.user_id, "username", username="Ana"))

    for found in (taken, renamed):
        assert (found.code, found.reason) == (grpc.StatusCode.ALREADY_EXISTS, "ALREADY_EXISTS")


@pytest.mark.parametrize(
    ("method", "fields"),
    [
        ("GetUser", {"user_id": "u_nobody"}),
        ("GetUser", {"username": "nobody"}),
        ("UpdateUser", {"user": {"user_id": "u_nobody"}, "update_mask": {"paths": ["scopes"]}}),
        ("DeleteUser", {"user_id": "u_nobody"}),
        ("SetPassword", {"user_id": "u_nobody", "password": PASSWORD}),
    ],
)
def test_an_unknown_user_is_not_found(
    world: World, admin: Administrator, method: str, fields: dict[str, Any]
) -> None:
    found = admin.refused(method, **fields)

    assert (found.code, found.reason) == (grpc.StatusCode.NOT_FOUND, "NOT_FOUND")


@pytest.mark.parametrize(
    ("method", "fields", "wrong"),
    [
        ("GetUser", {}, "name"),
        ("GetUser", {"user_id": ""}, "user_id"),
        ("DeleteUser", {}, "user_id"),
        ("DeleteUser", {"user_id": "u_x", "etag": "x"}, "etag"),
        ("UpdateUser", {"update_mask": {"paths": ["*"]}}, "user.user_id"),
        ("UpdateUser", {"user": {"user_id": "u_x"}}, "update_mask"),
        ("SetPassword", {"password": PASSWORD}, "user_id"),
    ],
)
def test_a_request_without_a_user_or_without_a_change_is_refused(
    world: World, admin: Administrator, method: str, fields: dict[str, Any], wrong: str
) -> None:
    assert admin.invalid(method, **fields) == [wrong]


def test_only_the_fields_of_the_mask_change(world: World, admin: Administrator) -> None:
    made = create(admin, display_name="Ana A.")

    changed = update(admin, made.user_id, "scopes", "username", username="anna", scopes=["write"])

    assert (changed.username, list(changed.scopes)) == ("anna", ["write"])
    assert (changed.display_name, list(changed.audiences)) == ("Ana A.", [API])
    assert changed.has_password
    assert changed.etag != made.etag
    assert world.issue(principal("anna"), scopes=["write"]).access_token
    assert fails(lambda: get(admin, username="ana")).reason == "NOT_FOUND"


def test_a_star_changes_all_fields_but_not_the_password(world: World, admin: Administrator) -> None:
    made = create(admin, display_name="Ana A.")

    changed = update(admin, made.user_id, "*", username="ana", audiences=[API])

    assert (changed.display_name, list(changed.scopes)) == ("", [])
    assert world.issue(principal()).access_token


def test_a_username_cannot_be_emptied(world: World, admin: Administrator) -> None:
    made = create(admin)

    assert list(fails(lambda: update(admin, made.user_id, "username")).fields) == ["user.username"]


@pytest.mark.parametrize("path", ["user_id", "has_password", "create_time", "etag", "password"])
def test_a_path_that_cannot_change_is_named(world: World, admin: Administrator, path: str) -> None:
    made = create(admin)

    found = fails(lambda: update(admin, made.user_id, path))

    assert repr(path) in found.fields["update_mask"]


def test_a_stale_etag_changes_nothing(world: World, admin: Administrator) -> None:
    made = create(admin)
    now = update(admin, made.user_id, "display_name", display_name="changed")

    updated = fails(lambda: update(admin, made.user_id, "scopes", etag=made.etag))
    deleted = admin.refused("DeleteUser", user_id=made.user_id, etag=made.etag)

    assert [updated.reason, deleted.reason] == ["STALE_ETAG"] * 2
    assert get(admin, user_id=made.user_id) == now
    later = update(admin, made.user_id, "scopes", etag=now.etag)
    assert admin.call("DeleteUser", user_id=made.user_id, etag=later.etag).revision


def test_disabling_a_user_ends_their_sessions_and_tokens_at_once(world: World, admin: Administrator) -> None:
    made = create(admin)
    tokens = world.issue(principal())

    update(admin, made.user_id, "disabled", disabled=True)

    assert world.reason(tokens.access_token) == "REVOKED"
    assert fails(lambda: world.refresh(tokens.refresh_token)).reason == "SESSION_ENDED"
    assert fails(lambda: world.issue(principal())).reason == "CREDENTIAL_REFUSED"
    update(admin, made.user_id, "disabled")
    assert world.reason(world.issue(principal()).access_token) == ""
    assert world.reason(tokens.access_token) == "REVOKED"


def test_deleting_a_user_ends_their_sessions_and_tokens_at_once(world: World, admin: Administrator) -> None:
    made = create(admin)
    tokens = world.issue(principal())

    revision = admin.call("DeleteUser", user_id=made.user_id).revision

    assert world.reason(tokens.access_token) == "REVOKED"
    assert world.reason(tokens.access_token, at_least_revision=revision) == "REVOKED"
    assert fails(lambda: world.refresh(tokens.refresh_token)).reason == "SESSION_ENDED"
    assert fails(lambda: world.issue(principal())).reason == "CREDENTIAL_REFUSED"
    assert create(admin).user_id != made.user_id


@pytest.mark.parametrize("revoke", [{}, {"revoke": True}])
def test_a_new_password_ends_all_sessions_by_default(
    world: World, admin: Administrator, revoke: dict[str, bool]
) -> None:
    made = create(admin)
    tokens = world.issue(principal())

    admin.call("SetPassword", user_id=made.user_id, password=NEW_PASSWORD, **revoke)

    assert world.reason(tokens.access_token) == "REVOKED"
    assert fails(lambda: world.refresh(tokens.refresh_token)).reason == "SESSION_ENDED"
    assert fails(lambda: world.issue(principal())).reason == "CREDENTIAL_REFUSED"
    assert world.reason(world.issue(principal(text=NEW_PASSWORD)).access_token) == ""


def test_a_new_password_without_revoke_ends_no_session(world: World, admin: Administrator) -> None:
    made = create(admin)
    tokens = world.issue(principal())

    admin.call("SetPassword", user_id=made.user_id, password=NEW_PASSWORD, revoke=False)

    assert world.reason(tokens.access_token) == ""
    assert world.refresh(tokens.refresh_token).access_token


def test_an_administrator_that_is_a_user_cannot_disable_or_delete_itself(
    world: World, admin: Administrator
) -> None:
    made = create(admin, "boss", audiences=[SERVICE], scopes=["identity.admin"])
    token = world.issue(principal("boss"), scopes=["identity.admin"]).access_token
    boss = Administrator(world, token)

    assert boss.invalid("DeleteUser", user_id=made.user_id) == ["user_id"]
    itself = fails(lambda: update(boss, made.user_id, "disabled", disabled=True))
    assert list(itself.fields) == ["user.disabled"]
    assert update(admin, made.user_id, "disabled", disabled=True).disabled


def test_every_change_leaves_its_event_without_username_and_password(
    world: World, admin: Administrator
) -> None:
    made = create(admin)
    update(admin, made.user_id, "scopes", "disabled", disabled=True)
    admin.call("SetPassword", user_id=made.user_id, password=NEW_PASSWORD, revoke=False)
    admin.call("DeleteUser", user_id=made.user_id)

    found = events(world, made.user_id)

    assert [event.type.value for event in found] == [
        "user_created",
        "user_updated",
        "password_set",
        "user_deleted",
    ]
    assert {event.actor for event in found} == {world.admin.id}
    assert found[1].details == {"fields": "disabled,scopes", "disabled": "true"}
    assert found[2].details == {"revoked": "false"}
