"""Access tokens that are bound to a key by DPoP proofs (RFC 9449), over gRPC and on both engines."""

from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import grpc
import pytest

from identity_service.bootstrap import Service
from identity_service.domain.audit import AuditFilter
from identity_service.domain.ids import base64url
from identity_service.domain.principals import Grant
from identity_shared.strict import decode_base64url, parse_object
from identityapi.v1 import identity_service_pb2 as pb
from identityapi.v1 import token_pb2
from tests.dpop_proofs import dpop_proof
from tests.jwts import PartyKey, assertion_claims
from tests.patience import until
from tests.rpc.administrator import fails
from tests.rpc.conftest import STORES, address, running, settings_for_tests
from tests.rpc.shop import EXCHANGES, Shop
from tests.rpc.world import API, Failure, Principal, World, bearer, password

AUTHORITY = "identity.example:443"
SERVICE = "/identityapi.v1.IdentityService"
APP = (Grant.PASSWORD, Grant.REFRESH_TOKEN)
REFUSED = (grpc.StatusCode.UNAUTHENTICATED, "DPOP_PROOF_INVALID")
pytestmark = pytest.mark.settings(dpop_authorities=("other.example:8443", AUTHORITY))


@dataclass(frozen=True, kw_only=True)
class Holder:
    """A caller with a key, which sends a DPoP proof with each call."""

    world: World
    key: PartyKey
    nonce: str | None = None

    @property
    def thumbprint(self) -> bytes:
        jwk = self.key.public()
        text = f'{{"crv":"{jwk["crv"]}","kty":"EC","x":"{jwk["x"]}","y":"{jwk["y"]}"}}'
        return sha256(text.encode()).digest()

    def proof(self, method: str, **changes: object) -> str:
        values: dict[str, Any] = {
            "htu": f"https://identity.example{SERVICE}/{method}",
            "nonce": self.nonce,
        } | changes
        return dpop_proof(self.key, self.world.clock.now(), **values)

    def issue(self, principal: Principal, *, proof: str | None = None, **fields: Any) -> token_pb2.TokenSet:
        request = pb.IssueRequest(credential=principal.credential, **fields)
        return self.world.stub.Issue(request, metadata=shown(proof or self.proof("Issue"))).token_set

    def refresh(self, refresh_token: str, **fields: Any) -> token_pb2.TokenSet:
        request = pb.RefreshRequest(refresh_token=refresh_token, **fields)
        return self.world.stub.Refresh(request, metadata=shown(self.proof("Refresh"))).token_set

    def sign_in(self, app: Principal) -> token_pb2.TokenSet:
        secret = app.credential.client_secret.client_secret
        credential = password("ana", client_id=app.id, secret=secret)
        return self.issue(Principal(id=app.id, credential=credential))

    def authorization(self, token: str, method: str = "Verify", **changes: object) -> Any:
        """Return metadata with a bound token and a proof for a call of this method."""
        values = {"ath": base64url(sha256(token.encode()).digest())} | changes
        return (("authorization", f"DPoP {token}"), *shown(self.proof(method, **values)))


def shown(*proofs: str) -> tuple[tuple[str, str], ...]:
    return tuple(("dpop", proof) for proof in proofs)


def outcome(failed: Failure) -> tuple[grpc.StatusCode, str]:
    return failed.code, failed.reason


@pytest.fixture
def holder(world: World) -> Holder:
    return Holder(world=world, key=PartyKey.make())


@pytest.fixture
def other(world: World) -> Holder:
    return Holder(world=world, key=PartyKey.make())


# Issue


def test_a_token_that_is_issued_for_a_proof_is_bound_to_its_key(world: World, holder: Holder) -> None:
    tokens = holder.issue(world.new_client())

    assert tokens.token_type == "DPoP"
    claims = parse_object(decode_base64url(tokens.access_token.split(".")[1]))
    assert claims["cnf"] == {"jkt": base64url(holder.thumbprint)}
    assert world.reason(tokens.access_token) == "BINDING_MISMATCH"
    assert world.reason(tokens.access_token, dpop_key_sha256=holder.thumbprint) == ""


