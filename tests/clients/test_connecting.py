"""The Python client connects while its service is being replaced."""

import socket
import struct
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from identity_client import IdentityClient, Rejected
from identityapi.v1 import identity_service_pb2 as pb
from identityapi.v1 import identity_service_pb2_grpc as rpc
from tests.ports import reserve_port

pytestmark = pytest.mark.usefixtures("both_kinds")


_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class _Successor:
    def _expired(self, request: pb.VerifyRequest, context: grpc.ServicerContext) -> pb.VerifyResponse:
        return pb.VerifyResponse(rejected=pb.Rejection(reason=pb.REJECTION_REASON_EXPIRED))

    Issue = Verify = VerifyBatch = Refresh = Revoke = _expired


@pytest.fixture
def successor() -> Iterator[grpc.Server]:
    with ThreadPoolExecutor(max_workers=1) as threads:
        server = grpc.server(threads)
        servicer: Any = _Successor()
        rpc.add_IdentityServiceServicer_to_server(servicer, server)
        yield server
        server.stop(None).wait()


def test_a_connection_that_is_reset_while_connecting_is_retried_within_the_call(
    successor: grpc.Server,
) -> None:
    with socket.socket() as leaving:
        port = reserve_port()
        leaving.bind(("127.0.0.1", port))
        leaving.listen()
        target = f"127.0.0.1:{port}"

        def replace() -> None:
            connection, _ = leaving.accept()
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            leaving.close()
            connection.close()
            successor.add_insecure_port(target)
            successor.start()

        replacing = threading.Thread(target=replace)
        replacing.start()
        with IdentityClient(target) as client:
            outcome = client.verify("a-token", any_audience=True)
        replacing.join()

    assert isinstance(outcome, Rejected)
