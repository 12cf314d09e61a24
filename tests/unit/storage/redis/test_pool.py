"""The connection pool: bounded, last in first out, and `close` leaves no connection open."""

import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest

from identity_service.domain.errors import StoreUnavailableError
from identity_service.storage.redis.client.pool import Confirmation, ConnectionPool, Handshake, RawConnection
from tests.patience import PATIENCE


class FakeRawConnection:
    """A connection that records whether it was closed."""

    def __init__(self, *, spoilt: bool = False) -> None:
        self.is_connected = False
        self.opened = 0
        self._sock: socket.socket | None = None
        self._spoilt = spoilt

    def connect(self) -> None:
        self.is_connected = True
        self.opened += 1

    def send_packed_command(self, command: list[bytes], check_health: bool = True) -> None:
        raise NotImplementedError

    def read_response(self) -> Any:
        raise NotImplementedError

    def can_read(self) -> bool:
        return self._spoilt

    def disconnect(self) -> None:
        self.is_connected = False


def a_pool(
    make: Callable[[], RawConnection] = FakeRawConnection,
    handshake: Handshake = lambda _: None,
    *,
    size: int = 1,
    patience: float = 0,
) -> ConnectionPool:
    return ConnectionPool(make, handshake, size=size, patience=patience)


def test_the_connection_that_was_used_last_is_lent_first() -> None:
    pool = a_pool(size=2)
    first, second = pool.take(checked=False), pool.take(checked=False)
    pool.give(second)
    pool.give(first)

    assert pool.take(checked=False) is first
    assert pool.take(checked=False) is second


def test_the_pool_makes_no_more_connections_than_its_size_and_then_raises() -> None:
    pool = a_pool(patience=0.01)
    pool.take(checked=False)

    with pytest.raises(StoreUnavailableError, match="in use"):
        pool.take(checked=False)


def test_a_waiting_caller_gets_the_connection_that_is_returned() -> None:
    pool = a_pool(patience=10)
    pooled = pool.take(checked=False)
    threading.Timer(0.01, pool.give, [pooled]).start()

    assert pool.take(checked=False) is pooled


@pytest.mark.parametrize(("checked", "opened"), [(True, 2), (False, 1)])
def test_the_connection_is_checked_only_on_request(checked: bool, opened: int) -> None:
    raw = FakeRawConnection(spoilt=True)
    pool = a_pool(lambda: raw)
    pool.give(pool.take(checked=False))

    pool.take(checked=checked)

    assert raw.opened == opened


def test_findings_about_the_server_stay_with_the_connection() -> None:
    found = Confirmation(command="WAIT", needed=1)
    greeted: list[RawConnection] = []

    def handshake(raw: RawConnection) -> Confirmation:
        greeted.append(raw)
        return found

    pool = a_pool(handshake=handshake)
    pooled = pool.take(checked=False)
    pool.give(pooled)
    pool.take(checked=False)

    assert pooled.confirmation is found
    assert greeted == [pooled.raw]


def test_a_connection_that_is_distrusted_is_opened_and_greeted_anew_even_when_in_use_meanwhile() -> None:
    raw = FakeRawConnection()
    greeted: list[RawConnection] = []
    pool = a_pool(lambda: raw, greeted.append)
    pooled = pool.take(checked=False)
    pool.distrust()
    pool.give(pooled)

    pool.take(checked=False)

    assert raw.opened == 2
    assert greeted == [raw, raw]


def test_a_server_that_is_not_admitted_gets_no_call_and_takes_no_place() -> None:
    refusals = [StoreUnavailableError("unsafe")]
    raw = FakeRawConnection()

    def handshake(_: RawConnection) -> None:
        if refusals:
            raise refusals.pop()

    pool = a_pool(lambda: raw, handshake)
    with pytest.raises(StoreUnavailableError, match="unsafe"):
        pool.take(checked=False)

    assert not raw.is_connected
    assert pool.take(checked=False).raw is raw


def test_a_connection_that_cannot_be_made_takes_no_place() -> None:
    failures = [ValueError("no")]

    def make() -> FakeRawConnection:
        if failures:
            raise failures.pop()
        return FakeRawConnection()

    pool = a_pool(make)
    with pytest.raises(ValueError, match="no"):
        pool.take(checked=False)

    assert pool.take(checked=False).raw.is_connected


def test_closing_disconnects_idle_connections_and_lends_no_more() -> None:
    pool = a_pool()
    idle = pool.take(checked=False)
    pool.give(idle)

    pool.close()

    assert not idle.raw.is_connected
    with pytest.raises(StoreUnavailableError, match="closed"):
        pool.take(checked=False)


def test_closing_shuts_connections_in_use_down_and_leaves_disconnecting_to_their_users() -> None:
    ours, servers = socket.socketpair()
    with ours, servers:
        ours.settimeout(PATIENCE)
        raw = FakeRawConnection()
        raw._sock = ours
        pool = a_pool(lambda: raw)
        pooled = pool.take(checked=False)

        pool.close()

        assert ours.recv(1) == b""
        assert raw.is_connected, "its socket must not vanish while another thread uses it"
        pool.give(pooled)
        assert not raw.is_connected


def test_a_connection_that_was_opened_while_the_pool_closed_does_not_stay_open() -> None:
    raw = FakeRawConnection()
    pool = a_pool(lambda: raw)
    pooled = pool.take(checked=False)
    pool.close()
    raw.connect()

    pool.give(pooled)

    assert not raw.is_connected
