"""Limits on password guessing: free failures, the growing pause, and concurrent attempts.

Correct sign-ins never wait.
"""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from identity_service.adapters.attempt_counter import MemoryAttempts
from identity_service.domain.attempts import AttemptPolicies, AttemptPolicy, Claim, Limit, Verdict
from identity_service.domain.credential_errors import CredentialRefusedError
from identity_service.domain.errors import ServerBusyError, StoreUnavailableError, TooManyAttemptsError
from identity_service.services.attempts import AttemptGuard, WaitPolicy, address_of
from tests.patience import PATIENCE, until

HERE, THERE = "192.0.2.1:5000", "192.0.2.2:5000"


class SignIns:
    """The guard of sign-ins with a clock that the test sets, and attempts that succeed or fail."""

    def __init__(self, policies: AttemptPolicies | None = None, waits: WaitPolicy | None = None) -> None:
        self.now = 1000.0
        self.shared, self.local = MemoryAttempts(self._time), MemoryAttempts(self._time)
        self.guard = AttemptGuard(
            self.shared, self.local, policies or AttemptPolicies(), self._time, waits or WaitPolicy()
        )

    def user(self, *, right: bool, name: str = "ana", peer: str = HERE) -> str:
        return self._outcome(lambda: self._try_user(name, peer, right))

    def client(self, *, right: bool, client_id: str = "reports", peer: str = HERE) -> str:
        return self._outcome(lambda: self._try_client(client_id, peer, right))

    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    def _time(self) -> float:
        return self.now

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
        except ServerBusyError:
            return "busy"
        return "right"


class InProgress:
    """Attempts whose credentials are being checked, each in a thread, until the test says the result."""

    def __init__(self, sign_ins: SignIns, threads: ThreadPoolExecutor) -> None:
        self._sign_ins = sign_ins
        self._threads = threads
        self._verdicts: list[Future[bool]] = []
        self._outcomes: list[Future[str]] = []

    def begin(self, count: int = 1, *, name: str = "ana", peer: str = HERE) -> None:
        """Begin this number of attempts; return once each credential is being checked."""
        for _ in range(count):
            checked = self.queue(name=name, peer=peer)
            assert checked.wait(PATIENCE)

    def queue(self, *, name: str = "ana", peer: str = HERE) -> threading.Event:
        """Begin an attempt that may have to wait; the event is set once its credential is being checked."""
        verdict: Future[bool] = Future()
        checked = threading.Event()
        self._verdicts.append(verdict)
        self._outcomes.append(
            self._threads.submit(self._sign_ins._outcome, lambda: self._check(name, peer, verdict, checked))
        )
        return checked

    def end(self, number: int, *, right: bool) -> str:
        self._verdicts[number].set_result(right)
        return self.outcome(number)

    def fail(self, number: int, error: BaseException) -> None:
        self._verdicts[number].set_exception(error)
        with pytest.raises(type(error)):
            self._outcomes[number].result(PATIENCE)

    def outcome(self, number: int) -> str:
        return self._outcomes[number].result(PATIENCE)

    def end_all(self) -> None:
        for verdict in self._verdicts:
            if not verdict.done():
                verdict.set_result(True)

    def _check(self, name: str, peer: str, verdict: Future[bool], checked: threading.Event) -> None:
        with self._sign_ins.guard.of_user(name, peer):
            checked.set()
            if not verdict.result(PATIENCE):
                raise CredentialRefusedError


@contextmanager
def attempts_at(sign_ins: SignIns) -> Iterator[InProgress]:
    with ThreadPoolExecutor(64) as threads:
        attempts = InProgress(sign_ins, threads)
        try:
            yield attempts
        finally:
            attempts.end_all()


@pytest.fixture
def sign_ins() -> SignIns:
    return SignIns()


def test_the_first_failures_cost_no_wait(sign_ins: SignIns) -> None:
    assert [sign_ins.user(right=False) for _ in range(4)] == ["wrong"] * 4
    assert sign_ins.user(right=True) == "right"
    assert [sign_ins.user(right=False) for _ in range(6)] == ["wrong"] * 5 + ["wait 1"]


