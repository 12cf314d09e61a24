"""Clients that cancel calls while the service works on them.

Such a call counts toward the limits until the work has ended.
"""

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import grpc
import pytest

from identityapi.v1 import identity_service_pb2 as pb
from tests.patience import until
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
    threads, calls = world.service._apis.server._pools.work, world.service._apis.limits.calls
    busy = threading.Event()
    for _ in range(threads.count):
        threads.submit(busy.wait)
    try:
        with SlowClient(world.target) as client:
            for number in range(3):
                stream = client.call(ISSUE, WHOLE, end=True)
                until(lambda number=number: threads.waiting == number + 1)  # type: ignore[misc]
                client.cancel(stream)
            until(lambda: not world.service._apis.server._engine._serving._calls._open)  # type: ignore[attr-defined]

            refused = client.answer(client.call(ISSUE, WHOLE, end=True, metadata=[("grpc-timeout", "10S")]))

        assert (refused.grpc_status, threads.waiting, calls.open) == (RESOURCE_EXHAUSTED, 3, 3)
    finally:
        busy.set()
    until(lambda: nothing_is_open(world))


def nothing_is_open(world: World) -> bool:
    return all(quota.open == quota.addresses == 0 for quota in world.service._apis.limits.quotas)


@pytest.mark.in_process
def test_a_deadline_that_has_passed_and_that_the_core_has_not_noticed_is_no_bug(
    start_world: StartWorld, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    world = start_world()
    monkeypatch.setattr("grpc._server._Context.time_remaining", lambda _: 0)

    with pytest.raises(grpc.RpcError) as error:
        world.issue(world.admin)

    assert error.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert "rpc_bug" not in "".join(capfd.readouterr())


VERIFY = "/identityapi.v1.IdentityService/Verify"
HEALTH = "/grpc.health.v1.Health/Watch"
WATCH = "/identityapi.v1.TrustService/Watch"
REFLECTION = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
TAIL = "/identityapi.v1.AdminService/TailAuditEvents"
UNKNOWN = "/identityapi.v1.IdentityService/Nothing"
PATHS = (ISSUE, VERIFY, HEALTH, WATCH, REFLECTION, TAIL, UNKNOWN)
BODIES = (b"", b"\0\0\0", framed(b""), b"\0\0\0\0\x64half", framed(b"\xff\xff no message"), framed(b"") * 3)
DEADLINES = ((), (("grpc-timeout", "1m"),), (("grpc-timeout", "30m"),))


def misbehave(world: World, token: str, chance: random.Random) -> None:
    """Open some calls on one connection, and cancel or abandon each at a random time."""
    with SlowClient(world.target, reads=chance.random() < 0.6) as client:
        for _ in range(chance.randrange(1, 12)):
            metadata = [*chance.choice(DEADLINES), ("authorization", f"Bearer {token}")]
            stream = client.call(
                chance.choice(PATHS), chance.choice(BODIES), metadata=metadata, end=chance.random() < 0.5
            )
            match chance.randrange(4):
                case 0:
                    client.cancel(stream)
                case 1:
                    time.sleep(chance.random() / 50)
                    client.cancel(stream)
                case 2 if not client.closed:
                    client.read()
                case _:
                    pass
        time.sleep(chance.random() / 4)


@pytest.mark.in_process
@pytest.mark.parametrize("seed", range(2))
def test_calls_of_misbehaving_clients_do_not_stay_counted(start_world: StartWorld, seed: int) -> None:
    world = start_world(
        reflection=True,
        limits_exempt=(),
        max_calls_per_peer=20,
        max_receives_per_peer=6,
        max_watchers_per_peer=2,
        max_health_watchers_per_peer=2,
        max_reflection_streams_per_peer=2,
        max_audit_tails=3,
        request_timeout=timedelta(milliseconds=100),
        send_timeout=timedelta(milliseconds=100),
    )
    token = world.admin_token(["identity.admin"])
    with ThreadPoolExecutor(6) as clients:
        ended = [
            clients.submit(misbehave, world, token, random.Random(1000 * seed + number))  # noqa: S311
            for number in range(60)
        ]
    for client in ended:
        client.result()

    until(lambda: nothing_is_open(world))
    assert world.issue(world.new_client()).access_token
