"""Log entries that were lost while no process ran: the next start restores them before it answers any call.

Since no process runs, no replica knows the lost entries: only the state of the store can restore them.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from identity_service.domain.errors import AlreadyExistsError, StoreDamagedError, StoreReplacedError
from identity_service.domain.ids import Link, PrincipalId, SessionId, TokenId, new_epoch
from identity_service.domain.log import GenerationRaised, RecordKind, Revision, TokenDenied
from identity_service.domain.principals import Client
from identity_service.domain.store import Store
from identity_service.replication.replica import Replica
from identity_service.storage.redis.log import RedisLog
from identity_service.storage.sqlite import log as sqlite_log
from tests.conformance.backends import Backend
from tests.conformance.replicas import follow
from tests.conformance.samples import LATER, MUCH_LATER, a_client, a_user, entries_of
from tests.fakes.clocks import FakeClock
from tests.fakes.event_logs import RecordingEventLog

ALICE = PrincipalId("alice")
COUNT = 12


def revoke(store: Store, name: str) -> None:
    """Revoke a token, a session and a principal named after `name`, but none named `<name>-control`."""
    store.facts.deny_token(TokenId(f"t-{name}"), LATER)
    store.facts.end_session(SessionId(f"s-{name}"), deny_until=LATER, end_until=MUCH_LATER)
    store.facts.raise_generation(PrincipalId(f"p-{name}"), above=0, request_id=None)


def forgotten(replica: Replica, names: list[str]) -> list[str]:
    """Return the ids of the revocations made by `revoke` for `names` that the replica does not know."""
    known = replica.revocations
    tokens = [f"{kind}-{name}" for name in names for kind in "ts" if f"{kind}-{name}" not in known.denylist]
    return tokens + [f"p-{n}" for n in names if PrincipalId(f"p-{n}") not in known.generations]


def assert_complete(backend: Backend, names: list[str]) -> RecordingEventLog:
    """Start a process, and check that it knows exactly the revocations of `names`. Returns its event log."""
    _, newcomer, event_log = follow(backend)
    assert forgotten(newcomer, names) == []
    assert newcomer.is_fresh()
    controls = [f"{name}-control" for name in names]
    assert len(forgotten(newcomer, controls)) == 3 * len(names), "the same without a revocation is not denied"
    return event_log


def renewed_once(store: Store, backend: Backend) -> None:
    """Lose and repair an entry, so that the log has a new epoch, and all entries are below its floor."""
    _, replica, _ = follow(backend)
    store.facts.deny_token(TokenId("lost"), LATER)
    replica.catch_up()
    position = store.log.head().position
    backend.remove_entries(position, position)
    replica.heartbeat("p")
    replica.maintenance.do()
    replica.heartbeat("p")
    assert store.log.head().floor == position
    store.log.adopt(store.log.head().epoch)


LOSSES: dict[str, Callable[[Backend, int], None]] = {
    "some at the start": lambda backend, last: backend.remove_entries(1, last // 2),
    "some in the middle": lambda backend, last: backend.remove_entries(last // 3, last // 2),
    "one": lambda backend, last: backend.remove_entries(2, 2),
    "all but the last": lambda backend, last: backend.remove_entries(1, last - 1),
    "some at the end": lambda backend, last: backend.remove_entries(last // 2, last),
    "the whole log": lambda backend, last: backend.lose_log(),
}
each_loss = pytest.mark.parametrize("lose", LOSSES.values(), ids=LOSSES.keys())


@each_loss
@pytest.mark.parametrize("below_the_floor", [False, True], ids=["", "below the floor"])
def test_entries_that_were_lost_while_no_process_ran_are_back(
    store: Store, backend: Backend, lose: Callable[[Backend, int], None], below_the_floor: bool
) -> None:
    names = [f"{n}" for n in range(COUNT)]
    for name in names:
        revoke(store, name)
    if below_the_floor:
        renewed_once(store, backend)
    lose(backend, 3 * COUNT)

    assert_complete(backend, names)
    assert_complete(backend, names)


def test_a_start_reports_how_many_facts_it_repaired(store: Store, backend: Backend) -> None:
    for name in ("a", "b"):
        revoke(store, name)
    backend.remove_entries(1, 3)

    assert assert_complete(backend, ["a", "b"]).named("log_rebuilt") == [{"facts": 2}]
    assert assert_complete(backend, ["a", "b"]).named("log_rebuilt") == [], "once"
    head = backend.open().log.head()
    assert (head.whole, head.complete) == (True, True)


def test_a_renewal_that_ends_before_the_repair_leaves_a_mark(store: Store, backend: Backend) -> None:
    """Renewing the epoch sets the floor to the end of the log, so the log looks whole without the mark."""
    names = ["a", "b", "c"]
    for name in names:
        revoke(store, name)
    backend.remove_entries(1, 9)
    head = store.log.head()
    store.log.renew(head.epoch, new_epoch())
    assert (store.log.head().whole, store.log.head().complete) == (True, False)

    assert_complete(backend, names)
    assert backend.open().log.head().complete


def test_a_rebuild_that_ends_in_the_middle_leaves_the_mark(
    store: Store, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["a", "b", "c"]
    for name in names:
        revoke(store, name)
    backend.lose_log()
    first = backend.open()
    store.log.adopt(store.log.renew(store.log.head().epoch, new_epoch()))
    first.log.adopt(store.log.head().epoch)
    with monkeypatch.context() as patch:
        for module in (sqlite_log, RedisLog):
            patch.setattr(module, "finish_rebuild", _power_off)
        with pytest.raises(PowerOffError):
            first.log.rebuild()
    assert not store.log.head().complete

    assert_complete(backend, names)


def test_several_processes_may_rebuild_at_once(store: Store, backend: Backend) -> None:
    names = [f"{n}" for n in range(40)]
    for name in names:
        revoke(store, name)
    backend.lose_log()
    epoch = store.log.renew(store.log.head().epoch, new_epoch())
    stores = [backend.open() for _ in range(3)]
    for each in stores:
        each.log.adopt(epoch)
    with ThreadPoolExecutor(len(stores)) as threads:
        counts = list(threads.map(lambda each: each.log.rebuild(), stores))
    assert sum(counts) == 2 * len(names), "each fact was repaired once"
    assert_complete(backend, names)


def test_a_rebuild_under_another_epoch_changes_nothing(store: Store, backend: Backend) -> None:
    revoke(store, "a")
    backend.lose_log()
    other = backend.open()
    store.log.renew(store.log.head().epoch, new_epoch())
    with pytest.raises(StoreReplacedError):
        other.log.rebuild()
    assert not store.log.head().complete
    assert entries_of(store) == ()


# generations


def test_a_deleted_generation_is_restored_from_the_log(store: Store, backend: Backend) -> None:
    revoke(store, "a")
    revoke(store, "b")
    before = store.log.generations()
    backend.forget_generation(PrincipalId("p-a"))

    assert_complete(backend, ["a", "b"])
    assert backend.open().log.generations() == before


def test_a_generation_comes_back_from_a_process_that_knows_it(
    store: Store, backend: Backend, clock: FakeClock
) -> None:
    own, replica, event_log = follow(backend)
    without_its_entry(store, clock)
    replica.catch_up()
    assert PrincipalId("p-old") in replica.revocations.generations
    backend.forget_generation(PrincipalId("p-old"))
    own.log.renew(own.log.head().epoch, new_epoch())

    replica.heartbeat("p")
    replica.maintenance.do()
    assert own.log.head().complete
    assert event_log.named("log_incomplete") == []
    assert_complete(backend, ["old"])


def test_a_generation_that_is_raised_again_after_it_was_deleted_is_not_counted_twice(
    store: Store, backend: Backend
) -> None:
    """Counted twice, it would look like a lost generation, and every start would be refused."""
    revoke(store, "a")
    backend.forget_generation(PrincipalId("p-a"))
    store.facts.raise_generation(PrincipalId("p-a"), above=1, request_id=None)

    assert_complete(backend, ["a"])
    found = backend.open().log.head()
    assert (found.whole, found.complete) == (True, True)
    assert backend.open().log.generations()[PrincipalId("p-a")].number == 2


def test_a_start_is_refused_while_a_generation_is_lost_for_good(
    store: Store, backend: Backend, clock: FakeClock
) -> None:
    without_its_entry(store, clock)
    backend.forget_generation(PrincipalId("p-old"))

    for _ in range(2):
        with pytest.raises(StoreDamagedError, match="lost 1 of the generations"):
            follow(backend)


def test_a_lost_generation_that_cannot_be_repaired_is_reported_once_a_minute(
    store: Store, backend: Backend, clock: FakeClock
) -> None:
    """A serving process could repair the generation, so the test clears those in its memory."""
    without_its_entry(store, clock)
    own, replica, event_log = follow(backend)
    backend.forget_generation(PrincipalId("p-old"))
    own.log.renew(own.log.head().epoch, new_epoch())
    replica.revocations._generations.clear()

    for _ in range(3):
        replica.heartbeat("p")
        replica.maintenance.do()
    assert len(event_log.named("log_incomplete")) == 1
    clock.advance(timedelta(seconds=61))
    replica.heartbeat("p")
    replica.maintenance.do()
    assert len(event_log.named("log_incomplete")) == 2
    assert not own.log.head().complete


# Losses that a running process finds.


@pytest.mark.parametrize("backend", ["redis", "cluster"], indirect=True)  # SQLite counts at start
def test_a_running_process_finds_entries_gone_below_the_floor(store: Store, backend: Backend) -> None:
    names = [f"{n}" for n in range(COUNT)]
    for name in names:
        revoke(store, name)
    renewed_once(store, backend)
    own, replica, event_log = follow(backend)
    backend.remove_entries(1, 2 * COUNT)
    assert not own.log.head().whole

    replica.heartbeat("p")
    replica.maintenance.do()
    assert own.log.head().whole
    assert own.log.head().complete
    assert len(event_log.named("epoch_renewed")) == 1
    assert_complete(backend, names)


def test_a_running_process_finishes_the_rebuild_of_another_one(store: Store, backend: Backend) -> None:
    own, replica, event_log = follow(backend)
    revoke(store, "unknown-here")
    backend.lose_log()
    own.log.renew(own.log.head().epoch, new_epoch())

    replica.heartbeat("p")
    replica.maintenance.do()
    assert own.log.head().complete
    assert event_log.named("log_rebuilt") == [{"facts": 2}]
    replica.heartbeat("p")
    assert forgotten(replica, ["unknown-here"]) == []


def test_every_write_is_counted(store: Store, backend: Backend, clock: FakeClock) -> None:
    """Without the count of a write, an intact log would look damaged, and would get a new epoch."""
    store.log.heartbeat("p", timedelta(hours=1))
    for write in (
        lambda: revoke(store, "a"),
        lambda: revoke(store, "a"),
        lambda: store.records.create(a_client("billing")),
        lambda: store.records.create(a_user("u_1", "alice")),
        lambda: store.records.update(
            a_client("billing"), expected=etag(store, Client, "billing"), revoke=True
        ),
        lambda: store.records.update(
            a_client("billing"), expected=etag(store, Client, "billing"), revoke=True
        ),
        lambda: store.records.delete(RecordKind.USER, "u_1"),
        lambda: store.log.repair([GenerationRaised(principal=ALICE, number=3, origin=Link("three"))]),
        lambda: store.log.repair([GenerationRaised(principal=ALICE, number=3, origin=Link("other"))]),
        lambda: store.log.repair([TokenDenied(token_id=TokenId("t9"), deny_until=LATER)]),
        lambda: clock.advance(timedelta(hours=2)),
        lambda: store.log.trim(5),
        lambda: store.facts.raise_generation(ALICE, above=0, request_id="r"),
        lambda: store.facts.raise_generation(ALICE, above=0, request_id="r"),
    ):
        write()
        found = backend.open().log.head()
        assert (found.whole, found.complete) == (True, True)
        assert store.log.heartbeat("p").whole
    assert store.log.head().floor == 5


def test_only_a_store_that_holds_nothing_is_initialised(store: Store, backend: Backend) -> None:
    """A store that lost its log and head still holds denials, which a new log would not contain."""
    revoke(store, "a")
    backend.lose_log()
    backend.lose_head()
    with pytest.raises(AlreadyExistsError):
        backend.open().initialise(new_epoch())


class PowerOffError(Exception):
    """Stands for the end of the process, as in a power failure."""


def _power_off(*_: object) -> None:
    raise PowerOffError


def without_its_entry(store: Store, clock: FakeClock) -> None:
    """Raise a generation, then trim the entry of that raise from the log, as happens after the retention."""
    store.log.heartbeat("p", timedelta(hours=1))
    store.facts.raise_generation(PrincipalId("p-old"), above=0, request_id=None)
    clock.advance(timedelta(hours=2))
    store.facts.deny_token(TokenId("t-old"), MUCH_LATER)
    store.facts.end_session(SessionId("s-old"), deny_until=MUCH_LATER, end_until=MUCH_LATER)
    assert store.log.trim(1) == 1


def etag(store: Store, kind: type[Client], id_: str) -> Revision:
    found = store.records.get(kind, id_)
    assert found is not None
    return found.revision