def test_a_proof_binds_the_token_of_a_request_that_was_granted_without_one_before(
    world: World, holder: Holder
) -> None:
    """A request with a proof must not get the cached answer of the same request without a proof.

    A proof is metadata, so the requests have the same bytes.
    """
    principal = world.new_client()

    types = [world.issue(principal).token_type, holder.issue(principal).token_type]
    types.append(world.issue(principal).token_type)

    assert types == ["Bearer", "DPoP", "Bearer"]


def test_a_token_that_is_issued_without_a_proof_is_a_bearer_token(world: World) -> None:
    assert world.issue(world.new_client()).token_type == "Bearer"


def test_a_proof_works_once(world: World, holder: Holder) -> None:
    principal, proof = world.new_client(), holder.proof("Issue")
    holder.issue(principal, proof=proof)

    assert outcome(fails(lambda: holder.issue(principal, proof=proof))) == REFUSED


def test_a_proof_is_not_spent_by_a_credential_that_is_refused(world: World, holder: Holder) -> None:
    """The store keeps only proofs of calls with a valid credential.

    Otherwise strangers could fill the store, since they can make any number of valid proofs.
    """
    principal, proof = world.new_client(), holder.proof("Issue")
    wrong = token_pb2.Credential()
    wrong.CopyFrom(principal.credential)
    wrong.client_secret.client_secret += "x"

    failed = fails(lambda: holder.issue(Principal(id="reports", credential=wrong), proof=proof))

    assert failed.reason == "CREDENTIAL_REFUSED"
    assert holder.issue(principal, proof=proof).token_type == "DPoP"


@pytest.mark.parametrize(
    "changes",
    [
        {"htm": "GET"},
        {"htu": f"https://identity.example{SERVICE}/Refresh"},
        {"htu": f"https://evil.example{SERVICE}/Issue"},
        {"htu": f"http://identity.example{SERVICE}/Issue"},
    ],
    ids=str,
)
def test_a_proof_for_another_request_is_refused(
    world: World, holder: Holder, changes: dict[str, str]
) -> None:
    principal = world.new_client()

    failed = fails(lambda: holder.issue(principal, proof=holder.proof("Issue", **changes)))

    assert outcome(failed) == REFUSED


def test_a_call_shows_one_proof(world: World, holder: Holder) -> None:
    request = pb.IssueRequest(credential=world.new_client().credential)
    two = shown(holder.proof("Issue"), holder.proof("Issue"))

    assert outcome(fails(lambda: world.stub.Issue(request, metadata=two))) == REFUSED


@pytest.mark.settings(dpop_authorities=())
def test_a_service_that_knows_no_authority_of_its_own_names_the_setting(world: World, holder: Holder) -> None:
    principal = world.new_client()

    failed = fails(lambda: holder.issue(principal))

    assert outcome(failed) == REFUSED
    assert "dpop_authorities" in failed.message


@pytest.mark.settings(dpop_authorities=(), issuer="https://identity.example/tenant")
def test_the_authority_of_the_issuer_counts_by_default(world: World, holder: Holder) -> None:
    assert holder.issue(world.new_client()).token_type == "DPoP"


def test_a_proof_is_enough_for_a_client_whose_tokens_must_be_bound(world: World, holder: Holder) -> None:
    principal = world.new_client(require_binding=True)

    assert holder.issue(principal).token_type == "DPoP"
    assert fails(lambda: world.issue(principal)).reason == "BINDING_REQUIRED"


