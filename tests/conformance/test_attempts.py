"""Counts of failed attempts to authenticate: in memory, or in SQLite or Redis, where processes share them."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from identity_service.adapters.attempt_counter import MemoryAttempts
from identity_service.domain.attempts import (
    CLAIM_LIFETIME,
    AllClaimsInUse,
    AttemptCounter,
    AttemptPolicy,
    Claim,
    Limit,
    Paused,
    Verdict,
)
from identity_service.domain.errors import StoreUnavailableError
from identity_service.domain.ids import TokenId, new_epoch
from identity_service.storage.redis import RedisStore
from identity_service.storage.redis import keyspace as keys
from identity_service.storage.redis.attempts import RedisAttempts
from identity_service.storage.sqlite import SqliteStore
from identity_service.storage.sqlite.attempts import SqliteAttempts
from tests.conformance import samples
from tests.fakes.clocks import FakeClock
from tests.patience import PATIENCE
from tests.redis_server import RedisServer

POLICY = AttemptPolicy(free=5)
ANA, BO = Limit("ana", POLICY), Limit("bo", POLICY)
HOUR = timedelta(hours=1)


@dataclass
class Counters:
    """Two attempt counters and their clock: one for each of two processes, or the same one twice."""

    clock: FakeClock
    counters: Sequence[AttemptCounter]
    new: Callable[[int], AttemptCounter]
    """Makes a counter that keeps at most the given number of keys."""
    kept: Callable[[], int]
    """Returns the number of keys for which failures are stored."""

    @property
    def one(self) -> AttemptCounter:
        return self.counters[0]


@pytest.fixture(params=["memory", "sqlite", "redis"])
def counters(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Counters]:
    clock = FakeClock()
    if request.param == "sqlite":
        path = str(tmp_path / "attempts")
        opened = [SqliteAttempts(path, clock.boot, timeout=PATIENCE) for _ in range(2)]

        def open_another(kept: int) -> AttemptCounter:
            opened.append(SqliteAttempts(path, clock.boot, timeout=PATIENCE, kept=kept))
            return opened[-1]

        def rows() -> int:
            with opened[0]._writing() as connection:
                return int(connection.execute("SELECT count(*) FROM counter").fetchone()[0])

        yield Counters(clock, opened[:2], open_another, rows)
        for one in opened:
            one.close()
        return
    if request.param == "memory":
        made = [MemoryAttempts(clock.boot)]

        def new(kept: int) -> AttemptCounter:
            made.append(MemoryAttempts(clock.boot, kept=kept))
            return made[-1]

        yield Counters(clock, [made[0], made[0]], new, lambda: len(made[-1]._counters))
        return
    server: RedisServer = request.getfixturevalue("redis_server")
    server.start()
    server.flush()
    stores = [RedisStore.connect(server.url, clock=clock) for _ in range(2)]
    connection, writer = stores[0]._connection, stores[0]._writer
    yield Counters(
        clock,
        [store.attempts for store in stores],
        lambda kept: RedisAttempts(connection, writer, kept=kept),
        lambda: len(connection.command("ZRANGE", keys.ATTEMPTS, 0, -1)),
    )
    for store in stores:
        store.close()


def claimed(counter: AttemptCounter, *limits: Limit) -> Claim:
    found = counter.claim(limits or [ANA])
    assert not isinstance(found, Paused | AllClaimsInUse), found
    return found


def fail(counter: AttemptCounter, *limits: Limit, times: int = 1) -> None:
    for _ in range(times):
        claimed(counter, *limits).settle(Verdict.WRONG)


def answer(counter: AttemptCounter, *limits: Limit) -> str:
    """Claim an attempt and return the outcome as a text. A granted claim is settled without a verdict."""
    found = counter.claim(limits or [ANA])
    if isinstance(found, Paused):
        return f"paused {found.left.total_seconds():g}"
    if isinstance(found, AllClaimsInUse):
        return "occupied"
    found.settle(Verdict.NONE)
    return "claimed"


def test_of_many_that_claim_at_once_as_many_are_given_as_are_free(counters: Counters) -> None:
    given: Counter[str] = Counter()
    barrier = threading.Barrier(16)

    def claim(number: int) -> None:
        barrier.wait()
        given[type(counters.counters[number % 2].claim([ANA])).__name__] += 1

    threads = [threading.Thread(target=claim, args=[number]) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(given.values()) == [5, 11]
    assert given["AllClaimsInUse"] == 11


def test_failures_of_one_process_count_in_the_other(counters: Counters) -> None:
    fail(counters.one, times=5)

    assert answer(counters.counters[1]) == "paused 1"


def test_a_pause_begins_with_the_failure_and_doubles_up_to_the_lockout(counters: Counters) -> None:
    short = Limit("ana", AttemptPolicy(free=2, lockout=timedelta(seconds=6)))
    pauses = []
    for _ in range(6):
        held = claimed(counters.one, short)
        counters.clock.advance(timedelta(seconds=30))
        held.settle(Verdict.WRONG)
        pauses.append(answer(counters.one, short))
        if pauses[-1] != "claimed":
            counters.clock.advance(timedelta(seconds=float(pauses[-1].removeprefix("paused "))))

    assert pauses == ["claimed", *(f"paused {seconds}" for seconds in (1, 2, 4, 6, 6))]


def test_after_the_free_attempts_one_at_a_time_is_allowed(counters: Counters) -> None:
    fail(counters.one, times=5)
    counters.clock.advance(timedelta(seconds=1))
    held = claimed(counters.one)

    assert answer(counters.counters[1]) == "occupied"
    held.settle(Verdict.NONE)
    assert answer(counters.counters[1]) == "claimed"


def test_either_all_limits_are_claimed_or_none(counters: Counters) -> None:
    fail(counters.one, BO, times=5)
    for _ in range(20):
        assert answer(counters.one, ANA, BO) == "paused 1"

    held = [claimed(counters.one, ANA) for _ in range(5)]

    assert answer(counters.one, ANA) == "occupied"
    assert answer(counters.one, ANA, BO) == "paused 1"  # the longer wait is the answer
    for claim in held:
        claim.settle(Verdict.NONE)


def test_a_verdict_counts_at_every_limit(counters: Counters) -> None:
    strict = Limit("address", AttemptPolicy(free=100, forgive=False))
    fail(counters.one, strict, ANA, times=4)
    claimed(counters.one, strict, ANA).settle(Verdict.RIGHT)

    fail(counters.one, ANA, times=5)
    assert answer(counters.one, ANA) == "paused 1"
    fail(counters.one, strict, times=96)
    assert answer(counters.one, strict) == "paused 1"


def test_a_success_forgets_the_failures_from_before_its_claim(counters: Counters) -> None:
    fail(counters.one, times=3)
    held = claimed(counters.one)
    fail(counters.one)
    held.settle(Verdict.RIGHT)

    fail(counters.one, times=4)
    assert answer(counters.one) == "paused 1"


def test_failures_are_forgotten_after_the_window_of_the_first(counters: Counters) -> None:
    fail(counters.one)
    counters.clock.advance(timedelta(minutes=59))
    fail(counters.one, times=4)
    assert answer(counters.one) == "paused 1"

    counters.clock.advance(timedelta(minutes=1))

    fail(counters.one, times=5)
    assert answer(counters.one) == "paused 1"


def test_nothing_is_kept_of_attempts_that_were_right(counters: Counters) -> None:
    for _ in range(3):
        claimed(counters.one, ANA, BO).settle(Verdict.RIGHT)
        fail(counters.one, ANA)
        claimed(counters.one, ANA).settle(Verdict.RIGHT)

    assert counters.kept() == 0


def test_the_counters_of_names_that_strangers_invent_are_bounded(counters: Counters) -> None:
    """A counter that holds its maximum of keys forgets the key whose window ends first."""
    counter = counters.new(10)
    for number in range(50):
        fail(counter, Limit(f"invented{number}", POLICY), Limit(f"address{number}", POLICY))
        counters.clock.advance(timedelta(seconds=1))
    assert counters.kept() == 10

    fail(counter, ANA, times=4)
    for number in range(5):
        fail(counter, Limit(f"another{number}", POLICY))
    fail(counter, ANA)
    assert counters.kept() == 10
    assert answer(counter, ANA) == "paused 1"


def test_counters_whose_window_has_ended_are_deleted_at_the_next_failure(counters: Counters) -> None:
    counter = counters.new(1000)
    for number in range(50):
        fail(counter, Limit(f"invented{number}", POLICY))
    counters.clock.advance(HOUR)

    fail(counter, ANA)

    assert counters.kept() == 1


# Promises of the counters that outlive a process.


@dataclass
class Shared:
    """Attempt counts that several processes share, and the clock that these counts use."""

    clock: FakeClock
    attempts: AttemptCounter


@pytest.fixture(params=["sqlite", "redis"])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shared]:
    clock = FakeClock()
    store: SqliteStore | RedisStore
    if request.param == "sqlite":
        store = SqliteStore.open(str(tmp_path / "identity.db"), clock=clock)
    else:
        server: RedisServer = request.getfixturevalue("redis_server")
        server.start()
        server.flush()
        store = RedisStore.connect(server.url, clock=clock)
    yield Shared(clock, store.attempts)
    store.close()


def test_the_claims_of_a_process_that_was_killed_come_back(shared: Shared) -> None:
    store, clock = shared, shared.clock
    for _ in range(5):
        claimed(store.attempts)

    clock.advance(CLAIM_LIFETIME - timedelta(seconds=1))
    assert answer(store.attempts) == "occupied"
    clock.advance(timedelta(seconds=1))
    assert answer(store.attempts) == "claimed"


def test_a_verdict_after_the_end_of_its_claim_still_counts(shared: Shared) -> None:
    store, clock = shared, shared.clock
    held = [claimed(store.attempts) for _ in range(5)]
    clock.advance(CLAIM_LIFETIME)
    for claim in held:
        claim.settle(Verdict.WRONG)

    assert answer(store.attempts) == "paused 1"


def test_a_clock_that_was_set_back_lengthens_no_wait(shared: Shared) -> None:
    store, clock = shared, shared.clock
    fail(store.attempts, times=5)
    for _ in range(5):
        claimed(store.attempts, BO)

    clock.advance(-timedelta(days=1))

    assert answer(store.attempts) == "paused 1"
    clock.advance(timedelta(seconds=1))
    fail(store.attempts)
    assert answer(store.attempts, BO) == "occupied"
    clock.advance(HOUR)
    assert answer(store.attempts) == "claimed"


@pytest.fixture
def redis_store(redis_server: RedisServer) -> Iterator[RedisStore]:
    redis_server.start()
    redis_server.flush()
    store = RedisStore.connect(redis_server.url, clock=FakeClock())
    yield store
    store.close()


def test_a_claim_whose_answer_was_lost_is_claimed_once(redis_store: RedisStore) -> None:
    """If the connection breaks after the first try, the retry finds that the claim has been made."""
    attempts = redis_store.attempts
    for _ in range(2):
        assert attempts._run("claim", "name", [ANA], [0]) == ["claimed", 0]

    for _ in range(4):
        claimed(attempts)
    assert answer(attempts) == "occupied"


def test_the_counters_in_redis_expire_by_themselves(redis_store: RedisStore) -> None:
    store = redis_store
    fail(store.attempts, ANA)
    claimed(store.attempts, BO)

    left = [store._connection.command("TTL", keys.attempt(name)) for name in ("ana", "bo")]
    left.append(store._connection.command("TTL", keys.ATTEMPTS))

    bounds = (HOUR.seconds + 1, CLAIM_LIFETIME.seconds + 1, HOUR.seconds + 1)
    assert all(0 < one <= bound for one, bound in zip(left, bounds, strict=True))


def test_counts_that_cannot_be_asked_say_so(redis_server: RedisServer) -> None:
    """The counter fails closed: while Redis is unreachable, no attempt is permitted."""
    redis_server.start()
    redis_server.flush()
    store = RedisStore.connect(redis_server.url, clock=FakeClock())
    counter = store.attempts
    held = claimed(counter)
    redis_server.kill()

    with pytest.raises(StoreUnavailableError):
        counter.claim([ANA])
    with pytest.raises(StoreUnavailableError):
        held.settle(Verdict.WRONG)

    store.close()
    redis_server.start()


def test_a_file_that_cannot_be_written_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "identity.db-attempts"
    path.write_bytes(b"this is no database, whatever else it may be" * 100)
    counter = SqliteAttempts(str(path), FakeClock().boot, timeout=1)

    with pytest.raises(StoreUnavailableError, match="remove it"):
        counter.claim([ANA])

    path.unlink()
    fail(counter)
    assert path.stat().st_mode & 0o777 == 0o600
    counter.close()


def test_counts_that_others_may_read_are_left_to_their_owner_and_nothing_else_is(tmp_path: Path) -> None:
    counts, diary, folder = (tmp_path / name for name in ("counts", "diary", "folder"))
    first = SqliteAttempts(str(counts), FakeClock().boot, timeout=1)
    fail(first)
    first.close()
    diary.write_text("dear diary\n" * 100)
    folder.mkdir()
    for path in (counts, diary, folder):
        path.chmod(0o755)

    again = SqliteAttempts(str(counts), FakeClock().boot, timeout=1)
    fail(again)
    for path in (diary, folder):
        with pytest.raises(StoreUnavailableError, match=f"cannot be counted in {path}"):
            fail(SqliteAttempts(str(path), FakeClock().boot, timeout=1))

    assert counts.stat().st_mode & 0o777 == 0o700
    assert [path.stat().st_mode & 0o777 for path in (diary, folder)] == [0o755] * 2
    again.close()


def test_the_store_and_its_counts_are_two_files(tmp_path: Path) -> None:
    """Strangers can cause writes of attempt counts, so no write of the store may have to wait for them."""
    store = SqliteStore.open(str(tmp_path / "identity.db"), clock=FakeClock())
    store.initialise(new_epoch())
    assert not (tmp_path / "identity.db-attempts").exists()
    with store.attempts._writing():
        store.facts.deny_token(TokenId("t1"), samples.LATER)
    store.close()


# Any interleaving of attempts, by several processes, against a history that is read anew for each answer.

PEER = Limit("peer", AttemptPolicy(free=4, forgive=False, lockout=timedelta(seconds=5)))
OWNER = Limit("owner", AttemptPolicy(free=2, window=timedelta(seconds=30)))
OTHER = Limit("other", AttemptPolicy(free=3, window=timedelta(seconds=30)))
LIMITS: Sequence[Sequence[Limit]] = ([PEER, OWNER], [PEER, OTHER], [OWNER], [PEER, OWNER, OTHER])


@dataclass(eq=False)
class Attempt:
    """An attempt in the history that the model keeps."""

    limits: Sequence[Limit]
    begun: int
    claim: Claim
    ended: tuple[int, float, Verdict] | None = None
    """The end of the attempt: its number in the order of all events, its time in seconds, and the verdict."""


@dataclass
class History:
    """The model: all attempts that were granted.

    It computes the expected answer for a key from all of them.
    """

    attempts: list[Attempt] = field(default_factory=list)
    events: int = 0

    def next(self) -> int:
        self.events += 1
        return self.events

    def in_progress(self, limit: Limit) -> int:
        return sum(limit in one.limits and one.ended is None for one in self.attempts)

    def failures(self, limit: Limit, now: float) -> list[float]:
        """Return the times of the failures that count at `now`, oldest first."""
        counted: list[tuple[int, float]] = []
        ended = [(one.ended, one.begun) for one in self.attempts if one.ended and limit in one.limits]
        for (number, time, verdict), begun in sorted(ended):
            if counted and counted[0][1] + limit.policy.window.total_seconds() <= time:
                counted = []
            if verdict is Verdict.WRONG:
                counted.append((number, time))
            elif verdict is Verdict.RIGHT and limit.policy.forgive:
                counted = [failure for failure in counted if failure[0] > begun]
        if counted and counted[0][1] + limit.policy.window.total_seconds() <= now:
            counted = []
        return [time for _, time in counted]

    def expected(self, limits: Sequence[Limit], now: float) -> str:
        waits, occupied = [0.0], False
        for limit in limits:
            failures, going_on = self.failures(limit, now), self.in_progress(limit)
            if len(failures) < limit.policy.free:
                occupied |= len(failures) + going_on >= limit.policy.free
                continue
            pause_end = failures[-1] + limit.policy.pause_after(len(failures)).total_seconds()
            waits.append(max(0.0, pause_end - now))
            occupied |= going_on > 0
        if max(waits) > 0:
            return f"paused {max(waits):g}"
        return "occupied" if occupied else "claimed"


class Attempts(RuleBasedStateMachine):
    """A state machine that begins and ends attempts in any order. The test that runs it sets `counters`."""

    counters: Counters
    made = 0
    going_on = Bundle("going_on")

    def __init__(self) -> None:
        super().__init__()
        type(self).made += 1
        # Each run has keys of its own, so that one Redis serves all of them.
        self._limits = [
            [Limit(f"{type(self).made}/{one.key}", one.policy) for one in limits] for limits in LIMITS
        ]
        self._history = History()
        self._clock = self.counters.clock
        self._begun = self._clock.monotonic()

    def _now(self) -> float:
        return self._clock.monotonic() - self._begun

    @rule(target=going_on, which=st.integers(0, len(LIMITS) - 1), process=st.integers(0, 1))
    def begin(self, which: int, process: int) -> object:
        limits = self._limits[which]
        expected = self._history.expected(limits, self._now())
        found = self.counters.counters[process].claim(limits)
        if isinstance(found, Paused):
            assert f"paused {found.left.total_seconds():g}" == expected
            return multiple()
        if isinstance(found, AllClaimsInUse):
            assert expected == "occupied"
            return multiple()
        assert expected == "claimed"
        attempt = Attempt(limits, self._history.next(), found)
        self._history.attempts.append(attempt)
        return attempt

    @rule(attempt=going_on, verdict=st.sampled_from(Verdict))
    def end(self, attempt: Attempt, verdict: Verdict) -> None:
        if attempt.ended is None:
            attempt.claim.settle(verdict)
            attempt.ended = (self._history.next(), self._now(), verdict)

    @precondition(lambda self: not any(one.ended is None for one in self._history.attempts))
    @rule(seconds=st.sampled_from([1, 2, 4, 16, 30, 3600]))
    def pass_time(self, seconds: int) -> None:
        """Let time pass, but only while no claim is in progress, since claims expire (tested above)."""
        self._clock.advance(timedelta(seconds=seconds))

    @rule(seconds=st.sampled_from([0.5, 1]))
    def pass_a_moment(self, seconds: float) -> None:
        if sum(one.ended is None for one in self._history.attempts) == 0 or seconds < 1:
            self._clock.advance(timedelta(seconds=seconds))

    @invariant()
    def no_key_has_more_claims_than_are_free(self) -> None:
        for limits in self._limits:
            for limit in limits:
                failures = len(self._history.failures(limit, self._now()))
                assert self._history.in_progress(limit) <= max(1, limit.policy.free - failures)


def test_any_interleaving_of_attempts_gets_the_answers_that_its_history_allows(counters: Counters) -> None:
    class Machine(Attempts):
        pass

    Machine.counters = counters
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=60,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
