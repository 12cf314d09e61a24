"""Access tokens that are bound to a client certificate (RFC 8705 section 3), over real TLS handshakes."""

import base64
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import grpc
import pytest

from identity_service.domain.ids import PrincipalId
from identity_service.domain.principals import Client, Grant
from identity_shared.strict import decode_base64url
from identityapi.v1 import identity_service_pb2 as pb
from identityapi.v1 import token_pb2
from tests.dpop_proofs import dpop_proof
from tests.jwts import PartyKey
from tests.rpc.conftest import StartWorld
from tests.rpc.shop import EXCHANGES
from tests.rpc.world import API, Failure, Principal, World, bearer, failure, password
from tests.tls import Certifier, Holder

CERTIFICATE = token_pb2.Credential(client_certificate=token_pb2.ClientCertificate())
APP = (Grant.PASSWORD, Grant.REFRESH_TOKEN)
SERVICE = ("identity-service",)


class Bound:
    """A service with two ports, of which one requires a client certificate, and connections to both."""

    def __init__(self, world: World, mutual: str, certifier: Certifier, cleanup: ExitStack) -> None:
        self.world = world
        self._mutual = mutual
        self._certifier = certifier
        self._cleanup = cleanup
        self.one, self.other = (certifier.client(name, f"{name}.example") for name in ("one", "other"))
        self.plain = self._connected(world.target, None)
        """The service over a connection without a client certificate."""
        self.by_one, self.by_other = self.connect(self.one), self.connect(self.other)

    def connect(self, holder: Holder) -> World:
        return self._connected(self._mutual, holder)

    def _connected(self, target: str, holder: Holder | None) -> World:
        channel = self._cleanup.enter_context(self._certifier.channel(target, holder))
        return replace(self.world, channel=channel)

    def reason(self, token: str, certificate: Holder | None = None, *, strong: bool = False) -> str:
        """Return why Verify rejects a token that came with this certificate, or "" if it is valid."""
        request = pb.VerifyRequest(
            token=token,
            any_audience=True,
            certificate_sha256=certificate.sha256 if certificate else b"",
            strong=strong,
        )
        answer = self.plain.stub.Verify(request, metadata=bearer(self.plain.admin_token(["identity.verify"])))
        if answer.HasField("verified"):
            return ""
        return pb.RejectionReason.Name(answer.rejected.reason).removeprefix("REJECTION_REASON_")


