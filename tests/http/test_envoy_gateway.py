"""The configurations in `deploy/envoy`, run by a real Envoy in front of an echo service, on both engines."""

import json
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import HealthServicer

from identity_service.domain.errors import ReplicaStaleError
from identityapi.v1 import access_pb2
from identityapi.v1 import identity_service_pb2 as pb
from tests.http.conftest import StartSite
from tests.http.gateway import Front, gateway, read, replaced
from tests.http.site import Answer, Site
from tests.method_options import write_descriptors
from tests.patience import PATIENCE, until
from tests.rpc.administrator import Administrator
from tests.rpc.keys import signed_with
from tests.rpc.world import World
from tests.tls import Certifier, Holder

ORDERS = "/orders/7?detail=1"
FORGED = {
    "x_identity_subject": "root",
    "x_identity_actors": "root",
    "x_identity_role": "root",
    "x.identity.subject": "root",
    "x!identity_subject": "root",
}
"""Headers with which a client claims an identity that it does not have. Underscores become hyphens."""


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def token_of(site: Site, client_id: str = "reports", **wanted: Any) -> str:
    return site.world.issue(site.world.new_client(client_id), **wanted).access_token


def rotate(world: World) -> None:
    """Rotate the signing key: the key that is already published begins to sign."""
    admin = Administrator(world, world.admin_token(scopes=["identity.admin"]))
    admin.call("RotateKeys")


def revoke(site: Site, token: str) -> None:
    site.world.stub.Revoke(pb.RevokeRequest(token=token))


def identity(headers: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if "identity" in name}


def cluster(configuration: Any, name: str) -> Any:
    (found,) = (each for each in configuration["static_resources"]["clusters"] if each["name"] == name)
    return found


# ext_authz


@pytest.fixture
def asking(site: Site, tmp_path: Path) -> Iterator[Front]:
    with gateway(site, tmp_path, read("ext-authz.yaml")) as front:
        yield front


def test_ext_authz_tells_the_upstream_who_calls_and_nothing_that_a_client_claims(
    site: Site, asking: Front
) -> None:
    tokens = site.world.issue(site.world.new_client())

    headers = asking.upstream_headers(ORDERS, **bearer(tokens.access_token), **FORGED)

    assert identity(headers) == {
        "x-identity-subject": "reports",
        "x-identity-client": "reports",
        "x-identity-scopes": "read write",
        "x-identity-token-id": tokens.token_id,
        "x-identity-expires": str(tokens.expire_time.seconds),
    }
    assert identity(asking.upstream_headers("/opening-hours", **bearer("x"), **FORGED)) == {}


def test_ext_authz_refuses_in_the_words_of_rfc_6750(site: Site, asking: Front) -> None:
    token, narrow = token_of(site), token_of(site, "writer", scopes=["write"])

    missing, wrong = asking.get(ORDERS), asking.get(ORDERS, **bearer("x"))
    scopeless, nowhere = asking.get(ORDERS, **bearer(narrow)), asking.get("/else", **bearer(token))

    assert (missing.status, missing.headers["www-authenticate"]) == (401, "Bearer")
    assert (wrong.status, wrong.headers["www-authenticate"].partition(",")[0]) == (
        401,
        'Bearer error="invalid_token"',
    )
    assert (scopeless.status, scopeless.headers["www-authenticate"].rpartition(" ")[2]) == (
        403,
        'scope="read"',
    )
    assert (nowhere.status, "www-authenticate" in nowhere.headers) == (403, False)


def test_a_revocation_counts_at_once_and_through_a_rotation_no_token_is_refused(
    site: Site, asking: Front
) -> None:
    site.world.clock.advance(hours=2)
    before = token_of(site)
    assert asking.get(ORDERS, **bearer(before)).status == 200
    rotate(site.world)
    after = token_of(site, "later")

    assert [asking.get(ORDERS, **bearer(each)).status for each in (before, after)] == [200, 200]
    revoke(site, before)
    assert [asking.get(ORDERS, **bearer(each)).status for each in (before, after)] == [401, 200]


def sent_raw(front: Front, *lines: str) -> Answer:
    """Send a request with exactly these header lines. A name may occur more than once."""
    connection = front.connect()
    try:
        connection.putrequest("GET", ORDERS)
        for line in lines:
            name, _, value = line.partition(": ")
            connection.putheader(name, value)
        connection.endheaders()
        return Answer.of(connection.getresponse())
    finally:
        connection.close()


