"""Counts of failed attempts: the same promises in memory and in Redis, where processes share them."""

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest

from identity_service.clock import SystemClock
from identity_service.domain.errors import StoreUnavailableError
from identity_service.limiting import LimitsCounter
from identity_service.storage.redis import RedisStore
from tests.redis_server import RedisServer

HOUR = timedelta(hours=1)
Counters = Callable[[], LimitsCounter]


@pytest.fixture(params=["memory", "redis"])
def counter(request: pytest.FixtureRequest) -> Iterator[LimitsCounter]:
    if request.param == "memory":
        yield LimitsCounter.in_memory()
        return
    server: RedisServer = request.getfixturevalue("redis_server")
    server.start()
    server.flush()
    store = RedisStore.connect(server.url, clock=SystemClock())
    yield LimitsCounter(store.counts())
    store.close()


def test_what_was_never_counted_is_nothing(counter: LimitsCounter) -> None:
    assert counter.count("ana") == 0


def test_each_addition_counts_for_its_key_alone(counter: LimitsCounter) -> None:
    for _ in range(3):
        counter.add("ana", HOUR)
    counter.add("bo", HOUR)

    assert (counter.count("ana"), counter.count("bo"), counter.count("cy")) == (3, 1, 0)


def test_of_many_that_claim_at_once_one_holds_and_the_others_learn_for_how_long(
    counter: LimitsCounter,
) -> None:
    answers: list[timedelta] = []
    barrier = threading.Barrier(16)

    def claim() -> None:
        barrier.wait()
        answers.append(counter.claim("turn", timedelta(seconds=30)))

    threads = [threading.Thread(target=claim) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    left = sorted(answers)
    assert left[0] == timedelta(0)
    assert all(timedelta(seconds=28) < one <= timedelta(seconds=31) for one in left[1:])


def test_a_claim_ends_by_itself(counter: LimitsCounter) -> None:
    assert counter.claim("turn", timedelta(seconds=1)) == timedelta(0)

    waited = counter.claim("turn", timedelta(seconds=1))
    threading.Event().wait(waited.total_seconds() + 0.1)  # nothing tells of an end that is a time

    assert counter.claim("turn", timedelta(seconds=1)) == timedelta(0)


def test_what_is_forgotten_begins_again(counter: LimitsCounter) -> None:
    counter.add("ana", HOUR)
    counter.claim("turn", HOUR)

    counter.forget("ana", "turn", "never counted")

    assert counter.count("ana") == 0
    assert counter.claim("turn", HOUR) == timedelta(0)


def test_processes_that_share_a_redis_share_their_counts(redis_server: RedisServer) -> None:
    redis_server.start()
    redis_server.flush()
    stores = [RedisStore.connect(redis_server.url, clock=SystemClock()) for _ in range(2)]
    one, other = (LimitsCounter(store.counts()) for store in stores)

    one.add("ana", HOUR)

    assert other.count("ana") == 1
    for store in stores:
        store.close()


def test_counts_that_cannot_be_asked_say_so(redis_server: RedisServer) -> None:
    """Fail closed: nobody gets a guess for free because Redis is away."""
    redis_server.start()
    redis_server.flush()
    store = RedisStore.connect(redis_server.url, clock=SystemClock())
    counter = LimitsCounter(store.counts())
    redis_server.kill()

    with pytest.raises(StoreUnavailableError):
        counter.count("ana")

    store.close()
    redis_server.start()
