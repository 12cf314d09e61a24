"""While Redis is unreachable, silent, full or read-only, calls fail soon, and no error contains a secret."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from identity_service.domain.errors import ConfigurationError, StoreUnavailableError
from identity_service.domain.ids import TokenId, new_epoch
from identity_service.storage.redis import RedisStore
from tests.conformance import samples
from tests.conformance.conftest import STORE_SECONDS
from tests.patience import PATIENCE
from tests.redis_server import RedisServer, ask


@pytest.fixture
def store(redis_store: RedisStore) -> RedisStore:
    return redis_store


def soon() -> datetime:
    return datetime.now(UTC) + timedelta(hours=1)


def test_a_restart_of_the_server_is_survived_with_everything(server: RedisServer, store: RedisStore) -> None:
    revision = store.facts.deny_token(TokenId("t1"), soon()).revision
    server.kill()
    with pytest.raises(StoreUnavailableError):
        store.log.head()
    server.start()

    assert store.log.head().revision == revision
    assert store.facts.deny_token(TokenId("t1"), soon() - timedelta(minutes=1)).revision == revision


def test_a_server_that_does_not_answer_is_given_up_in_time(server: RedisServer, store: RedisStore) -> None:
    server.pause()
    try:
        with pytest.raises(StoreUnavailableError):
            store.log.heartbeat("p1")
    finally:
        server.resume()
    assert store.log.heartbeat("p1").position == 0


def test_many_callers_of_a_server_that_does_not_answer_all_give_up_in_time(
    server: RedisServer, store: RedisStore
) -> None:
    """Callers that wait for a connection give up as well; one after the other they would take minutes."""
    calls = 150

    def call(_: int) -> float:
        started = time.monotonic()
        with pytest.raises(StoreUnavailableError):
            store.log.head()
        return time.monotonic() - started

    server.pause()
    try:
        with ThreadPoolExecutor(calls) as pool:
            longest = max(pool.map(call, range(calls)))
    finally:
        server.resume()
    assert longest < calls * STORE_SECONDS / 4


def test_an_answer_that_comes_too_late_is_not_taken_for_the_next_one(
    server: RedisServer, store: RedisStore
) -> None:
    server.pause()
    try:
        with pytest.raises(StoreUnavailableError):
            store.log.generations()
    finally:
        server.resume()

    assert store.log.head().position == 0
    assert store.log.generations() == {}


def test_connections_that_the_server_has_closed_cost_no_write(server: RedisServer, store: RedisStore) -> None:
    """The store never repeats a creation, so it must notice a closed connection before it sends one."""
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: samples.deny(store, 5), range(8)))
    ask(server.port, b"CLIENT KILL TYPE normal\r\n")

    for number in range(8):
        store.records.create(samples.a_client(f"client-{number}"))

    assert len(store.records.list_of(type(samples.a_client()))) == 8


def test_a_read_only_server_is_reported_as_such(server: RedisServer, store: RedisStore) -> None:
    ask(server.port, b"REPLICAOF 127.0.0.1 1\r\n")

    with pytest.raises(StoreUnavailableError, match="ReadOnly"):
        store.log.heartbeat("p1")


@pytest.mark.parametrize("url", ["redis://127.0.0.1:{}/0", "redis://:hunter2@127.0.0.1:{}/0"])
def test_a_server_with_another_password_is_reported_as_such(server: RedisServer, url: str) -> None:
    server.configure("requirepass", "another")

    with pytest.raises(StoreUnavailableError, match="Authentication") as error:
        RedisStore.connect(url.format(server.port))

    assert "hunter2" not in "".join(str(cause) for cause in _chain(error.value))


def test_a_wait_ends_when_the_store_is_closed(server: RedisServer) -> None:
    store = RedisStore.connect(server.url)
    store.initialise(new_epoch())
    ended = threading.Event()

    def wait() -> None:
        try:
            store.log.wait(0, 2 * PATIENCE)
        except StoreUnavailableError:
            ended.set()

    thread = threading.Thread(target=wait)
    thread.start()
    store.close()

    assert ended.wait(PATIENCE)
    thread.join(PATIENCE)


def test_a_full_server_is_unavailable_and_not_a_bug(server: RedisServer, store: RedisStore) -> None:
    server.configure("maxmemory", "1")

    with pytest.raises(StoreUnavailableError, match=r"OOM|OutOfMemory"):
        store.facts.deny_token(TokenId("t1"), soon())


@pytest.mark.parametrize(
    "url",
    [
        "redis://user:hunter2@127.0.0.1:1/0",
        "redis://:hunter2@127.0.0.1:99999/0",
        "redis://:hunter2/x@127.0.0.1:1/0",
        "redis://:hunter2@127.0.0.1:1/0?no_such_option=1",
        "hunter2",
    ],
)
def test_the_password_of_the_url_is_never_shown(url: str) -> None:
    """Neither the message of the error nor its causes, which are logged with it, contain the password."""
    with pytest.raises((StoreUnavailableError, ConfigurationError)) as error:
        RedisStore.connect(url, timeout=0.3)

    causes = [str(cause) for cause in _chain(error.value)]
    assert "hunter2" not in repr(error.value) + str(error.value) + "".join(causes)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield the error and its causes, as a traceback prints them."""
    shown: BaseException | None = error
    while shown is not None:
        yield shown
        shown = shown.__cause__ or (None if shown.__suppress_context__ else shown.__context__)
