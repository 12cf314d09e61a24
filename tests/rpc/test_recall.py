"""The service answers a repeated request from memory, unless the facts behind the answer have changed."""

import threading
from collections.abc import Callable
from typing import Any

import grpc
import pytest

from identity_service.domain.ids import Link
from identity_service.domain.log import RecordKind, Revision
from identity_service.grpc_api import batches, verify
from identity_service.replication.replica import Replica
from identity_service.services.verify import Verifier
from identityapi.v1 import identity_service_pb2 as pb
from identityapi.v1 import token_pb2
from tests.patience import until
from tests.rpc.administrator import Administrator
from tests.rpc.conftest import StartWorld
from tests.rpc.keys import keys, signed_with
from tests.rpc.world import API, World, bearer, failure


@pytest.fixture(autouse=True, params=[1, 2], ids=["one core", "two cores"])
def number_of_cores(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run each test as on a machine with one core and with two cores.

    With one core, grpcio answers in a thread of a pool; with two cores, it answers in its serving thread.
    """
    monkeypatch.setattr("identity_service.process.cores.available", lambda: request.param)


@pytest.fixture
def known(world: World) -> pb.VerifyRequest:
    """A request that was sent twice and accepted, so that the second answer came from memory."""
    tokens = world.issue(world.new_user())
    request = pb.VerifyRequest(token=tokens.access_token, audiences=[API], required_scopes=["read"])
    first = world.stub.Verify(request)
    assert first.verified.session_id == tokens.session_id
    assert world.stub.Verify(request) == first
    return request


def asked_again(world: World, request: pb.VerifyRequest) -> str:
    """Send the request alone and twice in a batch; return the reason of all answers, "" if accepted."""
    batch = pb.VerifyBatchRequest(requests=[request, request])
    answers = [world.stub.Verify(request), *world.stub.VerifyBatch(batch).responses]
    (reason,) = {answer.rejected.reason for answer in answers}
    assert all(answer.HasField("verified") == (reason == 0) for answer in answers)
    return pb.RejectionReason.Name(reason).removeprefix("REJECTION_REASON_") if reason else ""


@pytest.mark.in_process
def test_the_signature_and_the_request_are_read_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    request = pb.VerifyRequest(token=world.issue(world.new_client()).access_token, audiences=[API])
    answers = [world.stub.Verify(request)]
    monkeypatch.setattr(Verifier, "verify", None)  # a read of it is an error now

    answers += [world.stub.Verify(request) for _ in range(2)]

    # The revision is that of each call: the replica may read the record of the client between two of them.
    assert all(answer.HasField("verified") for answer in answers)
    assert [answer.verified for answer in answers] == [answers[0].verified] * 3
    with pytest.raises(grpc.RpcError):
        world.stub.Verify(pb.VerifyRequest(token=request.token, audiences=["other", API]))


@pytest.mark.in_process
@pytest.mark.parametrize("count", [3, 300])
def test_each_request_of_a_batch_is_read_once(
    world: World, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """After the first answer, the test makes parsing fail. Repeated requests must still be answered."""
    client = world.new_client()
    tokens = [world.issue(client).access_token for _ in range(3)]
    requests = [pb.VerifyRequest(token=tokens[n % 3], audiences=[API, str(n)]) for n in range(count)]
    first = world.stub.VerifyBatch(pb.VerifyBatchRequest(requests=requests)).responses
    assert all(answer.HasField("verified") for answer in first)
    for module in (verify, batches):
        monkeypatch.setattr(module, "to_verify", None)  # a read of it is an error now

    again = world.stub.VerifyBatch(pb.VerifyBatchRequest(requests=requests)).responses
    again.extend(world.stub.Verify(request) for request in requests[:3])
    assert [a.verified for a in again] == [a.verified for a in [*first, *first[:3]]]
    with pytest.raises(grpc.RpcError):
        world.stub.Verify(pb.VerifyRequest(token=tokens[0], any_audience=True))


def test_a_batch_of_known_and_unknown_requests_is_answered_in_order(
    world: World, known: pb.VerifyRequest
) -> None:
    unknown = pb.VerifyRequest(token=world.issue(world.new_client()).access_token, audiences=[API])
    wrong = pb.VerifyRequest(token=known.token, audiences=["other"])
    requests = [unknown, known, wrong, known, unknown]

    answers = world.stub.VerifyBatch(pb.VerifyBatchRequest(requests=requests)).responses

    for answer, request in zip(answers, requests, strict=True):
        alone = world.stub.Verify(request)
        assert (answer.verified, answer.rejected) == (alone.verified, alone.rejected)


ENDS: dict[str, Callable[[World, token_pb2.VerifiedToken], object]] = {
    "token": lambda world, token: world.revoke(world.admin_token(), token_id=token.token_id),
    "session": lambda world, token: world.revoke(world.admin_token(), session_id=token.session_id),
    "subject": lambda world, token: world.revoke(world.admin_token(), subject=token.subject),
    "client": lambda world, token: world.revoke(world.admin_token(), client_id=token.client_id),
    "everything": lambda world, token: world.revoke(world.admin_token(), everything=True),
}


@pytest.mark.parametrize("level", ENDS)
def test_it_is_refused_once_it_is_revoked(world: World, known: pb.VerifyRequest, level: str) -> None:
    ENDS[level](world, world.stub.Verify(known).verified)

    assert asked_again(world, known) == "REVOKED"


def test_it_is_refused_once_its_key_is_retired(
    world: World, known: pb.VerifyRequest, admin: Administrator
) -> None:
    admin.call("RetireKey", key_id=next(iter(keys(world))), reason="leaked")

    assert asked_again(world, known) == "REVOKED"


def test_it_is_refused_once_its_key_is_no_longer_there(world: World, known: pb.VerifyRequest) -> None:
    """A key that is removed takes effect although the request and the token are both cached."""
    another = pb.VerifyRequest(token=known.token, any_audience=True)
    assert asked_again(world, known) == ""

    world.store.records.delete(RecordKind.KEY, signed_with(known.token))

    until(lambda: not world.stub.Verify(known).HasField("verified"))
    assert asked_again(world, known) == "UNKNOWN_KEY"
    assert asked_again(world, another) == "UNKNOWN_KEY"


def test_it_is_refused_once_it_has_expired_and_before_it_is_valid(
    world: World, known: pb.VerifyRequest
) -> None:
    world.clock.advance(hours=-1)
    assert asked_again(world, known) == "NOT_YET_VALID"
    world.clock.advance(hours=3)
    assert asked_again(world, known) == "EXPIRED"


def test_its_answer_carries_the_revision_of_now(world: World, known: pb.VerifyRequest) -> None:
    before = world.stub.Verify(known)
    revision = world.revoke(world.admin_token(), token_id="another")

    until(lambda: world.stub.Verify(known).revision == revision)
    assert world.stub.Verify(known).verified == before.verified


def test_a_call_that_needs_the_store_reads_it_each_time(world: World, known: pb.VerifyRequest) -> None:
    asked = pb.VerifyRequest(at_least_revision=later_than(world.stub.Verify(known).revision))
    asked.MergeFrom(known)

    for _ in range(2):
        with pytest.raises(grpc.RpcError) as error:
            world.stub.Verify(asked)
        assert failure(error.value).reason == "REVISION_NOT_REACHED"


@pytest.mark.in_process
@pytest.mark.parametrize("asks", [{"strong": True}, {"at_least_revision": "0123456789abcdef.1"}], ids=str)
def test_a_call_that_succeeded_after_a_read_reads_again_the_next_time(
    world: World, known: pb.VerifyRequest, asks: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = pb.VerifyRequest(**asks)
    asked.MergeFrom(known)
    read, followers = list[str](), ("identity-follow", "identity-heartbeat")
    real = Replica.catch_up

    def noted(replica: Replica) -> None:
        read.append(threading.current_thread().name)
        real(replica)

    monkeypatch.setattr(Replica, "catch_up", noted)
    for times in (1, 2, 3):
        assert world.stub.Verify(asked).HasField("verified")
        assert len([name for name in read if name not in followers]) == times


def later_than(revision: str) -> str:
    known = Revision.parse(revision)
    return str(Revision(epoch=known.epoch, position=known.position + 1000, link=Link("later")))


def test_callers_that_must_authenticate_get_no_answer_from_memory(start_world: StartWorld) -> None:
    world = start_world(require_caller_auth=True)
    caller = world.admin_token(scopes=["identity.verify"])
    request = pb.VerifyRequest(token=world.issue(world.new_client()).access_token, audiences=[API])
    for _ in range(2):
        assert world.stub.Verify(request, metadata=bearer(caller)).HasField("verified")

    with pytest.raises(grpc.RpcError) as error:
        world.stub.Verify(request)
    assert failure(error.value).reason == "CALLER_UNAUTHENTICATED"
