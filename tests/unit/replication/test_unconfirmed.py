"""The process's own writes, compared with the entries it reads: each is confirmed, lost, or unsure.

The write and the entry may become known in either order.
"""

from datetime import UTC, datetime

import pytest

from identity_service.domain.ids import NO_LINK, Epoch, Link, PrincipalId, TokenId
from identity_service.domain.log import (
    Appended,
    Change,
    Fact,
    GenerationRaised,
    Head,
    LogEntry,
    RecordChanged,
    RecordKind,
    Revision,
    TokenDenied,
)
from identity_service.replication.history import History
from identity_service.replication.unconfirmed import Missing, UnconfirmedWrites

NOW = datetime(2026, 1, 1, tzinfo=UTC)

FACT = TokenDenied(token_id=TokenId("own"), deny_until=NOW)
RECORD = RecordChanged(kind=RecordKind.CLIENT, id="c")
RAISED = GenerationRaised(principal=PrincipalId("c"), number=1)
NOTHING = Missing()
LOST, UNSURE = Missing(lost=[FACT]), Missing(unsure=[FACT])


class Site:
    """The log that a process follows, and the writes of that process."""

    def __init__(self) -> None:
        self.own_writes = UnconfirmedWrites()
        self.end = 0
        self.begin("e")

    def begin(self, epoch: str) -> None:
        self.history, self.end = History(Epoch(epoch)), 0
        self.own_writes.begin(self.history)

    def read(self, *links: str) -> Missing:
        """Read a page whose entries have these links; return the writes that are missing."""
        entries = [LogEntry(self.end + n, Link(link), NO_LINK, FACT) for n, link in enumerate(links, 1)]
        self.end += len(links)
        self.history.add(entries, place(self.end, links[-1]))
        return self.own_writes.read(self.end)

    def add(self, position: int, link: str = "own", epoch: str = "e", time: float = 1.0) -> Missing:
        return self.own_writes.add(written(position, link, epoch), time)


def place(position: int, link: str, epoch: str = "e") -> Revision:
    return Revision(epoch=Epoch(epoch), position=position, link=Link(link))


def written(
    position: int, link: str = "own", epoch: str = "e", changes: tuple[Change, ...] = (FACT,)
) -> Appended:
    return Appended(
        revision=place(position, link, epoch), changes=tuple((change, Link(link)) for change in changes)
    )


def head(position: int, epoch: str = "e") -> Head:
    return Head(epoch=Epoch(epoch), position=position, link=Link("any"), time=NOW)


@pytest.fixture
def site() -> Site:
    return Site()


@pytest.mark.parametrize("first", ["the writer", "the reader"])
def test_a_write_that_is_read_at_its_position_is_confirmed_in_either_order(site: Site, first: str) -> None:
    if first == "the writer":
        assert site.add(2) == NOTHING
    assert site.read("a", "own", "b") == NOTHING
    if first == "the reader":
        assert site.add(2) == NOTHING
    assert site.read("c") == NOTHING
    assert site.own_writes.after_heartbeat(head(0), sent=9.0) == NOTHING, "and is not asked about again"


@pytest.mark.parametrize("first", ["the writer", "the reader"])
def test_a_write_whose_position_has_another_entry_is_lost_in_either_order(site: Site, first: str) -> None:
    found = [site.add(2)] if first == "the writer" else []
    found += [site.read("a", "other", "b")]
    found += [site.add(2)] if first == "the reader" else []
    assert sorted(found, key=lambda missing: len(missing.lost)) == [NOTHING, LOST]
    assert site.read("c") == NOTHING, "once"


def test_a_write_that_was_read_too_long_ago_to_compare_is_sent_again_without_an_alarm(site: Site) -> None:
    site.read("own", *("x" for _ in range(10_000)))
    assert site.add(1) == UNSURE
    assert site.read("y") == NOTHING


def test_a_write_ahead_of_the_reader_waits_for_it(site: Site) -> None:
    site.read("a")
    assert site.add(3) == NOTHING
    assert site.read("b") == NOTHING
    assert site.read("other") == LOST


@pytest.mark.parametrize("began", ["before", "after"])
def test_a_write_to_a_log_that_is_no_more_is_sent_to_the_one_that_is_there(site: Site, began: str) -> None:
    """The process sends all facts it knows to a new log. A write may become known only after that."""
    if began == "before":
        site.begin("f")
        assert site.add(1) == UNSURE
    else:
        site.add(1)
        site.begin("f")
    assert site.read("a", "b") == NOTHING


def test_reading_the_same_log_again_from_its_start_forgets_no_write(site: Site) -> None:
    site.read("a")
    site.add(2)
    site.begin("e")
    assert site.add(1, "a") == NOTHING, "not read any more: it waits"
    assert site.read("a") == NOTHING
    assert site.read("other") == LOST


