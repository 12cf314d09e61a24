"""Requests that would take much memory or time to parse are refused before they are parsed."""

from contextlib import suppress
from typing import Any, cast

import pytest
from google.protobuf.struct_pb2 import Struct

from identity_service.domain.credential_errors import CallerUnauthenticatedError
from identity_service.domain.errors import InvalidRequestError
from identity_service.domain.grants import MAX_AUDIENCES, MAX_SCOPES
from identity_service.domain.tokens import MAX_TOKEN_CHARS
from identity_service.grpc_api.asgi.context import AbortedError, AsgiContext
from identity_service.grpc_api.batches import MAX_BATCH, check_serialized_batch
from identity_service.grpc_api.claims import to_claims
from identity_service.grpc_api.method_spec import MAX_REQUEST_BYTES, Access, Pool, Rule, Unary
from identity_service.grpc_api.pipeline import Pipeline
from identity_service.grpc_api.proofs import CallProofs
from identity_service.grpc_api.threads import Pools
from identity_service.transport.limits import Limits, LimitsConfig
from identityapi.v1 import identity_service_pb2 as pb
from identityapi.v1 import token_pb2
from tests.fakes.event_logs import RecordingEventLog


class Request:
    """A message class that records what it is told to parse."""

    parsed: list[bytes]

    @classmethod
    def FromString(cls, data: bytes) -> pb.VerifyRequest:  # noqa: N802  # the name is protobuf's
        cls.parsed.append(data)
        return pb.VerifyRequest()


@pytest.fixture(autouse=True)
def parsed() -> list[bytes]:
    Request.parsed = []
    return Request.parsed


class RefusingGate:
    """A gate that refuses every caller of a method that is not open."""

    proofs = CallProofs((), lambda: None)

    def applies(self, rule: Rule, request: object) -> bool:
        return rule.access is not Access.OPEN

    def admit(self, *_: object, may_wait: bool = True) -> Any:
        raise CallerUnauthenticatedError("no token")


def call(data: bytes, access: Access = Access.OPEN, **limits: Any) -> AsgiContext:
    """Call a method with these limits; return the context of the call, which has its status."""
    spec = Unary(
        Rule(access=access, pool=Pool.MEMORY), cast("Any", Request), lambda *_: pb.VerifyResponse(), **limits
    )
    gate = cast("Any", RefusingGate())
    pipeline = Pipeline(gate, Pools(memory=1, work=1), Limits(LimitsConfig(), RecordingEventLog()))
    context = AsgiContext({"headers": []})
    handler: Any = pipeline.handler("/test.Service/Method", spec)
    with suppress(AbortedError):
        handler.answer(data, context)
    return context


def test_a_request_that_is_too_long_is_refused_and_not_parsed(parsed: list[bytes]) -> None:
    refused = call(bytes(101), max_bytes=100)

    assert "must have at most 100 bytes" in refused.details()
    assert parsed == []
    assert call(bytes(100), max_bytes=100).code() is None
    assert parsed == [bytes(100)]


def test_a_request_that_the_check_of_its_method_refuses_is_not_parsed(parsed: list[bytes]) -> None:
    def check(_: bytes) -> None:
        raise InvalidRequestError.of("requests", "must be fewer")

    assert "must be fewer" in call(b"", check=check).details()
    assert parsed == []


@pytest.mark.parametrize("access", [Access.SCOPE, Access.OWN_OR_SCOPE, Access.SCOPE_WHERE_CONFIGURED])
def test_a_caller_that_is_refused_has_its_request_not_parsed(parsed: list[bytes], access: Access) -> None:
    assert "no token" in call(b"", access).details()
    assert parsed == []


def test_the_longest_valid_request_of_issue_is_not_too_long() -> None:
    token, claims = "x" * MAX_TOKEN_CHARS, Struct()
    claims.update({"a": [0] * 680})
    assert to_claims(claims)
    request = pb.IssueRequest(
        credential=token_pb2.Credential(federated_token=token_pb2.FederatedToken(jwt=token)),
        subject_token=token,
        actor_token=token,
        audiences=["a" * 256] * MAX_AUDIENCES,
        scopes=["s" * 128] * MAX_SCOPES,
        claims=claims,
        device="\U0001f600" * 128,
        may_act_client_id="c" * 128,
    )

    assert request.ByteSize() < MAX_REQUEST_BYTES


def test_a_batch_of_too_many_requests_is_refused_before_it_is_parsed() -> None:
    full = pb.VerifyBatchRequest(requests=[pb.VerifyRequest(token="t" * 8192)] * MAX_BATCH)

    check_serialized_batch(full.SerializeToString())
    with pytest.raises(InvalidRequestError, match="1 to 1000"):
        check_serialized_batch(b"\x0a\x00" * 8_000_000)
