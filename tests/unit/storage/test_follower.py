"""The threads beside a replica: they outlive what nobody foresaw, and confirm nothing meanwhile."""

import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from identity_service.clock import SystemClock
from identity_service.domain.errors import ReplicaStaleError
from identity_service.domain.ids import TokenId, new_epoch
from identity_service.domain.log import RecordChanged
from identity_service.storage.follower import Follower
from identity_service.storage.replica import Replica, ReplicaConfig
from identity_service.storage.sqlite import SqliteStore
from tests.patience import PATIENCE, until
from tests.rpc.clocks import ShiftedClock

MAX_STALENESS = timedelta(seconds=2 * PATIENCE)


class Journal:
    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, object]]] = []
        self.recorded = threading.Condition()

    def record(self, event: str, **fields: object) -> None:
        with self.recorded:
            self.events.append((event, fields))
            self.recorded.notify_all()

    def wait_for(self, event: str) -> dict[str, object]:
        def found() -> list[dict[str, object]]:
            return [fields for name, fields in self.events if name == event]

        with self.recorded:
            assert self.recorded.wait_for(found, PATIENCE), f"no {event}: {self.events}"
            return found()[0]


@pytest.fixture
def journal() -> Journal:
    return Journal()


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
def replica(store: SqliteStore, clock: ShiftedClock, journal: Journal) -> Replica:
    return Replica(store, clock, journal, ReplicaConfig(max_staleness=MAX_STALENESS))


@pytest.fixture
def following(store: SqliteStore, replica: Replica, journal: Journal) -> Iterator[Follower]:
    follower = Follower(store, replica, journal, process="p", beat_interval=timedelta(milliseconds=20))
    yield follower
    follower.close()
    follower.join(timeout=PATIENCE)


def test_a_bug_makes_it_stale_and_not_blind_for_ever(
    store: SqliteStore, replica: Replica, clock: ShiftedClock, journal: Journal, following: Follower
) -> None:
    broken = threading.Event()

    def subscriber(change: RecordChanged | None) -> None:
        if broken.is_set():
            raise KeyError("a value that no log may show")

    class Listener:
        def folded(self, *_: object) -> None:
            subscriber(None)

        def replaced(self, *_: object) -> None: ...

    replica.follow(Listener())
    following.start()
    replica.require_fresh()
    broken.set()
    store.deny_token(TokenId("t1"), SystemClock().now() + timedelta(hours=1))

    assert journal.wait_for("follower_bug")["error"] == "KeyError"
    assert "no log may show" not in str(journal.events)
    clock.age(MAX_STALENESS.total_seconds() + 1)
    until(lambda: not replica.is_fresh())
    with pytest.raises(ReplicaStaleError):
        replica.require_fresh()
    broken.clear()
    until(replica.is_fresh)
    assert "t1" in replica.revocations.denylist
