"""Bad input of every kind: INVALID_ARGUMENT with field violations, and no secret in the log."""

from typing import Any, Final

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import Struct
from grpc_health.v1 import health_pb2, health_pb2_grpc

from identityapi.v1 import identity_service_pb2 as pb
from identityapi.v1 import token_pb2
from tests.rpc.conftest import StartWorld
from tests.rpc.world import API, Failure, World, client_secret, failure, password

METHODS = ("Issue", "Verify", "VerifyBatch", "Refresh", "Revoke")
GOOD = client_secret("reports", "secret")


def struct(**members: object) -> Struct:
    made = Struct()
    made.update(members)  # type: ignore[arg-type]
    return made


def nested(depth: int) -> Struct:
    made = Struct()
    for _ in range(depth - 1):
        outer = Struct()
        outer.fields["a"].struct_value.CopyFrom(made)
        made = outer
    return made


def refusal(call: object, request: object) -> Failure:
    with pytest.raises(grpc.RpcError) as error:
        call(request)  # type: ignore[operator]
    return failure(error.value)


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (pb.IssueRequest(), "credential"),
        (pb.IssueRequest(credential=token_pb2.Credential()), "credential"),
        (pb.IssueRequest(credential=client_secret("", "")), "credential.client_secret.client_id"),
        (pb.IssueRequest(credential=client_secret("x" * 129, "s")), "credential.client_secret.client_id"),
        (pb.IssueRequest(credential=client_secret("x", "s" * 257)), "credential.client_secret.client_secret"),
        (pb.IssueRequest(credential=password("", "x")), "credential.password.username"),
        (pb.IssueRequest(credential=password("x", "")), "credential.password.password"),
        (pb.IssueRequest(credential=password("x", "y" * 1025)), "credential.password.password"),
        (pb.IssueRequest(credential=GOOD, device="phone\nroot"), "device"),
        (pb.IssueRequest(credential=GOOD, device="\u202ephone"), "device"),
        (pb.IssueRequest(credential=password("a\x1b", "x")), "credential.password.username"),
        (pb.IssueRequest(credential=client_secret("a\x9b", "x")), "credential.client_secret.client_id"),
        (pb.IssueRequest(credential=GOOD, audiences=[API] * 17), "audiences"),
        (pb.IssueRequest(credential=GOOD, audiences=["a b"]), "audiences[0]"),
        (pb.IssueRequest(credential=GOOD, audiences=[API, ""]), "audiences[1]"),
        (pb.IssueRequest(credential=GOOD, scopes=["s"] * 10_000), "scopes"),
        (pb.IssueRequest(credential=GOOD, scopes=["read", 'a"b']), "scopes[1]"),
        (pb.IssueRequest(credential=GOOD, scopes=["identity.root"]), "scopes[0]"),
        (pb.IssueRequest(credential=GOOD, lifetime=Duration(seconds=-1)), "lifetime"),
        (pb.IssueRequest(credential=GOOD, lifetime=Duration(seconds=0)), "lifetime"),
        (pb.IssueRequest(credential=GOOD, lifetime=Duration(nanos=5)), "lifetime"),
        (pb.IssueRequest(credential=GOOD, lifetime=Duration(seconds=2**63 - 1)), "lifetime"),
        (pb.IssueRequest(credential=GOOD, encryption=17), "encryption"),  # type: ignore[arg-type]
        (pb.IssueRequest(credential=GOOD, device="d" * 129), "device"),
        (pb.IssueRequest(credential=GOOD, claims=struct(sub="me")), "claims.sub"),
        (pb.IssueRequest(credential=GOOD, claims=struct(exp=1)), "claims.exp"),
        (pb.IssueRequest(credential=GOOD, claims=struct(gen={})), "claims.gen"),
        (pb.IssueRequest(credential=GOOD, claims=struct(big="x" * 2048)), "claims"),
        (pb.IssueRequest(credential=GOOD, claims=struct(n=float("inf"))), "claims"),
        (pb.IssueRequest(credential=GOOD, claims=struct(n=float("nan"))), "claims"),
        (pb.IssueRequest(credential=GOOD, claims=nested(9)), "claims"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_issue_names_the_field_that_is_wrong(world: World, request_: pb.IssueRequest, field: str) -> None:
    found = refusal(world.stub.Issue, request_)

    assert found.code is grpc.StatusCode.INVALID_ARGUMENT
    assert found.domain == "identityapi.v1"
    assert field in found.fields


def test_issue_at_the_bounds_is_taken(world: World) -> None:
    """The control of the tests in which a field is beyond its bound: here each field is at its bound."""
    client = world.new_client()
    tokens = world.stub.Issue(
        pb.IssueRequest(
            credential=client.credential,
            audiences=[API] * 16,
            scopes=["read"] * 100,
            lifetime=Duration(seconds=24 * 3600),
            claims=nested(8),
            encryption=token_pb2.TOKEN_ENCRYPTION_NONE,
            device="d" * 128,
        )
    ).token_set

    assert world.reason(tokens.access_token) == ""


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (pb.VerifyRequest(token="x"), "audiences"),
        (pb.VerifyRequest(token="x", audiences=[API] * 17), "audiences"),
        (pb.VerifyRequest(token="x", audiences=[API], required_scopes=["s"] * 10_000), "required_scopes"),
        (pb.VerifyRequest(token="x", audiences=[API], at_least_revision="7"), "at_least_revision"),
        (pb.VerifyRequest(token="x", audiences=[API], at_least_revision="a.-1"), "at_least_revision"),
        (pb.VerifyRequest(token="x", audiences=[API], at_least_revision="a.1.-"), "at_least_revision"),
        (pb.VerifyRequest(token="x", audiences=[API], at_least_revision="a.1.b.c"), "at_least_revision"),
        (
            pb.VerifyRequest(token="x", audiences=[API], at_least_revision="a.1." + "l" * 65),
            "at_least_revision",
        ),
        (
            pb.VerifyRequest(token="x", audiences=[API], at_least_revision="a." + "9" * 99),
            "at_least_revision",
        ),
        (pb.VerifyRequest(token="x", audiences=[API], certificate_sha256=b"short"), "certificate_sha256"),
        (pb.VerifyRequest(token="x", audiences=[API], dpop_key_sha256=b"short"), "dpop_key_sha256"),
    ],
)
def test_verify_names_the_field_that_is_wrong(world: World, request_: pb.VerifyRequest, field: str) -> None:
    alone = refusal(world.stub.Verify, request_)
    good = pb.VerifyRequest(token="x", audiences=[API])
    in_batch = refusal(world.stub.VerifyBatch, pb.VerifyBatchRequest(requests=[good, request_]))

    assert (alone.code, in_batch.code) == (grpc.StatusCode.INVALID_ARGUMENT,) * 2
    assert alone.fields.keys() == {field}
    assert in_batch.fields.keys() == {f"requests[1].{field}"}


