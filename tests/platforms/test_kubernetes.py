"""A Kubernetes cluster as a trusted issuer, whose keys are fetched over TLS with a pod's token."""

import socket
import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from identity_service.domain.ids import PrincipalId
from identity_service.domain.issuers import TrustedIssuer, TrustRule
from tests.jwts import PartyKey
from tests.platforms.authorities import EKS, KUBEADM, KUBEADM_OLD, ClusterAuthority, Shape
from tests.platforms.kubernetes import KubeApiserver, signing_key
from tests.platforms.signing_in import outcome
from tests.rpc.conftest import StartWorld
from tests.rpc.world import World

SERVICE_ACCOUNT = "billing:reports"
POD_TOKEN = "the.pod.token"
PAST_THE_FLOOR = 11.0
"""The seconds after which the service may ask an issuer for its keys again."""


@dataclass(kw_only=True)
class Cluster:
    """A cluster's API server and authority, and the files that the cluster mounts into its pods."""

    authority: ClusterAuthority
    server: KubeApiserver
    token_file: Path

    def mount(self, token: str) -> None:
        """Replace the pod's token in one step, as the kubelet does."""
        fresh = self.token_file.with_name(f".{self.token_file.name}.new")
        fresh.write_text(token)
        fresh.replace(self.token_file)

    def entry(self) -> dict[str, object]:
        """Return the cluster's entry in the setting `jwks_servers`."""
        return {
            "url": self.server.origin,
            "ca_file": self.authority.file,
            "token_file": self.token_file,
        }


MakeCluster = Callable[..., Cluster]


@pytest.fixture
def make_cluster(tmp_path: Path) -> Iterator[MakeCluster]:
    with ExitStack() as running:

        def make(name: str = "one", shape: Shape = KUBEADM, **changes: Any) -> Cluster:
            authority = ClusterAuthority(tmp_path / name, shape)
            server = KubeApiserver(tls=authority.server(), **({"tokens": {POD_TOKEN}} | changes))
            running.enter_context(server)
            cluster = Cluster(authority=authority, server=server, token_file=tmp_path / name / "token")
            cluster.mount(f"{POD_TOKEN}\n")
            return cluster

        yield make


def start(start_world: StartWorld, *clusters: Cluster, entries: Sequence[object] | None = None) -> World:
    """Return a function that starts a service which trusts the clusters and has tried to read their keys."""
    servers = [cluster.entry() for cluster in clusters] if entries is None else entries
    world = start_world(jwks_servers=servers)
    world.new_client(public=True)
    rule = TrustRule(
        claims={"sub": f"system:serviceaccount:{SERVICE_ACCOUNT}"}, client_id=PrincipalId("reports")
    )
    for cluster in clusters:
        issuer = TrustedIssuer(issuer=cluster.server.issuer, jwks_uri=cluster.server.url, rules=(rule,))
        world.store_admin.administrator.issuers.create(issuer)
    world.verify("x", strong=True)
    return world


def attempt(world: World, cluster: Cluster, **claims: Any) -> str:
    """Return the reason why a pod's token is refused, or "" if it authenticates the client."""
    jwt = cluster.server.token(world.clock.now(), SERVICE_ACCOUNT, audience="identity-service", **claims)
    return outcome(world, jwt)


SHAPES = {"kubeadm": KUBEADM, "kubeadm of old": KUBEADM_OLD, "EKS": EKS}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("anonymous", [True, False])
def test_the_keys_of_a_cluster_are_read_with_the_token_of_the_pod(
    start_world: StartWorld, make_cluster: MakeCluster, shape: Shape, anonymous: bool
) -> None:
    cluster = make_cluster(shape=shape, anonymous=anonymous)
    world = start(start_world, cluster)

    assert attempt(world, cluster) == ""
    assert attempt(world, cluster, sub="system:serviceaccount:billing:other") == "CREDENTIAL_REFUSED"
    assert attempt(world, cluster, aud=["https://kubernetes.default.svc"]) == "CREDENTIAL_REFUSED"


