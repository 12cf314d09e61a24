"""Trusted issuers and keys through AdminService, on both stores: valid and refused changes."""

import json
from typing import Any

import grpc
import pytest

from identity_service.domain.ids import PrincipalId
from identity_service.domain.issuers import TrustedIssuer, TrustRule
from identity_service.jose.keys import generate
from identityapi.v1 import principal_pb2
from identityapi.v1 import trust_service_pb2 as trust_pb
from tests.rpc.administrator import Administrator, events, fails
from tests.rpc.conftest import StartWorld
from tests.rpc.world import World
from tests.weak_keys import ODD, Numbers, rsa_jwk

CLUSTER = "https://kubernetes.example.org"
RULE = {"claims": {"sub": "system:serviceaccount:shop:reports"}, "client_id": "reports"}
ES256, HS256 = (generate(algorithm) for algorithm in ("ES256", "HS256"))


def jwks(*texts: str | None) -> str:
    return json.dumps({"keys": [json.loads(text or "") for text in texts]})


KEYS = jwks(ES256.public_jwk)


def issuer(**fields: Any) -> dict[str, Any]:
    source = {"jwks": KEYS} if not {"jwks", "jwks_uri", "jwks_file"} & fields.keys() else {}
    return {"issuer": CLUSTER, "rules": [RULE], **source, **fields}


def create(admin: Administrator, **fields: Any) -> principal_pb2.TrustedIssuer:
    made = admin.call("CreateTrustedIssuer", trusted_issuer=issuer(**fields)).trusted_issuer
    assert isinstance(made, principal_pb2.TrustedIssuer)
    return made


def update(admin: Administrator, *paths: str, **fields: Any) -> principal_pb2.TrustedIssuer:
    request = {"trusted_issuer": {"issuer": CLUSTER, **fields}, "update_mask": {"paths": paths}}
    changed: principal_pb2.TrustedIssuer = admin.call("UpdateTrustedIssuer", **request).trusted_issuer
    return changed


def get(admin: Administrator) -> principal_pb2.TrustedIssuer:
    found: principal_pb2.TrustedIssuer = admin.call("GetTrustedIssuer", issuer=CLUSTER).trusted_issuer
    return found


def test_an_issuer_is_trusted_with_all_that_was_asked_for(world: World, admin: Administrator) -> None:
    sent = principal_pb2.TrustedIssuer(
        issuer=CLUSTER,
        jwks_uri=f"{CLUSTER}/openid/v1/jwks",
        audiences=["identity"],
        algorithms=["RS256", "ES256"],
        rules=[RULE, {"claims": {"a": "x*", "b.c": "y"}, "client_id": "web", "per_subject": True}],
        single_use=True,
        max_age={"seconds": 600},
    )

    made = admin.call("CreateTrustedIssuer", trusted_issuer=sent).trusted_issuer

    assert made == get(admin)
    assert made.etag
    assert made.HasField("create_time")
    made.ClearField("etag")
    made.ClearField("create_time")
    assert made == sent


def test_an_issuer_that_names_no_algorithms_may_use_any_asymmetric_one(
    world: World, admin: Administrator
) -> None:
    assert list(create(admin).algorithms) == ["ES256", "ES384", "EdDSA", "RS256", "PS256"]


@pytest.mark.parametrize("url", ["http://localhost:8080/keys", "http://127.0.0.1/keys", "http://[::1]/keys"])
def test_keys_may_come_over_plain_http_from_this_machine(
    world: World, admin: Administrator, url: str
) -> None:
    assert create(admin, jwks_uri=url).jwks_uri == url


def test_keys_may_come_from_a_file(world: World, admin: Administrator) -> None:
    assert create(admin, jwks_file="/var/run/keys.json").jwks_file == "/var/run/keys.json"


