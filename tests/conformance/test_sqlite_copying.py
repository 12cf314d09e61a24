"""A copy of the embedded store is read over a connection of its own, and blocks no other use of the store."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from identity_service.domain.copying import CopiedItem
from identity_service.domain.errors import AlreadyExistsError, StoreUnavailableError
from identity_service.domain.ids import TokenId, new_epoch
from identity_service.domain.log import TokenDenied
from identity_service.storage.sqlite import SqliteStore
from tests.conformance import samples
from tests.conformance.copies import Copied, Held, exported, fill
from tests.conformance.samples import LATER, MUTATIONS, READS, deny
from tests.fakes.clocks import FakeClock


@contextmanager
def begun(store: SqliteStore) -> Iterator[Iterator[CopiedItem]]:
    """Begin a copy, and yield the items that are left after the first one."""
    with store.copying.export(whole=True) as (_, items):
        next(items)
        yield items


def test_it_holds_up_no_call_and_sees_one_moment(file_store: SqliteStore) -> None:
    denied = deny(file_store, 2500)
    with begun(file_store) as items:
        for call in READS.values():
            call(file_store)
        for name in ("facts.deny_token", "facts.end_session", "facts.raise_generation"):
            MUTATIONS[name](file_store)
        for part in ("records", "sessions"):
            MUTATIONS[f"{part}.create"](file_store)
        file_store.log.heartbeat("p1")
        copied = Copied(items)
    assert sorted(copied.denials) == sorted(denied)
    assert not copied.records
    assert not copied.ends
    assert len(exported(file_store).denials) == 2501


def test_the_log_that_is_removed_meanwhile_is_saved_and_ends_the_copy(
    file_store: SqliteStore, path: Path
) -> None:
    fill(file_store)
    deny(file_store, 2500)
    with begun(file_store) as items:
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink()
        file_store.facts.deny_token(TokenId("t-new"), LATER)
        with pytest.raises(StoreUnavailableError, match=r"opened anew .* begin again"):
            list(items)
    file_store.close()
    again = SqliteStore.open(str(path), clock=FakeClock())
    assert "t-new" in exported(again).denials
    assert len(exported(again).denials) == 2506
    again.close()


def test_a_store_that_is_closed_meanwhile_ends_the_copy(file_store: SqliteStore) -> None:
    deny(file_store, 2500)
    with begun(file_store) as items:
        file_store.close()
        with pytest.raises(StoreUnavailableError):
            list(items)


def test_a_copy_leaves_no_connection_behind(file_store: SqliteStore, path: Path) -> None:
    """SQLite removes the write-ahead log once the last connection is closed; the test looks for that file."""
    fill(file_store)
    for _ in range(3):
        exported(file_store)
    with begun(file_store):
        pass
    file_store.close()
    assert not path.with_name(path.name + "-wal").exists()


def test_an_error_of_the_caller_during_a_copy_is_raised_unchanged(file_store: SqliteStore) -> None:
    with pytest.raises(OSError, match="disk full"), begun(file_store):
        raise OSError("disk full")


def test_a_store_in_memory_is_copied_too() -> None:
    store = SqliteStore.open(":memory:", clock=FakeClock())
    store.initialise(new_epoch())
    fill(store)
    with begun(store) as items:
        deny(store)
        copied = Copied(items)
    assert len(copied.denials) == 5
    other = SqliteStore.open(":memory:", clock=FakeClock())
    epoch = new_epoch()
    with store.copying.export(whole=True) as (_, found):
        other.copying.write_copy(found, epoch, replace=False)
    other.log.adopt(epoch)
    other.log.rebuild()
    assert Held(other) == Held(store)
    other.sessions.create(samples.a_session())
    store.close()
    other.close()


def test_nothing_is_called_discarded_while_a_copy_is_about_to_be_finished(tmp_path: Path) -> None:
    """A copy that was reported as discarded must not be finished, and served, after that report."""
    path = str(tmp_path / "target.db")
    target, other = (SqliteStore.open(path, clock=FakeClock(), timeout=0.2) for _ in range(2))

    def last_item() -> Iterator[CopiedItem]:
        with pytest.raises(StoreUnavailableError):
            other.copying.discard_copy()
        yield TokenDenied(token_id=TokenId("t1"), deny_until=LATER)

    target.copying.write_copy(last_item(), new_epoch(), replace=False)
    with pytest.raises(AlreadyExistsError):
        other.copying.discard_copy()
    target.close()
    other.close()