@pytest.mark.parametrize(
    ("call", "request_", "field"),
    [
        ("VerifyBatch", pb.VerifyBatchRequest(), "requests"),
        ("Refresh", pb.RefreshRequest(), "refresh_token"),
        (
            "Refresh",
            pb.RefreshRequest(refresh_token="x", client_credential=password("a", "b")),
            "client_credential",
        ),
        ("Refresh", pb.RefreshRequest(refresh_token="x", scopes=["s"] * 10_000), "scopes"),
        ("Revoke", pb.RevokeRequest(token=""), "token"),
        ("Revoke", pb.RevokeRequest(token="x", reason="r" * 257), "reason"),
        ("Revoke", pb.RevokeRequest(token="x", request_id="r" * 65), "request_id"),
    ],
)
def test_other_methods_name_the_field_too(world: World, call: str, request_: object, field: str) -> None:
    found = refusal(getattr(world.stub, call), request_)

    assert found.code is grpc.StatusCode.INVALID_ARGUMENT
    assert field in found.fields


@pytest.mark.parametrize(
    "target",
    [
        {},
        {"token": ""},
        {"token_id": ""},
        {"token_id": "a b"},
        {"session_id": "x" * 129},
        {"subject": "*"},
        {"subject": "a\nb"},
        {"client_id": ""},
        {"everything": False},
    ],
)
def test_revoke_refuses_a_target_that_cannot_be(world: World, target: dict[str, str]) -> None:
    """The subject `*` would revoke everything, for which there is a target of its own (`everything`)."""
    with pytest.raises(grpc.RpcError) as error:
        world.revoke(world.admin_token(), **target)

    found = failure(error.value)
    assert found.code is grpc.StatusCode.INVALID_ARGUMENT
    assert found.fields.keys() == {*(target or ["target"])}
    assert "must be" in found.message or "must not be" in found.message


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "data", [b"\xff", b"\x0a\xff", b"\x0a\x05abc", b"\x0a\x02\xc3\x28", b"\x00" * 100, b"\x12" * 7]
)
def test_bytes_that_are_no_message_are_invalid(world: World, method: str, data: bytes) -> None:
    call: Any = world.channel.unary_unary(f"/identityapi.v1.IdentityService/{method}")

    found = refusal(call, data)

    assert found.code is grpc.StatusCode.INVALID_ARGUMENT
    assert found.reason in {"MALFORMED_REQUEST", "INVALID_FIELD"}
    assert found.request_id