def test_after_the_free_failures_each_one_doubles_the_wait(sign_ins: SignIns) -> None:
    for _ in range(5):
        sign_ins.user(right=False)

    waits = []
    for _ in range(6):
        waits.append(sign_ins.user(right=False))
        sign_ins.pass_time(float(waits[-1].removeprefix("wait ")))
        assert sign_ins.user(right=False) == "wrong"  # the one that is let through

    assert waits == ["wait 1", "wait 2", "wait 4", "wait 8", "wait 16", "wait 32"]


def test_the_wait_ends_at_the_lockout_and_the_lockout_by_itself(sign_ins: SignIns) -> None:
    policy = AttemptPolicy(free=5, lockout=timedelta(minutes=15))

    assert policy.pause_after(14) == timedelta(seconds=512)
    assert policy.pause_after(15) == policy.pause_after(10_000) == timedelta(minutes=15)


@given(st.integers(0, 10_000), st.integers(0, 200))
def test_a_further_failure_never_shortens_the_wait(failures: int, free: int) -> None:
    policy = AttemptPolicy(free=free)

    assert policy.pause_after(failures) <= policy.pause_after(failures + 1) <= policy.lockout


def test_the_right_password_has_to_wait_too(sign_ins: SignIns) -> None:
    for _ in range(5):
        sign_ins.user(right=False)

    assert sign_ins.user(right=True) == "wait 1"
    sign_ins.pass_time(1)
    assert sign_ins.user(right=True) == "right"


def test_a_success_forgets_the_failures_and_the_wait(sign_ins: SignIns) -> None:
    for _ in range(5):
        sign_ins.user(right=False)
    sign_ins.pass_time(1)
    assert sign_ins.user(right=True) == "right"

    assert [sign_ins.user(right=False) for _ in range(5)] == ["wrong"] * 5


def test_failures_are_forgotten_after_their_window(sign_ins: SignIns) -> None:
    for _ in range(5):
        sign_ins.user(right=False)

    sign_ins.pass_time(3600)

    assert [sign_ins.user(right=False) for _ in range(5)] == ["wrong"] * 5


def test_failures_elsewhere_do_not_lock_out_the_owner(sign_ins: SignIns) -> None:
    for _ in range(10):
        sign_ins.user(right=False, peer=THERE)

    assert sign_ins.user(right=True, peer=HERE) == "right"


def test_an_attempt_that_its_address_delays_does_not_use_up_the_users_turn(sign_ins: SignIns) -> None:
    for number in range(40):
        sign_ins.user(right=False, peer=f"198.51.100.{number}:1")
    for _ in range(10):
        assert sign_ins.user(right=False, peer=THERE) == "wrong"
        sign_ins.pass_time(32)
    assert sign_ins.user(right=False, peer=THERE) == "wrong"
    sign_ins.pass_time(4)  # the pause of the username is over, the one of that address is not

    assert sign_ins.user(right=False, peer=THERE).startswith("wait")
    assert sign_ins.user(right=True, peer=HERE) == "right"


def test_many_addresses_together_slow_down_attempts_at_one_username(sign_ins: SignIns) -> None:
    for number in range(50):
        assert sign_ins.user(right=False, peer=f"198.51.100.{number}:1") == "wrong"

    assert sign_ins.user(right=False, peer="198.51.100.101:1") == "wait 1"


def test_one_address_that_tries_many_usernames_has_to_wait(sign_ins: SignIns) -> None:
    for number in range(100):
        assert sign_ins.user(right=False, name=f"user{number}") == "wrong"

    assert sign_ins.user(right=True, name="one more") == "wait 1"
    assert sign_ins.user(right=True, name="one more", peer=THERE) == "right"


def test_a_success_does_not_forgive_an_address(sign_ins: SignIns) -> None:
    for number in range(100):
        sign_ins.user(right=False, name=f"user{number}")
    sign_ins.pass_time(1)
    assert sign_ins.user(right=True, name="owned") == "right"
    assert sign_ins.user(right=False, name="another") == "wrong"

    assert sign_ins.user(right=True, name="owned") == "wait 2"


def test_addresses_are_not_counted_behind_a_proxy_that_hides_them() -> None:
    sign_ins = SignIns(AttemptPolicies(peer=AttemptPolicy(free=0)))

    assert {sign_ins.user(right=False, name=f"user{number}") for number in range(200)} == {"wrong"}


