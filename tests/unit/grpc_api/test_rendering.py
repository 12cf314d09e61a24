"""The claims of a token in the response of Verify."""

from datetime import UTC, datetime

from google.protobuf.json_format import MessageToDict

from identity_service.domain.ids import PrincipalId, SessionId, TokenId
from identity_service.domain.tokens import AccessToken, Actor
from identity_service.grpc_api.claims import render
from identityapi.v1 import identity_service_pb2 as pb
from identityapi.v1 import token_pb2
from tests.unit.domain.samples import a_token

TIME = datetime(2026, 1, 1, 12, 30, 1, tzinfo=UTC)


def verified(token: AccessToken) -> token_pb2.VerifiedToken:
    return pb.VerifyResponse.FromString(render(token)).verified


def test_an_answer_has_every_claim() -> None:
    actor = Actor(subject=PrincipalId("gateway"), client_id=PrincipalId("edge"))
    token = AccessToken(
        issuer="https://identity.example",
        subject=PrincipalId("u_1"),
        audiences=("api", "web"),
        client_id=PrincipalId("shop"),
        scopes=("read", "write"),
        token_id=TokenId("t1"),
        session_id=SessionId("s1"),
        issue_time=TIME,
        expire_time=TIME.replace(minute=45),
        auth_time=TIME.replace(minute=5),
        actors=(actor, Actor(subject=PrincipalId("robot"))),
        may_act=actor,
        certificate_sha256=b"c" * 32,
        key_sha256=b"k" * 32,
        claims={"tenant": "blue", "levels": [1, {"deep": None}], "on": True},
    )

    assert verified(token) == token_pb2.VerifiedToken(
        issuer="https://identity.example",
        subject="u_1",
        audiences=["api", "web"],
        client_id="shop",
        scopes=["read", "write"],
        token_id="t1",
        session_id="s1",
        issue_time=TIME,
        expire_time=TIME.replace(minute=45),
        auth_time=TIME.replace(minute=5),
        actors=[token_pb2.Actor(subject="gateway", client_id="edge"), token_pb2.Actor(subject="robot")],
        may_act=token_pb2.Actor(subject="gateway", client_id="edge"),
        certificate_sha256=b"c" * 32,
        dpop_key_sha256=b"k" * 32,
        claims={"tenant": "blue", "levels": [1, {"deep": None}], "on": True},
    )


def test_an_answer_has_no_field_for_a_claim_that_the_token_lacks() -> None:
    shown = MessageToDict(verified(a_token(session_id=None)), preserving_proto_field_name=True)

    assert shown.keys() == {
        *("issuer", "subject", "audiences", "client_id", "scopes", "token_id", "issue_time", "expire_time")
    }


def test_a_time_between_two_seconds_is_shown_as_it_is() -> None:
    half = TIME.replace(microsecond=500_000)

    assert verified(a_token(issue_time=half)).issue_time.ToDatetime(UTC) == half
