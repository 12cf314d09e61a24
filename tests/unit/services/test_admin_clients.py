"""Administration of clients: their secrets, and which changes are refused or revoke tokens."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from identity_service.domain.credential_errors import CredentialRefusedError
from identity_service.domain.errors import InvalidRequestError, StoreUnavailableError
from identity_service.domain.ids import PrincipalId
from identity_service.domain.principals import Client, Grant, OnReuse
from identity_service.domain.secret import Secret, matches_any
from identity_service.services.admin.clients import CLIENT_FIELDS, Clients
from identity_service.services.authenticate import ClientSecret
from tests.service_site import KEY
from tests.unit.services.use_case_site import CALLER, UseCaseSite, before, unreachable

CLIENT = PrincipalId("reports")
SECOND, DAY = timedelta(seconds=1), timedelta(days=1)


@pytest.fixture
def clients(site: UseCaseSite) -> Clients:
    """Return the administration of clients, with the client `reports`."""
    site.new_client()
    return site.use.administration.clients


def refused(call: Callable[[], object]) -> list[str]:
    """Return the fields that the error of a call names."""
    with pytest.raises(InvalidRequestError) as error:
        call()
    return [violation.field for violation in error.value.violations]


def works(site: UseCaseSite, secret: Secret) -> bool:
    try:
        site.use.authenticator.client(ClientSecret(client_id=CLIENT, secret=secret))
    except CredentialRefusedError:
        return False
    return True


def test_a_new_client_gets_a_secret_of_which_only_the_hash_is_stored(site: UseCaseSite) -> None:
    wanted = Client(client_id=CLIENT, display_name="Reports", certificates=frozenset({"DNS:Reports.Example"}))

    made, secret = site.use.administration.clients.create(wanted, origin=CALLER)

    assert secret is not None
    assert works(site, secret)
    (stored,) = made.record.secrets
    assert (stored.create_time, stored.expire_time) == (site.clock.now(), None)
    assert secret.reveal() not in repr(made)
    assert made.record == replace(
        wanted,
        certificates=frozenset({"dns:reports.example"}),
        secrets=made.record.secrets,
        create_time=site.clock.now(),
    )
    event = {"outcome": "done", "actor": "admin", "target": "reports", "peer": CALLER.peer}
    assert site.audited("client_created") == [event]
    assert site.stored("client_created")[-1] == event


def test_a_client_is_created_without_a_secret_if_it_needs_none(site: UseCaseSite) -> None:
    made, secret = site.use.administration.clients.create(Client(client_id=CLIENT), no_secret=True)

    assert (made.record.secrets, secret) == ((), None)


def test_a_client_that_is_not_valid_is_not_created(site: UseCaseSite) -> None:
    create = site.use.administration.clients.create
    assert refused(lambda: create(Client(client_id=PrincipalId("u_reports")))) == ["client.client_id"]
    # With a secret the same client is not public.
    public = Client(client_id=CLIENT, grants=frozenset({Grant.PASSWORD, Grant.CLIENT_CREDENTIALS}))
    assert refused(lambda: create(public, no_secret=True)) == ["client.grants"]

    create(public)


def test_clients_are_listed_by_their_ids_a_page_at_a_time(clients: Clients, site: UseCaseSite) -> None:
    for name in ("zebra", "alpha"):
        site.new_client(name)

    def page(**place: Any) -> list[str]:
        return [found.record.client_id for found in clients.list(**place)]

    assert page() == ["admin", "alpha", "first-party", "reports", "zebra"]
    assert page(after="alpha", limit=2) == ["first-party", "reports"]


VALUES: dict[str, Any] = {
    "display_name": "Reports",
    "grants": frozenset({Grant.CLIENT_CREDENTIALS, Grant.TOKEN_EXCHANGE}),
    "audiences": frozenset({"web"}),
    "scopes": frozenset({"admin"}),
    "max_lifetime": timedelta(minutes=1),
    "on_reuse": OnReuse.REFUSE,
    "disabled": True,
    "certificates": frozenset({"dns:reports.example"}),
    "public_keys": (KEY.public_jwk,),
    "require_binding": True,
    "exchange_audiences": frozenset({"web"}),
    "encryption_key": None,
}


@pytest.mark.parametrize("field", CLIENT_FIELDS)
def test_an_update_changes_the_fields_that_it_names_and_no_other(
    site: UseCaseSite, clients: Clients, field: str
) -> None:
    old = clients.get(CLIENT).record
    wanted = replace(Client(client_id=CLIENT, **VALUES), secrets=())

    changed = clients.update(wanted, [field], origin=CALLER).record

    assert changed == replace(old, **{field: VALUES[field]})
    assert clients.get(CLIENT).record == changed
    differs = VALUES[field] != getattr(old, field)
    (event,) = site.audited("client_updated")
    assert event == {
        "outcome": "done",
        "actor": "admin",
        "target": "reports",
        "peer": CALLER.peer,
        "fields": field if differs else "",
    } | ({"disabled": "true"} if field == "disabled" else {})
    assert site.stored("client_updated") == [event]


def test_the_audit_trail_names_the_fields_that_changed_in_order(site: UseCaseSite, clients: Clients) -> None:
    wanted = Client(client_id=CLIENT, scopes=frozenset({"x"}), audiences=frozenset({"y"}))

    clients.update(wanted, ["scopes", "disabled", "audiences"])

    (event,) = site.audited("client_updated")
    assert event == {"outcome": "done", "target": "reports", "fields": "audiences,scopes"}


def test_a_certificate_is_registered_in_its_canonical_spelling(clients: Clients) -> None:
    wanted = Client(client_id=CLIENT, certificates=frozenset({"SPIFFE://Example.org/Path"}))

    changed = clients.update(wanted, ["certificates"]).record

    assert changed.certificates == {"spiffe://example.org/Path"}


def test_an_update_that_is_not_valid_changes_nothing(clients: Clients) -> None:
    old = clients.get(CLIENT)
    wanted = Client(client_id=CLIENT, scopes=frozenset({"a b"}))

    assert refused(lambda: clients.update(wanted, ["scopes"])) == ["client.scopes"]

    assert clients.get(CLIENT) == old


def disable(clients: Clients, *, disabled: bool = True, **options: Any) -> object:
    return clients.update(Client(client_id=CLIENT, disabled=disabled), ["disabled"], **options)


def test_only_disabling_a_client_revokes_its_tokens(site: UseCaseSite, clients: Clients) -> None:
    tokens = site.client_token()
    disable(clients, disabled=False)
    clients.update(Client(client_id=CLIENT, display_name="R"), ["display_name"])
    assert site.reason(tokens) == ""

    disable(clients)

    assert site.reason(tokens) == "REVOKED"
    raised = site.store.log.generations()[CLIENT]
    disable(clients)
    disable(clients, disabled=False)
    assert site.store.log.generations()[CLIENT] == raised, "it was disabled already"


@pytest.mark.parametrize("caller", ["reports", "another"])
def test_a_client_cannot_disable_or_delete_itself(site: UseCaseSite, clients: Clients, caller: str) -> None:
    origin = replace(CALLER, actor=PrincipalId(caller))
    old = clients.get(CLIENT)

    if caller == "reports":
        assert refused(lambda: disable(clients, origin=origin)) == ["client.disabled"]
        assert refused(lambda: clients.delete(CLIENT, origin=origin)) == ["client_id"]
        assert clients.get(CLIENT) == old
        clients.update(Client(client_id=CLIENT, display_name="R"), ["display_name"], origin=origin)
        return
    disable(clients, origin=origin)
    clients.delete(CLIENT, origin=origin)
    assert [event["actor"] for event in site.audited("client_deleted")] == ["another"]


def test_deleting_a_client_revokes_its_tokens_and_its_successor_of_the_same_id_has_none_of_them(
    site: UseCaseSite, clients: Clients
) -> None:
    tokens = site.client_token()

    clients.delete(CLIENT, origin=CALLER)
    site.new_client()

    assert site.reason(tokens) == "REVOKED"
    assert site.reason(site.client_token()) == ""
    event = {"outcome": "done", "actor": "admin", "target": "reports", "peer": CALLER.peer}
    assert site.audited("client_deleted") == [event]
    assert site.stored("client_deleted") == [event]


# Secrets


@pytest.mark.parametrize("overlap", [timedelta(0), SECOND, timedelta(days=30)])
def test_a_new_secret_works_at_once_and_the_old_one_until_the_overlap_is_over(
    site: UseCaseSite, clients: Clients, overlap: timedelta
) -> None:
    old = Secret(site.secrets[CLIENT])

    rotated, new = clients.rotate_secret(CLIENT, overlap=overlap, origin=CALLER)

    assert works(site, new)
    assert works(site, old) == bool(overlap)
    assert rotated.record.secrets[0].create_time == site.clock.now()
    assert [secret.expire_time for secret in rotated.record.secrets] == [
        None,
        *([site.clock.now() + overlap] if overlap else []),
    ]
    secrets, end = rotated.record.secrets, site.clock.now() + overlap
    assert matches_any(old, secrets, end - SECOND) == bool(overlap)
    assert not matches_any(old, secrets, end)
    event = {
        "outcome": "done",
        "actor": "admin",
        "target": "reports",
        "peer": CALLER.peer,
        "overlap_seconds": str(int(overlap.total_seconds())),
        "revoked": "false",
    }
    assert site.audited("client_secret_rotated") == [event]
    assert site.stored("client_secret_rotated") == [event]


@pytest.mark.parametrize("overlap", [-SECOND, timedelta(days=30) + SECOND])
def test_an_overlap_is_at_most_thirty_days(site: UseCaseSite, clients: Clients, overlap: timedelta) -> None:
    assert refused(lambda: clients.rotate_secret(CLIENT, overlap=overlap)) == ["overlap"]


@pytest.mark.parametrize(("first", "second", "left"), [(DAY, 2 * DAY, DAY), (2 * DAY, DAY, DAY)])
def test_a_second_rotation_never_lets_an_old_secret_work_longer(
    site: UseCaseSite, clients: Clients, first: timedelta, second: timedelta, left: timedelta
) -> None:
    clients.rotate_secret(CLIENT, overlap=first)

    rotated, _ = clients.rotate_secret(CLIENT, overlap=second)

    times = [secret.expire_time for secret in rotated.record.secrets]
    assert times == [None, site.clock.now() + second, site.clock.now() + left]


def test_at_most_five_secrets_are_valid_at_once(site: UseCaseSite, clients: Clients) -> None:
    for days in range(1, 5):
        clients.rotate_secret(CLIENT, overlap=days * DAY)
    old = clients.get(CLIENT)

    assert refused(lambda: clients.rotate_secret(CLIENT, overlap=DAY)) == ["overlap"]

    assert clients.get(CLIENT) == old
    site.clock.advance(DAY)
    rotated, _ = clients.rotate_secret(CLIENT, overlap=10 * DAY)
    assert len(rotated.record.secrets) == 5, "the one that is over takes no place"
    rotated, _ = clients.rotate_secret(CLIENT)
    assert len(rotated.record.secrets) == 1


@pytest.mark.parametrize("revoke", [False, True])
def test_a_rotation_revokes_the_clients_tokens_only_if_it_is_asked_to(
    site: UseCaseSite, clients: Clients, revoke: bool
) -> None:
    tokens = site.client_token()

    clients.rotate_secret(CLIENT, revoke=revoke)

    assert site.reason(tokens) == ("REVOKED" if revoke else "")
    assert [event["revoked"] for event in site.audited("client_secret_rotated")] == [str(revoke).lower()]


@pytest.mark.parametrize(
    ("grants", "has_none"), [({Grant.PASSWORD}, True), ({Grant.CLIENT_CREDENTIALS}, False)]
)
def test_a_public_client_through_which_users_sign_in_gets_no_secret(
    site: UseCaseSite, grants: set[Grant], has_none: bool
) -> None:
    site.new_client("app", public=True, grants=grants)
    site.new_client("confidential", grants={Grant.PASSWORD})
    rotate = site.use.administration.clients.rotate_secret

    if has_none:
        assert refused(lambda: rotate("app")) == ["client_id"]
    else:
        rotate("app")
    rotate("confidential")


def test_a_rotation_that_the_store_does_not_confirm_leaves_the_old_secret(
    site: UseCaseSite, clients: Clients
) -> None:
    before(site.store.records, "update", unreachable)

    with pytest.raises(StoreUnavailableError):
        clients.rotate_secret(CLIENT)

    assert works(site, Secret(site.secrets[CLIENT]))
    assert not site.audited("client_secret_rotated")
