"""Clients that leave while the service works for them: what they hold open is counted until it is done."""

import threading

import grpc
import pytest

from identityapi.v1 import identity_service_pb2 as pb
from tests.rpc.conftest import StartWorld
from tests.rpc.slow_http2 import SlowClient
from tests.rpc.world import World

ISSUE = "/identityapi.v1.IdentityService/Issue"
RESOURCE_EXHAUSTED = str(grpc.StatusCode.RESOURCE_EXHAUSTED.value[0])


def framed(message: bytes) -> bytes:
    return b"\0" + len(message).to_bytes(4, "big") + message


WHOLE = framed(pb.IssueRequest().SerializeToString())


@pytest.mark.in_process
def test_a_client_that_resets_its_calls_has_no_more_of_them_waiting_for_a_thread(
    start_world: StartWorld,
) -> None:
    world = start_world(max_calls_per_peer=3, limits_exempt=())
    threads, calls = world.service._server._pools.work, world.service._limits.calls
    busy = threading.Event()
    for _ in range(threads.count):
        threads.submit(busy.wait)
    try:
        with SlowClient(world.target) as client:
            for number in range(3):
                stream = client.call(ISSUE, WHOLE, end=True)
                world.until(lambda number=number: threads.waiting == number + 1)  # type: ignore[misc]
                client.cancel(stream)
            world.until(lambda: not world.service._server._engine._serving._calls._open)  # type: ignore[attr-defined]

            refused = client.answer(client.call(ISSUE, WHOLE, end=True, metadata=[("grpc-timeout", "10S")]))

        assert (refused.grpc_status, threads.waiting, calls.open) == (RESOURCE_EXHAUSTED, 3, 3)
    finally:
        busy.set()
    world.until(lambda: nothing_is_open(world))


def nothing_is_open(world: World) -> bool:
    return all(quota.open == quota.addresses == 0 for quota in world.service._limits.quotas)
