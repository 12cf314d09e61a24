"""No call leaves a reference cycle, on either engine and however the call ends.

Only the garbage collector frees the objects of a cycle, and it seldom runs inside Envoy.
"""

import gc
from asyncio.selector_events import _SelectorSocketTransport  # type: ignore[attr-defined]
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from identity_service.bootstrap import Service
from identity_service.composition.store_admin import open_store_admin
from identity_service.domain.errors import ServerBusyError
from identity_service.domain.ids import PrincipalId
from identity_service.domain.principals import Client
from identity_service.domain.secret import Secret
from identity_service.grpc_api.ext_authz.wire.auth_pb2 import CheckRequest
from identity_service.services.admin.administration import NewUser
from identityapi.v1 import admin_service_pb2 as admin_pb
from identityapi.v1 import identity_service_pb2 as pb
from identityapi.v1 import token_pb2
from identityapi.v1 import trust_service_pb2 as trust_pb
from tests.patience import until
from tests.rpc.conftest import ENVOY, GRPCIO, settings_for_tests
from tests.rpc.one_by_one import AsgiClient, OtherProcess, Request
from tests.rpc.world import API, PASSWORD, client_secret, password

CALLS: Final = 20
HTTP_PLACE: Final = "127.0.0.1:8080"
"""The address at which Envoy would listen for HTTP."""
IDENTITY, TRUST, ADMIN = (f"/identityapi.v1.{name}Service/" for name in ("Identity", "Trust", "Admin"))
HEALTH, CHECK = "/grpc.health.v1.Health/", "/envoy.service.auth.v3.Authorization/Check"
STRANGERS: Final = map("stranger-{}".format, count())
"""Names of principals that do not exist. Each is used once, since a name with several failed attempts would
have to wait."""
REFLECTION: Final = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"


@dataclass(frozen=True, kw_only=True)
class Site:
    """A service in this process, a client that calls it, and the credentials of its principals."""

    service: Service
    client: AsgiClient | OtherProcess
    admin: token_pb2.Credential
    reports: token_pb2.Credential

    def ask(self, request: Request) -> bytes:
        """Send one request and return the message of the answer."""
        (answer,) = self.client.ask([request])
        return answer.body

    def issued(self, credential: token_pb2.Credential, **fields: object) -> token_pb2.TokenSet:
        request = pb.IssueRequest(credential=credential, **fields)  # type: ignore[arg-type]
        return pb.IssueResponse.FromString(self.ask(issue(request))).token_set

    @property
    def token(self) -> str:
        """A new access token."""
        return self.issued(self.reports).access_token

    @property
    def refresh_token(self) -> str:
        """The refresh token of a new session."""
        return self.issued(password("ana")).refresh_token

    def as_admin(self, scope: str) -> tuple[tuple[str, str], ...]:
        """Return metadata with a new token of the administrator with this scope."""
        return (("authorization", f"Bearer {self.issued(self.admin, scopes=[scope]).access_token}"),)

    def has_open_calls(self) -> bool:
        limits = self.service._apis.limits
        return any(quota.open for quota in limits.quotas)


@pytest.fixture(scope="module", params=[GRPCIO, ENVOY])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    # Otherwise each of the 270 collections would examine all objects that earlier tests have left.
    gc.collect()
    gc.freeze()
    inside_envoy = request.param == ENVOY
    folder: Path = tmp_path_factory.mktemp("store")
    settings = settings_for_tests(
        store=f"sqlite:///{folder}/identity.db",
        engine=request.param,
        http_listen=HTTP_PLACE if inside_envoy else "127.0.0.1:0",
        issuer="https://id.example",
        attempts_per_peer=0,
        attempts_per_username=100,
        max_message_bytes=64 * 1024,
        reflection=True,
    )
    with open_store_admin(settings) as store_admin:
        first = store_admin.initialise()
        administrator = store_admin.administrator
        reports = Client(
            client_id=PrincipalId("reports"), audiences=frozenset({API}), scopes=frozenset({"read"})
        )
        _, secret = administrator.clients.create(reports, no_secret=False)
        administrator.users.create(
            NewUser(username="ana", password=Secret(PASSWORD), audiences=(API,), scopes=("read",))
        )
    service = Service(settings, behind_asgi=inside_envoy)
    port = service.start()
    if service.app is not None:
        client: AsgiClient | OtherProcess = AsgiClient(service.app, HTTP_PLACE)
    else:
        client = OtherProcess(f"127.0.0.1:{port}", service.places["http_listen"])
    yield Site(
        service=service,
        client=client,
        admin=client_secret(first.client_id, first.client_secret.reveal()),
        reports=client_secret("reports", secret.reveal() if secret is not None else ""),
    )
    client.close()
    service.stop()


def issue(request: pb.IssueRequest) -> Request:
    return Request(path=f"{IDENTITY}Issue", body=request.SerializeToString())


