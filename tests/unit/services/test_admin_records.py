"""Changes of records: concurrent changes, etags, names in errors, and a raise the store does not confirm."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from identity_service.domain.errors import (
    AlreadyExistsError,
    IdentityError,
    NotFoundError,
    StaleEtagError,
    StoreUnavailableError,
)
from identity_service.domain.ids import Link, PrincipalId
from identity_service.domain.issuers import TrustedIssuer, TrustRule
from identity_service.domain.log import Generation
from identity_service.domain.principals import Client, User
from identity_service.domain.records import Versioned
from identity_service.domain.secret import Secret
from identity_service.services.admin.administration import Administration, NewUser
from identity_service.services.revoke import ByPrincipal
from tests.unit.services.use_case_site import UseCaseSite, before, unreachable

CLIENT = PrincipalId("reports")
ISSUER = "https://issuer.example"
RULE = TrustRule(claims={"sub": "*"}, client_id=CLIENT)
Change = Callable[[UseCaseSite, Any], object]


@pytest.fixture
def user(site: UseCaseSite) -> PrincipalId:
    """Return the id of a user; the store also has two clients and a trusted issuer."""
    site.new_client()
    site.new_app()
    site.use.administration.issuers.create(TrustedIssuer(issuer=ISSUER, jwks_file="/keys", rules=(RULE,)))
    return site.new_user()


def admin(site: UseCaseSite) -> Administration:
    return site.use.administration


def user_id(site: UseCaseSite) -> PrincipalId:
    return admin(site).users.find("ana").record.user_id


def overtaking(site: UseCaseSite, kind: type[Any], id_: str) -> Callable[[], None]:
    """Return a function that writes a record, as a concurrent call does, so that its etag changes."""
    real = site.store.records.update

    def overtake() -> None:
        other = site.store.records.get(kind, id_)
        assert other is not None
        real(other.record, expected=other.revision)

    return overtake


def client(**changes: Any) -> Client:
    return Client(client_id=CLIENT, **changes)


def of_user(site: UseCaseSite, **changes: Any) -> User:
    return User(user_id=user_id(site), **({"username": "ana"} | changes))


CHANGES: dict[str, tuple[type[Any], Change]] = {
    "update a client": (
        Client,
        lambda site, etag: admin(site).clients.update(
            client(display_name="R"), ["display_name"], expected=etag
        ),
    ),
    "rotate a secret": (
        Client,
        lambda site, etag: admin(site).clients.rotate_secret(CLIENT, expected=etag),
    ),
    "update a user": (
        User,
        lambda site, etag: admin(site).users.update(
            of_user(site, display_name="A"), ["display_name"], expected=etag
        ),
    ),
    "update an issuer": (
        TrustedIssuer,
        lambda site, etag: admin(site).issuers.update(
            TrustedIssuer(issuer=ISSUER, single_use=True), ["single_use"], expected=etag
        ),
    ),
}
DELETIONS: dict[str, tuple[type[Any], Change]] = {
    "delete a client": (Client, lambda site, etag: admin(site).clients.delete(CLIENT, expected=etag)),
    "delete a user": (User, lambda site, etag: admin(site).users.delete(user_id(site), expected=etag)),
    "delete an issuer": (TrustedIssuer, lambda site, etag: admin(site).issuers.delete(ISSUER, expected=etag)),
}


def found(site: UseCaseSite, kind: type[Any]) -> Versioned[Any]:
    id_ = {Client: CLIENT, TrustedIssuer: ISSUER}.get(kind) or user_id(site)
    versioned = site.store.records.get(kind, id_)
    assert versioned is not None
    return versioned


@pytest.mark.parametrize(("kind", "change"), CHANGES.values(), ids=CHANGES)
def test_a_change_without_an_etag_is_tried_eight_times(
    site: UseCaseSite, user: PrincipalId, kind: type[Any], change: Change
) -> None:
    id_ = found(site, kind).record.id
    overtake = overtaking(site, kind, id_)
    before(site.store.records, "update", *[overtake] * 7)
    change(site, None)

    before(site.store.records, "update", *[overtake] * 8)
    with pytest.raises(StaleEtagError, match=id_):
        change(site, None)


EVERY = CHANGES | DELETIONS


@pytest.mark.parametrize(("kind", "change"), EVERY.values(), ids=EVERY)
def test_a_change_with_the_etag_of_an_older_record_is_refused(
    site: UseCaseSite, user: PrincipalId, kind: type[Any], change: Change
) -> None:
    older = found(site, kind)
    overtaking(site, kind, older.record.id)()
    newer = found(site, kind)

    with pytest.raises(StaleEtagError, match=older.record.id):
        change(site, older.revision)

    assert found(site, kind) == newer
    change(site, newer.revision)


@pytest.mark.parametrize(("kind", "change"), CHANGES.values(), ids=CHANGES)
def test_a_change_with_an_etag_that_loses_a_race_is_not_tried_again(
    site: UseCaseSite, user: PrincipalId, kind: type[Any], change: Change
) -> None:
    current = found(site, kind)
    before(site.store.records, "update", overtaking(site, kind, current.record.id))

    with pytest.raises(StaleEtagError):
        change(site, current.revision)


MISSING: dict[str, tuple[str, Change]] = {
    "get a client": ("nobody", lambda site, _: admin(site).clients.get("nobody")),
    "update a client": (
        "nobody",
        lambda site, _: admin(site).clients.update(Client(client_id=PrincipalId("nobody")), []),
    ),
    "delete a client": ("nobody", lambda site, _: admin(site).clients.delete("nobody")),
    "rotate a secret": ("nobody", lambda site, _: admin(site).clients.rotate_secret("nobody")),
    "find a user": ("bob", lambda site, _: admin(site).users.find("bob")),
    "delete a user": ("u_bob", lambda site, _: admin(site).users.delete("u_bob")),
    "set a password": (
        "u_bob",
        lambda site, _: admin(site).users.set_password("u_bob", Secret("a good password")),
    ),
    "delete an issuer": (
        "https://other.example",
        lambda site, _: admin(site).issuers.delete("https://other.example"),
    ),
}
TAKEN: dict[str, tuple[str, Change]] = {
    "create a client": ("reports", lambda site, _: admin(site).clients.create(client())),
    "create a user": ("ANA", lambda site, _: admin(site).users.create(NewUser(username="ANA"))),
    "create an issuer": (
        ISSUER,
        lambda site, _: admin(site).issuers.create(
            TrustedIssuer(issuer=ISSUER, jwks_file="/keys", rules=(RULE,))
        ),
    ),
}


@pytest.mark.parametrize(
    ("error", "name", "change"),
    [
        *((NotFoundError, *case) for case in MISSING.values()),
        *((AlreadyExistsError, *case) for case in TAKEN.values()),
    ],
    ids=[*MISSING, *TAKEN],
)
def test_an_error_names_the_record(
    site: UseCaseSite, user: PrincipalId, error: type[IdentityError], name: str, change: Change
) -> None:
    count = len(site.changes())

    with pytest.raises(error, match=f"^{name}: "):
        change(site, None)

    assert len(site.changes()) == count


def disable_client(site: UseCaseSite, _: object) -> object:
    return admin(site).clients.update(client(disabled=True), ["disabled"])


def disable_user(site: UseCaseSite, _: object) -> object:
    return admin(site).users.update(of_user(site, disabled=True), ["disabled"])


RAISING: dict[str, tuple[str, Change]] = {
    "disable a client": ("update", disable_client),
    "disable a user": ("update", disable_user),
    "delete a client": ("delete", DELETIONS["delete a client"][1]),
    "delete a user": ("delete", DELETIONS["delete a user"][1]),
}


@pytest.mark.parametrize(("method", "change"), RAISING.values(), ids=RAISING)
def test_a_raise_that_the_store_does_not_confirm_is_enforced_at_once_and_sent_again(
    site: UseCaseSite, user: PrincipalId, method: str, change: Change
) -> None:
    of_client, of_user = site.client_token(), site.sign_in()
    before(site.store.records, method, unreachable)

    with pytest.raises(StoreUnavailableError):
        change(site, None)

    revoked = {tokens.token_id for tokens in (of_client, of_user) if site.reason(tokens)}
    site.replica.maintenance.do()
    elsewhere = site.other_process()
    assert {tokens.token_id for tokens in (of_client, of_user) if elsewhere.reason(tokens)} == revoked
    assert len(revoked) == 1
    assert [raised.number for raised in site.store.log.generations().values()] == [1]


@pytest.mark.parametrize(("method", "change"), RAISING.values(), ids=RAISING)
def test_a_raise_is_above_what_the_store_has_lost(
    site: UseCaseSite, user: PrincipalId, method: str, change: Change
) -> None:
    lost = Generation(number=3, link=Link("lost"))
    for principal in (CLIENT, user):
        site.replica.revocations.raise_to(principal, lost)

    change(site, None)

    assert [generation.number for generation in site.store.log.generations().values()] == [4]


def test_a_raise_that_is_not_confirmed_is_above_what_the_replica_knows(
    site: UseCaseSite, user: PrincipalId
) -> None:
    site.revoke(ByPrincipal(principal=CLIENT))
    later = site.client_token()
    before(site.store.records, "delete", unreachable)

    with pytest.raises(StoreUnavailableError):
        admin(site).clients.delete(CLIENT)

    assert site.reason(later) == "REVOKED"
    assert site.replica.revocations.generations[CLIENT].number == 2


@pytest.mark.parametrize("change", [EVERY[name][1] for name in EVERY if "issuer" in name])
def test_a_change_of_an_issuer_revokes_nothing_also_if_it_is_not_confirmed(
    site: UseCaseSite, user: PrincipalId, change: Change
) -> None:
    for method in ("update", "delete"):
        before(site.store.records, method, unreachable)

    with pytest.raises(StoreUnavailableError):
        change(site, None)
    change(site, None)

    assert site.replica.maintenance.unconfirmed == 0
    assert not site.replica.revocations.generations


def test_an_update_that_revokes_nothing_and_is_not_confirmed_leaves_the_tokens_valid(
    site: UseCaseSite, user: PrincipalId
) -> None:
    tokens = site.client_token()
    before(site.store.records, "update", unreachable)

    with pytest.raises(StoreUnavailableError):
        admin(site).clients.update(client(display_name="R"), ["display_name"])

    assert site.reason(tokens) == ""


def test_a_change_is_known_to_this_process_before_the_call_returns(
    site: UseCaseSite, user: PrincipalId
) -> None:
    site.client_token()  # so that the client is cached

    admin(site).clients.update(client(scopes=frozenset({"write"})), ["scopes"])

    assert site.client_token().scopes == ("write",)


def test_the_etag_that_a_change_returns_is_that_of_the_record(site: UseCaseSite, user: PrincipalId) -> None:
    made, _ = admin(site).clients.create(Client(client_id=PrincipalId("new")))
    assert made == admin(site).clients.get("new")

    changed = admin(site).clients.update(replace(made.record, display_name="N"), ["display_name"])

    assert changed == admin(site).clients.get("new")
    assert admin(site).clients.delete("new") == site.store.log.head().revision
