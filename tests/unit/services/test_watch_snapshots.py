"""The first messages of Watch: a snapshot or the missed changes; and those after the log was replaced."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from identity_service.domain.ids import Link, PrincipalId, SessionId
from identity_service.domain.log import (
    Generation,
    GenerationRaised,
    Revision,
    SessionEnded,
)
from identity_service.domain.revocations import Revocations
from identity_service.services.watch_snapshot import WatchSnapshot
from identityapi.v1 import trust_service_pb2 as pb
from tests.unit.services.watch_site import NOW, Site, at, denied, ids, link_of, taken


def test_everything_that_is_live_comes_between_restarted_and_the_revision() -> None:
    site = Site()
    site.fold(
        denied("t1"),
        SessionEnded(session_id=SessionId("s1"), deny_until=NOW, end_until=NOW),
        GenerationRaised(principal=PrincipalId("ana"), number=3),
    )
    first, *middle, last = taken(site.open())

    assert first == pb.WatchResponse(restarted=True)
    assert last == pb.WatchResponse(revision="e1.3.link-3")
    assert not any(message.revision for message in middle)
    assert sorted(ids(middle)) == ["ana", "s1", "t1"]
    assert [key.key_id for message in middle for key in message.key_set.keys] == ["k1"]
    raised = next(
        r.raised_generation for m in middle for r in m.revocations if r.HasField("raised_generation")
    )
    assert (raised.number, raised.link) == (3, "link-3")


def test_changes_that_are_applied_while_the_snapshot_is_sent_follow_it() -> None:
    site = Site()
    site.deny("old")
    watcher = site.open()
    begun = pb.WatchResponse.FromString(watcher.take() or b"")
    site.deny("new")
    rest = taken(watcher)

    assert begun.restarted
    assert {"old", "new"} <= set(ids(rest))
    assert [message.revision for message in rest if message.revision] == ["e1.1.link-1", "e1.2.link-2"]


def test_a_large_snapshot_comes_in_messages_of_far_less_than_a_megabyte() -> None:
    site = Site()
    site.deny(*(f"{number:022}" for number in range(10_000)))
    watcher = site.open()
    sizes = [len(message) for message in iter(watcher.take, None)]

    assert len(sizes) > 5
    assert max(sizes) < 512 * 1024


def test_a_resumed_watch_gets_the_missed_changes_the_keys_and_the_revision() -> None:
    site = Site()
    seen = site.deny("seen")
    site.deny("missed-1")
    site.deny("missed-2")
    messages = taken(site.open(resume_after=seen))

    assert ids(messages) == ["missed-1", "missed-2"]
    assert not any(message.restarted for message in messages)
    assert [len(message.key_set.keys) for message in messages if message.HasField("key_set")] == [1]
    assert messages[-1].revision == "e1.3.link-3"


def test_a_watch_that_resumes_in_the_middle_of_a_page_gets_the_whole_page() -> None:
    site = Site()
    site.deny("one", "two", "three")
    messages = taken(site.open(resume_after=at(2)))
    assert "three" in ids(messages)
    assert not any(message.restarted for message in messages)


def test_a_watch_that_missed_nothing_gets_the_revision_alone() -> None:
    site = Site()
    seen = site.deny("seen")
    messages = taken(site.open(resume_after=seen))
    assert ids(messages) == []
    assert messages[-1].revision == str(seen)


STRANGERS: dict[str, Revision] = {
    "another epoch": at(1, "e0"),
    "another epoch's start": at(0, "e0"),
    "past the end": at(99),
    "another link": replace(at(1), link=Link("other")),
    "another link at the end": replace(at(2), link=Link("other")),
    "another entry's link": replace(at(1), link=link_of(2)),
    "no link": replace(at(2), link=None),
    "no link at the start": replace(at(0), link=None),
}


@pytest.mark.parametrize("place", STRANGERS)
def test_a_place_that_this_history_does_not_have_gets_everything(place: str) -> None:
    """An equal epoch and position prove nothing, since a log that was restored by hand has them too."""
    site = Site()
    site.deny("old")
    site.deny("older watchers missed this")
    messages = taken(site.open(resume_after=STRANGERS[place]))
    assert messages[0].restarted
    assert ids(messages) == ["old", "older watchers missed this"]


@pytest.mark.parametrize("watched", [True, False], ids=["with a watcher", "without a watcher"])
@pytest.mark.parametrize("position", [0, 1, 2])
def test_a_revision_of_this_history_gets_the_changes_after_it(position: int, watched: bool) -> None:
    site = Site()
    if watched:
        site.open()
    site.deny("one")
    site.deny("two")
    messages = taken(site.open(resume_after=at(position)))
    assert not any(message.restarted for message in messages)
    assert ids(messages) == ["one", "two"][position:]
    assert messages[-1].revision == str(at(2))


def test_a_place_further_back_than_is_kept_gets_everything() -> None:
    site = Site()
    site.deny("first")
    for batch in range(25):
        site.deny(*(f"{batch}-{number}" for number in range(500)))

    behind, near = taken(site.open(resume_after=at(1))), taken(site.open(resume_after=at(12_001)))

    assert behind[0].restarted
    assert len(ids(behind)) == 12_501
    assert not near[0].restarted
    assert len(ids(near)) == 500


def test_a_replaced_log_restarts_every_watcher_and_no_watch_resumes_across_it() -> None:
    site = Site()
    seen = site.deny("kept")
    watcher = site.open()
    taken(watcher)
    site.replace_log()
    site.deny("found")
    messages = taken(watcher)

    assert messages[0].restarted
    assert ids(messages) == ["found"]
    assert messages[-1].revision == "e2.1.link-1"
    again = taken(site.open(resume_after=seen))
    assert again[0].restarted
    assert sorted(ids(again)) == ["found", "kept"]


def test_restarted_is_never_joined_to_a_revision_of_the_log_before() -> None:
    """A merged message would say that everything is known at a revision that no longer exists."""
    site = Site()
    watcher = site.open()
    taken(watcher)
    site.deny("before")
    site.replace_log()
    site.deny("after")
    messages = taken(watcher)

    (restarted,) = [message for message in messages if message.restarted]
    assert not restarted.revision
    assert [message.revision for message in messages if message.revision] == ["e1.1.link-1", "e2.1.link-1"]


def test_a_generation_that_only_the_new_stores_table_has_is_sent_too() -> None:
    """Its log entry may be lost or trimmed; the replica then knows it from the store's table alone."""
    site = Site()
    watcher = site.open()
    taken(watcher)
    raised = Generation(number=4, link=Link("lost"))
    site.replica.revocations.raise_to(PrincipalId("ana"), raised)
    site.replace_log()
    sent = [r.raised_generation for message in taken(watcher) for r in message.revocations]

    assert [(r.principal, r.number, r.link) for r in sent] == [("ana", 4, "lost")]


