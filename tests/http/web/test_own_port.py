"""gRPC-Web over TLS on a separate port, on both engines. The gRPC port requires client certificates."""

import ssl
from collections.abc import Iterator
from contextlib import closing
from hashlib import sha256
from pathlib import Path

import pytest

from identity_service.domain.ids import base64url
from identity_service.settings import Settings
from identity_service.storage.sqlite import SqliteStore
from identityapi.v1 import identity_service_pb2 as pb
from identityapi.v1 import token_pb2
from tests.dpop_proofs import dpop_proof
from tests.http.conftest import ANY_PORT
from tests.http.site import Site
from tests.http.web.grpc_web import IDENTITY, ORIGIN, framed, frames, post
from tests.jwts import PartyKey
from tests.ports import reserve_address
from tests.rpc.conftest import ENVOY, GRPCIO, running, running_in_envoy, settings_for_tests
from tests.rpc.engines import EnvoyHost
from tests.rpc.envoy_inside import StoreAddress
from tests.tls import Certifier

MESSAGE = framed(pb.VerifyRequest(token="no token", audiences=["api"]))


@pytest.fixture(scope="module")
def certifier(tmp_path_factory: pytest.TempPathFactory) -> Certifier:
    return Certifier(tmp_path_factory.mktemp("tls"))


def listening(engine: str, certifier: Certifier) -> Settings:
    return settings_for_tests(
        **certifier.server().settings(tls_client_ca=certifier.file),
        engine=engine,
        issuer="https://id.example",
        http_listen=reserve_address() if engine == ENVOY else ANY_PORT,
        web_origins=(ORIGIN,),
    )


@pytest.fixture(scope="module")
def envoy(certifier: Certifier, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EnvoyHost]:
    with closing(EnvoyHost(listening(ENVOY, certifier), tmp_path_factory.mktemp("envoy"))) as host:
        yield host


@pytest.fixture(params=(GRPCIO, ENVOY))
def site(request: pytest.FixtureRequest, certifier: Certifier, tmp_path: Path) -> Iterator[Site]:
    settings, path = listening(request.param, certifier), str(tmp_path / "identity.db")
    authority = ssl.create_default_context(cafile=certifier.file)
    if request.param == GRPCIO:
        with running(settings, lambda clock: SqliteStore.open(path, clock=clock)) as world:
            yield Site(world, f"127.0.0.1:{world.service.http_port}", authority)
        return
    host: EnvoyHost = request.getfixturevalue("envoy")
    with running_in_envoy(host, settings, StoreAddress(kind="sqlite", place=path), tmp_path) as world:
        yield Site(world, host.http_listen, authority)


def test_a_page_signs_in_by_a_dpop_proof_and_calls_with_the_bound_token(site: Site) -> None:
    world, key = site.world, PartyKey.make()

    def proof(method: str, **claims: str) -> str:
        return dpop_proof(key, world.clock.now(), htu=f"https://id.example{IDENTITY}{method}", **claims)

    issue = pb.IssueRequest(credential=world.admin.credential, scopes=["identity.verify"])
    issued = post(site, "Issue", framed(issue), origin=ORIGIN, dpop=proof("Issue"))
    tokens: token_pb2.TokenSet = pb.IssueResponse.FromString(frames(issued.body)[0][0]).token_set
    token = tokens.access_token
    bound = base64url(sha256(token.encode()).digest())
    shown = proof("Verify", ath=bound)
    answers = [
        post(site, "Verify", MESSAGE, origin=ORIGIN, authorization=f"{scheme} {token}", dpop=given)
        for scheme, given in (
            ("DPoP", shown),
            ("DPoP", shown),
            ("DPoP", proof("Revoke", ath=bound)),
            ("Bearer", proof("Verify", ath=bound)),
        )
    ]

    assert tokens.token_type == "DPoP"
    assert frames(answers[0].body)[1]["grpc-status"] == "0"
    assert [answer.headers.get("grpc-status") for answer in answers[1:]] == ["16"] * 3  # UNAUTHENTICATED


@pytest.mark.parametrize("kind", ["application/grpc", "application/grpc-web; charset=utf-8"])
def test_the_port_serves_no_grpc_but_that_of_pages(site: Site, kind: str) -> None:
    """Plain gRPC is refused, since this port asks for no client certificate and the gRPC port does."""
    answer = site.request("POST", IDENTITY + "Verify", MESSAGE, content_type=kind, te="trailers")

    served = answer.headers["content-type"] == "application/grpc"
    assert not served or answer.headers["grpc-status"] == "7"  # PERMISSION_DENIED, by Envoy