@pytest.mark.parametrize("raw", [True, False])
def test_ext_authz_refuses_a_request_with_several_tokens_or_names_that_servers_confuse(
    site: Site, tmp_path: Path, raw: bool
) -> None:
    configuration = read("ext-authz.yaml")
    if not raw:
        use_text_headers(configuration)
    with gateway(site, tmp_path, configuration) as front:
        token = token_of(site)
        one = f"Authorization: Bearer {token}"

        assert sent_raw(front, one).status == 200
        assert sent_raw(front, f"AUTHORIZATION: bearer {token}").status == 200
        assert sent_raw(front, one, one).status == 401
        assert sent_raw(front, one, "authorization: Basic eDp5").status == 401
        assert front.get("/orders?access_token=x", **bearer(token)).status == 401
        assert sent_raw(front, one, "x_identity_subject: root").status == 400
        twice = sent_raw(front, one, "x-identity-client: a", "X-Identity-Client: b")
        assert [v for n, v in twice.json["headers"] if n == "x-identity-client"] == ["reports"]
        hop = sent_raw(front, one, "Connection: close, x-identity-subject")
        assert ["x-identity-subject", "reports"] in hop.json["headers"]


def use_text_headers(configuration: Any) -> None:
    """Make Envoy send headers to ext_authz as text, which is its default, and not as raw bytes."""
    (chain,) = configuration["static_resources"]["listeners"][0]["filter_chains"]
    del chain["filters"][0]["typed_config"]["http_filters"][0]["typed_config"]["encode_raw_headers"]


