"""IdentityClient with a servicer that follows a script, over a real channel on loopback."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from identity_client import (
    AbortedError,
    Actor,
    AlreadyExistsError,
    ClientOptions,
    IdentityClient,
    IdentityError,
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    Rejected,
    ResourceExhaustedError,
    UnauthenticatedError,
    UnavailableError,
    UnimplementedError,
    Verified,
)
from identity_client.credentials import by_secret
from identity_service.domain import credential_errors, errors
from identity_service.grpc_api.errors import to_status
from identityapi.v1 import identity_service_pb2 as pb
from identityapi.v1 import identity_service_pb2_grpc as rpc
from identityapi.v1 import token_pb2
from tests.patience import PATIENCE

pytestmark = pytest.mark.usefixtures("both_kinds")


EXPIRES = datetime(2026, 5, 6, 7, 8, 9, tzinfo=UTC)
STAMP = Timestamp(seconds=int(EXPIRES.timestamp()))
TOKENS = token_pb2.TokenSet(
    access_token="secret-access-token",
    token_type="Bearer",
    expire_time=STAMP,
    refresh_token="secret-refresh-token",
    refresh_expire_time=STAMP,
    audiences=["api"],
    scopes=["read"],
    token_id="t1",
    session_id="s1",
)


class Script:
    """A servicer that answers each call with the next of `answers`, and keeps the requests."""

    def __init__(self) -> None:
        self.answers: list[Any] = []
        self.requests: list[Any] = []
        self.metadata: list[dict[str, Any]] = []

    def _play(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.requests.append(request)
        self.metadata.append(dict(context.invocation_metadata()))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            context.abort_with_status(to_status(answer, "request-1"))  # type: ignore[arg-type]
        return answer() if callable(answer) else answer

    Issue = Verify = VerifyBatch = Refresh = Revoke = _play


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def target(script: Script) -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(4))
    servicer: Any = script
    rpc.add_IdentityServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


@pytest.fixture
def client(target: str) -> Iterator[IdentityClient]:
    options = ClientOptions(initial_backoff=timedelta(milliseconds=5))
    with IdentityClient(target, options=options) as client:
        yield client


def test_issue_sends_its_arguments_and_hides_the_tokens_in_repr(
    client: IdentityClient, script: Script
) -> None:
    script.answers = [pb.IssueResponse(token_set=TOKENS)]

    tokens = client.issue_with_secret(
        "c", "s", audiences=["api"], scopes=["read"], lifetime=timedelta(minutes=1), claims={"tenant": "blue"}
    )
    client.issue_with_password("ana", "pw", client_id="app", client_secret="s", device="phone")

    by_secret, by_password = script.requests
    assert by_secret.credential.client_secret == token_pb2.ClientSecret(client_id="c", client_secret="s")
    assert (list(by_secret.audiences), list(by_secret.scopes)) == (["api"], ["read"])
    assert (by_secret.lifetime.seconds, dict(by_secret.claims)) == (60, {"tenant": "blue"})
    assert by_password.credential.password == token_pb2.Password(
        username="ana", password="pw", client_id="app", client_secret="s"
    )
    assert by_password.device == "phone"
    assert not by_password.HasField("lifetime")
    assert (tokens.access_token, tokens.refresh_token) == ("secret-access-token", "secret-refresh-token")
    assert (tokens.expire_time, tokens.refresh_expire_time) == (EXPIRES, EXPIRES)
    assert "secret" not in repr(tokens) + str(tokens)


def test_each_way_to_issue_sends_its_credential_with_the_properties_of_the_token(
    client: IdentityClient, script: Script
) -> None:
    script.answers = [pb.IssueResponse(token_set=TOKENS)]

    client.issue_with_assertion(lambda: "a.b.c", audiences=["api"], encryption="service")
    client.issue_with_certificate(audiences=["api"], encryption="service")
    client.issue_with_federated_token("d.e.f", audiences=["api"], encryption="service")

    by_assertion, by_certificate, by_federated_token = script.requests
    assert by_assertion.credential.client_assertion.jwt == "a.b.c"
    assert by_certificate.credential.HasField("client_certificate")
    assert by_federated_token.credential.federated_token.jwt == "d.e.f"
    for request in script.requests:
        assert list(request.audiences) == ["api"]
        assert request.encryption == token_pb2.TOKEN_ENCRYPTION_SERVICE


def test_an_argument_that_does_not_exist_is_refused(client: IdentityClient, script: Script) -> None:
    with pytest.raises(TypeError, match="audience"):
        client.issue_with_certificate(audience="api")  # type: ignore[call-arg]

    assert script.requests == []


def test_exchange_sends_both_tokens_and_the_credential_of_the_client(
    client: IdentityClient, script: Script
) -> None:
    script.answers = [pb.IssueResponse(token_set=TOKENS)]

    client.exchange("of-ana", by_secret("c", "s"), audiences=["api"])
    client.exchange("of-ana", by_secret("c", "s"), actor_token="of-bo")

    alone, with_actor = script.requests
    assert alone.credential.client_secret == token_pb2.ClientSecret(client_id="c", client_secret="s")
    assert (alone.subject_token, alone.actor_token, list(alone.audiences)) == ("of-ana", "", ["api"])
    assert (with_actor.subject_token, with_actor.actor_token) == ("of-ana", "of-bo")


def test_an_empty_token_is_refused_before_it_is_sent(client: IdentityClient, script: Script) -> None:
    for subject, actor in (("", None), ("of-ana", "")):
        with pytest.raises(ValueError, match="empty"):
            client.exchange(subject, by_secret("c", "s"), actor_token=actor)

    assert script.requests == []


def test_a_verified_token_is_a_value(client: IdentityClient, script: Script) -> None:
    said = token_pb2.VerifiedToken(
        issuer="i",
        subject="u1",
        audiences=["api"],
        client_id="app",
        scopes=["read"],
        token_id="t1",
        session_id="s1",
        issue_time=STAMP,
        expire_time=STAMP,
        actors=[token_pb2.Actor(subject="robot")],
        may_act=token_pb2.Actor(subject="orders"),
    )
    said.claims.update({"tenant": "blue"})
    script.answers = [pb.VerifyResponse(verified=said, revision="e.7")]

    outcome = client.verify("token", audiences=["api"], required_scopes=["read"], strong=True)

    assert isinstance(outcome, Verified)
    assert (outcome.subject, outcome.revision, outcome.auth_time) == ("u1", "e.7", None)
    assert (outcome.actors[0].subject, outcome.claims) == ("robot", {"tenant": "blue"})
    assert outcome.may_act == Actor(subject="orders", client_id="")
    assert script.requests[0] == pb.VerifyRequest(
        token="token", audiences=["api"], required_scopes=["read"], strong=True
    )


def test_a_rejected_token_is_a_value_too(client: IdentityClient, script: Script) -> None:
    rejected = pb.VerifyResponse(
        rejected=pb.Rejection(reason=pb.REJECTION_REASON_REVOKED, detail="d"), revision="e.7"
    )
    script.answers = [rejected, pb.VerifyBatchResponse(responses=[rejected, rejected])]

    assert client.verify("token", any_audience=True) == Rejected(reason="REVOKED", detail="d", revision="e.7")
    batch = client.verify_batch([pb.VerifyRequest(token="a"), pb.VerifyRequest(token="b")])
    assert batch == [Rejected(reason="REVOKED", detail="d", revision="e.7")] * 2


def test_an_answer_to_a_full_batch_fits(client: IdentityClient, script: Script) -> None:
    """1,000 tokens of 6 KB are more than gRPC accepts by default, and less than the service sends at most."""
    said = token_pb2.VerifiedToken(subject="u1", issue_time=STAMP, expire_time=STAMP)
    said.claims.update({"filler": "x" * 6000})
    script.answers = [pb.VerifyBatchResponse(responses=[pb.VerifyResponse(verified=said)] * 1000)]

    outcomes = client.verify_batch([pb.VerifyRequest(token="t")] * 1000)

    assert len(outcomes) == 1000
    assert all(isinstance(outcome, Verified) for outcome in outcomes)


def test_refresh_sends_the_clients_secret_if_there_is_one(client: IdentityClient, script: Script) -> None:
    script.answers = [pb.RefreshResponse(token_set=TOKENS)]

    client.refresh("r")
    client.refresh("r", client_id="c", client_secret="s", scopes=["read"], audiences=["api"])

    assert script.requests[0] == pb.RefreshRequest(refresh_token="r")
    assert script.requests[1].client_credential.client_secret.client_secret == "s"
    assert list(script.requests[1].scopes) == ["read"]


def test_each_way_to_revoke_names_its_target(client: IdentityClient, script: Script) -> None:
    script.answers = [pb.RevokeResponse(revision="e.8")]

    revisions = [
        client.revoke_token("t", reason="r"),
        client.revoke_token_id("i"),
        client.revoke_session("s"),
        client.revoke_subject("u", request_id="once"),
        client.revoke_client("c"),
        client.revoke_everything(),
    ]

    assert revisions == ["e.8"] * 6
    targets = [request.WhichOneof("target") for request in script.requests]
    assert targets == ["token", "token_id", "session_id", "subject", "client_id", "everything"]
    ids = [request.request_id for request in script.requests]
    assert ids[:4] == ["", "", "", "once"]
    assert len(set(ids[4:])) == 2
    assert all(ids[4:])


def test_unavailable_is_tried_again_with_the_same_request(client: IdentityClient, script: Script) -> None:
    away = errors.ReplicaStaleError("later")
    script.answers = [away, away, pb.RevokeResponse(revision="e.8")]

    assert client.revoke_everything() == "e.8"
    assert len(script.requests) == 3
    assert len({request.request_id for request in script.requests}) == 1


def test_unavailable_to_the_end_is_an_error_with_a_delay(client: IdentityClient, script: Script) -> None:
    script.answers = [errors.StoreUnavailableError("away")]

    with pytest.raises(UnavailableError) as error:
        client.revoke_token("t")

    assert (error.value.reason, error.value.retry_after) == ("STORE_UNAVAILABLE", timedelta(seconds=1))
    assert len(script.requests) == 4


def test_retries_can_be_turned_off(target: str, script: Script) -> None:
    script.answers = [errors.StoreUnavailableError("away")]
    options = ClientOptions(max_attempts=1)

    with IdentityClient(target, options=options) as client, pytest.raises(UnavailableError):
        client.revoke_token("t")
    assert len(script.requests) == 1


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (credential_errors.CredentialRefusedError(), UnauthenticatedError),
        (errors.CallerScopeMissingError("no"), PermissionDeniedError),
        (errors.ServerBusyError("busy"), ResourceExhaustedError),
        (errors.NotImplementedYetError("not yet"), UnimplementedError),
        (ValueError("bug"), InternalError),
        (errors.StaleEtagError("stale"), AbortedError),
        (errors.NotFoundError("none"), NotFoundError),
        (errors.AlreadyExistsError("taken"), AlreadyExistsError),
    ],
)
def test_every_other_error_is_raised_at_once(
    client: IdentityClient, script: Script, sent: Exception, expected: type[IdentityError]
) -> None:
    script.answers = [sent]

    with pytest.raises(expected) as error:
        client.refresh("secret-refresh-token")

    assert type(error.value) is expected
    assert len(script.requests) == 1
    assert error.value.request_id == "request-1"
    assert error.value.reason == getattr(sent, "reason", "INTERNAL")
    assert "secret" not in str(error.value) + repr(error.value)
    assert error.value.__cause__ is None


def test_field_violations_are_unpacked(client: IdentityClient, script: Script) -> None:
    script.answers = [errors.InvalidRequestError.of("lifetime", "must be positive")]

    with pytest.raises(InvalidArgumentError) as error:
        client.issue(pb.IssueRequest())

    assert error.value.violations == {"lifetime": "must be positive"}


def test_a_call_ends_at_its_deadline(target: str, script: Script) -> None:
    release = threading.Event()

    def slow() -> pb.RevokeResponse:
        release.wait(PATIENCE)
        return pb.RevokeResponse()

    script.answers = [slow]
    with (
        IdentityClient(target, options=ClientOptions(timeout=timedelta(milliseconds=200))) as client,
        pytest.raises(UnavailableError) as error,
    ):
        client.revoke_token("t")
    release.set()

    assert error.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert str(error.value) == "the service did not answer within 0.2 s"


def test_the_callers_token_goes_along_and_may_be_renewed(target: str, script: Script) -> None:
    script.answers = [pb.RevokeResponse()]
    given = iter(["one", "two"])
    for options in (
        ClientOptions(),
        ClientOptions(bearer="fixed"),
        ClientOptions(bearer=lambda: next(given)),
    ):
        assert "fixed" not in repr(options)
        with IdentityClient(target, options=options) as client:
            client.revoke_token("t")
            client.revoke_token("t")

    sent = [metadata.get("authorization") for metadata in script.metadata]
    assert sent == [None, None, "Bearer fixed", "Bearer fixed", "Bearer one", "Bearer two"]


def test_a_channel_of_the_callers_stays_open(target: str, script: Script) -> None:
    script.answers = [pb.RevokeResponse(revision="e.1")]
    with grpc.insecure_channel(target) as channel:
        for _ in range(2):
            with IdentityClient(channel=channel) as client:
                assert client.revoke_token("t") == "e.1"


def test_a_string_in_place_of_a_list_is_refused(target: str) -> None:
    with IdentityClient(target) as client:
        for call in (
            lambda: client.verify("t", audiences="api"),
            lambda: client.verify("t", any_audience=True, required_scopes="read"),
            lambda: client.refresh("r", audiences="api"),
            lambda: client.issue_with_secret("c", "s", scopes="read write"),
        ):
            with pytest.raises(TypeError, match="must be a list of texts"):
                call()