@pytest.mark.parametrize("kind", STORES)
def test_a_proof_works_once_on_all_processes_together(
    request: pytest.FixtureRequest, tmp_path: Path, still_at: datetime, kind: str
) -> None:
    settings, store = settings_for_tests(dpop_authorities=(AUTHORITY,)), address(kind, tmp_path, request)
    with ExitStack() as cleanup:
        world = cleanup.enter_context(running(settings, store.open, still_at=still_at))
        theirs = store.open(world.clock)
        cleanup.callback(theirs.close)
        other = Service(settings, clock=world.clock, store=theirs)
        target = f"127.0.0.1:{other.start()}"
        cleanup.callback(other.stop)
        elsewhere = replace(world, channel=cleanup.enter_context(grpc.insecure_channel(target)))
        holder = Holder(world=world, key=PartyKey.make())
        principal, proof = world.new_client(), holder.proof("Issue")
        holder.issue(principal, proof=proof)

        failed = fails(lambda: replace(holder, world=elsewhere).issue(principal, proof=proof))

        assert outcome(failed) == REFUSED


# Refresh


def test_sessions_of_public_clients_stay_bound_to_the_key(
    world: World, holder: Holder, other: Holder
) -> None:
    world.new_user()
    tokens = holder.sign_in(world.new_client("app", public=True, grants=APP))

    for thief in (world, other):
        failed = fails(lambda thief=thief: thief.refresh(tokens.refresh_token))  # type: ignore[misc]
        assert outcome(failed) == REFUSED
    refreshed = holder.refresh(tokens.refresh_token)

    assert refreshed.token_type == "DPoP"
    assert world.reason(refreshed.access_token, dpop_key_sha256=holder.thumbprint) == ""
    assert outcome(fails(lambda: world.refresh(refreshed.refresh_token))) == REFUSED


def test_a_stolen_refresh_token_that_was_replaced_does_not_end_a_bound_session(
    world: World, holder: Holder
) -> None:
    world.new_user()
    first = holder.sign_in(world.new_client("app", public=True, grants=APP))
    latest = holder.refresh(holder.refresh(first.refresh_token).refresh_token)
    world.clock.advance(hours=1)

    assert outcome(fails(lambda: world.refresh(first.refresh_token))) == REFUSED
    assert holder.refresh(latest.refresh_token).token_type == "DPoP"


def test_a_client_with_a_credential_may_change_its_key_at_each_refresh(
    world: World, holder: Holder, other: Holder
) -> None:
    world.new_user()
    app = world.new_confidential_app()
    tokens = holder.sign_in(app)

    by_other = other.refresh(tokens.refresh_token, client_credential=app.credential)
    by_none = world.refresh(by_other.refresh_token, client_credential=app.credential)

    assert world.reason(tokens.access_token, dpop_key_sha256=holder.thumbprint) == ""
    assert world.reason(by_other.access_token, dpop_key_sha256=other.thumbprint) == ""
    assert by_none.token_type == "Bearer"
    assert world.reason(by_none.access_token) == ""


def test_a_client_whose_tokens_must_be_bound_needs_a_proof_at_each_refresh(
    world: World, holder: Holder
) -> None:
    world.new_user()
    app = world.new_confidential_app(require_binding=True)
    tokens = holder.sign_in(app)

    failed = fails(lambda: world.refresh(tokens.refresh_token, client_credential=app.credential))

    assert failed.reason == "BINDING_REQUIRED"
    assert holder.refresh(tokens.refresh_token, client_credential=app.credential).token_type == "DPoP"


def test_a_session_that_began_without_a_proof_goes_on_without_one(world: World, holder: Holder) -> None:
    world.new_user()
    world.new_client("app", public=True, grants=APP)
    tokens = world.issue(Principal(id="ana", credential=password("ana", client_id="app")))

    bound = holder.refresh(tokens.refresh_token)

    assert world.reason(bound.access_token, dpop_key_sha256=holder.thumbprint) == ""
    assert world.refresh(bound.refresh_token).token_type == "Bearer"


# Exchange