WRONG_URLS = (
    "http://keys.example.org/jwks",
    "http://localhost.example.org/jwks",
    "ftp://keys.example.org/jwks",
    "https:///jwks",
    "https://user:secret@keys.example.org/jwks",
    "https://keys.example.org/jwks#part",
    "https://keys.example.org:port/jwks",
    "https://keys.example.org/a b",
    "https://keys.example.org/" + "x" * 2048,
    "file:///etc/keys.json",
    "",
)


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"issuer": ""}, "issuer"),
        ({"issuer": "a b"}, "issuer"),
        ({"issuer": "i" * 257}, "issuer"),
        *(({"jwks_uri": url}, "jwks_uri") for url in WRONG_URLS),
        ({"jwks_file": "keys.json"}, "jwks_file"),
        ({"jwks_file": ""}, "jwks_file"),
        ({"jwks_file": "/keys\n"}, "jwks_file"),
        ({"jwks": ""}, "jwks"),
        ({"jwks": "[]"}, "jwks"),
        ({"jwks": '{"keys": []}'}, "jwks"),
        ({"jwks": '{"keys": [1]}'}, "jwks"),
        ({"jwks": KEYS[:-1] + " " * 65536 + "}"}, "jwks"),
        ({"jwks": jwks(ES256.private_jwk)}, "jwks"),
        ({"jwks": jwks(HS256.private_jwk)}, "jwks"),
        ({"jwks": jwks(json.dumps(rsa_jwk(Numbers(ODD), alg="RS256"))), "algorithms": ["ES256"]}, "jwks"),
        ({"audiences": [f"a{number}" for number in range(17)]}, "audiences"),
        ({"audiences": ["a b"]}, "audiences"),
        ({"algorithms": ["HS256"]}, "algorithms"),
        ({"algorithms": ["none"]}, "algorithms"),
        ({"algorithms": ["ES256", "RS512"]}, "algorithms"),
        ({"rules": []}, "rules"),
        ({"rules": [RULE] * 101}, "rules"),
        ({"rules": [RULE, {"client_id": "reports"}]}, "rules[1].claims"),
        ({"rules": [{**RULE, "claims": {"sub": ""}}]}, "rules[0].claims"),
        ({"rules": [{**RULE, "claims": {"": "x"}}]}, "rules[0].claims"),
        ({"rules": [{**RULE, "claims": {f"c{number}": "x" for number in range(21)}}]}, "rules[0].claims"),
        ({"rules": [{**RULE, "client_id": ""}]}, "rules[0].client_id"),
        ({"rules": [{**RULE, "client_id": "u_ana"}]}, "rules[0].client_id"),
        ({"max_age": {"seconds": 0}}, "max_age"),
        ({"max_age": {"seconds": -1}}, "max_age"),
        ({"max_age": {"seconds": 2**62}}, "max_age"),
    ],
)
def test_a_field_that_cannot_be_so_is_named(
    world: World, admin: Administrator, fields: dict[str, Any], wrong: str
) -> None:
    found = admin.invalid("CreateTrustedIssuer", trusted_issuer=issuer(**fields))

    assert f"trusted_issuer.{wrong}" in found


OWN = "https://identity.example.org"


@pytest.mark.parametrize(
    "name",
    [
        OWN,
        f"{OWN}/",
        OWN.upper(),
        f"{OWN}:443",
        f"{OWN}.",
        "https://Identity.example.org/.",
        "https://\uff49dentity.example\u3002org",
    ],
    ids=ascii,
)
def test_no_issuer_has_a_spelling_of_our_own_name(start_world: StartWorld, name: str) -> None:
    """No trusted issuer may be created or changed with a spelling of the service's own issuer name.

    A record that an older version stored under such a name can still be read and deleted.
    """
    world = start_world(issuer=OWN)
    admin = Administrator(world, world.admin_token(scopes=["identity.admin"]))
    rule = TrustRule(claims={"sub": "x"}, client_id=PrincipalId("reports"))
    refused = admin.refused("CreateTrustedIssuer", trusted_issuer=issuer(issuer=name))
    world.store.records.create(TrustedIssuer(issuer=name, jwks=KEYS, rules=(rule,)))
    mask = {"paths": ["single_use"]}

    assert list(refused.fields) == ["trusted_issuer.issuer"]
    assert f"this service's own name ({OWN})" in refused.message
    assert admin.invalid(
        "UpdateTrustedIssuer", trusted_issuer={"issuer": name, "single_use": True}, update_mask=mask
    ) == ["trusted_issuer.issuer"]
    assert admin.call("GetTrustedIssuer", issuer=name).trusted_issuer.issuer == name
    admin.call("DeleteTrustedIssuer", issuer=name)


@pytest.mark.parametrize("unseen", ["\u3164", "\u2800", "\ufe0f", "\u034f", "\ufffe"], ids=ascii)
def test_an_issuer_name_has_no_invisible_character(world: World, admin: Administrator, unseen: str) -> None:
    """No trusted issuer may be created with an invisible character in its name.

    A record that an older version stored under such a name can still be changed and deleted.
    """
    name = f"{CLUSTER}/{unseen}"
    rule = TrustRule(claims={"sub": "x"}, client_id=PrincipalId("reports"))
    refused = admin.refused("CreateTrustedIssuer", trusted_issuer=issuer(issuer=name))
    world.store.records.create(TrustedIssuer(issuer=name, jwks=KEYS, rules=(rule,)))

    assert "must be 1 to 256 visible characters" in refused.fields["trusted_issuer.issuer"]
    assert update(admin, "single_use", issuer=name, single_use=True).issuer == name
    admin.call("DeleteTrustedIssuer", issuer=name)


