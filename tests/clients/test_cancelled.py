"""The calls that the Python client repeats after a stopping server has answered CANCELLED."""

import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import grpc
import pytest

from identity_client import ClientOptions
from identityapi.v1 import admin_service_pb2, identity_service_pb2
from tests.patience import PATIENCE

IDENTITY = identity_service_pb2.DESCRIPTOR.services_by_name["IdentityService"]
ADMIN = admin_service_pb2.DESCRIPTOR.services_by_name["AdminService"]
MAKES_OR_ENDS_A_RECORD = (
    *("CreateClient", "UpdateClient", "DeleteClient", "RotateClientSecret"),
    *("CreateUser", "UpdateUser", "DeleteUser"),
    *("CreateTrustedIssuer", "UpdateTrustedIssuer", "DeleteTrustedIssuer"),
    *("RotateKeys", "RetireKey", "RewrapKeys"),
)
OPTIONS = ClientOptions(initial_backoff=timedelta(milliseconds=20), max_attempts=3)


class Stopping(grpc.GenericRpcHandler):
    """A server that ends every call with CANCELLED as early as possible, and counts the calls."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.called = threading.Event()
        self.may_answer = threading.Event()
        self.may_answer.set()

    def service(self, details: Any) -> Any:
        if details.method == "/test/Ping":
            return grpc.unary_unary_rpc_method_handler(lambda request, _: request)
        return grpc.unary_unary_rpc_method_handler(lambda _, context: self._answer(details.method, context))

    def _answer(self, method: str, context: grpc.ServicerContext) -> bytes:
        self.calls[method] += 1
        self.called.set()
        self.may_answer.wait(PATIENCE)
        context.abort(grpc.StatusCode.CANCELLED, "the server stops")


@pytest.fixture
def stopping() -> Stopping:
    return Stopping()


@pytest.fixture
def channel(stopping: Stopping) -> Iterator[grpc.Channel]:
    with ThreadPoolExecutor(max_workers=4) as threads:
        server = grpc.server(threads, handlers=[stopping])
        target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()
        with grpc.insecure_channel(target, OPTIONS.channel_arguments()) as channel:
            yield channel
        stopping.may_answer.set()
        server.stop(None).wait()


def method_of(channel: grpc.Channel, path: str) -> "grpc.UnaryUnaryMultiCallable[bytes, bytes]":
    return channel.unary_unary(path)


def attempts(channel: grpc.Channel, stopping: Stopping, service: Any, method: str) -> int:
    path = f"/{service.full_name}/{method}"
    with pytest.raises(grpc.RpcError) as error:
        method_of(channel, path)(b"", timeout=PATIENCE)
    assert error.value.code() is grpc.StatusCode.CANCELLED
    return stopping.calls[path]


@pytest.mark.parametrize("method", [method.name for method in IDENTITY.methods])
def test_calls_that_may_be_repeated_are_repeated(
    channel: grpc.Channel, stopping: Stopping, method: str
) -> None:
    """Issue then gives another token and Refresh the same successor; a second Revoke changes nothing."""
    assert attempts(channel, stopping, IDENTITY, method) == 3


@pytest.mark.parametrize("method", MAKES_OR_ENDS_A_RECORD)
def test_calls_that_create_or_end_a_record_are_made_once(
    channel: grpc.Channel, stopping: Stopping, method: str
) -> None:
    assert method in ADMIN.methods_by_name
    assert attempts(channel, stopping, ADMIN, method) == 1


def test_every_method_of_administration_reads_repeats_or_is_called_once() -> None:
    reads = {name for name in ADMIN.methods_by_name if name.startswith(("Get", "List", "Tail"))}

    assert set(ADMIN.methods_by_name) == reads | {"SetPassword", "RevokeSessions"} | {*MAKES_OR_ENDS_A_RECORD}


def test_a_call_that_the_caller_cancels_is_not_repeated(channel: grpc.Channel, stopping: Stopping) -> None:
    stopping.may_answer.clear()
    path = f"/{IDENTITY.full_name}/Issue"
    call = method_of(channel, path).future(b"", timeout=PATIENCE)
    assert stopping.called.wait(PATIENCE)

    assert call.cancel()

    with pytest.raises(grpc.FutureCancelledError):
        call.result()
    stopping.may_answer.set()
    for _ in range(20):  # a repetition would have been due before these
        assert method_of(channel, "/test/Ping")(b"ping", timeout=PATIENCE) == b"ping"
    assert stopping.calls[path] == 1