def test_a_gateway_answers_503_while_the_service_cannot_know(
    start: StartSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = start()
    token = token_of(site)
    with gateway(site, tmp_path, read("ext-authz.yaml")) as front:

        def statuses() -> tuple[int, int]:
            return front.get(ORDERS, **bearer(token)).status, front.get("/opening-hours").status

        assert statuses() == (200, 200)

        monkeypatch.setattr(site.world.service._use.verifier, "_require", _stale)
        assert statuses() == (503, 200)

        site.world.service.stop(timedelta(0))
        assert statuses() == (503, 503)


def _stale() -> None:
    raise ReplicaStaleError


def test_a_process_that_is_not_serving_is_not_asked_if_there_is_another(
    start: StartSite, tmp_path: Path
) -> None:
    site, configuration = start(), read("ext-authz.yaml")
    token = token_of(site)
    health = HealthServicer()
    health.set("envoy.service.auth.v3.Authorization", health_pb2.HealthCheckResponse.NOT_SERVING)
    server = grpc.server(ThreadPoolExecutor(1))
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        (endpoints,) = cluster(configuration, "identity")["load_assignment"]["endpoints"]
        (endpoint,) = endpoints["lb_endpoints"]
        endpoints["lb_endpoints"].append(replaced(endpoint, {50051: port}))
        with gateway(site, tmp_path, configuration) as front:
            assert {front.get(ORDERS, **bearer(token)).status for _ in range(8)} == {200}
    finally:
        server.stop(None).wait()


# ext_authz of gRPC methods


def test_ext_authz_follows_the_option_of_each_grpc_method(start: StartSite, tmp_path: Path) -> None:
    path = write_descriptors(
        tmp_path / "shop.binpb",
        Get=access_pb2.Access(audience="api", scopes=["read"]),
        Pay=access_pb2.Access(audience="api", scopes=["pay"]),
        Hours=access_pb2.Access(public=True),
    )
    site = start(ext_authz_descriptors=path)
    token = token_of(site)
    with (
        gateway(site, tmp_path, read("ext-authz.yaml")) as front,
        grpc.insecure_channel(front.target) as channel,
    ):

        def call(method: str, *metadata: tuple[str, str]) -> tuple[str, Any]:
            stub: Any = channel.unary_unary(f"/shop.v1.Orders/{method}")
            try:
                return "OK", json.loads(stub(b"", metadata=metadata, timeout=PATIENCE))
            except grpc.RpcError as error:
                failed: Any = error
                return failed.code().name, failed.details()

        shown = ("authorization", f"Bearer {token}")
        code, metadata = call("Get", shown, ("x-identity-subject", "root"))
        assert (code, metadata["x-identity-subject"]) == ("OK", "reports")
        code, metadata = call("Hours", ("x-identity-subject", "root"))
        assert (code, identity(metadata)) == ("OK", {})
        assert call("Get")[0] == "UNAUTHENTICATED"
        assert call("Pay", shown) == ("PERMISSION_DENIED", "the token lacks a required scope")
        assert call("Undeclared", shown)[0] == "PERMISSION_DENIED"


# The gateway as a caller


def put_token(path: Path, token: str) -> None:
    """Write a token to the secret file from which Envoy reads it."""
    secret = {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
        "name": "caller-token",
        "generic_secret": {"secret": {"inline_string": token}},
    }
    new = path.with_suffix(".new")
    new.write_text(json.dumps({"resources": [secret]}))
    new.replace(path)


def test_a_gateway_proves_itself_by_the_token_in_a_file_that_is_renewed(
    start: StartSite, tmp_path: Path
) -> None:
    site, path = start(require_caller_auth=True), tmp_path / "caller-token.json"
    token, own = token_of(site), site.world.admin_token(["identity.verify"])
    put_token(path, own)
    configuration = read("ext-authz.yaml")
    cluster(configuration, "identity").update(read("ext-authz-token.yaml"))
    here = {"/etc/envoy/secrets/caller-token.json": str(path)}
    with gateway(site, tmp_path, configuration, here) as front:
        assert front.get(ORDERS, **bearer(token)).status == 200
        assert front.get(ORDERS, **bearer("x")).status == 401

        revoke(site, own)
        assert front.get(ORDERS, **bearer(token)).status == 503

        put_token(path, site.world.admin_token(["identity.verify"]))
        until(lambda: front.get(ORDERS, **bearer(token)).status == 200)


def test_a_gateway_that_does_not_prove_itself_lets_nothing_through(start: StartSite, tmp_path: Path) -> None:
    site = start(require_caller_auth=True)
    with gateway(site, tmp_path, read("ext-authz.yaml")) as front:
        assert front.get(ORDERS, **bearer(token_of(site))).status == 503


def test_a_gateway_proves_itself_by_its_certificate_and_forwards_that_of_its_client(
    start: StartSite, certifier: Certifier, tmp_path: Path
) -> None:
    site = start(**certifier.server().settings(tls_client_ca=certifier.file, http_listen=""))
    site.world.new_client("gateway", certificates=("dns:gateway.example",), scopes=("identity.verify",))
    own, client = (certifier.client(name, f"{name}.example") for name in ("gateway", "client"))
    with certifier.channel(site.world.target, client) as channel:
        world = replace(site.world, channel=channel)
        free = world.issue(world.new_client("free")).access_token
        bound = world.issue(world.new_client("bound", require_binding=True)).access_token
    configuration = read("ext-authz.yaml")
    cluster(configuration, "identity").update(read("ext-authz-mtls.yaml"))
    (chain,) = configuration["static_resources"]["listeners"][0]["filter_chains"]
    chain["transport_socket"] = _tls_of_gateway(certifier)
    with gateway(site, tmp_path, configuration, tls_files(own, certifier)) as front:
        without = ssl.create_default_context(cafile=str(certifier.file))
        showing = ssl.create_default_context(cafile=str(certifier.file))
        showing.load_cert_chain(client.certificate_file, client.key_file)

        def status(token: str, context: ssl.SSLContext) -> int:
            return replace(front, authority=context).get(ORDERS, **bearer(token)).status

        assert (status(free, without), status(free, showing)) == (200, 200)
        assert (status(bound, without), status(bound, showing)) == (401, 200)


def tls_files(holder: Holder, certifier: Certifier) -> dict[str, str]:
    """Return the replacements for the paths of the TLS files in `ext-authz-mtls.yaml`."""
    return {
        "/etc/envoy/tls/tls.crt": str(holder.certificate_file),
        "/etc/envoy/tls/tls.key": str(holder.key_file),
        "/etc/envoy/tls/ca.crt": str(certifier.file),
    }


def _tls_of_gateway(certifier: Certifier) -> Any:
    """Return the TLS configuration of a gateway that accepts client certificates but requires none."""
    holder = certifier.server("front")
    pair = {
        "certificate_chain": {"filename": str(holder.certificate_file)},
        "private_key": {"filename": str(holder.key_file)},
    }
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "common_tls_context": {
                "tls_certificates": [pair],
                "validation_context": {"trusted_ca": {"filename": str(certifier.file)}},
            },
        },
    }


