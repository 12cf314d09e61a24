"""Lending connections: bounded, the last used first, and nothing stays open after the end."""

import threading
from typing import Any

import pytest

from identity_service.domain.errors import StoreUnavailableError
from identity_service.storage.redis.pool import Pool


class FakeWire:
    """A connection that is open from the start and remembers what became of it."""

    def __init__(self, *, spoilt: bool = False) -> None:
        self.is_connected = True
        self._spoilt = spoilt

    def send_packed_command(self, command: list[bytes]) -> None:
        raise NotImplementedError

    def read_response(self) -> Any:
        raise NotImplementedError

    def can_read(self) -> bool:
        return self._spoilt

    def disconnect(self) -> None:
        self.is_connected = False


def test_the_connection_that_was_used_last_is_lent_first() -> None:
    pool = Pool(FakeWire, size=2, patience=0)
    first, second = pool.take(checked=False), pool.take(checked=False)
    pool.give(second)
    pool.give(first)

    assert pool.take(checked=False) is first
    assert pool.take(checked=False) is second


def test_no_more_are_made_than_its_size_and_who_gets_none_is_told() -> None:
    pool = Pool(FakeWire, size=1, patience=0.01)
    pool.take(checked=False)

    with pytest.raises(StoreUnavailableError, match="in use"):
        pool.take(checked=False)


def test_who_waits_gets_the_connection_that_is_given_back() -> None:
    pool = Pool(FakeWire, size=1, patience=10)
    wire = pool.take(checked=False)
    threading.Timer(0.01, pool.give, [wire]).start()

    assert pool.take(checked=False) is wire


@pytest.mark.parametrize(("spoilt", "checked", "stays"), [(True, True, False), (True, False, True)])
def test_only_who_asks_pays_for_a_look_at_the_connection(spoilt: bool, checked: bool, stays: bool) -> None:
    pool = Pool(lambda: FakeWire(spoilt=spoilt), size=1, patience=0)

    assert pool.take(checked=checked).is_connected is stays


def test_a_connection_that_cannot_be_made_takes_no_place() -> None:
    failures = [ValueError("no")]

    def make() -> FakeWire:
        if failures:
            raise failures.pop()
        return FakeWire()

    pool = Pool(make, size=1, patience=0)
    with pytest.raises(ValueError, match="no"):
        pool.take(checked=False)

    assert pool.take(checked=False).is_connected


def test_closing_disconnects_what_is_idle_and_what_is_in_use() -> None:
    pool = Pool(FakeWire, size=2, patience=0)
    busy, idle = pool.take(checked=False), pool.take(checked=False)
    pool.give(idle)

    pool.close()

    assert not busy.is_connected
    assert not idle.is_connected
    with pytest.raises(StoreUnavailableError, match="closed"):
        pool.take(checked=False)


def test_a_connection_that_was_opened_while_the_pool_closed_does_not_stay_open() -> None:
    pool = Pool(FakeWire, size=1, patience=0)
    wire = pool.take(checked=False)
    pool.close()
    wire.__dict__["is_connected"] = True

    pool.give(wire)

    assert not wire.is_connected
