"""The hub of Watch: it sends changes to the watchers in order, and disconnects slow watchers."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, timedelta
from typing import Any

import pytest

from identity_service.domain.errors import NotReadyError
from identity_service.domain.ids import KeyId
from identity_service.domain.keys import PublishedKey
from identity_service.domain.log import (
    RecordChanged,
    RecordKind,
)
from identityapi.v1 import trust_service_pb2 as pb
from tests.patience import PATIENCE
from tests.unit.services.watch_site import KEY, NOW, Keys, Site, at, ids, taken


def test_a_waiting_watcher_is_woken_once_and_then_takes_every_message() -> None:
    site = Site()
    watcher = site.open()
    taken(watcher)
    site.deny("one")
    site.deny("two")

    assert site.woken == [watcher]
    assert ids(taken(watcher)) == ["one", "two"]


def test_changes_that_wait_are_joined_and_end_at_the_last_revision() -> None:
    site = Site()
    watcher = site.open()
    taken(watcher)
    for number in range(50):
        site.deny(f"t{number}")
    (message,) = taken(watcher)

    assert ids([message]) == [f"t{number}" for number in range(50)]
    assert message.revision == "e1.50.link-50"


def test_two_sets_of_keys_are_never_joined_to_one() -> None:
    """A merged message would have the keys of both, and a withdrawn key would stay valid."""
    site = Site()
    watcher = site.open()
    taken(watcher)
    site.deny("before")
    site.hub.on_records_changed(None)
    site.keys.keys = []
    site.hub.on_records_changed([RecordChanged(kind=RecordKind.KEY, id="k1")])
    site.deny("after")
    messages = taken(watcher)

    sets = [len(message.key_set.keys) for message in messages if message.HasField("key_set")]
    assert sets == [1, 0]
    assert ids(messages) == ["before", "after"]


def test_other_records_than_keys_are_nobodys_business() -> None:
    site = Site()
    watcher = site.open()
    taken(watcher)
    site.hub.on_records_changed([RecordChanged(kind=RecordKind.CLIENT, id="reports")])
    assert taken(watcher) == []


def test_the_last_set_of_keys_that_a_watcher_is_sent_is_the_newest_one() -> None:
    """Two threads may report two changes at the same time."""
    site = Site()
    watcher = site.open()
    taken(watcher)
    newer = replace(KEY, key_id=KeyId("newer"))
    has_read, changed = threading.Event(), threading.Event()

    class Slow(Keys):
        def published(self) -> list[PublishedKey]:
            found = list(self.keys)
            if not has_read.is_set():
                has_read.set()
                changed.wait(0.2)  # no other thread can report a change meanwhile: then the wait is in vain
            return found

    keys: Any = Slow()
    site.hub._keys = keys
    with ThreadPoolExecutor(2) as threads:
        slow = threads.submit(site.hub.on_records_changed, None)
        assert has_read.wait(PATIENCE)
        keys.keys = [KEY, newer]
        threads.submit(site.hub.on_records_changed, None).add_done_callback(lambda _: changed.set())
        slow.result(PATIENCE)

    assert [key.key_id for key in taken(watcher)[-1].key_set.keys] == [KEY.key_id, "newer"]


def test_a_page_of_records_alone_still_moves_the_revision() -> None:
    site = Site()
    watcher = site.open()
    taken(watcher)
    site.fold(RecordChanged(kind=RecordKind.USER, id="u1"))
    assert taken(watcher) == [pb.WatchResponse(revision="e1.1.link-1")]


def test_a_heartbeat_has_time_and_staleness_and_goes_only_to_waiting_watchers() -> None:
    site = Site()
    idle, busy = site.open(), site.open()
    taken(idle)
    site.hub.send_heartbeats()

    (heartbeat,) = taken(idle)
    assert heartbeat.time.ToDatetime(UTC) == NOW
    assert heartbeat.staleness.ToTimedelta() == timedelta(milliseconds=250)
    assert not any(message.HasField("time") for message in taken(busy))


def test_no_heartbeat_is_sent_by_a_clock_that_is_not_accepted() -> None:
    site = Site()
    idle = site.open()
    taken(idle)
    site.replica.clock_accepted = False
    site.hub.send_heartbeats()
    assert taken(idle) == []
    site.replica.clock_accepted = True
    site.hub.send_heartbeats()
    assert len(taken(idle)) == 1


def test_a_heartbeat_names_no_change_that_was_not_sent() -> None:
    """Otherwise a watcher that is disconnected just then would resume after a change that it never got."""
    site = Site()
    watcher = site.open()
    taken(watcher)
    # The replica knows more from the moment it has applied a page until it has notified the hub.
    site.replica.revision = at(1)
    site.hub.send_heartbeats()
    (heartbeat,) = taken(watcher)

    assert heartbeat.revision == "e1.0.-"


def test_a_watcher_with_a_full_queue_is_cut_off_and_the_others_continue() -> None:
    site = Site(queue=10)
    slow, quick = site.open(), site.open()
    for number in range(11):
        site.deny(f"t{number}")
        taken(quick)

    assert slow.overflowed
    assert not quick.overflowed
    site.deny("last")
    assert ids(taken(quick)) == ["last"]


def test_a_watcher_that_is_closed_twice_is_forgotten_once() -> None:
    site = Site()
    first, _ = site.open(), site.open()
    site.hub.close(first)
    site.hub.close(first)
    assert len(site.hub) == 1


def test_a_watcher_that_has_left_gets_no_message() -> None:
    site = Site()
    watcher = site.open()
    taken(watcher)
    site.hub.close(watcher)
    site.deny("t1")
    site.hub.send_heartbeats()
    assert taken(watcher) == []
    assert site.woken == []


def test_watching_is_refused_before_the_replica_is_ready() -> None:
    site = Site()
    site.replica.ready = False
    with pytest.raises(NotReadyError):
        site.open()
    assert len(site.hub) == 0
