"""The threads that send to watchers: clients that do not read, or a bug in one stream, delay no others."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta

import grpc
import pytest

from identityapi.v1 import trust_service_pb2 as pb
from identityapi.v1 import trust_service_pb2_grpc as rpc
from tests.patience import PATIENCE
from tests.rpc.conftest import StartWorld
from tests.rpc.watching import knows, watching
from tests.rpc.world import failure

SMALL = [("grpc.use_local_subchannel_pool", 1), ("grpc.http2.bdp_probe", 0)]
"""Channel options: each channel has a connection of its own, with a window that stays at 64 KiB."""


def test_many_that_do_not_read_do_not_hold_up_the_one_that_does(start_world: StartWorld) -> None:
    """Each watcher that does not read blocks a thread for 5 minutes, so other threads must take over."""
    send_timeout = timedelta(minutes=5)
    assert send_timeout.total_seconds() > PATIENCE
    world = start_world(send_timeout=send_timeout)
    with ExitStack() as cleanup, watching(world) as watcher:
        watcher.until(lambda w: w.complete)
        stuck = []  # a call without a reference to it is cancelled
        for _ in range(100):
            channel = cleanup.enter_context(grpc.insecure_channel(world.target, options=SMALL))
            stuck.append(rpc.TrustServiceStub(channel).Watch(pb.WatchRequest()))
            next(stuck[-1])
        for number in range(100):
            name = f"{number:04}" + "x" * 20_000
            world.store.facts.deny_token(name, world.clock.now() + timedelta(hours=1))  # type: ignore[arg-type]
        world.store.facts.deny_token("last", world.clock.now() + timedelta(hours=1))  # type: ignore[arg-type]
        watcher.until(knows("last"))


def test_a_stream_ends_at_the_age_at_which_its_caller_must_prove_itself_again(
    start_world: StartWorld,
) -> None:
    world = start_world(max_connection_age=timedelta(seconds=1))
    with watching(world) as watcher:
        error = failure(watcher.ended())

    assert (error.code, error.reason) == (grpc.StatusCode.UNAVAILABLE, "SHUTTING_DOWN")
    assert "max_connection_age" in error.message


@pytest.mark.in_process
def test_a_bug_in_one_stream_ends_that_one_and_no_other(
    start_world: StartWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = start_world()
    facts = type(world.service._replica.revocations).facts
    healthy = threading.Event()

    def spoilt(revocations: object) -> Iterator[object]:
        if not healthy.is_set():
            raise RuntimeError("a bug")
        yield from facts(revocations)  # type: ignore[arg-type]

    monkeypatch.setattr(type(world.service._replica.revocations), "facts", spoilt)
    for _ in range(8):  # more than there are senders
        with watching(world) as spoiled:
            assert failure(spoiled.ended()).code is grpc.StatusCode.INTERNAL
    healthy.set()
    with watching(world) as watcher:
        watcher.until(lambda w: w.complete)