def test_watchers_that_come_soon_after_each_other_share_a_snapshot() -> None:
    """A snapshot of a million denials takes seconds, and after a restart all watchers connect at once."""
    site = Site()
    site.deny(*(f"t{number}" for number in range(5000)))
    first = [message for message in iter(site.open().take, None) if len(message) > 1000]
    made = len(first)
    second = [message for message in iter(site.open().take, None) if len(message) > 1000]

    assert made >= 3
    assert [id(message) for message in second] == [id(message) for message in first]


def test_two_watchers_that_share_a_snapshot_while_it_is_made_both_get_all_of_it() -> None:
    site = Site()
    site.deny(*(f"t{number}" for number in range(5000)))
    one, two = site.open(), site.open()
    turns = [[watcher.take(), other.take()] for watcher, other in [(one, two), (two, one)] * 8]

    for place in (0, 1):
        own = [turn[place] if n % 2 == 0 else turn[1 - place] for n, turn in enumerate(turns)]
        messages = [pb.WatchResponse.FromString(message) for message in own if message is not None]
        assert len(set(ids(messages))) == 5000
        assert messages[-1].revision == "e1.5000.link-5000"


def test_a_watcher_that_shares_a_snapshot_gets_the_changes_since_it_was_made() -> None:
    site = Site()
    site.deny("old")
    taken(site.open())
    site.deny("since")
    messages = taken(site.open())

    assert messages[0].restarted
    assert ids(messages) == ["old", "since"]
    assert [message.revision for message in messages if message.revision][-1] == "e1.2.link-2"


def test_a_watcher_that_shares_a_snapshot_gets_a_revision_only_at_its_end() -> None:
    """A watcher accepts no token before it has a revision, so the facts must all come before it."""
    site = Site()
    site.deny("old")
    taken(site.open())
    site.deny("since")
    messages = taken(site.open())
    complete = next(n for n, message in enumerate(messages) if message.revision)

    assert set(ids(messages[: complete + 1])) == {"old", "since"}


@pytest.mark.parametrize("why", ["it is old", "the log was replaced", "too much came since"])
def test_a_snapshot_that_no_longer_serves_is_made_anew(why: str) -> None:
    site, wanted = Site(), ["old"]
    site.deny("old")
    taken(site.open())
    match why:
        case "it is old":
            site.clock.advance(timedelta(seconds=60))
        case "the log was replaced":
            site.replica.revocations.raise_to(PrincipalId("ana"), Generation(number=1, link=Link("x")))
            site.replace_log()
            wanted.append("ana")
        case _:
            for batch in range(25):
                new = [f"{batch}-{number}" for number in range(500)]
                site.deny(*new)
                wanted += new

    known = ids(taken(site.open()))

    assert sorted(known) == sorted(wanted)


def test_a_snapshot_that_is_too_old_to_share_is_not_kept() -> None:
    site = Site()
    site.deny(*(f"t{number}" for number in range(5000)))
    made = max(iter(site.open().take, None), key=len)
    before = sys.getrefcount(made)
    site.clock.advance(timedelta(seconds=60))
    site.hub.send_heartbeats()

    assert sys.getrefcount(made) < before


def test_a_snapshot_that_could_not_be_made_is_never_taken_for_a_whole_one() -> None:
    """A watcher that shares the broken snapshot would otherwise accept denied tokens."""

    def spoilt() -> Iterator[bytes]:
        yield b"one"
        raise ValueError("a bug")

    snapshot = WatchSnapshot(at(1), 0.0, spoilt())
    with pytest.raises(ValueError, match="a bug"):
        list(snapshot)
    with pytest.raises(RuntimeError, match="could not be made"):
        list(snapshot)


def test_after_a_snapshot_that_could_not_be_made_the_next_watcher_gets_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    site = Site()
    site.deny("old")
    with monkeypatch.context() as spoilt:
        spoilt.setattr(Revocations, "facts", lambda _: (1 // 0 for _ in "x"))
        with pytest.raises(ZeroDivisionError):
            taken(site.open())

    assert ids(taken(site.open())) == ["old"]
