"""Clients through AdminService, on both stores: valid and refused changes, and their effect on tokens."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import grpc
import pytest

from identity_service.domain.secret import Secret, stored
from identity_service.jose.keys import generate
from identityapi.v1 import principal_pb2
from tests.rpc.administrator import Administrator, events, fails
from tests.rpc.world import API, Principal, World, client_secret, password

CREDENTIALS = principal_pb2.GRANT_CLIENT_CREDENTIALS
PASSWORD = principal_pb2.GRANT_PASSWORD
REFRESH = principal_pb2.GRANT_REFRESH_TOKEN
EXCHANGE = principal_pb2.GRANT_TOKEN_EXCHANGE
FINGERPRINT = "sha256:" + "a1" * 32


def create(admin: Administrator, client_id: str = "reports", **fields: Any) -> Any:
    client = {"client_id": client_id, "audiences": [API], "scopes": ["read"], **fields}
    return admin.call("CreateClient", client=client)


def update(admin: Administrator, *paths: str, client_id: str = "reports", **fields: Any) -> Any:
    request = {"client": {"client_id": client_id, **fields}, "update_mask": {"paths": paths}}
    return admin.call("UpdateClient", **request).client


def get(admin: Administrator, client_id: str = "reports") -> principal_pb2.Client:
    found: principal_pb2.Client = admin.call("GetClient", client_id=client_id).client
    return found


def principal(made: Any) -> Principal:
    client_id = made.client.client_id
    return Principal(id=client_id, credential=client_secret(client_id, made.client_secret))


def test_a_client_is_made_with_all_that_was_asked_for(world: World, admin: Administrator) -> None:
    key = generate("ES256").public_jwk or ""
    sent = principal_pb2.Client(
        client_id="reports",
        display_name="Reports",
        grants=[CREDENTIALS, EXCHANGE],
        audiences=["api", "web"],
        scopes=["read"],
        max_lifetime={"seconds": 600},
        on_reuse=principal_pb2.ON_REUSE_REFUSE,
        certificates=["SPIFFE://Example.org/reports", "DNS:Reports.example.org", FINGERPRINT.upper()],
        public_keys=[key],
        require_binding=True,
        exchange_audiences=["*"],
    )

    made = admin.call("CreateClient", client=sent)

    found = get(admin)
    assert found == made.client
    assert list(found.certificates) == [
        "dns:reports.example.org",
        FINGERPRINT,
        "spiffe://example.org/reports",
    ]
    assert found.etag
    assert found.HasField("create_time")
    assert [secret.HasField("expire_time") for secret in found.secrets] == [False]
    for output in ("etag", "create_time", "secrets", "certificates"):
        sent.ClearField(output)
        found.ClearField(output)
    assert found == sent


def test_a_client_that_was_made_gets_tokens_with_its_secret_and_only_the_default_grant(
    world: World, admin: Administrator
) -> None:
    made = create(admin)

    assert world.reason(world.issue(principal(made)).access_token) == ""
    assert list(made.client.grants) == [CREDENTIALS]


def test_creating_a_client_without_a_secret_shows_none(world: World, admin: Administrator) -> None:
    grants = [PASSWORD, REFRESH]
    made = admin.call(
        "CreateClient", client={"client_id": "app", "grants": grants, "scopes": ["*"]}, no_secret=True
    )

    assert made.client_secret == ""
    assert not made.client.secrets


def test_no_answer_holds_a_hash_of_a_secret(world: World, admin: Administrator) -> None:
    made = create(admin)
    kept = world.store_admin.administrator.clients.get("reports").record.secrets[0]

    assert kept.digest == stored(Secret(made.client_secret)).digest
    for answer in (made.client, get(admin), admin.call("ListClients")):
        assert kept.digest not in answer.SerializeToString()
        assert made.client_secret.encode() not in answer.SerializeToString()


PRIVATE_KEY = generate("ES256").private_jwk


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"client_id": ""}, "client_id"),
        ({"client_id": "u_reports"}, "client_id"),
        ({"client_id": "f_reports"}, "client_id"),
        ({"client_id": "-reports"}, "client_id"),
        ({"client_id": "r" * 129}, "client_id"),
        ({"display_name": "n" * 129}, "display_name"),
        ({"grants": [0]}, "grants"),
        ({"grants": [99]}, "grants"),
        ({"audiences": [f"a{number}" for number in range(101)]}, "audiences"),
        ({"audiences": ["a b"]}, "audiences"),
        ({"scopes": [f"s{number}" for number in range(101)]}, "scopes"),
        ({"scopes": ["identity.everything"]}, "scopes"),
        ({"scopes": ['"']}, "scopes"),
        ({"max_lifetime": {"seconds": 0}}, "max_lifetime"),
        ({"max_lifetime": {"seconds": 1, "nanos": 5000}}, "max_lifetime"),
        ({"max_lifetime": {"seconds": 2**62}}, "max_lifetime"),
        ({"on_reuse": 9}, "on_reuse"),
        ({"certificates": ["reports.example.org"]}, "certificates"),
        ({"certificates": ["sha256:abc"]}, "certificates"),
        ({"certificates": ["spiffe://example.org"]}, "certificates"),
        ({"certificates": [f"dns:host{number}" for number in range(21)]}, "certificates"),
        ({"public_keys": ["{}"]}, "public_keys[0]"),
        ({"public_keys": [PRIVATE_KEY]}, "public_keys[0]"),
        ({"public_keys": ["x" * 4097]}, "public_keys[0]"),
        ({"public_keys": ["{}"] * 11}, "public_keys"),
        ({"exchange_audiences": ["a b"]}, "exchange_audiences"),
    ],
)
def test_a_field_that_cannot_be_so_is_named(
    world: World, admin: Administrator, fields: dict[str, Any], wrong: str
) -> None:
    request = {"client_id": "reports", **fields}

    assert f"client.{wrong}" in admin.invalid("CreateClient", client=request)
    assert fails(lambda: get(admin)).reason == "NOT_FOUND"


def test_two_keys_of_one_client_have_two_names(world: World, admin: Administrator) -> None:
    key = generate("ES256").public_jwk

    client = {"client_id": "reports", "public_keys": [key, key]}

    assert admin.invalid("CreateClient", client=client) == ["client.public_keys[1]"]


@pytest.mark.parametrize("grant", [CREDENTIALS, EXCHANGE])
def test_a_public_client_gets_nothing_for_itself(world: World, admin: Administrator, grant: Any) -> None:
    public = {"client_id": "app", "grants": [PASSWORD, grant]}

    assert admin.invalid("CreateClient", client=public, no_secret=True) == ["client.grants"]
    assert admin.call("CreateClient", client=public).client_secret


def test_a_client_that_a_trusted_issuer_proves_needs_no_proof_of_its_own(
    world: World, admin: Administrator
) -> None:
    made = admin.call("CreateClient", client={"client_id": "ci"}, no_secret=True)

    assert list(made.client.grants) == [CREDENTIALS]


def test_an_id_or_a_certificate_is_of_one_client_only(world: World, admin: Administrator) -> None:
    create(admin, certificates=["dns:a.example.org"])
    create(admin, "other")

    taken = admin.refused("CreateClient", client={"client_id": "reports"})
    shared = admin.refused("CreateClient", client={"client_id": "x", "certificates": ["dns:A.example.org"]})
    moved = fails(
        lambda: update(admin, "certificates", client_id="other", certificates=["dns:a.example.org"])
    )

    for found in (taken, shared, moved):
        assert (found.code, found.reason) == (grpc.StatusCode.ALREADY_EXISTS, "ALREADY_EXISTS")


@pytest.mark.parametrize(
    ("method", "fields"),
    [
        ("GetClient", {"client_id": "nobody"}),
        ("UpdateClient", {"client": {"client_id": "nobody"}, "update_mask": {"paths": ["scopes"]}}),
        ("DeleteClient", {"client_id": "nobody"}),
        ("RotateClientSecret", {"client_id": "nobody"}),
    ],
)
def test_a_client_that_is_not_there_is_not_found(
    world: World, admin: Administrator, method: str, fields: dict[str, Any]
) -> None:
    found = admin.refused(method, **fields)

    assert (found.code, found.reason) == (grpc.StatusCode.NOT_FOUND, "NOT_FOUND")


# Masks


def test_only_the_fields_of_the_mask_change_and_unset_ones_are_emptied(
    world: World, admin: Administrator
) -> None:
    create(admin, display_name="Reports", max_lifetime={"seconds": 60}, certificates=[FINGERPRINT])

    changed = update(admin, "scopes", "max_lifetime", "certificates", scopes=["write"], display_name="no")

    assert list(changed.scopes) == ["write"]
    assert not changed.HasField("max_lifetime")
    assert not changed.certificates
    assert (changed.display_name, list(changed.audiences)) == ("Reports", [API])
    assert changed == get(admin)


def test_a_star_changes_all_fields_and_no_secret(world: World, admin: Administrator) -> None:
    made = create(admin, display_name="Reports")

    changed = update(admin, "*", scopes=["write"], audiences=[API], grants=[CREDENTIALS])

    assert (changed.display_name, list(changed.scopes)) == ("", ["write"])
    assert list(world.issue(principal(made)).scopes) == ["write"]


@pytest.mark.parametrize(
    "path",
    ["client_id", "secrets", "create_time", "etag", "scope", "max_lifetime.seconds", "", "client.scopes"],
)
def test_a_path_that_cannot_change_is_named(world: World, admin: Administrator, path: str) -> None:
    create(admin)

    found = fails(lambda: update(admin, "scopes", path, scopes=["write"]))

    assert repr(path) in found.fields["update_mask"]
    assert list(get(admin).scopes) == ["read"]


def test_a_mask_is_required(world: World, admin: Administrator) -> None:
    create(admin)

    assert admin.invalid("UpdateClient", client={"client_id": "reports"}) == ["update_mask"]
    assert admin.invalid("UpdateClient", update_mask={"paths": ["*"]}) == ["client.client_id"]


def test_a_change_is_checked_together_with_the_unchanged_fields(world: World, admin: Administrator) -> None:
    admin.call("CreateClient", client={"client_id": "reports", "grants": [PASSWORD]}, no_secret=True)

    found = fails(lambda: update(admin, "grants", grants=[PASSWORD, CREDENTIALS]))

    assert list(found.fields) == ["client.grants"]


# Etags


@pytest.mark.parametrize("method", ["UpdateClient", "DeleteClient", "RotateClientSecret"])
def test_a_stale_etag_changes_nothing(world: World, admin: Administrator, method: str) -> None:
    stale = create(admin).client.etag
    before = update(admin, "display_name", display_name="changed")
    requests: dict[str, dict[str, Any]] = {
        "UpdateClient": {
            "client": {"client_id": "reports", "etag": stale},
            "update_mask": {"paths": ["scopes"]},
        },
        "DeleteClient": {"client_id": "reports", "etag": stale},
        "RotateClientSecret": {"client_id": "reports", "etag": stale},
    }
    fields = requests[method]

    found = admin.refused(method, **fields)

    assert (found.code, found.reason) == (grpc.StatusCode.ABORTED, "STALE_ETAG")
    assert get(admin) == before
    fresh = {**fields, **({} if "client" in fields else {"etag": before.etag})}
    if "client" in fields:
        fresh["client"] = {"client_id": "reports", "etag": before.etag}
    assert admin.call(method, **fresh)


def test_an_etag_that_never_was_one_is_refused(world: World, admin: Administrator) -> None:
    create(admin)

    assert admin.invalid("DeleteClient", client_id="reports", etag="never") == ["etag"]


@pytest.mark.in_process
def test_without_an_etag_a_change_is_made_again_on_top_of_concurrent_changes(
    world: World, admin: Administrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two concurrent writes come first. The update is applied on top of them, so that none is lost."""
    create(admin)
    real, overtaking = world.store.records.update, iter(["first", "second"])

    def overtaken(record: Any, **more: Any) -> Any:
        name = next(overtaking, None)
        if name is not None:
            found = world.store_admin.administrator.clients.get("reports")
            real(replace(found.record, display_name=name), expected=found.revision)
        return real(record, **more)

    monkeypatch.setattr(world.store.records, "update", overtaken)

    changed = update(admin, "scopes", scopes=["write"])

    assert (changed.display_name, list(changed.scopes)) == ("second", ["write"])