def test_usernames_that_do_not_exist_wait_as_those_that_do(sign_ins: SignIns) -> None:
    """The guard does not know which users exist. It keeps a digest of the name, which may be a password."""
    for _ in range(5):
        sign_ins.user(right=False, name="hunter2")

    assert sign_ins.user(right=False, name="hunter2") == "wait 1"
    assert not any("hunter2" in key for key in sign_ins.shared._counters)


def test_clients_are_counted_in_this_process_alone(sign_ins: SignIns) -> None:
    for _ in range(20):
        assert sign_ins.client(right=False) == "wrong"

    assert sign_ins.client(right=True) == "wait 1"
    assert sign_ins.client(right=True, peer=THERE) == "right"
    assert sign_ins.client(right=True, client_id="other") == "right"
    assert not sign_ins.shared._counters


def test_a_credential_that_names_no_client_counts_for_its_address(sign_ins: SignIns) -> None:
    for _ in range(100):
        assert sign_ins.client(right=False, client_id="") == "wrong"

    assert sign_ins.client(right=False, client_id="") == "wait 1"


def test_an_error_unrelated_to_the_credential_counts_as_no_failure(sign_ins: SignIns) -> None:
    for _ in range(20):
        with pytest.raises(ZeroDivisionError), sign_ins.guard.of_user("ana", HERE):
            raise ZeroDivisionError

    assert sign_ins.user(right=True) == "right"
    assert not sign_ins.shared._counters


@pytest.mark.parametrize("at_once", [5, 6, 60])
def test_of_any_number_at_once_no_more_are_checked_than_are_free(at_once: int) -> None:
    sign_ins = SignIns(waits=WaitPolicy(places=60))
    with attempts_at(sign_ins) as attempts:
        attempts.begin(5)
        late = [attempts.queue() for _ in range(at_once - 5)]
        until(lambda: sign_ins.guard.waiting == at_once - 5)
        assert [attempts.end(number, right=False) for number in range(5)] == ["wrong"] * 5

        assert [attempts.outcome(number) for number in range(5, at_once)] == ["wait 1"] * (at_once - 5)
        assert not any(checked.is_set() for checked in late)


def test_concurrent_right_passwords_wait_for_each_other_and_all_succeed() -> None:
    """Waiting attempts are notified when another one ends, and need not ask again."""
    sign_ins = SignIns(waits=WaitPolicy(poll=timedelta(seconds=2 * PATIENCE)))
    with attempts_at(sign_ins) as attempts:
        attempts.begin(5)
        late = [attempts.queue() for _ in range(15)]
        until(lambda: sign_ins.guard.waiting == 15)
        for number in range(5):
            attempts.end(number, right=True)
        until(lambda: sum(checked.is_set() for checked in late) == 5)
        until(lambda: sign_ins.guard.waiting == 10)
        attempts.end_all()

        assert [attempts.outcome(number) for number in range(20)] == ["right"] * 20


def test_a_wrong_one_among_the_right_keeps_its_claim(sign_ins: SignIns) -> None:
    with attempts_at(sign_ins) as attempts:
        attempts.begin(5)
        assert attempts.end(0, right=False) == "wrong"
        assert [attempts.end(number, right=True) for number in range(1, 5)] == ["right"] * 4

    # None of the four began after the failure, so it stands.
    assert [sign_ins.user(right=False) for _ in range(5)] == ["wrong"] * 4 + ["wait 1"]


def test_a_success_clears_only_the_failures_before_it(sign_ins: SignIns) -> None:
    for _ in range(3):
        sign_ins.user(right=False)
    with attempts_at(sign_ins) as attempts:
        attempts.begin()
        assert sign_ins.user(right=False) == "wrong"
        assert attempts.end(0, right=True) == "right"

    assert [sign_ins.user(right=False) for _ in range(5)] == ["wrong"] * 4 + ["wait 1"]


def test_after_a_pause_of_many_at_once_one_is_checked() -> None:
    sign_ins = SignIns(waits=WaitPolicy(places=60))
    for _ in range(5):
        sign_ins.user(right=False)
    sign_ins.pass_time(1)
    with attempts_at(sign_ins) as attempts:
        attempts.begin()
        late = [attempts.queue() for _ in range(30)]
        until(lambda: sign_ins.guard.waiting == 30)
        sign_ins.pass_time(5)  # the check takes longer than the pause: the others still wait
        assert attempts.end(0, right=False) == "wrong"

        assert [attempts.outcome(number) for number in range(1, 31)] == ["wait 2"] * 30
        assert not any(checked.is_set() for checked in late)