@pytest.fixture(scope="module")
def certifier(tmp_path_factory: pytest.TempPathFactory) -> Certifier:
    """One authority for all tests, so that the Envoy that they share can keep its certificates."""
    return Certifier(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def holder(certifier: Certifier) -> Holder:
    return certifier.server()


@pytest.fixture
def bound(start_world: StartWorld, certifier: Certifier, holder: Holder) -> Iterator[Bound]:
    world = start_world(**holder.settings(tls_client_ca=certifier.file, mtls_listen="127.0.0.1:0"))
    with ExitStack() as cleanup:
        yield Bound(world, world.service.places["mtls_listen"], certifier, cleanup)


def claims(token: str) -> dict[str, Any]:
    payload = token.split(".")[1]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=="))
    return found


def refused(call: Callable[[], object]) -> Failure:
    with pytest.raises(grpc.RpcError) as error:
        call()
    return failure(error.value)


# Clients


def test_a_bound_token_names_its_certificate_as_in_rfc_8705(bound: Bound) -> None:
    bound.world.new_client(certificates=("dns:one.example",))

    token = bound.by_one.stub.Issue(pb.IssueRequest(credential=CERTIFICATE)).token_set.access_token

    thumbprint = base64.urlsafe_b64encode(bound.one.sha256).rstrip(b"=").decode()
    assert claims(token)["cnf"] == {"x5t#S256": thumbprint}


def test_a_bound_token_is_good_with_its_certificate_only(bound: Bound) -> None:
    bound.world.new_client(certificates=("dns:one.example",))
    token = bound.by_one.stub.Issue(pb.IssueRequest(credential=CERTIFICATE)).token_set.access_token

    assert bound.reason(token, bound.one) == ""
    assert bound.reason(token, bound.other) == "BINDING_MISMATCH"
    assert bound.reason(token) == "BINDING_MISMATCH"


def test_verify_returns_the_certificate_that_a_token_is_bound_to(bound: Bound) -> None:
    principal = bound.world.new_client(require_binding=True)
    free = bound.world.new_client("free")
    metadata = bearer(bound.plain.admin_token(["identity.verify"]))

    def verified(token: str) -> bytes:
        request = pb.VerifyRequest(token=token, any_audience=True, certificate_sha256=bound.one.sha256)
        return bound.plain.stub.Verify(request, metadata=metadata).verified.certificate_sha256

    assert verified(bound.by_one.issue(principal).access_token) == bound.one.sha256
    assert verified(bound.by_one.issue(free).access_token) == b""


def test_a_client_that_must_be_bound_gets_no_token_without_a_certificate(bound: Bound) -> None:
    principal = bound.world.new_client(require_binding=True)

    failed = refused(lambda: bound.plain.issue(principal))

    assert (failed.code, failed.reason) == (grpc.StatusCode.UNAUTHENTICATED, "BINDING_REQUIRED")


def test_only_a_proven_client_learns_that_its_tokens_must_be_bound(bound: Bound) -> None:
    principal = bound.world.new_client(require_binding=True)
    wrong = Principal(id=principal.id, credential=token_pb2.Credential())
    wrong.credential.CopyFrom(principal.credential)
    wrong.credential.client_secret.client_secret += "x"

    assert refused(lambda: bound.plain.issue(wrong)).reason == "CREDENTIAL_REFUSED"


def test_a_client_that_must_be_bound_may_prove_itself_by_secret_over_any_certificate(bound: Bound) -> None:
    principal = bound.world.new_client(require_binding=True)

    token = bound.by_other.issue(principal).access_token

    assert bound.reason(token, bound.other) == ""
    assert bound.reason(token, bound.one) == "BINDING_MISMATCH"


def test_a_client_that_need_not_be_bound_and_shows_a_secret_is_not(bound: Bound) -> None:
    principal = bound.world.new_client()

    assert bound.reason(bound.by_one.issue(principal).access_token) == ""


# Callers


def test_a_callers_bound_token_is_good_on_connections_with_its_certificate_only(bound: Bound) -> None:
    principal = bound.world.new_client(
        "checks", require_binding=True, audiences=SERVICE, scopes=("identity.verify",)
    )
    metadata = bearer(bound.by_one.issue(principal, scopes=["identity.verify"]).access_token)
    request = pb.VerifyRequest(token="t", any_audience=True)

    assert bound.by_one.stub.Verify(request, metadata=metadata).HasField("rejected")
    for stolen in (bound.by_other, bound.plain):
        failed = refused(lambda stolen=stolen: stolen.stub.Verify(request, metadata=metadata))  # type: ignore[misc]
        assert failed.reason == "CALLER_UNAUTHENTICATED"
        assert "BINDING_MISMATCH" in failed.message


# Exchange


def test_an_exchanged_token_is_bound_by_its_client_and_not_by_the_subject_token(bound: Bound) -> None:
    held = bound.by_one.issue(bound.world.new_client(require_binding=True)).access_token
    free, must = (
        bound.world.new_client(
            name, grants=EXCHANGES, exchange_audiences=(API,), require_binding=name == "must"
        )
        for name in ("free", "must")
    )

    unbound = bound.by_one.issue(free, subject_token=held).access_token
    again = bound.by_other.issue(must, subject_token=unbound).access_token

    assert bound.reason(unbound) == ""
    assert bound.reason(again, bound.other) == ""
    assert bound.reason(again, bound.one) == "BINDING_MISMATCH"
    assert refused(lambda: bound.plain.issue(must, subject_token=unbound)).reason == "BINDING_REQUIRED"


@pytest.mark.parametrize("field", ["subject_token", "actor_token"])
def test_a_bound_token_is_exchanged_on_connections_with_its_certificate_only(
    bound: Bound, field: str
) -> None:
    free = bound.world.new_client("free", grants=EXCHANGES, exchange_audiences=(API,))
    stolen = bound.by_one.issue(bound.world.new_client(require_binding=True)).access_token
    tokens = {"subject_token": bound.plain.issue(bound.world.new_client("other")).access_token, field: stolen}

    assert bound.by_one.issue(free, **tokens).access_token
    for thief in (bound.plain, bound.by_other):
        failed = refused(lambda thief=thief: thief.issue(free, **tokens))  # type: ignore[misc]
        assert failed.reason == "SUBJECT_TOKEN_REFUSED"
        assert failed.message == f"the {field} was rejected: BINDING_MISMATCH"


# People


@pytest.fixture
def sign_in(bound: Bound) -> token_pb2.TokenSet:
    """Return the tokens of a user who signed in over the connection with the first certificate.

    The client requires that its tokens are bound.
    """
    app = bound.world.new_client("app", public=True, grants=APP, require_binding=True)
    bound.world.new_user()
    return bound.by_one.issue(Principal(id=app.id, credential=password("ana", client_id="app")))


def test_tokens_of_users_are_bound_if_their_client_requires_it(
    bound: Bound, sign_in: token_pb2.TokenSet
) -> None:
    assert bound.reason(sign_in.access_token, bound.one) == ""
    assert bound.reason(sign_in.access_token) == "BINDING_MISMATCH"


def test_signing_in_through_such_a_client_needs_a_certificate(bound: Bound) -> None:
    bound.world.new_client("app", public=True, grants=APP, require_binding=True)
    bound.world.new_user()
    principal = Principal(id="ana", credential=password("ana", client_id="app"))

    assert refused(lambda: bound.plain.issue(principal)).reason == "BINDING_REQUIRED"


def test_a_refresh_shows_the_certificate_of_the_sign_in(bound: Bound, sign_in: token_pb2.TokenSet) -> None:
    refreshed = bound.by_one.refresh(sign_in.refresh_token)

    assert bound.reason(refreshed.access_token, bound.one) == ""
    assert bound.reason(refreshed.access_token) == "BINDING_MISMATCH"


def test_a_stolen_refresh_token_of_a_bound_session_is_of_no_use(
    bound: Bound, sign_in: token_pb2.TokenSet
) -> None:
    for thief in (bound.plain, bound.by_other):
        failed = refused(lambda thief=thief: thief.refresh(sign_in.refresh_token))  # type: ignore[misc]
        assert (failed.code, failed.reason) == (grpc.StatusCode.UNAUTHENTICATED, "BINDING_REQUIRED")

    assert bound.by_one.refresh(sign_in.refresh_token).access_token  # the session goes on


def test_a_session_from_before_its_app_had_to_be_bound_cannot_go_on(bound: Bound) -> None:
    app = bound.world.new_client("app", public=True, grants=APP)
    bound.world.new_user()
    tokens = bound.by_one.issue(Principal(id=app.id, credential=password("ana", client_id="app")))
    bound.by_one.refresh(tokens.refresh_token)

    wanted = Client(client_id=PrincipalId("app"), require_binding=True)
    bound.world.store_admin.administrator.clients.update(wanted, ["require_binding"])
    bound.reason("x", strong=True)  # the service has read the change from the store then

    assert refused(lambda: bound.by_one.refresh(tokens.refresh_token)).reason == "BINDING_REQUIRED"


def test_a_client_that_proves_itself_by_a_renewed_certificate_goes_on_with_the_session(
    bound: Bound, certifier: Certifier
) -> None:
    bound.world.new_client(
        "portal", public=True, certificates=("dns:one.example",), grants=APP, require_binding=True
    )
    bound.world.new_user()
    tokens = bound.by_one.issue(Principal(id="ana", credential=password("ana", client_id="portal")))
    renewed = certifier.client("renewed", "one.example")

    refreshed = bound.connect(renewed).refresh(tokens.refresh_token, client_credential=CERTIFICATE)

    assert bound.reason(refreshed.access_token, renewed) == ""
    assert bound.reason(refreshed.access_token, bound.one) == "BINDING_MISMATCH"
    by_other = refused(lambda: bound.by_other.refresh(refreshed.refresh_token, client_credential=CERTIFICATE))
    assert by_other.reason == "CREDENTIAL_REFUSED"


# Beside a DPoP proof (RFC 9449)

by_key = pytest.mark.settings(dpop_authorities=("identity.example",))


def proof(bound: Bound, key: PartyKey, method: str) -> tuple[tuple[str, str], ...]:
    """Return metadata with a DPoP proof for a call of this method."""
    url = f"https://identity.example/identityapi.v1.IdentityService/{method}"
    return (("dpop", dpop_proof(key, bound.world.clock.now(), htu=url)),)


@by_key
def test_a_token_for_a_certificate_and_a_proof_needs_both(bound: Bound) -> None:
    bound.world.new_client(certificates=("dns:one.example",))
    request = pb.IssueRequest(credential=CERTIFICATE)

    tokens = bound.by_one.stub.Issue(request, metadata=proof(bound, PartyKey.make(), "Issue")).token_set

    assert tokens.token_type == "DPoP"
    assert claims(tokens.access_token)["cnf"].keys() == {"x5t#S256", "jkt"}
    thumbprint = decode_base64url(claims(tokens.access_token)["cnf"]["jkt"])
    metadata = bearer(bound.plain.admin_token(["identity.verify"]))
    for certificate, key, outcome in (
        (bound.one.sha256, b"", "rejected"),
        (b"", thumbprint, "rejected"),
        (bound.one.sha256, thumbprint, "verified"),
    ):
        asked = pb.VerifyRequest(
            token=tokens.access_token,
            any_audience=True,
            certificate_sha256=certificate,
            dpop_key_sha256=key,
        )
        assert bound.plain.stub.Verify(asked, metadata=metadata).WhichOneof("outcome") == outcome


@by_key
def test_a_certificate_that_was_no_credential_is_not_needed_beside_a_proof(bound: Bound) -> None:
    principal = bound.world.new_client(require_binding=True)
    request = pb.IssueRequest(credential=principal.credential)

    tokens = bound.by_one.stub.Issue(request, metadata=proof(bound, PartyKey.make(), "Issue")).token_set

    assert claims(tokens.access_token)["cnf"].keys() == {"jkt"}


@by_key
def test_a_proof_does_not_replace_the_certificate_of_a_bound_session(
    bound: Bound, sign_in: token_pb2.TokenSet
) -> None:
    request = pb.RefreshRequest(refresh_token=sign_in.refresh_token)
    metadata = proof(bound, PartyKey.make(), "Refresh")

    failed = refused(lambda: bound.plain.stub.Refresh(request, metadata=metadata))

    assert failed.reason == "BINDING_REQUIRED"