# jwt_authn


@pytest.fixture
def verifying(site: Site, tmp_path: Path) -> Iterator[Front]:
    """A gateway with Envoy's jwt_authn filter, which fetches the key set again every second."""
    with gateway(site, tmp_path, read("jwt-authn.yaml"), {"300s": "1s"}) as front:
        yield front


def test_jwt_authn_tells_the_upstream_who_calls_and_nothing_that_a_client_claims(
    site: Site, verifying: Front
) -> None:
    tokens = site.world.issue(site.world.new_client())

    headers = verifying.upstream_headers(ORDERS, **bearer(tokens.access_token), **FORGED)

    assert identity(headers) == {
        "x-identity-subject": "reports",
        "x-identity-client": "reports",
        "x-identity-scopes": "read write",
        "x-identity-token-id": tokens.token_id,
    }
    assert identity(verifying.upstream_headers("/opening-hours", **FORGED)) == {}


def test_jwt_authn_refuses_tokens_that_are_not_for_the_route(site: Site, verifying: Front) -> None:
    good, narrow = token_of(site), token_of(site, "writer", scopes=["write"])
    elsewhere = site.world.issue(site.world.new_client("elsewhere", audiences=("billing",))).access_token

    assert verifying.get(ORDERS, **bearer(good)).status == 200
    assert verifying.get(ORDERS).status == 401
    assert verifying.get(f"/orders?access_token={good}").status == 401
    assert verifying.get(ORDERS, **bearer(good[:-8] + "AAAAAAAA")).status == 401
    assert verifying.get(ORDERS, authorization=f"Basic eDp5 Bearer {good}").status == 403
    assert verifying.get(ORDERS, **bearer(elsewhere)).status == 403
    assert verifying.get(ORDERS, **bearer(narrow)).status == 403
    assert verifying.get("/else", **bearer(good)).status == 403


def test_jwt_authn_knows_each_key_before_it_signs_and_reads_the_next_one_in_time(
    site: Site, verifying: Front
) -> None:
    site.world.clock.advance(hours=2)
    before = token_of(site)
    rotate(site.world)
    after = token_of(site, "later")
    assert signed_with(before) != signed_with(after)
    assert [verifying.get(ORDERS, **bearer(each)).status for each in (before, after)] == [200, 200]

    site.world.clock.advance(hours=2)  # the key that the first rotation made may sign now
    rotate(site.world)
    newest = token_of(site, "latest")

    until(lambda: verifying.get(ORDERS, **bearer(newest)).status == 200)


def test_jwt_authn_alone_accepts_a_revoked_token_until_it_expires(site: Site, verifying: Front) -> None:
    token, short = token_of(site), token_of(site, "short", lifetime=Duration(seconds=1))
    for each in (token, short):
        revoke(site, each)
        assert site.world.reason(each) in ("REVOKED", "EXPIRED")

    assert verifying.get(ORDERS, **bearer(token)).status == 200
    until(lambda: verifying.get(ORDERS, **bearer(short)).status == 401)


def test_jwt_authn_reads_the_keys_over_tls_and_refuses_bound_tokens(
    start: StartSite, certifier: Certifier, tmp_path: Path
) -> None:
    """The filter jwt_authn cannot check whether a client has the key to which a token is bound.

    The configuration therefore refuses all bound tokens.
    """
    site = start(**certifier.server().settings(tls_client_ca=certifier.file))
    client = certifier.client("client", "client.example")
    with certifier.channel(site.world.target, client) as channel:
        world = replace(site.world, channel=channel)
        free = world.issue(world.new_client("free")).access_token
        bound = world.issue(world.new_client("bound", require_binding=True)).access_token
    configuration = read("jwt-authn.yaml")
    cluster(configuration, "identity_http").update(read("ext-authz-mtls.yaml"))

    with gateway(site, tmp_path, configuration, tls_files(client, certifier)) as front:
        assert front.get(ORDERS, **bearer(free)).status == 200
        assert front.get(ORDERS, **bearer(bound)).status == 403
