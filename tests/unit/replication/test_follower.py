"""The threads that update a replica: an unexpected error ends none, and nothing is confirmed meanwhile."""

import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from identity_service.adapters.clock import SystemClock
from identity_service.domain.copying import Fence
from identity_service.domain.errors import ReplicaStaleError, StoreFencedError
from identity_service.domain.ids import Epoch, TokenId, new_epoch
from identity_service.domain.log import Head, Revision, TokenDenied
from identity_service.process.background import BackgroundThread
from identity_service.replication.follower import Follower
from identity_service.replication.replica import Replica, ReplicaConfig
from identity_service.storage.sqlite import SqliteStore
from tests.fakes.event_logs import RecordingEventLog
from tests.fakes.log_listeners import FakeLogListener
from tests.patience import PATIENCE, until
from tests.rpc.clocks import ShiftedClock

FENCE = Fence(target="redis://other.example:6379/0", epoch=Epoch("e1"))
MAX_STALENESS = timedelta(seconds=2 * PATIENCE)


@pytest.fixture
def clock() -> ShiftedClock:
    return ShiftedClock()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore.open(str(tmp_path / "i.db"), clock=SystemClock())
    store.initialise(new_epoch())
    yield store
    store.close()


@pytest.fixture
def replica(store: SqliteStore, clock: ShiftedClock, event_log: RecordingEventLog) -> Replica:
    return Replica(store.log, clock, event_log, ReplicaConfig(max_staleness=MAX_STALENESS))


class Following:
    """A follower with its threads."""

    def __init__(self, follower: Follower) -> None:
        self._follower = follower
        works = (follower.follow, follower.send_heartbeats, follower.maintain)
        self.threads = [BackgroundThread("a thread of the follower", work) for work in works]

    def start(self) -> None:
        self._follower.load()
        for thread in self.threads:
            thread.start()


@pytest.fixture
def following(store: SqliteStore, replica: Replica, event_log: RecordingEventLog) -> Iterator[Following]:
    interval = timedelta(milliseconds=20)
    following = Following(Follower(store.log, replica, event_log, process="p", heartbeat_interval=interval))
    yield following
    for thread in following.threads:
        thread.close()
    for thread in following.threads:
        thread.join(PATIENCE)


def test_a_bug_makes_it_stale_and_not_blind_for_ever(
    store: SqliteStore,
    replica: Replica,
    clock: ShiftedClock,
    event_log: RecordingEventLog,
    following: Following,
) -> None:
    broken = threading.Event()

    def fail(revision: Revision) -> None:
        if broken.is_set():
            raise KeyError("a value that no log may show")

    replica.follow(FakeLogListener(changed=fail))
    following.start()
    replica.require_fresh()
    broken.set()
    store.facts.deny_token(TokenId("t1"), SystemClock().now() + timedelta(hours=1))

    assert event_log.wait_for("follower_bug")["error"] == "KeyError"
    assert "no log may show" not in str(event_log.events)
    clock.age(MAX_STALENESS.total_seconds() + 1)
    until(lambda: not replica.is_fresh())
    with pytest.raises(ReplicaStaleError):
        replica.require_fresh()
    broken.clear()
    until(replica.is_fresh)
    assert "t1" in replica.revocations.denylist


def test_a_process_whose_store_was_moved_reports_it_once_and_answers_with_the_new_url(
    store: SqliteStore,
    replica: Replica,
    clock: ShiftedClock,
    event_log: RecordingEventLog,
    following: Following,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    heartbeats, heartbeat = threading.Semaphore(0), store.log.heartbeat

    def counted(process: str, retention: timedelta = timedelta(0), **more: Any) -> Head:
        heartbeats.release()
        return heartbeat(process, retention, **more)

    monkeypatch.setattr(store.log, "heartbeat", counted)
    following.start()
    store.copying.fence(FENCE)
    assert FENCE.target in str(event_log.wait_for("store_moved")["error"])
    replica.maintenance.add_unconfirmed(TokenDenied(token_id=TokenId("t1"), deny_until=SystemClock().now()))
    for _ in range(10):
        assert heartbeats.acquire(timeout=PATIENCE)
    clock.age(MAX_STALENESS.total_seconds() + 1)

    with pytest.raises(StoreFencedError, match=FENCE.target) as refused:
        replica.require_fresh()
    assert refused.value.target == FENCE.target
    assert replica.status == str(refused.value)
    replica.catch_up()
    with pytest.raises(StoreFencedError):
        replica.require_fresh()
    assert event_log.names.count("store_moved") == 1
    assert not {"store_lost", "follower_bug"} & set(event_log.names)

    store.copying.lift_fence()
    until(replica.is_fresh)
    store.copying.fence(FENCE)
    until(lambda: event_log.names.count("store_moved") == 2)


def test_a_process_does_not_start_on_a_store_that_was_moved(
    store: SqliteStore, following: Following, event_log: RecordingEventLog
) -> None:
    store.copying.fence(FENCE)
    with pytest.raises(StoreFencedError, match="set the service's `store` to that URL"):
        following.start()
    assert not event_log.events