@pytest.mark.parametrize("field", ["subject_token", "actor_token"])
def test_a_bound_token_is_exchanged_with_a_proof_by_its_key_only(
    world: World, holder: Holder, other: Holder, field: str
) -> None:
    shop = world.new_client("free", grants=EXCHANGES, exchange_audiences=(API,))
    held = holder.issue(world.new_client()).access_token
    tokens = {"subject_token": world.issue(world.new_client("plain")).access_token, field: held}

    exchanged = holder.issue(shop, **tokens)

    assert world.reason(exchanged.access_token, dpop_key_sha256=holder.thumbprint) == ""
    for thief in (world, other):
        failed = fails(lambda thief=thief: thief.issue(shop, **tokens))  # type: ignore[misc]
        assert failed.message == f"the {field} was rejected: BINDING_MISMATCH"


def test_an_unbound_token_may_be_exchanged_for_a_bound_one(world: World, holder: Holder) -> None:
    shop = Shop(world)

    tokens = holder.issue(shop.orders, subject_token=shop.sign_in().access_token)

    assert tokens.token_type == "DPoP"


# Callers


@pytest.fixture
def caller(world: World, holder: Holder) -> str:
    """The bound token of a caller with the scope to verify tokens."""
    return holder.issue(checker(world), scopes=["identity.verify"]).access_token


def checker(world: World) -> Principal:
    return world.new_client("checks", audiences=("identity-service",), scopes=("identity.verify",))


QUESTION = pb.VerifyRequest(token="t", any_audience=True)
guarded = pytest.mark.settings(dpop_authorities=(AUTHORITY,), require_caller_auth=True)


@guarded
def test_a_caller_shows_its_bound_token_with_a_new_proof_for_each_call(
    world: World, holder: Holder, caller: str
) -> None:
    token = world.issue(world.new_client()).access_token
    question = pb.VerifyRequest(token=token, any_audience=True)

    for _ in range(3):  # the first answer is cached
        answer = world.stub.Verify(question, metadata=holder.authorization(caller))
        assert answer.HasField("verified")


@guarded
def test_a_callers_proof_works_once(world: World, holder: Holder, caller: str) -> None:
    metadata = holder.authorization(caller)
    world.stub.Verify(QUESTION, metadata=metadata)

    assert outcome(fails(lambda: world.stub.Verify(QUESTION, metadata=metadata))) == REFUSED


@pytest.mark.settings(dpop_authorities=(AUTHORITY,), require_caller_auth=True, audit_traffic="store")
def test_a_callers_proof_that_is_refused_leaves_an_audit_event(
    world: World, holder: Holder, caller: str
) -> None:
    fails(lambda: world.stub.Verify(QUESTION, metadata=holder.authorization(caller, "VerifyBatch")))

    wanted = AuditFilter(types=["call_refused"])
    until(lambda: bool(world.store.audit.list_newest(wanted)[0]))
    (found,) = world.store.audit.list_newest(wanted)[0]
    assert (found.event.target, found.event.reason) == (f"{SERVICE}/Verify", "DPOP_PROOF_INVALID")


@guarded
def test_a_bound_token_is_no_bearer_token(world: World, holder: Holder, caller: str) -> None:
    failed = fails(lambda: world.stub.Verify(QUESTION, metadata=bearer(caller)))

    assert failed.reason == "CALLER_UNAUTHENTICATED"
    assert "BINDING_MISMATCH" in failed.message


@guarded
def test_a_bearer_token_is_not_accepted_as_a_bound_one(world: World, holder: Holder) -> None:
    token = world.issue(checker(world), scopes=["identity.verify"]).access_token

    failed = fails(lambda: world.stub.Verify(QUESTION, metadata=holder.authorization(token)))

    assert failed.reason == "CALLER_UNAUTHENTICATED"
    assert world.stub.Verify(QUESTION, metadata=bearer(token)).HasField("rejected")


