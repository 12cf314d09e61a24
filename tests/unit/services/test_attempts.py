"""Brute force: the free failures, the growing wait, the turn of one, and whom a wait does not touch."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from identity_service.domain.errors import CredentialRefusedError, TooManyAttemptsError
from identity_service.services.attempts import AttemptGuard, AttemptPolicies, AttemptPolicy, address_of

HERE, THERE = "192.0.2.1:5000", "192.0.2.2:5000"


class FakeCounter:
    """Counts on a clock that stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = 0.0
        self.counts: dict[str, tuple[int, float]] = {}

    def count(self, key: str) -> int:
        count, end = self.counts.get(key, (0, 0.0))
        return count if self.now < end else 0

    def add(self, key: str, window: timedelta) -> None:
        count = self.count(key)
        end = self.counts[key][1] if count else self.now + window.total_seconds()
        self.counts[key] = (count + 1, end)

    def claim(self, key: str, pause: timedelta) -> timedelta:
        self.add(key, pause)
        count, end = self.counts[key]
        return timedelta(seconds=0 if count == 1 else end - self.now)

    def forget(self, *keys: str) -> None:
        for key in keys:
            self.counts.pop(key, None)


class Door:
    """A guard, and attempts at it that turn out right or wrong."""

    def __init__(self, policies: AttemptPolicies | None = None) -> None:
        self.shared, self.local = FakeCounter(), FakeCounter()
        self.guard = AttemptGuard(self.shared, self.local, policies or AttemptPolicies())

    def user(self, *, right: bool, name: str = "ana", peer: str = HERE) -> str:
        return self._outcome(lambda: self._try_user(name, peer, right))

    def client(self, *, right: bool, client_id: str = "reports", peer: str = HERE) -> str:
        return self._outcome(lambda: self._try_client(client_id, peer, right))

    def pass_time(self, seconds: float) -> None:
        self.shared.now += seconds
        self.local.now += seconds

    def _try_user(self, name: str, peer: str, right: bool) -> None:
        with self.guard.of_user(name, peer):
            if not right:
                raise CredentialRefusedError

    def _try_client(self, client_id: str, peer: str, right: bool) -> None:
        with self.guard.of_client(client_id, peer):
            if not right:
                raise CredentialRefusedError

    @staticmethod
    def _outcome(attempt: Callable[[], None]) -> str:
        try:
            attempt()
        except CredentialRefusedError:
            return "wrong"
        except TooManyAttemptsError as error:
            return f"wait {error.retry_after:g}"
        return "right"


@pytest.fixture
def door() -> Door:
    return Door()


def test_the_first_failures_cost_no_wait(door: Door) -> None:
    assert [door.user(right=False) for _ in range(5)] == ["wrong"] * 5
    assert door.user(right=True) == "right"


def test_after_the_free_failures_each_one_doubles_the_wait(door: Door) -> None:
    for _ in range(5):
        door.user(right=False)

    waits = []
    for _ in range(6):
        assert door.user(right=False) == "wrong"  # the one that is let through
        waits.append(door.user(right=False))
        door.pass_time(float(waits[-1].removeprefix("wait ")))

    assert waits == ["wait 1", "wait 2", "wait 4", "wait 8", "wait 16", "wait 32"]


def test_the_wait_ends_at_the_lockout_and_the_lockout_by_itself(door: Door) -> None:
    policy = AttemptPolicy(free=5, lockout=timedelta(minutes=15))

    assert policy.pause_after(14) == timedelta(seconds=512)
    assert policy.pause_after(15) == policy.pause_after(10_000) == timedelta(minutes=15)


@given(st.integers(0, 10_000), st.integers(0, 200))
def test_a_further_failure_never_shortens_the_wait(failures: int, free: int) -> None:
    policy = AttemptPolicy(free=free)

    assert policy.pause_after(failures) <= policy.pause_after(failures + 1) <= policy.lockout


def test_the_right_password_has_to_wait_too(door: Door) -> None:
    for _ in range(6):
        door.user(right=False)

    assert door.user(right=True) == "wait 1"
    door.pass_time(1)
    assert door.user(right=True) == "right"


def test_a_success_forgets_the_failures_and_the_wait(door: Door) -> None:
    for _ in range(5):
        door.user(right=False)
    assert door.user(right=True) == "right"

    assert [door.user(right=False) for _ in range(5)] == ["wrong"] * 5