def test_an_issuer_needs_a_source_of_keys(world: World, admin: Administrator) -> None:
    without = {"issuer": CLUSTER, "rules": [RULE]}

    assert admin.invalid("CreateTrustedIssuer", trusted_issuer=without) == ["trusted_issuer.keys"]


def test_no_refusal_repeats_a_private_key(world: World, admin: Administrator) -> None:
    found = admin.refused("CreateTrustedIssuer", trusted_issuer=issuer(jwks=jwks(ES256.private_jwk)))

    assert json.loads(ES256.private_jwk)["d"] not in found.message + str(found.fields)


def test_one_source_of_keys_replaces_the_other(world: World, admin: Administrator) -> None:
    create(admin)

    changed = update(admin, "jwks_uri", jwks_uri=f"{CLUSTER}/keys")

    assert changed.WhichOneof("keys") == "jwks_uri"
    assert changed == get(admin)
    assert update(admin, "jwks").WhichOneof("keys") == "jwks_uri"


def test_the_only_source_of_keys_cannot_be_emptied(world: World, admin: Administrator) -> None:
    create(admin)

    assert list(fails(lambda: update(admin, "jwks")).fields) == ["trusted_issuer.keys"]


def test_only_the_fields_of_the_mask_change(world: World, admin: Administrator) -> None:
    create(admin, audiences=["identity"], single_use=True, max_age={"seconds": 60}, algorithms=["ES256"])

    changed = update(admin, "audiences", "max_age", "algorithms")

    assert not changed.audiences
    assert not changed.HasField("max_age")
    assert len(changed.algorithms) == 5
    assert changed.single_use
    assert len(changed.rules) == 1


@pytest.mark.parametrize("path", ["issuer", "keys", "create_time", "etag", "rules.claims", "nothing"])
def test_a_path_that_cannot_change_is_named(world: World, admin: Administrator, path: str) -> None:
    create(admin)

    assert repr(path) in fails(lambda: update(admin, path)).fields["update_mask"]


def test_a_stale_etag_changes_nothing(world: World, admin: Administrator) -> None:
    made = create(admin)
    now = update(admin, "single_use", single_use=True)

    updated = fails(lambda: update(admin, "single_use", etag=made.etag))
    deleted = admin.refused("DeleteTrustedIssuer", issuer=CLUSTER, etag=made.etag)

    assert [updated.reason, deleted.reason] == ["STALE_ETAG"] * 2
    assert get(admin) == now
    assert admin.call("DeleteTrustedIssuer", issuer=CLUSTER, etag=now.etag).revision


def test_an_issuer_is_trusted_once_and_until_it_is_deleted(world: World, admin: Administrator) -> None:
    create(admin)

    again = admin.refused("CreateTrustedIssuer", trusted_issuer=issuer())
    admin.call("DeleteTrustedIssuer", issuer=CLUSTER)

    assert (again.code, again.reason) == (grpc.StatusCode.ALREADY_EXISTS, "ALREADY_EXISTS")
    assert fails(lambda: get(admin)).reason == "NOT_FOUND"
    assert admin.refused("DeleteTrustedIssuer", issuer=CLUSTER).reason == "NOT_FOUND"
    assert fails(lambda: update(admin, "single_use")).reason == "NOT_FOUND"
    assert create(admin).issuer == CLUSTER


def test_every_change_leaves_its_event(world: World, admin: Administrator) -> None:
    create(admin)
    update(admin, "single_use", "rules", single_use=True, rules=[RULE])
    admin.call("DeleteTrustedIssuer", issuer=CLUSTER)

    found = events(world, CLUSTER)

    assert [event.type.value for event in found] == [
        "issuer_trusted",
        "issuer_updated",
        "issuer_distrusted",
    ]
    assert found[1].details == {"fields": "single_use"}
    assert {event.actor for event in found} == {world.admin.id}


def test_the_keys_of_every_purpose_are_listed_without_a_secret(admin: Administrator) -> None:
    found = admin.call("ListKeys").keys
    public = [key for key in found if key.purpose != trust_pb.KEY_PURPOSE_REFRESH]

    assert [key.state for key in found] == [trust_pb.KEY_STATE_SIGNING, trust_pb.KEY_STATE_PENDING] * 3
    for key in public:
        assert json.loads(key.jwk)["kid"] == key.key_id
        assert "d" not in json.loads(key.jwk)
    assert [key.jwk for key in found if key not in public] == ["", ""]