def test_a_write_that_was_trimmed_before_it_was_read_is_sent_again_without_an_alarm(site: Site) -> None:
    site.add(2)
    site.history.add([], place(9, "i"))
    assert site.own_writes.read(9) == UNSURE


def test_a_head_that_ends_before_a_write_has_lost_it(site: Site) -> None:
    site.add(2, time=1.0)
    assert site.own_writes.after_heartbeat(head(1), sent=2.0) == LOST
    assert site.own_writes.after_heartbeat(head(1), sent=3.0) == NOTHING, "once"
    assert site.read("a", "other") == NOTHING


@pytest.mark.parametrize(
    ("position", "epoch", "sent"),
    [(2, "e", 2.0), (3, "e", 2.0), (1, "f", 2.0), (1, "e", 0.5)],
    ids=["ends with it", "goes on after it", "another log", "sent before it was acknowledged"],
)
def test_a_head_that_proves_nothing_loses_nothing(site: Site, position: int, epoch: str, sent: float) -> None:
    site.add(2, time=1.0)
    assert site.own_writes.after_heartbeat(head(position, epoch), sent) == NOTHING
    assert site.read("a", "own") == NOTHING


def test_a_record_is_never_sent_again(site: Site) -> None:
    assert site.own_writes.add(written(1, changes=(RECORD,)), 1.0) == NOTHING
    assert site.read("other") == NOTHING
    assert site.own_writes.add(written(1, changes=(RECORD,)), 1.0) == NOTHING


@pytest.mark.parametrize("first", ["the writer", "the reader"])
def test_of_a_record_and_a_raise_each_is_held_against_its_own_place(site: Site, first: str) -> None:
    both = Appended(revision=place(3, "gen"), changes=((RECORD, Link("rec")), (RAISED, Link("gen"))))
    found = [site.own_writes.add(both, 1.0)] if first == "the writer" else []
    found += [site.read("a", "rec", "other")]
    found += [site.own_writes.add(both, 1.0)] if first == "the reader" else []
    (lost,) = (fact for missing in found for fact in missing.lost)
    assert lost == GenerationRaised(principal=PrincipalId("c"), number=1, origin=Link("gen"))


@pytest.mark.parametrize("first", ["the writer", "the reader"])
def test_two_writes_of_one_place_are_each_held_against_it(site: Site, first: str) -> None:
    """If two servers take themselves for the primary, each may acknowledge a write at the same position."""
    found = [site.read("other")] if first == "the reader" else []
    found += [site.add(1), site.add(1, "other")]
    found += [site.read("other")] if first == "the writer" else []
    assert [missing for missing in found if missing] == [LOST]


def test_a_resent_fact_is_confirmed_once_the_confirming_revision_is_read(site: Site) -> None:
    assert not site.own_writes.add_resent([FACT], place(2, "end"), 1.0)
    assert not site.read("a", "end")
    assert not site.own_writes.add_resent([FACT], place(2, "end"), 1.0), "nor if it was read before"
    assert not site.own_writes.add_resent([FACT], place(0, ""), 1.0), "the start lies in every history"
    assert not site.own_writes.after_heartbeat(head(0), sent=9.0)


@pytest.mark.parametrize("how", ["read before", "read after", "the log is shorter"])
@pytest.mark.parametrize("facts", [[FACT], []], ids=["facts", "a repair"])
def test_facts_that_another_history_confirmed_are_missing(site: Site, facts: list[Fact], how: str) -> None:
    if how == "read before":
        site.read("a", "b")
    found = [site.own_writes.add_resent(facts, place(2, "end"), 1.0)]
    found.append(
        site.own_writes.after_heartbeat(head(1), sent=2.0)
        if how == "the log is shorter"
        else site.read("a", "b")
    )
    expected = Missing(lost=facts) if facts else Missing(repairs=1)
    assert [missing for missing in found if missing] == [expected]
    assert not site.read("c"), "once"


def test_a_confirmation_of_a_log_that_is_no_more_confirms_nothing(site: Site) -> None:
    """A process that finds another log sends all known facts to it, so no fact needs a repair."""
    assert site.own_writes.add_resent([FACT], place(2, "end", "f"), 1.0) == UNSURE
    assert not site.own_writes.add_resent([], place(2, "end", "f"), 1.0)


def test_a_raise_that_is_repeated_at_the_end_of_another_log_is_not_held_against_it(site: Site) -> None:
    repeated = Appended(revision=place(5, "end"), changes=((RAISED, Link("gen")),))
    found = site.own_writes.add(repeated, 1.0)
    assert found.lost == []
    assert [fact.origin for fact in found.unsure if isinstance(fact, GenerationRaised)] == [Link("gen")]
    assert site.read("a", "b", "c", "d", "end") == NOTHING
