"""Sign-ins: which users and clients are accepted, and reasons that only the operator is told."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from identity_service.domain.credential_errors import CredentialRefusedError
from identity_service.domain.errors import (
    GrantNotAllowedError,
    IdentityError,
    NotFoundError,
    ServerBusyError,
    StaleEtagError,
    StoreUnavailableError,
    TooManyAttemptsError,
)
from identity_service.domain.ids import EVERYONE, PrincipalId
from identity_service.domain.log import RecordKind
from identity_service.domain.origin import NOWHERE, Origin
from identity_service.domain.principals import Grant, User
from identity_service.domain.secret import Secret
from identity_service.services.admin.administration import NewUser
from identity_service.services.authenticate import AuthenticatedUser
from identity_service.services.revoke import ByPrincipal
from tests.unit.services.use_case_site import (
    ANOTHER_CERTIFICATE,
    CALLER,
    CERTIFICATE,
    UseCaseSite,
    before,
    failing,
)

PORTAL = PrincipalId("portal")
WRONG = Secret("a wrong password")
NOT_PROVEN = "the client of the sign-in is not proven"
MISMATCH = "the password does not match"


@pytest.fixture
def ana(site: UseCaseSite) -> PrincipalId:
    """Return the id of a user; the client `portal` has a secret, and the client `app` is public."""
    site.new_app()
    site.new_app("app", public=True)
    return site.new_user()


def sign_in(
    site: UseCaseSite, client_id: str = "portal", origin: Origin = NOWHERE, **changes: Any
) -> AuthenticatedUser:
    return site.use.authenticator.user(site.password(client_id, **changes), origin)


def disable(site: UseCaseSite, user_id: PrincipalId) -> None:
    wanted = User(user_id=user_id, username="ana", disabled=True)
    site.use.administration.users.update(wanted, ["disabled"])


def test_a_sign_in_returns_the_user_the_client_and_the_generations_of_all_that_it_names(
    site: UseCaseSite, ana: PrincipalId
) -> None:
    for principal in (EVERYONE, PORTAL, ana, PrincipalId("app")):
        site.revoke(ByPrincipal(principal=principal))

    signed_in = sign_in(site, username=" ANA")

    assert (signed_in.user.user_id, signed_in.client.client_id) == (ana, PORTAL)
    assert set(signed_in.generations) == {EVERYONE, PORTAL, ana}
    assert signed_in.auth_time == site.clock.now()


SignIn = Callable[[UseCaseSite, PrincipalId], object]


def of_disabled_user(**changes: Any) -> SignIn:
    def call(site: UseCaseSite, user_id: PrincipalId) -> object:
        disable(site, user_id)
        return sign_in(site, **changes)

    return call


def through_disabled_client(site: UseCaseSite, user_id: PrincipalId) -> object:
    site.update_client("app", disabled=True)
    return sign_in(site, "app")


def with_expired_secret(site: UseCaseSite, user_id: PrincipalId) -> object:
    site.use.administration.clients.rotate_secret("portal", overlap=timedelta(hours=1))
    sign_in(site)
    site.pass_time(hours=1)
    return sign_in(site)


REFUSED: dict[str, tuple[str, bool, SignIn]] = {
    # The reason, whether the user is named to the operator, and the sign-in.
    "an unknown user": (
        "there is no user of this name",
        False,
        lambda site, _: sign_in(site, username="bob"),
    ),
    "a wrong password": (MISMATCH, True, lambda site, _: sign_in(site, password=WRONG)),
    "no password": (MISMATCH, True, lambda site, _: sign_in(site, password=Secret(""))),
    "a disabled user": ("the user is disabled", True, of_disabled_user()),
    "a disabled user with a wrong password": (MISMATCH, True, of_disabled_user(password=WRONG)),
    "an unknown client": (NOT_PROVEN, True, lambda site, _: sign_in(site, "nobody")),
    "a disabled client": (NOT_PROVEN, True, through_disabled_client),
    "a client without its secret": (NOT_PROVEN, True, lambda site, _: sign_in(site, client_secret=None)),
    "a client with a wrong secret": (NOT_PROVEN, True, lambda site, _: sign_in(site, client_secret=WRONG)),
    "a client with an expired secret": (NOT_PROVEN, True, with_expired_secret),
    "a client without its secret and a wrong password": (
        MISMATCH,
        True,
        lambda site, _: sign_in(site, client_secret=None, password=WRONG),
    ),
}


@pytest.mark.parametrize(("why", "named", "call"), REFUSED.values(), ids=REFUSED)
def test_every_refusal_is_the_same_for_the_caller_and_tells_the_operator_why(
    site: UseCaseSite,
    ana: PrincipalId,
    why: str,
    named: bool,
    call: Callable[[UseCaseSite, PrincipalId], Any],
) -> None:
    with pytest.raises(CredentialRefusedError) as refused:
        call(site, ana)

    assert str(refused.value) == CredentialRefusedError.message
    assert (refused.value.why, refused.value.principal) == (why, ana if named else "")


def test_a_user_without_a_password_is_refused(site: UseCaseSite, ana: PrincipalId) -> None:
    site.use.administration.users.create(NewUser(username="bob"))

    with pytest.raises(CredentialRefusedError):
        sign_in(site, username="bob", password=Secret(""))


@pytest.mark.parametrize("username", ["ana", "bob"])
def test_the_password_of_a_user_that_does_not_exist_takes_as_long_to_check(
    site: UseCaseSite, ana: PrincipalId, username: str
) -> None:
    checked: list[int] = []
    before(site.hasher, "verify", lambda: checked.append(1))

    with pytest.raises(CredentialRefusedError):
        sign_in(site, username=username, password=WRONG)

    assert checked == [1]


# The client of a sign-in


@pytest.mark.parametrize("who", ["portal", "another"])
@pytest.mark.parametrize("revoked", [None, "portal", "another"])
def test_a_client_that_was_authenticated_just_before_needs_no_secret(
    site: UseCaseSite, ana: PrincipalId, who: str, revoked: str | None
) -> None:
    """If the client was revoked since, the secret is required: the session would escape the revocation."""
    site.new_client("another")
    proven = site.use.authenticator.client(site.secret_of(who))
    if revoked is not None:
        site.revoke(ByPrincipal(principal=PrincipalId(revoked)))

    if who == "portal" and revoked != "portal":
        assert sign_in(site, authenticated=proven, client_secret=None).client.client_id == "portal"
        return
    with pytest.raises(CredentialRefusedError) as refused:
        sign_in(site, authenticated=proven)
    assert refused.value.why == NOT_PROVEN


@pytest.mark.parametrize(
    ("certificate", "accepted"), [(CERTIFICATE, False), (ANOTHER_CERTIFICATE, True), (None, False)]
)
def test_a_client_proves_itself_by_its_own_certificate(
    site: UseCaseSite, ana: PrincipalId, certificate: Any, accepted: bool
) -> None:
    site.new_client("reports", certificates=CERTIFICATE.names)
    site.update_client("portal", certificates=ANOTHER_CERTIFICATE.names)
    origin = replace(CALLER, certificate=certificate)

    if accepted:
        assert sign_in(site, origin=origin, client_secret=None).client.client_id == "portal"
        with pytest.raises(CredentialRefusedError):
            sign_in(site, origin=origin, client_secret=WRONG)
        return
    with pytest.raises(CredentialRefusedError):
        sign_in(site, origin=origin, client_secret=None)


@pytest.mark.parametrize(
    ("client", "password", "error"),
    [
        ({}, None, GrantNotAllowedError),
        ({}, WRONG, GrantNotAllowedError),
        ({"public": True}, None, GrantNotAllowedError),
        ({"public": True}, WRONG, CredentialRefusedError),
        ({"disabled": True}, None, CredentialRefusedError),
        ({"unproven": True}, WRONG, CredentialRefusedError),
        ({"unproven": True}, None, CredentialRefusedError),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_a_client_without_the_grant_does_not_learn_whether_a_password_is_right(
    site: UseCaseSite,
    ana: PrincipalId,
    client: dict[str, bool],
    password: Secret | None,
    error: type[IdentityError],
) -> None:
    options = dict(client)
    unproven = options.pop("unproven", False)
    site.new_client("batch", grants={Grant.REFRESH_TOKEN}, **options)
    changes: dict[str, Any] = {"client_secret": None} if unproven else {}

    with pytest.raises(error):
        sign_in(site, "batch", **(changes | ({"password": password} if password else {})))


# Attempts


def test_five_wrong_passwords_for_one_username_at_one_address_are_free(
    site: UseCaseSite, ana: PrincipalId
) -> None:
    for username in ("ana", "ANA", " ana", "ana", "Ana"):
        with pytest.raises(CredentialRefusedError):
            sign_in(site, username=username, password=WRONG, origin=CALLER)

    with pytest.raises(TooManyAttemptsError):
        sign_in(site, origin=CALLER)
    assert sign_in(site, origin=Origin(peer="192.0.2.99:1")).user.user_id == ana


def test_only_wrong_credentials_count_as_failed_attempts(site: UseCaseSite, ana: PrincipalId) -> None:
    site.update_client("portal", grants=frozenset({Grant.REFRESH_TOKEN}))
    for _ in range(6):
        with pytest.raises(GrantNotAllowedError):
            sign_in(site)

    assert sign_in(site, "app").user.user_id == ana


# Renewed hashes


def outdate(site: UseCaseSite) -> None:
    """Make the present hashes weaker than the settings require, and new hashes recognisable."""
    site.hasher.is_outdated = lambda phc: phc.startswith("plain")  # type: ignore[method-assign]
    site.hasher.hash = lambda password: f"new {password.reveal()}"  # type: ignore[method-assign]


def hash_of(site: UseCaseSite, user_id: PrincipalId) -> str:
    found = site.store.records.get(User, user_id)
    assert found is not None
    return (found.record.password_hash or "").split()[0]


def test_a_weak_hash_is_replaced_and_the_change_is_recorded(site: UseCaseSite, ana: PrincipalId) -> None:
    tokens = site.sign_in()
    outdate(site)

    sign_in(site, origin=CALLER)

    assert hash_of(site, ana) == "new"
    event = {"outcome": "done", "actor": "admin", "target": ana, "peer": CALLER.peer}
    assert site.audited("password_rehashed") == site.stored("password_rehashed") == [event]
    assert site.reason(tokens) == "", "the password is the same"


def test_a_strong_hash_stays(site: UseCaseSite, ana: PrincipalId) -> None:
    count = len(site.changes())

    sign_in(site)

    assert len(site.changes()) == count
    assert not site.audited("password_rehashed")


@pytest.mark.parametrize(
    ("part", "method", "error"),
    [
        ("hasher", "hash", ServerBusyError("busy")),
        ("records", "get", StoreUnavailableError("away")),
        ("records", "update", StaleEtagError("changed")),
        ("records", "update", NotFoundError("gone")),
    ],
)
def test_a_hash_that_cannot_be_replaced_now_stops_no_sign_in(
    site: UseCaseSite, ana: PrincipalId, part: str, method: str, error: Exception
) -> None:
    outdate(site)
    before(site.hasher if part == "hasher" else site.store.records, method, failing(error))

    assert sign_in(site).user.user_id == ana

    assert hash_of(site, ana) == "plain"
    assert not site.audited("password_rehashed")


def test_a_user_that_is_deleted_meanwhile_is_not_written_again(site: UseCaseSite, ana: PrincipalId) -> None:
    outdate(site)
    before(site.hasher, "hash", lambda: site.store.records.delete(RecordKind.USER, ana))

    sign_in(site)

    assert site.store.records.get(User, ana) is None


def test_the_credentials_are_shown_nowhere(site: UseCaseSite, ana: PrincipalId) -> None:
    password = site.password()

    assert password.password.reveal() not in repr(password)
    assert site.secrets["portal"] not in repr(password)
