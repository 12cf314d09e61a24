"""The history of the log that a process has read: whether it has a revision, by its link and position.

The position alone proves nothing: another history has an entry at the same position.
"""

import tracemalloc
from datetime import UTC, datetime

import pytest

from identity_service.domain import ids
from identity_service.domain.ids import NO_LINK, Epoch, Link, TokenId, new_link
from identity_service.domain.log import LogEntry, Revision, TokenDenied
from identity_service.replication import history as history_module
from identity_service.replication.history import History

NOW = datetime(2026, 1, 1, tzinfo=UTC)

CHANGE = TokenDenied(token_id=TokenId("t"), deny_until=NOW)


def link_of(position: int) -> Link:
    return Link(f"l{position}")


def place(position: int, *, epoch: str = "e", link: Link | None = None) -> Revision:
    return Revision(epoch=Epoch(epoch), position=position, link=link or link_of(position))


def read(*positions: int) -> History:
    """Return the history after a page with entries at these positions was read."""
    history = History(Epoch("e"))
    history.add([LogEntry(n, link_of(n), NO_LINK, CHANGE) for n in positions], place(max(positions)))
    return history


def test_a_revision_that_was_read_is_in_the_history() -> None:
    history = read(1, 2, 3)
    assert all(history.holds(place(position)) for position in (1, 2, 3))


@pytest.mark.parametrize(
    "stranger",
    [
        place(2, link=Link("other")),
        place(2, epoch="f"),
        place(4),
        place(10_002, link=link_of(2)),
        place(2**63 - 1),
        Revision(epoch=Epoch("e"), position=2, link=None),
        Revision(epoch=Epoch("e"), position=0, link=None),
        Revision(epoch=Epoch("f"), position=0, link=NO_LINK),
    ],
    ids=["link", "epoch", "not read", "same slot", "huge", "no link", "start, no link", "another start"],
)
def test_anything_else_does_not(stranger: Revision) -> None:
    assert not read(1, 2, 3).holds(stranger)


def test_the_start_of_its_log_lies_in_it() -> None:
    start = Revision(epoch=Epoch("e"), position=0, link=NO_LINK)
    assert History(Epoch("e")).holds(start)
    assert read(1).holds(start)


def test_a_revision_older_than_the_kept_ones_is_not_known() -> None:
    history = read(*range(1, 10_002))
    assert not history.holds(place(1))
    assert history.holds(place(2))
    assert history.holds(place(10_001))


def test_positions_that_are_missing_below_the_floor_are_not_known() -> None:
    history = read(3, 7)
    assert history.holds(place(3))
    assert history.holds(place(7))
    assert not history.holds(place(5))


def test_an_end_without_entries_is_known() -> None:
    """A log may have no entries left, only the head that names its end."""
    history = History(Epoch("e"))
    history.add([], place(40))
    assert history.holds(place(40))


def test_it_stays_small_however_much_is_read() -> None:
    tracemalloc.start()
    try:
        history = History(Epoch("e"))
        for begin in range(0, 50_000, 1000):
            page = [LogEntry(begin + n, new_link(), NO_LINK, CHANGE) for n in range(1, 1001)]
            history.add(page, place(begin + 1000, link=page[-1].link))
        del page
        snapshot = tracemalloc.take_snapshot()
    finally:
        tracemalloc.stop()
    # Threads that other tests have left behind allocate in other files.
    here = [tracemalloc.Filter(True, str(module.__file__)) for module in (ids, history_module)]
    statistics = snapshot.filter_traces([*here, tracemalloc.Filter(True, __file__)]).statistics("filename")
    size = sum(statistic.size for statistic in statistics)
    assert 2**17 < size < 2 * 2**20
