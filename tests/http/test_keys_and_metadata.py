"""The key set and the metadata documents, which the service answers from memory even without its store."""

import pytest

from identityapi.v1 import trust_service_pb2 as pb
from identityapi.v1 import trust_service_pb2_grpc as rpc
from tests.http.conftest import StartSite
from tests.http.site import Site
from tests.patience import until
from tests.redis_server import RedisServer
from tests.rpc.outages import lose, on

KEYS = "/.well-known/jwks.json"
PRIVATE = {"d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"}


def test_the_key_set_is_the_one_of_get_keys(site: Site) -> None:
    keys = rpc.TrustServiceStub(site.world.channel).GetKeys(pb.GetKeysRequest()).key_set

    answer = site.get(KEYS)

    assert answer.status == 200
    assert answer.body.decode() == keys.jwks
    assert answer.headers["etag"] == f'"{keys.etag}"'
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == f"public, max-age={keys.max_age.seconds}"


def test_the_key_set_has_no_private_member(site: Site) -> None:
    keys = site.get(KEYS).json["keys"]

    assert keys
    assert not any(PRIVATE & key.keys() for key in keys)


@pytest.mark.parametrize("algorithm", ["HS256", "RS256", "EdDSA", "ML-DSA-44"])
def test_a_key_set_has_public_keys_only(start: StartSite, algorithm: str) -> None:
    keys = start(algorithm=algorithm).get(KEYS).json["keys"]

    assert bool(keys) is (algorithm != "HS256")
    assert not any(PRIVATE & key.keys() or key["kty"] == "oct" for key in keys)


def test_a_client_that_has_the_keys_gets_them_only_after_they_have_changed(site: Site) -> None:
    etag = site.get(KEYS).headers["etag"]

    same = site.get(KEYS, if_none_match=f'"other", W/{etag}')

    assert (same.status, same.body, same.headers["etag"]) == (304, b"", etag)
    assert same.headers["cache-control"].startswith("public, max-age=")
    assert site.get(KEYS, if_none_match="*").status == 304
    assert site.get(KEYS, if_none_match='"other"').status == 200


def test_keys_are_served_and_no_token_is_issued_while_the_store_is_away(
    redis_server: RedisServer,
) -> None:
    redis_server.start()
    redis_server.flush()
    with on(redis_server, http_listen="127.0.0.1:0", issuer="https://id.example") as world:
        site = Site(world, f"127.0.0.1:{world.service.http_port}")

        lose(redis_server, world)
        until(lambda: site.get("/readyz").status == 503)

        assert site.get(KEYS).json["keys"]
        token = site.post("/oauth2/token", "grant_type=client_credentials&client_id=a&client_secret=b")
        assert token.status == 503
        assert token.json["error"] == "temporarily_unavailable"
    redis_server.start()


def test_a_client_finds_the_endpoints_by_the_issuer_alone(site: Site) -> None:
    for path in ("/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"):
        document = site.get(path).json

        assert document["issuer"] == "https://id.example"
        assert document["token_endpoint"] == "https://id.example/oauth2/token"
        assert document["jwks_uri"] == "https://id.example/.well-known/jwks.json"


@pytest.mark.parametrize(
    "path",
    [
        "/.well-known/oauth-authorization-server/tenant",
        "/tenant/.well-known/oauth-authorization-server",
        "/.well-known/openid-configuration/tenant",
        "/tenant/.well-known/openid-configuration",
    ],
)
def test_an_issuer_with_a_path_has_its_metadata_at_the_inserted_and_the_appended_path(
    start: StartSite, path: str
) -> None:
    site = start(issuer="https://id.example/tenant/")

    document = site.get(path).json

    assert document["issuer"] == "https://id.example/tenant/"
    assert document["token_endpoint"] == "https://id.example/tenant/oauth2/token"
    assert site.get("/tenant/oauth2/token").status == 405
