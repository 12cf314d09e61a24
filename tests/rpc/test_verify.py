"""Verify and VerifyBatch over gRPC, on both stores: the result for each kind of token."""

import hashlib
from datetime import timedelta

import grpc
import pytest

from identity_service.domain.ids import TokenId, base64url
from identityapi.v1 import identity_service_pb2 as pb
from tests.patience import until
from tests.rpc.forging import forger_of
from tests.rpc.world import API, World, failure


@pytest.fixture(autouse=True, params=[1, 2], ids=["one core", "two cores"])
def number_of_cores(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run each test as on a machine with one core and with two cores.

    With one core, grpcio answers in a thread of a pool; with two cores, it answers in its serving thread.
    """
    monkeypatch.setattr("identity_service.process.cores.available", lambda: request.param)


@pytest.fixture
def token(world: World) -> str:
    return world.issue(world.new_client()).access_token


def test_a_token_is_refused_for_another_audience(world: World, token: str) -> None:
    assert world.reason(token, audiences=["files"]) == "WRONG_AUDIENCE"
    assert world.reason(token, audiences=["files", API]) == ""
    assert world.reason(token, audiences=[], any_audience=True) == ""


def test_all_required_scopes_must_be_there(world: World, token: str) -> None:
    assert world.reason(token, required_scopes=["read", "write"]) == ""
    assert world.reason(token, required_scopes=["read", "delete"]) == "INSUFFICIENT_SCOPE"


def test_a_token_expires_after_the_leeway(world: World, token: str) -> None:
    world.clock.advance(minutes=15, seconds=8)
    assert world.reason(token) == ""
    world.clock.advance(seconds=4)
    assert world.reason(token) == "EXPIRED"


def test_a_token_from_the_future_is_not_valid_yet(world: World) -> None:
    world.clock.advance(minutes=5)
    token = world.issue(world.new_client()).access_token
    world.clock.advance(minutes=-5)

    assert world.reason(token) == "NOT_YET_VALID"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "MALFORMED"),
        ("x", "MALFORMED"),
        ("a.b.c", "MALFORMED"),
        ("a.b.c.d.e", "UNDECRYPTABLE"),
        ("\x00\n." * 2, "MALFORMED"),
        ("ü.ü.ü", "MALFORMED"),
        ("x" * 100_000, "MALFORMED"),
    ],
)
def test_a_malformed_token_is_an_answer_and_not_an_error(world: World, text: str, reason: str) -> None:
    assert world.reason(text) == reason


def test_a_changed_signature_is_refused_and_the_original_still_good(world: World, token: str) -> None:
    head, _, signature = token.rpartition(".")
    changed = head + "." + ("A" if signature[0] != "A" else "B") + signature[1:]

    assert world.reason(changed) == "BAD_SIGNATURE"
    assert world.reason(token) == ""


def test_an_answer_names_its_revision(world: World, token: str) -> None:
    end = str(world.store.log.head().revision)

    until(lambda: world.verify(token).revision == end)  # the replica may still read the last entries


def test_at_least_revision_waits_for_nothing_that_is_known(world: World, token: str) -> None:
    known = world.verify(token).revision
    assert world.reason(token, at_least_revision=known) == ""


@pytest.mark.parametrize("link", [".AAAAAAAAAAA", ""], ids=["with a link", "of an older client"])
def test_at_least_revision_past_the_end_is_unavailable(world: World, token: str, link: str) -> None:
    end = world.store.log.head()
    with pytest.raises(grpc.RpcError) as refused:
        world.verify(token, at_least_revision=f"{end.epoch}.{end.position + 1}{link}")
    assert failure(refused.value).code is grpc.StatusCode.UNAVAILABLE
    assert failure(refused.value).reason == "REVISION_NOT_REACHED"


@pytest.mark.parametrize(
    "place",
    [
        "{other}.999.AAAAAAAAAAA",
        "{other}.999",
        "{other}.0.-",
        "{epoch}.{position}.AAAAAAAAAAA",
        "{epoch}.{position}",
    ],
    ids=["another epoch", "another epoch, older client", "another start", "another link", "older client"],
)
def test_at_least_a_revision_that_is_not_known_acts_as_strong(world: World, token: str, place: str) -> None:
    """For a revision that the service does not know, it reads the store first, as for `strong`.

    The service must not begin a new epoch because a client sent the revision of another epoch.
    """
    epoch, position, _ = world.verify(token).revision.split(".")
    unknown = place.format(epoch=epoch, position=position, other="0" * 16)
    assert world.reason(token, at_least_revision=unknown) == ""

    token_id = world.verify(token).verified.token_id
    world.store.facts.deny_token(TokenId(token_id), world.clock.now() + timedelta(hours=1))
    assert world.reason(token, at_least_revision=unknown) == "REVOKED"
    assert world.store.log.head().epoch == epoch


@pytest.mark.parametrize("by", ["strong", "at_least_revision"])
def test_a_revocation_by_another_process_is_seen_at_once_on_request(
    world: World, token: str, by: str
) -> None:
    """The test writes to the store directly. The service must read the store before it answers."""
    token_id = world.verify(token).verified.token_id
    appended = world.store.facts.deny_token(TokenId(token_id), world.clock.now() + timedelta(hours=1))

    wanted = {"strong": True} if by == "strong" else {"at_least_revision": str(appended.revision)}
    assert world.reason(token, **wanted) == "REVOKED"


def test_a_batch_answers_each_in_order_and_one_bad_token_spoils_no_other(world: World, token: str) -> None:
    single = pb.VerifyRequest(token=token, audiences=[API])
    bad = pb.VerifyRequest(token="bad", audiences=[API])
    world.verify(token, strong=True)  # so that no entry is left to be read between the two calls below

    answers = world.stub.VerifyBatch(pb.VerifyBatchRequest(requests=[single, bad, single])).responses

    assert [a.WhichOneof("outcome") for a in answers] == ["verified", "rejected", "verified"]
    assert answers[0].verified == world.verify(token).verified
    assert {a.revision for a in answers} == {world.verify(token).revision}


def test_a_thousand_distinct_tokens_fit_one_batch_and_one_more_does_not(world: World) -> None:
    client = world.new_client()
    tokens = [world.issue(client).access_token for _ in range(20)]
    requests = [pb.VerifyRequest(token=tokens[n % 20], audiences=[API]) for n in range(1000)]

    answers = world.stub.VerifyBatch(pb.VerifyBatchRequest(requests=requests)).responses
    with pytest.raises(grpc.RpcError) as refused:
        world.stub.VerifyBatch(pb.VerifyBatchRequest(requests=[*requests, requests[0]]))

    assert [a.verified.token_id for a in answers[:20]] == [a.verified.token_id for a in answers[20:40]]
    assert len(answers) == 1000
    assert failure(refused.value).fields.keys() == {"requests"}


def test_a_token_that_was_seen_before_is_checked_again(world: World, token: str) -> None:
    """The cache keeps which signatures are good, not the results of Verify."""
    assert world.reason(token) == ""
    assert world.reason(token, audiences=["files"]) == "WRONG_AUDIENCE"
    assert world.reason(token, required_scopes=["admin"]) == "INSUFFICIENT_SCOPE"
    world.revoke(token=token)
    assert world.reason(token) == "REVOKED"
    world.clock.advance(hours=1)
    assert world.reason(token) == "EXPIRED"


def test_a_token_that_is_bound_to_no_certificate_ignores_the_one_that_is_shown(
    world: World, token: str
) -> None:
    assert world.reason(token, certificate_sha256=hashlib.sha256(b"certificate").digest()) == ""


def test_a_token_that_is_bound_to_no_key_is_not_accepted_with_a_proof(world: World, token: str) -> None:
    """A bearer token must not pass as a DPoP-bound token (RFC 9449 section 7.1)."""
    thumbprint = hashlib.sha256(b"key").digest()

    assert world.reason(token, dpop_key_sha256=thumbprint) == "BINDING_MISMATCH"
    assert world.reason(token) == ""


def test_a_token_that_is_bound_to_a_key_needs_a_proof_by_this_key(world: World, token: str) -> None:
    thumbprint, other = (hashlib.sha256(text).digest() for text in (b"key", b"other"))
    bound = forger_of(world, token).forge(claims={"cnf": {"jkt": base64url(thumbprint)}})

    assert world.reason(bound) == "BINDING_MISMATCH"
    assert world.reason(bound, dpop_key_sha256=other) == "BINDING_MISMATCH"
    answer = world.verify(bound, dpop_key_sha256=thumbprint)
    assert answer.verified.dpop_key_sha256 == thumbprint
    assert world.reason(bound, dpop_key_sha256=thumbprint) == "", "the second time"
