"""Tokens of trusted issuers, such as Kubernetes and SPIFFE, over gRPC: which clients they authenticate."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

from identity_service.domain.audit import AuditFilter
from identity_service.domain.ids import PrincipalId
from identity_service.domain.issuers import TrustedIssuer, TrustRule, federated_id
from identity_service.domain.principals import Grant
from identity_service.storage.sqlite import SqliteStore
from identityapi.v1 import identity_service_pb2 as pb
from identityapi.v1 import token_pb2
from tests.issuer_server import IssuerServer
from tests.jwts import PartyKey, assertion_claims, encode, key_set
from tests.patience import until
from tests.rpc.conftest import StartWorld, settings_for_tests
from tests.rpc.restartable import Restartable
from tests.rpc.world import Failure, World, failure, password

CLUSTER = "https://kubernetes.default.svc.cluster.local"
POD = "system:serviceaccount:billing:reports"
KEY = PartyKey.make("RS256", "cluster-key")
RULE = TrustRule(claims={"sub": POD}, client_id=PrincipalId("reports"))
Forge = Callable[[World], str]


@pytest.fixture
def one(start_world: StartWorld) -> World:
    """A service that trusts a Kubernetes cluster whose pod `billing/reports` is the client `reports`."""
    world = start_world()
    world.new_client(public=True)
    trust(world)
    return world


def trust(world: World, issuer: str = CLUSTER, **changes: Any) -> TrustedIssuer:
    """Add a trusted issuer; return once the service has applied the change."""
    values = {"rules": (RULE,)} | changes
    if not {"jwks", "jwks_uri", "jwks_file"} & values.keys():
        values["jwks"] = key_set(KEY.public())
    made = world.store_admin.administrator.issuers.create(TrustedIssuer(issuer=issuer, **values))
    world.verify("x", strong=True)
    return made.record


def pod_claims(world: World, **changes: object) -> dict[str, Any]:
    """Return the claims of a projected service account token in the form of Kubernetes 1.30."""
    base = assertion_claims("", world.clock.now(), exp=3600, nbf=0)
    kubernetes = {
        "namespace": "billing",
        "node": {"name": "node-1", "uid": "3f1b"},
        "pod": {"name": "reports-5d4f", "uid": "9c2e"},
        "serviceaccount": {"name": "reports", "uid": "7a1d"},
        "warnafter": base["iat"] + 3607,
    }
    pod = base | {"iss": CLUSTER, "sub": POD, "aud": ["identity-service"], "kubernetes.io": kubernetes}
    changed = assertion_claims("", world.clock.now(), **changes)
    merged = pod | {name: changed.get(name) for name in changes}
    return {name: value for name, value in merged.items() if value is not None}


def pod_token(world: World, **changes: object) -> str:
    return KEY.jwt(pod_claims(world, **changes), {"alg": "RS256", "kid": KEY.key_id})


def credential(jwt: str) -> token_pb2.Credential:
    return token_pb2.Credential(federated_token=token_pb2.FederatedToken(jwt=jwt))


def issue(world: World, jwt: str) -> token_pb2.TokenSet:
    return world.stub.Issue(pb.IssueRequest(credential=credential(jwt))).token_set


def refusal(world: World, jwt: str) -> Failure:
    with pytest.raises(grpc.RpcError) as refused:
        issue(world, jwt)
    return failure(refused.value)


def test_a_service_account_token_proves_its_client(one: World) -> None:
    said = one.verify(issue(one, pod_token(one)).access_token).verified

    assert (said.subject, said.client_id, list(said.scopes)) == ("reports", "reports", ["read", "write"])


def test_it_may_be_shown_again(one: World) -> None:
    token = pod_token(one)

    assert issue(one, token).token_id != issue(one, token).token_id


@pytest.mark.parametrize(
    ("changes", "kid", "logged"),
    [
        ({"iss": f"{CLUSTER}/"}, "cluster-key", {"issuer": f"{CLUSTER}/"}),
        ({"iss": "x" * 900}, "cluster-key", {"issuer": "x" * 200 + "…"}),
        ({"aud": ["another"]}, "cluster-key", {"issuer": CLUSTER}),
        ({"sub": "another"}, "cluster-key", {"issuer": CLUSTER}),
        ({}, "an\x1b[2Jold\u202e-key", {"issuer": CLUSTER, "kid": r"an\x1b[2Jold\u202e-key"}),
        ({"sub": "orphan"}, "cluster-key", {"issuer": CLUSTER, "client_id": "nobody"}),
    ],
    ids=["issuer", "long", "audience", "rule", "key", "client"],
)
def test_the_operator_reads_which_issuer_key_or_client_it_was(
    start_world: StartWorld, changes: dict[str, object], kid: str, logged: dict[str, str]
) -> None:
    """The audit event names the issuer, the key or the client that was not accepted.

    Strangers choose these names, so the service escapes invisible characters and shortens long names. The
    token itself is never in the event.
    """
    world = start_world(audit_traffic="store")
    world.new_client(public=True)
    orphans = TrustRule(claims={"sub": "orphan"}, client_id=PrincipalId("nobody"))
    trust(world, rules=(RULE, orphans))
    jwt = KEY.jwt(pod_claims(world, **changes), {"alg": "RS256", "kid": kid})

    said = refusal(world, jwt)

    until(lambda: bool(world.store.audit.list_newest(AuditFilter(types=["issue_refused"]))[0]))
    (event,), _ = world.store.audit.list_newest(AuditFilter(types=["issue_refused"]))
    details = dict(event.event.details)
    assert details.pop("why")
    assert details == logged
    assert said.message == "the credential was refused"
    assert not any(part in str(event) for part in jwt.split("."))


def test_an_id_jag_is_refused_and_its_client_told_where_it_belongs(one: World) -> None:
    """A valid ID-JAG is refused over gRPC, where its client would need no credential of its own."""
    claims = pod_claims(one, client_id="reports")
    header = {"alg": "RS256", "kid": KEY.key_id, "typ": "oauth-id-jag+jwt"}

    said = refusal(one, KEY.jwt(claims, header))

    assert said.reason == "CREDENTIAL_REFUSED"
    assert "present it over HTTP with the grant jwt-bearer" in said.message


def test_a_rule_may_look_into_the_kubernetes_claims(start_world: StartWorld) -> None:
    world = start_world()
    world.new_client(public=True)
    claims = {"kubernetes.io.namespace": "billing", "kubernetes.io.pod.name": "reports-*"}
    trust(world, rules=(TrustRule(claims=claims, client_id=PrincipalId("reports")),))

    assert issue(world, pod_token(world)).access_token
    elsewhere = {"kubernetes.io": {"namespace": "other", "pod": {"name": "reports-1"}}}
    assert refusal(world, pod_token(world, **elsewhere)).reason == "CREDENTIAL_REFUSED"


def test_a_spiffe_jwt_svid_proves_its_client(start_world: StartWorld) -> None:
    """The keys of a SPIFFE trust bundle have `use: jwt-svid` and no `alg`; they are accepted all the same."""
    world = start_world()
    world.new_client(public=True)
    key = PartyKey.make("ES256", "authority-1")
    bundle = {
        "keys": [key.public(use="jwt-svid", alg=None), KEY.public(use="x509-svid", alg=None)],
        "spiffe_sequence": 7,
        "spiffe_refresh_hint": 300,
    }
    workload = "spiffe://example.org/billing/reports"
    rule = TrustRule(claims={"sub": "spiffe://example.org/billing/*"}, client_id=PrincipalId("reports"))
    trust(world, "https://spire.example.org", jwks=json.dumps(bundle), rules=(rule,))
    claims = assertion_claims(
        "",
        world.clock.now(),
        iss="https://spire.example.org",
        sub=workload,
        aud=["identity-service"],
        jti=None,
    )

    assert issue(world, key.jwt(claims)).access_token
    assert issue(world, key.jwt(claims, typ="JOSE")).access_token
    other = claims | {"sub": "spiffe://example.org/shipping/x"}
    assert refusal(world, key.jwt(other)).reason == "CREDENTIAL_REFUSED"


def test_each_subject_may_be_one_of_its_own(start_world: StartWorld) -> None:
    world = start_world()
    world.new_client(public=True)
    rule = TrustRule(
        claims={"sub": "system:serviceaccount:billing:*"}, client_id=PrincipalId("reports"), per_subject=True
    )
    trust(world, rules=(rule,))
    one, two = (f"system:serviceaccount:billing:{name}" for name in ("one", "two"))

    tokens = {name: issue(world, pod_token(world, sub=name)).access_token for name in (one, two)}
    said = world.verify(tokens[one]).verified
    assert (said.subject, said.client_id) == (federated_id(CLUSTER, one), "reports")

    world.revoke(world.admin_token(), subject=federated_id(CLUSTER, one))
    assert (world.reason(tokens[one]), world.reason(tokens[two])) == ("REVOKED", "")
    assert world.reason(issue(world, pod_token(world, sub=one)).access_token) == ""
    world.revoke(world.admin_token(), client_id="reports")
    assert world.reason(tokens[two]) == "REVOKED"


WRONG_CLAIMS: list[dict[str, Any]] = [
    {"aud": ["somebody-else"]},
    {"aud": "identity-servic"},
    {"aud": ["https://kubernetes.default.svc"]},
    {"aud": None},
    {"iss": "https://other.example"},
    {"iss": f"{CLUSTER}/"},
    {"iss": CLUSTER.upper()},
    {"iss": None},
    {"sub": "system:serviceaccount:billing:other"},
    {"sub": f"{POD}2"},
    {"sub": None},
    {"exp": None},
    {"exp": -11},
    {"exp": "9999999999"},
    {"iat": 12},
    {"nbf": 12},
]


@pytest.mark.parametrize("changes", WRONG_CLAIMS, ids=str)
def test_wrong_claims_prove_nothing(one: World, changes: dict[str, Any]) -> None:
    found = refusal(one, pod_token(one, **changes))

    assert (found.reason, found.message) == ("CREDENTIAL_REFUSED", "the credential was refused")
    assert issue(one, pod_token(one)).access_token


FORGERIES: dict[str, Forge] = {
    "unsigned": lambda w: f"{encode({'alg': 'none', 'kid': KEY.key_id})}.{encode(pod_claims(w))}.",
    "an algorithm that the key is not for": lambda w: PartyKey(
        key_id=KEY.key_id, algorithm="PS256", given=KEY.private_jwk.replace("RS256", "PS256")
    ).jwt(pod_claims(w)),
    "a key of somebody else": lambda w: PartyKey.make("RS256", KEY.key_id).jwt(pod_claims(w)),
    "its own key brought along": lambda w: (k := PartyKey.make()).jwt(pod_claims(w), jwk=k.public()),
    "an unknown key": lambda w: KEY.jwt(pod_claims(w), kid="x"),
    "no key id": lambda w: KEY.jwt(pod_claims(w), {"alg": "RS256"}),
    "a key id with NUL": lambda w: KEY.jwt(pod_claims(w), kid="\x00"),
    "an access token's type": lambda w: KEY.jwt(pod_claims(w), typ="at+jwt"),
    "an assertion's type": lambda w: KEY.jwt(pod_claims(w), typ="client-authentication+jwt"),
    "a member twice": lambda w: KEY.jwt(json.dumps(pod_claims(w)).replace('"sub"', '"sub": "x", "sub"')),
    "padding": lambda w: pod_token(w) + "=",
    "an access token of this service": lambda w: w.admin_token(),
    "a subject that no store could take": lambda w: pod_token(w, sub=f"{POD}\ud800"),
}


@pytest.mark.parametrize("forge", FORGERIES.values(), ids=FORGERIES)
def test_forgeries_prove_nothing(one: World, forge: Forge) -> None:
    assert refusal(one, forge(one)).reason == "CREDENTIAL_REFUSED"
    assert issue(one, pod_token(one)).access_token


def test_only_algorithms_that_are_accepted_of_the_issuer_count(start_world: StartWorld) -> None:
    world = start_world()
    world.new_client(public=True)
    other = PartyKey.make("ES256", "e")
    trust(world, jwks=key_set(KEY.public(), other.public()), algorithms=("ES256",))

    assert refusal(world, pod_token(world)).reason == "CREDENTIAL_REFUSED"
    assert issue(world, other.jwt(pod_claims(world))).access_token


def test_an_issuer_may_have_audiences_of_its_own(start_world: StartWorld) -> None:
    world = start_world()
    world.new_client(public=True)
    trust(world, audiences=("sts.example", "other.example"))

    assert issue(world, pod_token(world, aud=["x", "other.example"])).access_token
    assert refusal(world, pod_token(world)).reason == "CREDENTIAL_REFUSED"


def test_a_token_may_be_too_old_for_an_issuer(start_world: StartWorld) -> None:
    world = start_world()
    world.new_client(public=True)
    trust(world, max_age=timedelta(minutes=5))

    assert issue(world, pod_token(world, iat=-299)).access_token
    assert refusal(world, pod_token(world, iat=-311)).reason == "CREDENTIAL_REFUSED"
    assert refusal(world, pod_token(world, iat=None)).reason == "CREDENTIAL_REFUSED"


def test_tokens_of_an_issuer_may_work_once(world: World) -> None:
    world.new_client(public=True)
    trust(world, single_use=True)
    token = pod_token(world)

    def attempt(_: int) -> str:
        try:
            return issue(world, token).token_type
        except grpc.RpcError as error:
            return failure(error).reason

    with ThreadPoolExecutor(32) as pool:
        assert sorted(pool.map(attempt, range(32))) == ["Bearer", *["CREDENTIAL_REFUSED"] * 31]
    assert refusal(world, pod_token(world, jti=None)).reason == "CREDENTIAL_REFUSED"
    assert issue(world, pod_token(world)).access_token


def test_the_client_of_a_rule_must_exist_and_not_be_disabled(start_world: StartWorld) -> None:
    world = start_world()
    trust(world)
    assert refusal(world, pod_token(world)).reason == "CREDENTIAL_REFUSED"

    client = world.new_client(public=True)
    world.verify("x", strong=True)
    assert issue(world, pod_token(world)).access_token
    world.disable_client(client)
    world.verify("x", strong=True)
    assert refusal(world, pod_token(world)).reason == "CREDENTIAL_REFUSED"


def test_the_client_of_a_rule_needs_the_grant(start_world: StartWorld) -> None:
    world = start_world()
    world.new_client(public=True, grants=(Grant.PASSWORD,))
    trust(world)

    assert refusal(world, pod_token(world)).reason == "GRANT_NOT_ALLOWED"


def test_an_issuer_that_is_no_longer_trusted_proves_no_client(one: World) -> None:
    token = pod_token(one)
    assert issue(one, token).access_token

    one.store_admin.administrator.issuers.delete(CLUSTER)
    one.verify("x", strong=True)

    assert refusal(one, token).reason == "CREDENTIAL_REFUSED"


def test_a_rule_that_changed_counts_at_once(one: World) -> None:
    changed = TrustRule(claims={"sub": "somebody else"}, client_id=PrincipalId("reports"))

    wanted = TrustedIssuer(issuer=CLUSTER, rules=(changed,))
    one.store_admin.administrator.issuers.update(wanted, ["rules"])
    one.verify("x", strong=True)

    assert refusal(one, pod_token(one)).reason == "CREDENTIAL_REFUSED"


def test_a_process_that_starts_again_knows_its_issuers_and_their_keys(tmp_path: Path) -> None:
    path = str(tmp_path / "identity.db")
    service = Restartable(settings_for_tests(), lambda clock: SqliteStore.open(path, clock=clock))
    service.start()
    service.world.new_client(public=True)
    trust(service.world)
    service.stop()

    service.start()

    assert issue(service.world, pod_token(service.world)).access_token
    service.stop()


def test_a_session_is_refreshed_with_a_token_of_the_clients_platform(one: World) -> None:
    portal = one.new_client("portal", grants=(Grant.PASSWORD, Grant.REFRESH_TOKEN))
    rule = TrustRule(claims={"sub": "the portal"}, client_id=PrincipalId("portal"))
    trust(one, "https://other.example", rules=(rule,))
    one.new_user()
    secret = portal.credential.client_secret.client_secret
    sign_in = password("ana", client_id="portal", secret=secret)
    session = one.stub.Issue(pb.IssueRequest(credential=sign_in)).token_set

    of_portal = credential(pod_token(one, iss="https://other.example", sub="the portal"))
    with pytest.raises(grpc.RpcError) as refused:
        one.refresh(session.refresh_token, client_credential=credential(pod_token(one)))

    assert failure(refused.value).reason == "CREDENTIAL_REFUSED"
    assert one.refresh(session.refresh_token, client_credential=of_portal).access_token


class TestWithKeysElsewhere:
    @pytest.fixture
    def servers(self) -> Iterator[ExitStack]:
        with ExitStack() as stack:
            yield stack

    def test_from_a_url(self, world: World, servers: ExitStack) -> None:
        server = servers.enter_context(IssuerServer())
        server.publish(KEY)
        world.new_client(public=True)
        trust(world, jwks_uri=server.url)

        assert issue(world, pod_token(world)).access_token
        for number in range(20):
            jwt = KEY.jwt(pod_claims(world), kid=f"invented-{number}")
            assert refusal(world, jwt).reason == "CREDENTIAL_REFUSED"
        assert len(server.requests) == 1

    def test_from_a_file(self, world: World, tmp_path: Path) -> None:
        path = tmp_path / "keys.json"
        path.write_text(key_set(KEY.public()))
        world.new_client(public=True)
        trust(world, jwks_file=str(path))

        assert issue(world, pod_token(world)).access_token

    def test_an_issuer_that_cannot_be_reached_is_not_the_tokens_fault(
        self, world: World, servers: ExitStack
    ) -> None:
        server = servers.enter_context(IssuerServer())
        server.stop()
        world.new_client(public=True)
        trust(world, jwks_uri=server.url)

        found = refusal(world, pod_token(world))
        server.start()

        assert (found.code, found.reason) == (grpc.StatusCode.UNAVAILABLE, "ISSUER_UNREACHABLE")
        assert found.retry_after is not None

    def test_a_slow_issuer_delays_no_token_of_another_issuer(self, world: World, servers: ExitStack) -> None:
        slow = servers.enter_context(IssuerServer())
        slow.open.clear()
        world.new_client(public=True)
        trust(world)
        trust(world, "https://slow.example", jwks_uri=slow.url)
        with_secret = world.new_client("other")
        of_slow = pod_token(world, iss="https://slow.example")

        with ThreadPoolExecutor(40) as pool:
            waiting = [pool.submit(refusal, world, of_slow) for _ in range(40)]
            assert issue(world, pod_token(world)).access_token
            assert world.issue(with_secret).access_token
            assert not all(each.done() for each in waiting)
            reasons = {each.result().reason for each in waiting}

        assert reasons == {"ISSUER_UNREACHABLE"}