def _defaults_of_python_313(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the flags that `ssl.create_default_context` of CPython 3.13 adds (Lib/ssl.py)."""
    before = ssl.create_default_context

    def stricter(*args: Any, **options: Any) -> ssl.SSLContext:
        context = before(*args, **options)
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | ssl.VERIFY_X509_STRICT
        return context

    monkeypatch.setattr(ssl, "create_default_context", stricter)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_authorities_that_the_defaults_of_python_313_refuse_are_accepted(
    start_world: StartWorld, make_cluster: MakeCluster, shape: Shape, monkeypatch: pytest.MonkeyPatch
) -> None:
    _defaults_of_python_313(monkeypatch)
    cluster = make_cluster(shape=shape)
    strict = ssl.create_default_context(cafile=cluster.authority.file)
    world = start(start_world, cluster)

    assert attempt(world, cluster) == ""
    if shape is not KUBEADM:
        with pytest.raises(ssl.SSLCertVerificationError, match=r"Key Identifier|key usage"):
            _shake_hands(strict, cluster.server.origin)


def _shake_hands(context: ssl.SSLContext, origin: str) -> None:
    host, _, port = origin.removeprefix("https://").partition(":")
    with (
        socket.create_connection((host, int(port))) as plain,
        context.wrap_socket(plain, server_hostname=host),
    ):
        pass


@pytest.mark.parametrize("anonymous", [True, False])
def test_without_a_token_the_keys_are_unreachable(
    start_world: StartWorld, make_cluster: MakeCluster, anonymous: bool
) -> None:
    cluster = make_cluster(anonymous=anonymous)
    world = start(
        start_world, cluster, entries=[{"url": cluster.server.origin, "ca_file": cluster.authority.file}]
    )

    assert attempt(world, cluster) == "ISSUER_UNREACHABLE"
    assert cluster.server.requests
    assert all("authorization" not in {*map(str.lower, seen)} for seen in cluster.server.seen_headers)


def test_a_token_that_the_kubelet_renewed_is_sent_from_then_on(
    start_world: StartWorld, make_cluster: MakeCluster
) -> None:
    cluster = make_cluster()
    world = start(start_world, cluster)
    assert attempt(world, cluster) == ""

    cluster.server.tokens = {"the.next.token"}
    cluster.server.keys.insert(0, signing_key())  # the cluster signs with a new key from now on
    world.clock.age(PAST_THE_FLOOR)
    assert attempt(world, cluster) == "ISSUER_UNREACHABLE"

    cluster.mount("the.next.token")
    world.clock.age(PAST_THE_FLOOR)
    assert attempt(world, cluster) == ""
    sent = [headers["authorization"] for headers in cluster.server.seen_headers]
    assert (sent[0], sent[-1]) == (f"Bearer {POD_TOKEN}", "Bearer the.next.token")


def test_an_authority_that_was_renewed_on_disk_counts_from_then_on(
    start_world: StartWorld, make_cluster: MakeCluster, tmp_path: Path
) -> None:
    cluster = make_cluster()
    world = start(start_world, cluster)
    assert attempt(world, cluster) == ""

    renewed = ClusterAuthority(tmp_path / "renewed", KUBEADM)
    cluster.server.stop()
    cluster.server.tls = renewed.server()
    cluster.server.keys.insert(0, signing_key())
    cluster.server.start()
    world.clock.age(PAST_THE_FLOOR)
    assert attempt(world, cluster) == "ISSUER_UNREACHABLE"

    renewed.file.replace(cluster.authority.file)
    world.clock.age(PAST_THE_FLOOR)
    assert attempt(world, cluster) == ""


def test_each_cluster_has_its_own_authority_and_token(
    start_world: StartWorld, make_cluster: MakeCluster
) -> None:
    one = make_cluster("one")
    own: dict[str, Any] = {"issuer": "https://two.example", "keys": [signing_key()], "tokens": {"two"}}
    two = make_cluster("two", EKS, **own)
    two.mount("two")
    world = start(start_world, one, two)

    assert (attempt(world, one), attempt(world, two)) == ("", "")
    assert {seen["authorization"] for seen in one.server.seen_headers} == {f"Bearer {POD_TOKEN}"}
    assert {seen["authorization"] for seen in two.server.seen_headers} == {"Bearer two"}


def test_the_authority_of_one_cluster_vouches_for_no_other(
    start_world: StartWorld, make_cluster: MakeCluster
) -> None:
    one = make_cluster("one")
    two = make_cluster("two", issuer="https://two.example", keys=[signing_key()])
    world = start(start_world, one, two, entries=[one.entry()])

    assert (attempt(world, one), attempt(world, two)) == ("", "ISSUER_UNREACHABLE")
    assert two.server.requests == []


def test_keys_of_kinds_that_are_not_accepted_do_no_harm_to_the_others(
    start_world: StartWorld, make_cluster: MakeCluster
) -> None:
    """A cluster publishes all keys of its `--service-account-key-file`, whatever their kind."""
    more = [
        {"use": "sig", "kty": "EC", "kid": "p521", "crv": "P-521", "alg": "ES512", "x": "AAAA", "y": "AAAA"},
        {"use": "sig", "kty": "AKP", "kid": "pq", "alg": "ML-DSA-65", "pub": "AAAA"},
        PartyKey.make("ES384", "p384").public(),
    ]
    cluster = make_cluster(more_keys=more)
    world = start(start_world, cluster)

    assert attempt(world, cluster) == ""


def test_a_key_that_is_published_twice_still_counts(
    start_world: StartWorld, make_cluster: MakeCluster
) -> None:
    """A cluster publishes a key twice if `--service-account-key-file` names it twice."""
    key = signing_key()
    cluster = make_cluster(keys=[key, key])
    world = start(start_world, cluster)

    assert attempt(world, cluster) == ""
