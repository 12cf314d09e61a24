"""Watch: the revocations in force, then each change as it happens. A slow watcher is disconnected."""

import threading
import time
from contextlib import ExitStack, suppress
from datetime import timedelta

import grpc
import pytest

from identity_service.services.watch import WatchHub
from identityapi.v1 import trust_service_pb2 as pb
from identityapi.v1 import trust_service_pb2_grpc as rpc
from tests.patience import PATIENCE, until
from tests.rpc.conftest import StartWorld
from tests.rpc.watching import knows, watching
from tests.rpc.world import World, bearer, failure


def test_a_watch_begins_with_the_live_revocations_and_then_sends_each_change(world: World) -> None:
    before, after = (world.issue(world.new_client(name)) for name in ("one", "two"))
    world.revoke(token=before.access_token)

    with watching(world) as watcher:
        watcher.until(lambda w: w.complete)
        assert watcher.seen[0].restarted
        assert watcher.known == {before.token_id}
        (keys,) = [m.key_set for m in watcher.seen if m.HasField("key_set")]
        assert [key.state for key in keys.keys] == [pb.KEY_STATE_SIGNING, pb.KEY_STATE_PENDING]

        revision = world.revoke(token=after.access_token)
        watcher.until(knows(after.token_id))
        assert watcher.revision == revision


def test_every_way_to_end_a_token_appears(world: World) -> None:
    admin, user = world.admin_token(), world.new_user()
    client = world.new_client()
    tokens = [world.issue(user) for _ in range(4)]
    with watching(world) as watcher:
        watcher.until(lambda w: w.complete)
        world.revoke(token=world.issue(client).access_token)
        world.revoke(admin, token_id="by-id")
        world.revoke(admin, session_id=tokens[0].session_id)
        world.revoke(token=tokens[1].refresh_token)
        _reuse(world, tokens[2].refresh_token)
        world.revoke(admin, subject=user.id)
        world.revoke(admin, client_id=client.id)
        world.revoke(admin, everything=True)
        world.disable_client(client)
        sessions = {t.session_id for t in tokens[:3]}
        watcher.until(knows("by-id", user.id, client.id, "*", *sessions))
        watcher.until(lambda w: w.revision == str(world.store.log.head().revision))
    raised = [
        r.raised_generation.number
        for m in watcher.seen
        for r in m.revocations
        if r.raised_generation.principal == client.id
    ]
    assert raised == [1, 2]


def _reuse(world: World, refresh_token: str) -> None:
    second = world.refresh(refresh_token).refresh_token
    third = world.refresh(second).refresh_token
    world.clock.advance(minutes=5)
    world.refresh(third)
    with pytest.raises(grpc.RpcError):
        world.refresh(refresh_token)


def test_a_watcher_that_reconnects_gets_only_the_missed_changes(world: World) -> None:
    admin = world.admin_token()
    old = world.revoke(admin, token_id="old")
    with watching(world) as watcher:
        # The denial may arrive before its revision. With the older revision, it would be sent once more.
        watcher.until(lambda w: "old" in w.known and w.revision == old)
    world.revoke(admin, token_id="missed")

    with watching(world, resume_after=watcher.revision) as again:
        again.until(knows("missed"))
        world.revoke(admin, token_id="new")
        again.until(knows("missed", "new"))
    assert again.known == {"missed", "new"}
    assert not any(message.restarted for message in again.seen)


@pytest.mark.parametrize(
    "place",
    [
        "0123456789abcdef.3.AAAAAAAAAAA",
        "0123456789abcdef.3",
        "{epoch}.99999.AAAAAAAAAAA",
        "{epoch}.{position}.AAAAAAAAAAA",
        "{epoch}.{position}",
    ],
    ids=["another epoch", "another epoch, older client", "past the end", "another link", "older client"],
)
def test_a_place_that_is_not_known_gets_everything(world: World, place: str) -> None:
    """A client with an unknown revision gets all revocations.

    Its request must not make the service begin a new epoch.
    """
    epoch, position, _ = world.revoke(world.admin_token(), token_id="old").split(".")
    with watching(world, resume_after=place.format(epoch=epoch, position=position)) as watcher:
        watcher.until(knows("old"))
    assert watcher.seen[0].restarted
    assert world.store.log.head().epoch == epoch


def test_a_malformed_revision_is_refused(world: World) -> None:
    with watching(world, resume_after="yesterday") as watcher:
        error = failure(watcher.ended())
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    assert "resume_after" in error.fields


