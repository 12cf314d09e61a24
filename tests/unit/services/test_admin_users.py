"""Administration of users: accepted passwords, and which changes are refused or revoke tokens."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from identity_service.domain.credential_errors import CredentialRefusedError
from identity_service.domain.errors import InvalidRequestError, NotFoundError
from identity_service.domain.ids import USER_PREFIX, PrincipalId
from identity_service.domain.principals import User
from identity_service.domain.secret import Secret
from identity_service.services.admin.users import USER_FIELDS, NewUser, Users
from tests.service_site import PASSWORD
from tests.unit.services.use_case_site import CALLER, UseCaseSite, before

NEW = Secret("another good password")


@pytest.fixture
def users(site: UseCaseSite) -> Users:
    """Return the administration of users; the store has the user `ana` and a client for sign-ins."""
    site.new_app()
    site.new_user()
    return site.use.administration.users


def refused(call: Callable[[], object]) -> dict[str, str]:
    """Return the fields that the error of a call names, with the rule that each breaks."""
    with pytest.raises(InvalidRequestError) as error:
        call()
    return {violation.field: violation.description for violation in error.value.violations}


def ana(users: Users) -> User:
    return users.find("ana").record


def signs_in(site: UseCaseSite, password: Secret, username: str = "ana") -> bool:
    try:
        site.use.authenticator.user(site.password(username=username, password=password))
    except CredentialRefusedError:
        return False
    return True


def test_a_new_user_has_what_was_asked_for_and_signs_in(site: UseCaseSite, users: Users) -> None:
    wanted = NewUser(
        username="Bob",
        password=NEW,
        display_name="Bob B.",
        audiences=["api", "web"],
        scopes=["read"],
    )

    made = users.create(wanted, origin=CALLER)

    user = made.record
    assert user == User(
        user_id=user.user_id,
        username="Bob",
        display_name="Bob B.",
        password_hash=user.password_hash,
        audiences=frozenset({"api", "web"}),
        scopes=frozenset({"read"}),
        create_time=site.clock.now(),
    )
    assert user.user_id.startswith(USER_PREFIX)
    assert users.get(user.user_id) == users.find(" bob ") == made
    assert signs_in(site, NEW, "BOB")
    event = {"outcome": "done", "actor": "admin", "target": user.user_id, "peer": CALLER.peer}
    assert site.audited("user_created")[-1] == site.stored("user_created")[-1] == event


@pytest.mark.parametrize("password", [None, Secret("")])
def test_a_user_without_a_password_never_signs_in_with_one(
    site: UseCaseSite, users: Users, password: Secret | None
) -> None:
    made = users.create(NewUser(username="bob", password=password, audiences=["api"]))

    assert made.record.password_hash is None
    assert not signs_in(site, Secret(""), "bob")


def test_a_user_may_be_created_disabled(site: UseCaseSite, users: Users) -> None:
    users.create(NewUser(username="bob", password=NEW, disabled=True))

    assert not signs_in(site, NEW, "bob")


def test_users_are_listed_by_their_ids_a_page_at_a_time(users: Users) -> None:
    for number in range(3):
        users.create(NewUser(username=f"user-{number}"))
    ids = [found.record.user_id for found in users.list()]

    assert ids == sorted(ids)
    assert len(ids) == 4
    assert [found.record.user_id for found in users.list(after=ids[0], limit=2)] == ids[1:3]


PASSWORDS: list[tuple[str, bool]] = [
    ("x1" * 3 + "y", False),
    ("x1" * 4, True),
    ("x1" * 512, True),
    ("x1" * 512 + "y", False),
    ("password123", False),
    ("margarete", False),
    ("MARGARETE margarete", False),
    ("margarete1", True),
]


@pytest.mark.parametrize("way", ["create", "set"])
@pytest.mark.parametrize(
    ("password", "accepted"), PASSWORDS, ids=[f"{text[:12]} {len(text)}" for text, _ in PASSWORDS]
)
def test_a_password_has_8_to_1024_characters_and_is_neither_common_nor_the_name(
    users: Users, way: str, password: str, accepted: bool
) -> None:
    def call() -> None:
        if way == "create":
            users.create(NewUser(username="margarete", password=Secret(password)))
        else:
            user = users.create(NewUser(username="margarete")).record
            users.set_password(user.user_id, Secret(password))

    if accepted:
        call()
    else:
        assert list(refused(call)) == ["password"]


def test_a_user_that_is_not_valid_is_not_created(users: Users) -> None:
    wanted = NewUser(username="a\nb", audiences=["*"], password=Secret("short"))

    assert set(refused(lambda: users.create(wanted))) == {"user.username", "user.audiences"}


VALUES: dict[str, Any] = {
    "username": "anna",
    "display_name": "Anna",
    "audiences": frozenset({"web"}),
    "scopes": frozenset({"admin"}),
    "disabled": True,
}


@pytest.mark.parametrize("field", USER_FIELDS)
def test_an_update_changes_the_fields_that_it_names_and_no_other(
    site: UseCaseSite, users: Users, field: str
) -> None:
    old = ana(users)
    wanted = User(user_id=old.user_id, **VALUES)

    changed = users.update(wanted, [field], origin=CALLER).record

    assert changed == replace(old, **{field: VALUES[field]}) == users.get(old.user_id).record
    event = {
        "outcome": "done",
        "actor": "admin",
        "target": old.user_id,
        "peer": CALLER.peer,
        "fields": field,
    } | ({"disabled": "true"} if field == "disabled" else {})
    assert site.audited("user_updated") == site.stored("user_updated") == [event]


def update(users: Users, *, origin: Any = CALLER, **values: Any) -> User:
    wanted = User(user_id=ana(users).user_id, **({"username": "ana"} | values))
    return users.update(wanted, list(values), origin=origin).record


def test_the_audit_trail_names_only_the_fields_that_changed(site: UseCaseSite, users: Users) -> None:
    update(users, scopes=frozenset({"x"}), disabled=False, audiences=frozenset({"y"}))

    assert site.audited("user_updated")[0]["fields"] == "audiences,scopes"
    assert "disabled" not in site.audited("user_updated")[0]


def test_an_update_that_is_not_valid_changes_nothing(users: Users) -> None:
    old = ana(users)

    assert list(refused(lambda: update(users, scopes=frozenset({"*"})))) == ["user.scopes"]

    assert ana(users) == old


def test_only_disabling_a_user_revokes_the_sessions(site: UseCaseSite, users: Users) -> None:
    tokens = site.sign_in()
    update(users, disabled=False, display_name="Ana")
    assert site.reason(tokens) == ""

    user_id = update(users, disabled=True).user_id

    assert site.reason(tokens) == "REVOKED"
    raised = site.store.log.generations()[user_id]
    update(users, disabled=True)
    update(users, disabled=False)
    assert site.store.log.generations()[user_id] == raised, "the user was disabled already"
    assert site.reason(site.sign_in()) == ""


@pytest.mark.parametrize("itself", [True, False])
def test_a_user_cannot_disable_or_delete_itself(users: Users, itself: bool) -> None:
    old = ana(users)
    origin = replace(CALLER, actor=old.user_id if itself else PrincipalId("another"))

    if itself:
        assert list(refused(lambda: update(users, disabled=True, origin=origin))) == ["user.disabled"]
        assert list(refused(lambda: users.delete(old.user_id, origin=origin))) == ["user_id"]
        assert ana(users) == old
        update(users, display_name="Ana", origin=origin)
        return
    update(users, disabled=True, origin=origin)
    users.delete(old.user_id, origin=origin)


def test_deleting_a_user_revokes_the_sessions(site: UseCaseSite, users: Users) -> None:
    tokens, user_id = site.sign_in(), ana(users).user_id

    revision = users.delete(user_id, origin=CALLER)

    assert site.reason(tokens) == "REVOKED"
    assert revision == site.store.log.head().revision
    event = {"outcome": "done", "actor": "admin", "target": user_id, "peer": CALLER.peer}
    assert site.audited("user_deleted") == site.stored("user_deleted") == [event]
    assert not signs_in(site, Secret(PASSWORD))


# Passwords


@pytest.mark.parametrize(("options", "revoked"), [({}, True), ({"revoke": False}, False)])
def test_a_new_password_replaces_the_old_one_and_ends_the_sessions_unless_it_is_told_not_to(
    site: UseCaseSite, users: Users, options: dict[str, bool], revoked: bool
) -> None:
    tokens, old = site.sign_in(), ana(users)

    changed = users.set_password(old.user_id, NEW, origin=CALLER, **options)

    assert (signs_in(site, NEW), signs_in(site, Secret(PASSWORD))) == (True, False)
    assert site.reason(tokens) == ("REVOKED" if revoked else "")
    assert changed == users.get(old.user_id)
    assert replace(changed.record, password_hash=None) == replace(old, password_hash=None)
    event = {
        "outcome": "done",
        "actor": "admin",
        "target": old.user_id,
        "peer": CALLER.peer,
        "revoked": str(revoked).lower(),
    }
    assert site.audited("password_set") == site.stored("password_set") == [event]


def test_a_password_is_compared_with_the_name_that_the_user_got_while_it_was_hashed(
    site: UseCaseSite, users: Users
) -> None:
    user_id = ana(users).user_id
    before(site.store.records, "update", lambda: update(users, username="margarete"))

    assert list(refused(lambda: users.set_password(user_id, Secret("Margarete")))) == ["password"]

    assert signs_in(site, Secret(PASSWORD), "margarete")


@pytest.mark.parametrize("spelling", ["margarete", "Margarete", " MARGARETE "])
@pytest.mark.parametrize("password", ["margarete", "Margarete"])
def test_a_new_username_is_not_the_password(
    site: UseCaseSite, users: Users, spelling: str, password: str
) -> None:
    """The store has only a hash of the password, so the new name is compared by hashing it."""
    users.set_password(ana(users).user_id, Secret(password))
    spelled = spelling.strip()

    if password in (spelled, "margarete"):
        assert list(refused(lambda: update(users, username=spelled))) == ["user.username"]
        assert ana(users).username == "ana"
    else:
        assert update(users, username=spelled).username == spelled


def test_a_user_without_a_password_is_renamed(users: Users) -> None:
    made = users.create(NewUser(username="bob")).record
    wanted = replace(made, username="robert")

    assert users.update(wanted, ["username"]).record.username == "robert"


def test_a_name_that_stays_costs_no_comparison_with_the_password(site: UseCaseSite, users: Users) -> None:
    """Each comparison hashes, which takes as long as a sign-in."""
    users.set_password(ana(users).user_id, NEW)
    compared: list[int] = []
    before(site.hasher, "verify", *[lambda: compared.append(1)] * 3)

    update(users, username="ana", display_name="Ana")
    assert not compared

    update(users, username="anna")
    assert len(compared) == 1, "the normalised form is the same name"


def test_a_user_that_does_not_exist_costs_no_hash(site: UseCaseSite, users: Users) -> None:
    hashed: list[int] = []
    before(site.hasher, "hash", lambda: hashed.append(1))

    with pytest.raises(NotFoundError):
        users.set_password("u_bob", NEW)

    assert not hashed
