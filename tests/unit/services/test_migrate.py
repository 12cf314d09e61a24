"""A migration either completes the target, or leaves the source accepting writes as before."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from identity_service.domain.audit import AuditType
from identity_service.domain.copying import CopiedGeneration, CopiedItem, CopiedRecord, CopiedSession, Fence
from identity_service.domain.errors import (
    AlreadyExistsError,
    ConfigurationError,
    NotConfirmedError,
    StoreDamagedError,
    StoreUnavailableError,
)
from identity_service.domain.ids import EVERYONE, Epoch, Link, TokenId
from identity_service.domain.log import Generation, TokenDenied
from identity_service.services.migrate import Migrated, Migration, Place
from tests.conformance.samples import MUCH_LATER, TIME, a_client, a_session
from tests.fakes.clocks import FakeClock
from tests.unit.services.copied_store import MemoryStore, events_of

CLOCK = FakeClock()
ITEMS: list[CopiedItem] = [
    CopiedRecord(record=a_client("one")),
    TokenDenied(token_id=TokenId("t1"), deny_until=TIME),
    TokenDenied(token_id=TokenId("t2"), deny_until=TIME),
    CopiedSession(session=a_session("sid-1", expire_time=MUCH_LATER)),
]
LOST = StoreUnavailableError("no connection")
FROM, TO = "sqlite:///from", "redis://to"


@pytest.fixture
def source() -> MemoryStore:
    return MemoryStore(ITEMS, "e1")


@pytest.fixture
def target() -> MemoryStore:
    return MemoryStore()


def a_migration(source: MemoryStore, target: MemoryStore) -> Migration:
    return Migration(Place(store=source.store, url=FROM), Place(store=target.store, url=TO), CLOCK)


def moved(source: MemoryStore, target: MemoryStore) -> Migrated:
    done = a_migration(source, target).run()
    assert target.items[: len(ITEMS)] == ITEMS
    assert source.fence_ is not None
    assert source.fence_ == Fence(target=TO, epoch=target.head().epoch)
    assert target.adopted == target.epoch
    assert target.rebuilt >= 1
    return done


def finishes(source: MemoryStore, target: MemoryStore) -> None:
    """Run the migration to its end, as another command does at the same time."""
    moved(source, target)


def nothing_happened(source: MemoryStore, target: MemoryStore) -> None:
    assert source.fence_ is None
    assert source.items == ITEMS
    assert target.is_empty()


def test_everything_is_in_the_target_and_the_source_stays_fenced(
    source: MemoryStore, target: MemoryStore
) -> None:
    done = moved(source, target)

    assert target.epoch != "e1"
    assert not done.was_finished
    assert (done.counts["clients"], done.counts["denied_tokens"], done.counts["sessions"]) == (1, 2, 1)
    (found,) = events_of(target.items)
    assert found.event.event.type is AuditType.STORE_MIGRATED
    assert dict(found.event.event.details) == {"source": FROM, "revision": "e1.0.-"}


def test_the_source_is_not_read_unless_it_is_fenced(source: MemoryStore, target: MemoryStore) -> None:
    """Otherwise the source could acknowledge a revocation that the copy lacks."""
    source.fail("fence", LOST)
    source.fail("head", AssertionError("was read"))
    with pytest.raises(StoreUnavailableError):
        a_migration(source, target).run()
    nothing_happened(source, target)


def test_a_target_that_holds_a_store_is_refused_before_the_source_is_fenced(source: MemoryStore) -> None:
    target = MemoryStore(ITEMS, "e9")
    source.fail("fence", AssertionError("was fenced"))
    with pytest.raises(AlreadyExistsError, match="redis://to"):
        a_migration(source, target).run()
    assert target.epoch == "e9"


FAILURES = ["fence", "item", "write_copy", "write_item", "write_head"]


@pytest.mark.parametrize("error", [LOST, NotConfirmedError("too few"), KeyboardInterrupt(), OSError("disk")])
@pytest.mark.parametrize("step", FAILURES)
def test_a_failure_before_the_head_lifts_the_fence_and_leaves_nothing(
    source: MemoryStore, target: MemoryStore, step: str, error: BaseException
) -> None:
    for store in (source, target):
        store.fail(step, None, error) if "item" in step else store.fail(step, error)
    with pytest.raises(type(error)):
        a_migration(source, target).run()
    nothing_happened(source, target)
    source.faults, target.faults = {}, {}
    moved(source, target)


@pytest.mark.parametrize("error", [LOST, NotConfirmedError("too few"), KeyboardInterrupt()])
def test_a_failure_after_the_head_finishes(
    source: MemoryStore, target: MemoryStore, error: BaseException
) -> None:
    target.fail("confirm_head", error)
    moved(source, target)


def test_a_head_that_arrives_late_finishes(source: MemoryStore, target: MemoryStore) -> None:
    """The response to the write was lost, and the write took effect only after the target was asked."""
    target.fail("write_head", LOST)

    def arrive() -> None:
        target.epoch, target.is_unfinished = source.fence_.epoch if source.fence_ else None, False

    target.faults["discard_copy"] = [arrive]
    a_migration(source, target).run()
    assert source.fence_ is not None


@pytest.mark.parametrize("method", ["discard_copy", "head"])
def test_if_the_part_cannot_be_deleted_the_fence_stays(
    source: MemoryStore, target: MemoryStore, method: str
) -> None:
    """A write that is still under way could complete the partial copy."""
    target.fail("write_head", LOST)
    target.fail(method, LOST)
    with pytest.raises(StoreUnavailableError, match="accepts no writes"):
        a_migration(source, target).run()
    assert source.fence_ is not None

    assert not moved(source, target).was_finished


def test_if_it_is_unknown_whether_the_head_was_written_the_fence_stays(
    source: MemoryStore, target: MemoryStore
) -> None:
    target.fail("confirm_head", LOST)
    target.fail("head", LOST)
    with pytest.raises(
        StoreUnavailableError, match=r"accepts no writes.*identity migrate sqlite:///from redis://to"
    ):
        a_migration(source, target).run()
    assert source.fence_ is not None

    assert moved(source, target).was_finished


def test_one_that_was_killed_before_the_head_is_copied_anew(source: MemoryStore, target: MemoryStore) -> None:
    source.fence_ = Fence(target=TO, epoch=Epoch("e2"))
    target.is_unfinished, target.items = True, ITEMS[:2]

    assert not moved(source, target).was_finished
    assert target.epoch not in (None, "e1", "e2"), "what the killed run may still write is refused"


def test_one_that_was_killed_after_the_head_is_finished(source: MemoryStore, target: MemoryStore) -> None:
    source.fence_ = Fence(target=TO, epoch=Epoch("e2"))
    target.items, target.epoch = list(ITEMS), Epoch("e2")

    assert moved(source, target).was_finished
    assert target.rebuilt == 1


def test_a_log_that_could_not_be_completed_is_completed_by_the_next_run(
    source: MemoryStore, target: MemoryStore
) -> None:
    target.fail("rebuild", LOST)
    with pytest.raises(StoreUnavailableError, match=r"has all data.*again"):
        a_migration(source, target).run()
    assert source.fence_ is not None

    assert moved(source, target).was_finished


def test_a_part_of_another_copy_is_discarded(source: MemoryStore, target: MemoryStore) -> None:
    target.is_unfinished, target.items = True, [TokenDenied(token_id=TokenId("t9"), deny_until=TIME)]
    moved(source, target)
    assert len(target.items) == len(ITEMS) + 1


def test_a_source_that_was_moved_elsewhere_is_refused_with_its_target(
    source: MemoryStore, target: MemoryStore
) -> None:
    source.fence_ = Fence(target="redis://elsewhere", epoch=Epoch("e2"))
    for call in (a_migration(source, target).run, a_migration(source, target).undo):
        with pytest.raises(ConfigurationError, match="redis://elsewhere"):
            call()
    assert target.is_empty()


def test_an_item_that_the_target_lacks_is_noticed(source: MemoryStore, target: MemoryStore) -> None:
    def lose() -> None:
        target.items.remove(ITEMS[1])

    target.faults["write_head"] = [lose]
    with pytest.raises(StoreDamagedError, match="lacks 1 items"):
        a_migration(source, target).run()
    assert source.fence_ is not None


def test_a_generation_that_the_target_lacks_is_counted_with_the_items(
    source: MemoryStore, target: MemoryStore
) -> None:
    raised = Generation(number=2, link=Link("l-2"))
    source.items.append(CopiedGeneration(principal=EVERYONE, generation=raised))

    def lower() -> None:
        target.items[len(ITEMS)] = CopiedGeneration(principal=EVERYONE, generation=replace(raised, number=1))
        target.items.remove(ITEMS[1])

    target.faults["write_head"] = [lower]
    with pytest.raises(StoreDamagedError, match="lacks 2 items"):
        a_migration(source, target).run()
    assert source.fence_ is not None


def test_an_item_that_has_expired_meanwhile_is_not_missed(source: MemoryStore, target: MemoryStore) -> None:
    past = TokenDenied(token_id=TokenId("t0"), deny_until=datetime(2029, 1, 1, tzinfo=UTC))
    source.items.append(past)
    target.faults["write_head"] = [lambda: target.items.remove(past)]
    a_migration(source, target).run()


def test_if_the_fence_cannot_be_lifted_the_message_says_how_to_lift_it(
    source: MemoryStore, target: MemoryStore
) -> None:
    target.fail("write_item", LOST)
    source.fail("lift_fence", LOST)
    with pytest.raises(StoreUnavailableError, match="redis://to --undo"):
        a_migration(source, target).run()

    assert a_migration(source, target).undo()
    nothing_happened(source, target)


# Two commands at once.


def test_a_copy_of_a_store_that_was_opened_meanwhile_gets_no_head(
    source: MemoryStore, target: MemoryStore
) -> None:
    """The copy lacks the revocations that the source has acknowledged since it was opened."""
    source.faults["item"] = [lambda: None, source.lift_fence]
    with pytest.raises(ConfigurationError, match="one command at a time"):
        a_migration(source, target).run()
    assert target.epoch is None


def test_it_fails_if_the_source_was_opened_after_the_last_look(
    source: MemoryStore, target: MemoryStore
) -> None:
    target.faults["write_head"] = [source.lift_fence]
    with pytest.raises(ConfigurationError, match="Start no service on redis://to"):
        a_migration(source, target).run()


def test_one_that_fails_leaves_the_fence_of_another_one(source: MemoryStore, target: MemoryStore) -> None:
    other = Fence(target=TO, epoch=Epoch("e9"))

    def interfere() -> None:
        source.fence_ = other
        raise LOST

    target.faults["write_item"] = [interfere]
    with pytest.raises(StoreUnavailableError):
        a_migration(source, target).run()
    assert source.fence_ == other
    assert target.is_unfinished, "what is there may be the other one's"


# Undoing.


def test_undo_does_nothing_without_a_fence(source: MemoryStore, target: MemoryStore) -> None:
    assert not a_migration(source, target).undo()
    nothing_happened(source, target)


def test_undo_opens_the_source_again_if_the_target_has_a_part(
    source: MemoryStore, target: MemoryStore
) -> None:
    source.fence_ = Fence(target=TO, epoch=Epoch("e2"))
    target.is_unfinished, target.items = True, ITEMS[:2]
    assert a_migration(source, target).undo()
    nothing_happened(source, target)


def test_undo_is_refused_once_the_target_has_taken_over(source: MemoryStore, target: MemoryStore) -> None:
    """The target may have acknowledged revocations since then."""
    moved(source, target)
    with pytest.raises(ConfigurationError, match="taken over"):
        a_migration(source, target).undo()
    assert source.fence_ is not None


def test_undo_is_refused_while_the_target_cannot_be_asked(source: MemoryStore, target: MemoryStore) -> None:
    moved(source, target)
    target.fail("head", LOST)
    with pytest.raises(StoreUnavailableError):
        a_migration(source, target).undo()
    assert source.fence_ is not None


@pytest.mark.parametrize("since", ["e9", None])
def test_undo_is_refused_once_the_log_of_the_target_has_another_epoch(
    source: MemoryStore, target: MemoryStore, since: str | None
) -> None:
    """Another epoch means that the target may have been used, and may have lost or regained entries."""
    moved(source, target)
    fence = source.fence_
    if since is not None:
        target.epoch = Epoch(since)
        with pytest.raises(ConfigurationError, match=r"not the one of this migration.*empty it"):
            a_migration(source, target).undo()
        assert source.fence_ == fence
        return
    target.epoch, target.items = None, []  # the control: an empty server at its address
    assert a_migration(source, target).undo()
    nothing_happened(source, target)


def test_undo_lifts_no_fence_of_a_run_that_has_finished_meanwhile(
    source: MemoryStore, target: MemoryStore
) -> None:
    source.fence_ = Fence(target=TO, epoch=Epoch("e2"))
    source.faults["lift_fence"] = [lambda: finishes(source, target)]
    with pytest.raises(ConfigurationError, match="another `identity migrate` has closed"):
        a_migration(source, target).undo()
    assert source.fence_ == Fence(target=TO, epoch=target.head().epoch)


def test_one_that_fails_lifts_no_fence_of_a_run_that_has_finished_meanwhile(
    source: MemoryStore, target: MemoryStore
) -> None:
    target.fail("write_item", LOST)
    source.faults["lift_fence"] = [lambda: finishes(source, target)]
    with pytest.raises(StoreUnavailableError, match="no connection"):
        a_migration(source, target).run()
    assert source.fence_ == Fence(target=TO, epoch=target.head().epoch)


def test_a_store_that_was_made_in_the_target_meanwhile_does_not_keep_the_source_closed(
    source: MemoryStore, target: MemoryStore
) -> None:
    def made() -> None:
        target.epoch, target.items = Epoch("e9"), list(ITEMS)

    source.faults["fence"] = [made]
    with pytest.raises(AlreadyExistsError):
        a_migration(source, target).run()
    assert source.fence_ is None
    assert target.epoch == "e9"