def test_a_log_that_was_replaced_restarts_the_watcher_under_the_new_epoch(world: World) -> None:
    world.revoke(world.admin_token(), token_id="old")
    with watching(world) as watcher:
        watcher.until(knows("old"))
        world.store.log.renew(world.store.log.head().epoch, world.store.log.head().epoch[::-1])  # type: ignore[arg-type]
        watcher.until(lambda w: w.seen[-1].restarted or any(m.restarted for m in w.seen[1:]))
        watcher.until(lambda w: w.revision.startswith(world.store.log.head().epoch))
    assert "old" in watcher.known


def test_heartbeats_say_how_fresh_the_service_is(start_world: StartWorld) -> None:
    world = start_world(watch_heartbeat=timedelta(milliseconds=50))
    with watching(world) as watcher:
        watcher.until(lambda w: sum(m.HasField("time") for m in w.seen) >= 3)
    heartbeats = [m for m in watcher.seen if m.HasField("time")]
    assert all(m.revision and m.staleness.ToTimedelta() < timedelta(seconds=5) for m in heartbeats)


def test_a_change_reaches_many(start_world: StartWorld) -> None:
    world = start_world()
    admin = world.admin_token()
    with ExitStack() as cleanup:
        watchers = [cleanup.enter_context(watching(world)) for _ in range(200)]
        for watcher in watchers:
            watcher.until(lambda w: w.complete)
        world.revoke(admin, token_id="one")
        for watcher in watchers:
            watcher.until(knows("one"))


def test_a_watcher_that_does_not_read_is_cut_off_and_the_others_continue(start_world: StartWorld) -> None:
    """The watcher reads nothing. After some megabytes its connection is full, and sending to it blocks."""
    world = start_world(send_timeout=timedelta(seconds=5))
    channel = grpc.insecure_channel(world.target, options=[("grpc.use_local_subchannel_pool", 1)])
    stuck = rpc.TrustServiceStub(channel).Watch(pb.WatchRequest())
    next(iter(stuck))
    with watching(world) as watcher:
        watcher.until(lambda w: w.complete)
        names = [f"{number:04}" + "x" * 60_000 for number in range(300)]
        for few in (names[at : at + 20] for at in range(0, len(names), 20)):
            for name in few:
                world.store.facts.deny_token(name, world.clock.now() + timedelta(hours=1))  # type: ignore[arg-type]
            # What is read from the store at once is one message, and the client takes none above 4 MiB.
            watcher.until(knows(*few))
        world.revoke(world.admin_token(), token_id="last")
        watcher.until(knows("last"))
        # Wait before the stuck watcher reads: a watcher that begins to read in time is not cut off.
        until(lambda: world.service._apis.hub.__len__() == 1)
        with pytest.raises(grpc.RpcError):
            list(stuck)
    assert stuck.code() in {grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.CANCELLED}
    channel.close()


def test_there_are_no_more_watchers_than_may_be(start_world: StartWorld) -> None:
    world = start_world(max_watchers=2)
    with watching(world) as one, watching(world) as two:
        one.until(lambda w: w.complete)
        two.until(lambda w: w.complete)
        with watching(world) as three:
            error = failure(three.ended())
        assert (error.code, error.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "SERVER_BUSY")
        assert error.retry_after
        two.close()
        _eventually_accepted(world)


def _eventually_accepted(world: World) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        with watching(world) as watcher:
            with suppress(AssertionError):  # refused once more
                watcher.until(lambda w: w.complete)
            if watcher.complete:
                return
        assert time.monotonic() < deadline


@pytest.mark.in_process
def test_a_watcher_that_has_left_is_forgotten(start_world: StartWorld) -> None:
    world = start_world()
    with watching(world) as first:
        first.until(lambda w: w.complete)
    threads = threading.active_count()
    for _ in range(20):
        with watching(world) as watcher:
            watcher.until(lambda w: w.complete)
    assert threading.active_count() <= threads
    (hub,) = (listener for listener in world.service._replica._listeners if isinstance(listener, WatchHub))
    until(lambda: len(hub) == 0)


def test_when_the_service_stops_watchers_get_unavailable_and_reconnect_elsewhere(
    start_world: StartWorld,
) -> None:
    world = start_world()
    with watching(world) as watcher:
        watcher.until(lambda w: w.complete)
        assert world.service.stop()
        error = failure(watcher.ended())
    assert (error.code, error.reason) == (grpc.StatusCode.UNAVAILABLE, "SHUTTING_DOWN")


def test_if_callers_must_authenticate_watchers_must_too(start_world: StartWorld) -> None:
    world = start_world(require_caller_auth=True)
    with watching(world) as stranger:
        assert failure(stranger.ended()).code is grpc.StatusCode.UNAUTHENTICATED
    token = world.admin_token(["identity.verify"])
    with watching(world, metadata=bearer(token)) as known:
        known.until(lambda w: w.complete)