@guarded
def test_a_bound_token_of_a_caller_needs_a_proof_by_its_key_for_this_call(
    world: World, holder: Holder, other: Holder, caller: str
) -> None:
    wrong = {
        "another key": other.authorization(caller),
        "another method": holder.authorization(caller, "VerifyBatch"),
        "another token": holder.authorization(caller, ath=base64url(sha256(b"t").digest())),
        "no token": holder.authorization(caller, ath=None),
        "none": (("authorization", f"DPoP {caller}"),),
    }

    for why, metadata in wrong.items():
        failed = fails(lambda metadata=metadata: world.stub.Verify(QUESTION, metadata=metadata))  # type: ignore[misc]
        assert failed.code is grpc.StatusCode.UNAUTHENTICATED, why
        assert failed.reason in ("CALLER_UNAUTHENTICATED", "DPOP_PROOF_INVALID"), why


def test_a_bound_token_may_be_revoked_without_a_proof(world: World, holder: Holder) -> None:
    """A thief who revokes a stolen token only ends the theft, so Revoke asks for no proof of the key."""
    token = holder.issue(world.new_client()).access_token

    world.revoke(token=token)

    assert world.reason(token, dpop_key_sha256=holder.thumbprint) == "REVOKED"


# Nonces

nonces = pytest.mark.settings(
    dpop_authorities=(AUTHORITY,), dpop_require_nonce=True, require_caller_auth=True
)


def nonce_of(call: Any) -> str:
    return str(dict(call.trailing_metadata())["dpop-nonce"])


def refused_nonce(world: World, request: pb.IssueRequest, proof: str) -> str:
    with pytest.raises(grpc.RpcError) as error:
        world.stub.Issue(request, metadata=shown(proof))
    return nonce_of(error.value)


@nonces
def test_a_proof_needs_a_nonce_if_the_service_requires_one(world: World, holder: Holder) -> None:
    principal = world.new_client()
    request = pb.IssueRequest(credential=principal.credential)

    failed = fails(lambda: holder.issue(principal))
    nonce = refused_nonce(world, request, holder.proof("Issue"))
    prepared = replace(holder, nonce=nonce)
    tokens, call = world.stub.Issue.with_call(request, metadata=shown(prepared.proof("Issue")))

    assert outcome(failed) == (grpc.StatusCode.UNAUTHENTICATED, "DPOP_NONCE_REQUIRED")
    assert tokens.token_set.token_type == "DPoP"
    assert nonce_of(call) == nonce, "the answer has the nonce for the next proof"
    wrong = replace(holder, nonce="x")
    assert fails(lambda: wrong.issue(principal)).reason == "DPOP_NONCE_REQUIRED"


@nonces
def test_a_call_without_a_proof_needs_no_nonce(world: World) -> None:
    _, call = world.stub.Issue.with_call(pb.IssueRequest(credential=world.new_client().credential))

    assert "dpop-nonce" not in dict(call.trailing_metadata())


@nonces
def test_an_assertion_is_not_spent_by_a_proof_without_a_nonce(world: World, holder: Holder) -> None:
    signer = PartyKey.make()
    world.new_client("signer", public=True, public_keys=(signer.public_jwk,))
    assertion = signer.jwt(assertion_claims("signer", world.clock.now()))
    credential = token_pb2.Credential(client_assertion=token_pb2.ClientAssertion(jwt=assertion))

    nonce = refused_nonce(world, pb.IssueRequest(credential=credential), holder.proof("Issue"))

    prepared = replace(holder, nonce=nonce)
    assert prepared.issue(Principal(id="signer", credential=credential)).token_type == "DPoP"


@nonces
def test_a_caller_gets_the_nonce_for_its_next_proof(world: World, holder: Holder) -> None:
    principal = checker(world)
    request = pb.IssueRequest(credential=principal.credential, scopes=["identity.verify"])
    prepared = replace(holder, nonce=refused_nonce(world, request, holder.proof("Issue")))
    token = prepared.issue(principal, scopes=["identity.verify"]).access_token

    failed = fails(lambda: world.stub.Verify(QUESTION, metadata=holder.authorization(token)))
    _, call = world.stub.Verify.with_call(QUESTION, metadata=prepared.authorization(token))

    assert failed.reason == "DPOP_NONCE_REQUIRED"
    assert nonce_of(call) == prepared.nonce