def verify(token: str) -> Request:
    request = pb.VerifyRequest(token=token, audiences=[API])
    return Request(path=f"{IDENTITY}Verify", body=request.SerializeToString())


def verify_batch(site: Site) -> Request:
    tokens = (site.token, "x", site.token)
    request = pb.VerifyBatchRequest(requests=[pb.VerifyRequest(token=one, audiences=[API]) for one in tokens])
    return Request(path=f"{IDENTITY}VerifyBatch", body=request.SerializeToString())


def refresh(token: str) -> Request:
    request = pb.RefreshRequest(refresh_token=token)
    return Request(path=f"{IDENTITY}Refresh", body=request.SerializeToString())


def superseded(site: Site) -> Request:
    """Return a Refresh request whose token is older than the parent of the latest token of the session."""
    first = last = site.refresh_token
    for _ in range(2):
        last = pb.RefreshResponse.FromString(site.ask(refresh(last))).token_set.refresh_token
    return refresh(first)


def revoke(**target: str) -> Request:
    request = pb.RevokeRequest(**target)  # type: ignore[arg-type]
    return Request(path=f"{IDENTITY}Revoke", body=request.SerializeToString())


def revoked(site: Site) -> Request:
    """Return a Verify request with a token that has been revoked."""
    token = site.token
    site.ask(revoke(token=token))
    return verify(token)


def with_wrong_signature(site: Site) -> Request:
    return verify(f"{site.token.rpartition('.')[0]}.{'A' * 86}")


def check(token: str) -> Request:
    request = CheckRequest()
    request.attributes.context_extensions["audience"] = API
    request.attributes.request.http.path = "/"
    request.attributes.request.http.headers["authorization"] = f"Bearer {token}"
    return Request(path=CHECK, body=request.SerializeToString())


def health(method: str, service: str = "", *, leaves: bool = False) -> Request:
    body = health_pb2.HealthCheckRequest(service=service).SerializeToString()
    return Request(path=f"{HEALTH}{method}", body=body, leaves=leaves)


def watch(**fields: str) -> Request:
    body = trust_pb.WatchRequest(**fields).SerializeToString()
    return Request(path=f"{TRUST}Watch", body=body, leaves=not fields)


def list_clients(site: Site) -> Request:
    body = admin_pb.ListClientsRequest().SerializeToString()
    return Request(path=f"{ADMIN}ListClients", body=body, metadata=site.as_admin("identity.admin"))


def tail(site: Site) -> Request:
    body = admin_pb.TailAuditEventsRequest().SerializeToString()
    metadata = site.as_admin("identity.admin")
    return Request(path=f"{ADMIN}TailAuditEvents", body=body, metadata=metadata, leaves=True)


def post(path: str, **form: str) -> Request:
    return Request(method="POST", path=path, body=urlencode(form).encode())


def token_request(site: Site, **form: str) -> Request:
    secret = site.reports.client_secret
    values = {"grant_type": "client_credentials", "client_id": secret.client_id}
    return post("/oauth2/token", **(values | {"client_secret": secret.client_secret} | form))


def introspect(site: Site) -> Request:
    secret = site.admin.client_secret
    named = {"client_id": secret.client_id, "client_secret": secret.client_secret}
    return post("/oauth2/introspect", token=site.token, **named)