def test_the_clock_is_read_while_no_other_attempt_can_be_settled() -> None:
    """Otherwise the error could report a pause that is longer than the one that has just begun."""
    locked: list[bool] = []

    def now() -> float:
        locked.append(counter._lock.locked())
        return 0.0

    counter = MemoryAttempts(now)
    claim = counter.claim([Limit("username/ana", AttemptPolicy(free=1))])
    assert isinstance(claim, Claim)
    claim.settle(Verdict.WRONG)

    assert locked == [True, True]


@pytest.mark.parametrize(
    "error",
    [TimeoutError(), StoreUnavailableError("away"), KeyboardInterrupt(), ZeroDivisionError()],
)
def test_an_attempt_without_a_verdict_gives_its_claim_back(sign_ins: SignIns, error: BaseException) -> None:
    with attempts_at(sign_ins) as attempts:
        attempts.begin(5)
        late = attempts.queue()
        until(lambda: sign_ins.guard.waiting == 1)
        attempts.fail(0, error)
        assert late.wait(PATIENCE)
        attempts.end_all()
        assert attempts.outcome(5) == "right"
    assert not sign_ins.shared._counters


def test_an_attempt_that_one_limit_refuses_leaves_no_claim_at_the_others(sign_ins: SignIns) -> None:
    for number in range(50):
        sign_ins.user(right=False, peer=f"198.51.100.{number}:1")

    assert [sign_ins.user(right=False) for _ in range(200)] == ["wait 1"] * 200

    assert [sign_ins.user(right=False, name=f"user{number}") for number in range(100)] == ["wrong"] * 100


def test_claims_of_an_address_are_as_bounded_as_those_of_an_username() -> None:
    sign_ins = SignIns(AttemptPolicies(peer=AttemptPolicy(free=3, forgive=False)), WaitPolicy(places=0))
    with attempts_at(sign_ins) as attempts:
        for number in range(3):
            attempts.begin(name=f"user{number}")

        assert sign_ins.user(right=True, name="another") == "busy"
        assert sign_ins.user(right=True, name="another", peer=THERE) == "right"


def test_claims_of_clients_are_bounded_too() -> None:
    sign_ins = SignIns(AttemptPolicies(client=AttemptPolicy(free=1)), WaitPolicy(places=0))
    with sign_ins.guard.of_client("reports", HERE):
        assert sign_ins.client(right=True) == "busy"
        assert sign_ins.client(right=True, client_id="other") == "right"
    assert sign_ins.client(right=True) == "right"


def test_only_so_many_wait(sign_ins: SignIns) -> None:
    with attempts_at(sign_ins) as attempts:
        attempts.begin(5)
        for _ in range(WaitPolicy().places):
            attempts.queue()
        until(lambda: sign_ins.guard.waiting == WaitPolicy().places)

        assert sign_ins.user(right=True) == "busy"
        assert sign_ins.user(right=True, name="bo") == "right"


def test_no_attempt_waits_longer_than_the_patience(sign_ins: SignIns) -> None:
    with attempts_at(sign_ins) as attempts:
        attempts.begin(5)
        attempts.queue()
        until(lambda: sign_ins.guard.waiting == 1)
        sign_ins.pass_time(29)
        assert sign_ins.guard.waiting == 1
        sign_ins.pass_time(1)

        assert attempts.outcome(5) == "busy"


def test_an_unreachable_store_hides_no_other_error_and_no_failure(
    sign_ins: SignIns, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise StoreUnavailableError("away")

    attempt = sign_ins.guard.of_user("ana", HERE)
    monkeypatch.setattr(sign_ins.shared, "_settle", away)
    attempt.__enter__()

    assert not attempt.__exit__(ZeroDivisionError, ZeroDivisionError(), None)
    with pytest.raises(StoreUnavailableError):
        attempt.__exit__(CredentialRefusedError, CredentialRefusedError(), None)


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