@pytest.mark.in_process
def test_a_change_that_is_overtaken_again_and_again_gives_up(
    world: World, admin: Administrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(admin)
    real = world.store.records.update

    def overtaken(record: Any, **more: Any) -> Any:
        found = world.store_admin.administrator.clients.get("reports")
        real(found.record, expected=found.revision)
        return real(record, **more)

    monkeypatch.setattr(world.store.records, "update", overtaken)

    assert fails(lambda: update(admin, "scopes")).reason == "STALE_ETAG"


# Immediate effects


def test_disabling_a_client_revokes_the_tokens_issued_to_it_and_through_it(
    world: World, admin: Administrator
) -> None:
    made = create(admin, grants=[CREDENTIALS, PASSWORD, REFRESH], scopes=["*"], audiences=[API])
    world.new_user()
    own = world.issue(principal(made))
    through = world.issue(
        Principal(id="", credential=password("ana", client_id="reports", secret=made.client_secret))
    )

    update(admin, "disabled", disabled=True)

    assert world.reason(own.access_token) == "REVOKED"
    assert world.reason(through.access_token) == "REVOKED"
    refresh = fails(
        lambda: world.refresh(through.refresh_token, client_credential=principal(made).credential)
    )
    assert refresh.reason in {"CREDENTIAL_REFUSED", "SESSION_ENDED"}
    assert fails(lambda: world.issue(principal(made))).reason == "CREDENTIAL_REFUSED"


def test_a_client_that_is_enabled_again_gets_tokens_and_its_old_ones_stay_refused(
    world: World, admin: Administrator
) -> None:
    made = create(admin)
    before = world.issue(principal(made)).access_token
    update(admin, "disabled", disabled=True)

    update(admin, "disabled")

    assert world.reason(world.issue(principal(made)).access_token) == ""
    assert world.reason(before) == "REVOKED"


def test_changing_a_disabled_client_raises_nothing_again(world: World, admin: Administrator) -> None:
    create(admin)
    update(admin, "disabled", disabled=True)
    raised = world.store.log.generations()

    update(admin, "disabled", "scopes", disabled=True, scopes=["write"])

    assert world.store.log.generations() == raised


def test_other_changes_of_a_client_end_nothing(world: World, admin: Administrator) -> None:
    token = world.issue(principal(create(admin))).access_token

    update(admin, "scopes", "display_name", scopes=["write"])

    assert world.reason(token) == ""


def test_deleting_a_client_revokes_its_tokens_and_returns_the_revision(
    world: World, admin: Administrator
) -> None:
    made = create(admin)
    token = world.issue(principal(made)).access_token

    revision = admin.call("DeleteClient", client_id="reports").revision

    assert world.reason(token) == "REVOKED"
    assert world.reason(token, at_least_revision=revision) == "REVOKED"
    assert fails(lambda: world.issue(principal(made))).reason == "CREDENTIAL_REFUSED"


def test_an_administrator_cannot_lock_itself_out(world: World, admin: Administrator) -> None:
    me = world.admin.id

    assert admin.invalid("DeleteClient", client_id=me) == ["client_id"]
    itself = fails(lambda: update(admin, "disabled", client_id=me, disabled=True))
    assert list(itself.fields) == ["client.disabled"]
    assert update(admin, "display_name", client_id=me, display_name="Still here")


# Secrets


def test_a_rotated_secret_replaces_the_old_one_at_once(world: World, admin: Administrator) -> None:
    made = create(admin)
    token = world.issue(principal(made)).access_token

    rotated = admin.call("RotateClientSecret", client_id="reports")

    assert rotated.client_secret != made.client_secret
    assert world.issue(principal(rotated)).access_token
    assert fails(lambda: world.issue(principal(made))).reason == "CREDENTIAL_REFUSED"
    assert world.reason(token) == ""
    assert len(rotated.client.secrets) == 1


def test_with_an_overlap_both_secrets_work_until_it_is_over(world: World, admin: Administrator) -> None:
    made = create(admin)

    rotated = admin.call("RotateClientSecret", client_id="reports", overlap={"seconds": 60})

    assert world.issue(principal(made)).access_token
    assert world.issue(principal(rotated)).access_token
    assert [secret.HasField("expire_time") for secret in rotated.client.secrets] == [False, True]
    world.clock.advance(seconds=61)
    assert fails(lambda: world.issue(principal(made))).reason == "CREDENTIAL_REFUSED"
    assert world.issue(principal(rotated)).access_token


def test_an_overlap_lengthens_the_life_of_no_secret(world: World, admin: Administrator) -> None:
    made = create(admin)
    admin.call("RotateClientSecret", client_id="reports", overlap={"seconds": 60})
    admin.call("RotateClientSecret", client_id="reports", overlap={"seconds": 3600})

    world.clock.advance(seconds=61)

    assert fails(lambda: world.issue(principal(made))).reason == "CREDENTIAL_REFUSED"


def test_rotating_with_revoke_revokes_the_clients_tokens(world: World, admin: Administrator) -> None:
    token = world.issue(principal(create(admin))).access_token

    admin.call("RotateClientSecret", client_id="reports", revoke=True)

    assert world.reason(token) == "REVOKED"


def test_a_client_has_few_secrets_at_once(world: World, admin: Administrator) -> None:
    create(admin)
    for _ in range(4):
        admin.call("RotateClientSecret", client_id="reports", overlap={"seconds": 60})

    assert admin.invalid("RotateClientSecret", client_id="reports", overlap={"seconds": 60}) == ["overlap"]
    assert len(admin.call("RotateClientSecret", client_id="reports").client.secrets) == 1


@pytest.mark.parametrize("seconds", [-1, 30 * 86400 + 1, 2**62])
def test_an_overlap_is_at_most_a_month(world: World, admin: Administrator, seconds: int) -> None:
    create(admin)

    wrong = admin.invalid("RotateClientSecret", client_id="reports", overlap={"seconds": seconds})

    assert wrong == ["overlap"]


def test_a_public_client_gets_no_secret(world: World, admin: Administrator) -> None:
    assert admin.invalid("RotateClientSecret", client_id="first-party") == ["client_id"]


# Audit


def test_every_change_leaves_its_event(world: World, admin: Administrator) -> None:
    create(admin)
    update(admin, "scopes", "display_name", "disabled", scopes=["write"], disabled=True)
    admin.call("RotateClientSecret", client_id="reports", overlap=timedelta(seconds=5), revoke=True)
    admin.call("DeleteClient", client_id="reports")

    found = [event for event in events(world, "reports") if event.actor == world.admin.id]

    assert [event.type.value for event in found] == [
        "client_created",
        "client_updated",
        "client_secret_rotated",
        "client_deleted",
    ]
    assert found[1].details == {"fields": "disabled,scopes", "disabled": "true"}
    assert found[2].details == {"overlap_seconds": "5", "revoked": "true"}
    assert all(event.peer.startswith("127.0.0.1:") and event.request_id for event in found)


def test_a_refused_change_leaves_no_event_of_the_change(world: World, admin: Administrator) -> None:
    create(admin)
    fails(lambda: update(admin, "nothing"))
    admin.refused("DeleteClient", client_id="reports", etag="other.1")

    assert [event.type.value for event in events(world, "reports")] == ["client_created"]