def test_failures_are_forgotten_after_their_window(door: Door) -> None:
    for _ in range(5):
        door.user(right=False)

    door.pass_time(3600)

    assert [door.user(right=False) for _ in range(5)] == ["wrong"] * 5


def test_of_many_attempts_at_once_the_wait_lets_one_through(door: Door) -> None:
    for _ in range(5):
        door.user(right=False)
    with door.guard.of_user("ana", HERE):
        turns = [door.user(right=False) for _ in range(9)]

    assert turns == ["wait 1"] * 9


def test_failures_elsewhere_do_not_lock_out_the_owner(door: Door) -> None:
    for _ in range(10):
        door.user(right=False, peer=THERE)

    assert door.user(right=True, peer=HERE) == "right"


def test_a_stranger_who_has_to_wait_does_not_use_up_the_owners_turn(door: Door) -> None:
    for number in range(41):
        door.user(right=False, peer=f"198.51.100.{number}:1")
    for _ in range(10):
        assert door.user(right=False, peer=THERE) == "wrong"
        door.pass_time(16)
    assert door.user(right=False, peer=THERE) == "wrong"
    door.pass_time(4)  # the turn at the account is free again, the one of that address is not

    assert door.user(right=False, peer=THERE).startswith("wait")
    assert door.user(right=True, peer=HERE) == "right"


def test_many_addresses_together_slow_down_attempts_at_one_account(door: Door) -> None:
    for number in range(50):
        door.user(right=False, peer=f"198.51.100.{number}:1")

    assert door.user(right=False, peer="198.51.100.100:1") == "wrong"
    assert door.user(right=False, peer="198.51.100.101:1") == "wait 1"


def test_one_address_that_tries_many_accounts_has_to_wait(door: Door) -> None:
    for number in range(100):
        assert door.user(right=False, name=f"user{number}") == "wrong"

    door.user(right=False, name="another")
    assert door.user(right=True, name="one more") == "wait 1"
    assert door.user(right=True, name="one more", peer=THERE) == "right"


def test_a_success_does_not_forgive_an_address(door: Door) -> None:
    for number in range(100):
        door.user(right=False, name=f"user{number}")
    assert door.user(right=True, name="owned") == "right"

    assert door.user(right=True, name="owned") == "wait 1"


def test_addresses_are_not_counted_behind_a_proxy_that_hides_them() -> None:
    door = Door(AttemptPolicies(peer=AttemptPolicy(free=0)))

    assert {door.user(right=False, name=f"user{number}") for number in range(200)} == {"wrong"}


def test_accounts_that_do_not_exist_wait_as_those_that_do(door: Door) -> None:
    """Nothing of the guard knows which exist; and the name itself is not kept, since it may be a password."""
    for _ in range(6):
        door.user(right=False, name="hunter2")

    assert door.user(right=False, name="hunter2") == "wait 1"
    assert not any("hunter2" in key for key in door.shared.counts)


def test_clients_are_counted_in_this_process_alone(door: Door) -> None:
    for _ in range(21):
        door.client(right=False)

    assert door.client(right=True) == "wait 1"
    assert door.client(right=True, peer=THERE) == "right"
    assert door.client(right=True, client_id="other") == "right"
    assert door.shared.counts == {}


def test_a_credential_that_names_no_client_counts_for_its_address(door: Door) -> None:
    for _ in range(101):
        door.client(right=False, client_id="")

    assert door.client(right=False, client_id="") == "wait 1"


def test_an_error_that_says_nothing_of_the_credential_is_no_failure(door: Door) -> None:
    for _ in range(20):
        with pytest.raises(ZeroDivisionError), door.guard.of_user("ana", HERE):
            raise ZeroDivisionError

    assert door.user(right=True) == "right"
    assert door.shared.counts == {}


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("192.0.2.1:5000", "192.0.2.1"),
        ("[2001:db8:1:2:3:4:5:6]:5000", "2001:db8:1:2::/64"),
        ("[2001:db8:1:2:ffff::1]:5000", "2001:db8:1:2::/64"),
        ("[2001:db8:1:3::1]:5000", "2001:db8:1:3::/64"),
        ("[::ffff:192.0.2.1]:5000", "192.0.2.1"),
        ("", ""),
        ("unix", ""),
    ],
)
def test_an_address_is_a_host_or_a_site(peer: str, address: str) -> None:
    assert address_of(peer) == address
