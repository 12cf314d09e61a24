"""Waiting for entries: a wait ends when any store instance appends an entry, at its timeout, and on close."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from identity_service.domain.errors import StoreUnavailableError
from identity_service.domain.store import Store
from tests.conformance.backends import Backend
from tests.conformance.samples import deny

LONG = 120.0
"""The timeout of the waits in seconds. A wait that is not woken makes the test fail."""


@pytest.fixture
def in_background() -> Iterator[Callable[[Callable[[], object]], "Future[float]"]]:
    """A function that runs a call in a thread, and returns a future of the seconds that the call took."""
    pool = ThreadPoolExecutor(4)

    def submit(call: Callable[[], object]) -> "Future[float]":
        running = threading.Event()

        def timed() -> float:
            begun = time.monotonic()
            running.set()
            call()
            return time.monotonic() - begun

        future = pool.submit(timed)
        running.wait()
        return future

    yield submit
    pool.shutdown()


InBackground = Callable[[Callable[[], object]], "Future[float]"]


def test_waiting_returns_at_once_if_there_are_entries(store: Store) -> None:
    deny(store, 2)
    begun = time.monotonic()
    store.log.wait(0, LONG)
    store.log.wait(1, LONG)
    assert time.monotonic() - begun < LONG / 2


def test_waiting_ends_after_its_timeout(store: Store) -> None:
    deny(store, 2)
    begun = time.monotonic()
    store.log.wait(2, 0.2)
    assert 0.15 <= time.monotonic() - begun < LONG / 2


def test_waiting_wakes_for_an_entry_of_this_instance(store: Store, in_background: InBackground) -> None:
    waiting = in_background(lambda: store.log.wait(0, LONG))
    deny(store)
    assert waiting.result(LONG) < LONG / 2
    assert store.log.head().position == 1


def test_waiting_wakes_for_an_entry_of_another_instance(
    store: Store, backend: Backend, in_background: InBackground
) -> None:
    other = backend.open()
    waiting = in_background(lambda: store.log.wait(0, LONG))
    deny(other)
    assert waiting.result(LONG) < LONG / 2


def test_every_waiter_wakes(store: Store, backend: Backend, in_background: InBackground) -> None:
    other = backend.open()
    waiting = [in_background(lambda s=s: s.log.wait(0, LONG)) for s in (store, store, other)]  # type: ignore[misc]
    deny(store)
    assert all(w.result(LONG) < LONG / 2 for w in waiting)


def test_a_follower_that_waits_and_reads_misses_nothing(
    store: Store, backend: Backend, in_background: InBackground
) -> None:
    """An entry that is appended between a read and the next wait ends that wait at once."""
    other = backend.open()
    total = 60
    seen: list[int] = []

    def follow() -> None:
        while len(seen) < total:
            store.log.wait(len(seen), LONG)
            seen.extend(e.position for e in store.log.read(len(seen), 1000).entries)

    following = in_background(follow)
    for number in range(total):
        deny((store, other)[number % 2])
    assert following.result(LONG) < LONG / 2
    assert seen == list(range(1, total + 1))


def test_a_waiting_call_blocks_no_write(store: Store, in_background: InBackground) -> None:
    waiting = in_background(until_closed(store, after=10_000))
    deny(store, 10)
    store.log.heartbeat("process-1")
    assert not waiting.done()
    store.close()
    waiting.result(LONG)


def until_closed(store: Store, *, after: int) -> Callable[[], None]:
    """Return a call that waits until the store is closed, since no entry lies after the position `after`."""

    def wait() -> None:
        with contextlib.suppress(StoreUnavailableError):  # the answer is no longer needed
            store.log.wait(after, LONG)

    return wait


def test_closing_wakes_a_wait_in_progress(store: Store, in_background: InBackground) -> None:
    waiting = in_background(until_closed(store, after=0))
    store.close()
    assert waiting.result(LONG) < LONG / 2