def test_a_text_that_is_not_utf_8_is_malformed(world: World) -> None:
    call: Any = world.channel.unary_unary("/identityapi.v1.IdentityService/Verify")

    assert refusal(call, b"\x0a\x02\xc3\x28").reason == "MALFORMED_REQUEST"


def test_an_empty_message_is_one_with_no_fields(world: World) -> None:
    for method in METHODS:
        found = refusal(world.channel.unary_unary(f"/identityapi.v1.IdentityService/{method}"), b"")
        assert found.reason == "INVALID_FIELD"


def lengthy(prefix: bytes, length: int) -> bytes:
    """Return the tag of a protobuf field and the length of its value, encoded in four bytes."""
    return prefix + bytes(length >> 7 * n & 0x7F | (0x80 if n < 3 else 0) for n in range(4))


MANY: Final = 4_000_000
"""The number of repeated values, of two bytes each. Parsed, they would take hundreds of megabytes of memory
and a second or more."""


@pytest.mark.parametrize(
    ("method", "request_", "field"),
    [
        ("IdentityService/VerifyBatch", b"\x0a\x00" * MANY, "requests"),
        ("IdentityService/Issue", b"\x12\x00" * MANY, ""),
        ("IdentityService/Refresh", b"\x12\x00" * MANY, ""),
        ("IdentityService/Verify", b"\x12\x00" * MANY, ""),
        ("TrustService/GetKeys", lengthy(b"\x0a", MANY) + b"e" * MANY, ""),
    ],
)
def test_a_request_that_would_take_much_memory_is_not_parsed(
    world: World, method: str, request_: bytes, field: str
) -> None:
    found = refusal(world.channel.unary_unary(f"/identityapi.v1.{method}"), request_)

    assert found.code is grpc.StatusCode.INVALID_ARGUMENT
    assert found.fields.keys() == {field}


@pytest.mark.parametrize("method", METHODS)
def test_a_short_request_that_becomes_long_is_refused(world: World, method: str) -> None:
    """The request of 8 MB is 8 KB after gzip.

    The Envoy engine refuses it before it has decompressed all of it.
    """
    with grpc.insecure_channel(world.target, compression=grpc.Compression.Gzip) as channel:
        call: Any = channel.unary_unary(f"/identityapi.v1.IdentityService/{method}")
        with pytest.raises(grpc.RpcError) as error:
            call(b"\x0a\x00" * MANY)

    assert error.value.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED)


def test_a_stream_of_health_keeps_no_long_name(world: World) -> None:
    stub = health_pb2_grpc.HealthStub(world.channel)
    long, longest = (health_pb2.HealthCheckRequest(service="x" * length) for length in (2000, 1000))

    assert refusal(lambda request: next(stub.Watch(request)), long).code is grpc.StatusCode.INVALID_ARGUMENT
    watch = stub.Watch(longest)
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
    watch.cancel()


def test_a_message_over_the_size_limit_is_refused_by_the_core(start_world: StartWorld) -> None:
    """The engine refuses the message before the service sees the call, so the error has no details."""
    world = start_world(max_message_bytes=2**16)

    with pytest.raises(grpc.RpcError) as error:
        world.stub.Verify(pb.VerifyRequest(token="x" * 2**16, any_audience=True))

    assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.in_process
def test_nothing_secret_is_logged(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    client, user = world.new_client(), world.new_user()
    tokens = world.issue(user)
    secret = client.credential.client_secret.client_secret
    shown = [secret, tokens.access_token, tokens.refresh_token, "wrong-password-42", "wrong-secret-42"]
    world.issue(client)
    world.refresh(tokens.refresh_token)
    for credential in (client_secret(client.id, "wrong-secret-42"), password("ana", "wrong-password-42")):
        refusal(world.stub.Issue, pb.IssueRequest(credential=credential))
    refusal(world.stub.Refresh, pb.RefreshRequest(refresh_token=tokens.refresh_token + "x"))
    world.revoke(token=tokens.refresh_token)

    logged = "".join(capfd.readouterr())

    assert "session_started" in logged  # the control: the test does see the log
    for text in shown:
        assert text not in logged