KINDS: Final[dict[str, tuple[Callable[[Site], Request], str]]] = {
    "a new token": (lambda site: verify(site.token), "OK"),
    "a malformed token": (lambda _: verify("x"), "OK"),
    "a token with a wrong signature": (with_wrong_signature, "OK"),
    "a revoked token": (revoked, "OK"),
    "an invalid Verify": (lambda _: Request(path=f"{IDENTITY}Verify"), "INVALID_ARGUMENT"),
    "bytes that are no message": (
        lambda _: Request(path=f"{IDENTITY}Verify", body=b"\xff" * 9),
        "INVALID_ARGUMENT",
    ),
    "a message that is too long": (
        lambda _: Request(path=f"{IDENTITY}Verify", body=b"x" * 100_000),
        "RESOURCE_EXHAUSTED",
    ),
    "a request that its client does not complete": (
        lambda _: Request(path=f"{IDENTITY}Verify", body=b"x" * 10_000, cut=True),
        "",
    ),
    "VerifyBatch": (verify_batch, "OK"),
    "Issue": (lambda site: issue(pb.IssueRequest(credential=site.reports)), "OK"),
    "an invalid Issue": (lambda _: issue(pb.IssueRequest()), "INVALID_ARGUMENT"),
    "a wrong secret": (
        lambda _: issue(pb.IssueRequest(credential=client_secret(next(STRANGERS), "wrong"))),
        "UNAUTHENTICATED",
    ),
    "a password": (lambda _: issue(pb.IssueRequest(credential=password("ana"))), "OK"),
    "a wrong password": (
        lambda _: issue(pb.IssueRequest(credential=password(next(STRANGERS), "wrong"))),
        "UNAUTHENTICATED",
    ),
    "Refresh": (lambda site: refresh(site.refresh_token), "OK"),
    "a refresh token that is used again": (superseded, "UNAUTHENTICATED"),
    "a malformed refresh token": (lambda _: refresh("x"), "UNAUTHENTICATED"),
    "Revoke": (lambda site: revoke(token=site.token), "OK"),
    "Revoke without permission": (lambda _: revoke(token_id="x" * 22), "UNAUTHENTICATED"),
    "GetKeys": (lambda _: Request(path=f"{TRUST}GetKeys"), "OK"),
    "Watch": (lambda _: watch(), ""),
    "an invalid Watch": (lambda _: watch(resume_after="x"), "INVALID_ARGUMENT"),
    "ListClients": (list_clients, "OK"),
    "ListClients without permission": (lambda _: Request(path=f"{ADMIN}ListClients"), "UNAUTHENTICATED"),
    "TailAuditEvents": (tail, ""),
    "Check": (lambda site: check(site.token), "OK"),
    "Check of a malformed token": (lambda _: check("x"), "OK"),
    "Health.Check": (lambda _: health("Check"), "OK"),
    "Health.Check of an unknown service": (lambda _: health("Check", "none"), "NOT_FOUND"),
    "Health.Watch": (lambda _: health("Watch", leaves=True), ""),
    "reflection": (
        lambda _: Request(
            path=REFLECTION,
            body=reflection_pb2.ServerReflectionRequest(list_services="").SerializeToString(),
        ),
        "OK",
    ),
    "an unknown method": (lambda _: Request(path=f"{IDENTITY}None"), "UNIMPLEMENTED"),
    "a call that its client leaves": (
        lambda site: Request(
            path=f"{IDENTITY}Issue",
            body=pb.IssueRequest(credential=site.reports).SerializeToString(),
            leaves=True,
        ),
        "",
    ),
    "the token endpoint": (token_request, "200"),
    "the token endpoint, wrong secret": (lambda site: token_request(site, client_id=next(STRANGERS)), "401"),
    "the token endpoint, unknown grant": (lambda site: token_request(site, grant_type="x"), "400"),
    "the token endpoint, too long": (lambda site: token_request(site, scope="x" * 100_000), "413"),
    "the token endpoint, incomplete": (
        lambda _: Request(method="POST", path="/oauth2/token", body=b"scope=x", cut=True),
        "",
    ),
    "introspection": (introspect, "200"),
    "the revocation endpoint": (
        lambda site: post("/oauth2/revoke", token=site.token, client_id="reports"),
        "401",
    ),
    "the key set": (lambda _: Request(method="GET", path="/.well-known/jwks.json"), "200"),
    "an unknown path": (lambda _: Request(method="GET", path="/nowhere"), "404"),
    "a method that a path does not have": (lambda _: Request(method="PUT", path="/oauth2/token"), "405"),
}


@contextmanager
def no_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def unreachable() -> Counter[str]:
    """Return the number of objects by type that only the garbage collector can free."""
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        gc.collect()
        for each in gc.garbage:
            if isinstance(each, _SelectorSocketTransport):
                each._read_ready_cb = None  # by which each transport of asyncio refers to itself
        each = None
        gc.garbage.clear()
        gc.collect()
        return Counter(type(each).__qualname__ for each in gc.garbage)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()


@pytest.mark.parametrize("kind", KINDS)
def test_a_call_leaves_no_reference_cycle(site: Site, kind: str) -> None:
    make, status = KINDS[kind]

    assert after_calls(site, lambda: make(site)) == ({status}, {})


@pytest.mark.parametrize(
    ("request_", "status"),
    [(verify("x"), "RESOURCE_EXHAUSTED"), (post("/oauth2/token", scope="x"), "429")],
    ids=["call", "HTTP request"],
)
def test_a_call_that_is_refused_before_it_has_arrived_leaves_no_reference_cycle(
    site: Site, monkeypatch: pytest.MonkeyPatch, request_: Request, status: str
) -> None:
    def refuse(_: str) -> bool:
        raise ServerBusyError("too many requests are arriving")

    monkeypatch.setattr(site.service._apis.limits.receives, "acquire", refuse)

    assert after_calls(site, lambda: request_) == ({status}, {})


def after_calls(site: Site, make: Callable[[], Request]) -> tuple[set[str], dict[str, int]]:
    """Make `CALLS` calls; return their statuses, and the types of which each call left objects in cycles."""
    site.ask(make())  # what is made once is not counted
    requests = [make() for _ in range(CALLS)]
    until(lambda: not site.has_open_calls())
    with no_collection():
        answers = site.client.ask(requests)
        until(lambda: not site.has_open_calls())
        found = unreachable()
    left = {name: number for name, number in found.items() if number >= CALLS}
    return {answer.status for answer in answers}, left
