"""A write whose reply is lost: the store has made it once, and the retry does not make it a second time."""

import selectors
import socket
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest

from identity_service.domain.errors import AlreadyExistsError, StoreUnavailableError
from identity_service.domain.ids import EVERYONE, SessionId, TokenId, new_epoch
from identity_service.domain.log import Appended
from identity_service.domain.store import Store
from identity_service.storage.redis import RedisStore
from tests.conformance import samples
from tests.redis_server import RedisServer


class ReplyLosingProxy:
    """A TCP proxy between a store and its server. On demand it drops the reply to the next script."""

    def __init__(self, port: int) -> None:
        self._server = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._armed = threading.Event()
        self.lost = 0
        self.port: int = self._listener.getsockname()[1]
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def lose_next_reply(self) -> None:
        self._armed.set()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(10)

    def _start(self, target: Callable[..., None], *args: socket.socket) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._start(self._pipe, client)

    def _pipe(self, client: socket.socket) -> None:
        """Forward data in both directions until one side closes or a reply is dropped, then disconnect."""
        script = False
        with (
            client,
            socket.create_connection(("127.0.0.1", self._server)) as server,
            selectors.DefaultSelector() as ready,
        ):
            ready.register(client, selectors.EVENT_READ, server)
            ready.register(server, selectors.EVENT_READ, client)
            while True:
                for key, _ in ready.select():
                    source, target = (client, server) if key.data is server else (server, client)
                    try:
                        data = source.recv(65536)
                    except OSError:
                        return
                    if not data:
                        return
                    if source is client:
                        script = b"EVALSHA" in data
                    elif script and self._armed.is_set() and not data.startswith(b"-NOSCRIPT"):
                        self._armed.clear()
                        self.lost += 1
                        return
                    target.sendall(data)


@pytest.fixture
def direct(server: RedisServer) -> Iterator[RedisStore]:
    """A store that is connected to the server without the proxy."""
    store = RedisStore.connect(server.url)
    store.initialise(new_epoch())
    yield store
    store.close()


@pytest.fixture
def proxy(server: RedisServer, direct: RedisStore) -> Iterator[ReplyLosingProxy]:
    proxy = ReplyLosingProxy(server.port)
    yield proxy
    proxy.close()


@pytest.fixture
def store(proxy: ReplyLosingProxy) -> Iterator[RedisStore]:
    store = RedisStore.connect(f"redis://127.0.0.1:{proxy.port}/0")
    yield store
    store.close()


REPEATED: dict[str, Callable[[Store], Appended]] = {
    "deny_token": lambda s: s.facts.deny_token(TokenId("t1"), samples.LATER),
    "end_session": lambda s: s.facts.end_session(
        SessionId("s1"), deny_until=samples.LATER, end_until=samples.MUCH_LATER
    ),
    "raise_generation": lambda s: s.facts.raise_generation(EVERYONE, above=0, request_id=None),
    "raise_generation with a request id": lambda s: s.facts.raise_generation(
        EVERYONE, above=0, request_id="r1"
    ),
}


@pytest.mark.parametrize("write", REPEATED.values(), ids=REPEATED.keys())
def test_a_fact_is_there_once_and_answered(
    store: RedisStore, proxy: ReplyLosingProxy, direct: RedisStore, write: Callable[[Store], Appended]
) -> None:
    proxy.lose_next_reply()

    answer = write(store)

    (entry,) = direct.log.read(0, 10).entries
    assert proxy.lost == 1
    assert answer.changes == ((entry.change, entry.link),)


def test_a_heartbeat_is_sent_again(store: RedisStore, proxy: ReplyLosingProxy, direct: RedisStore) -> None:
    proxy.lose_next_reply()

    assert store.log.heartbeat("p1").revision == direct.log.head().revision
    assert proxy.lost == 1


def test_a_rotation_whose_reply_is_lost_reports_a_conflict_and_is_found_by_reading_again(
    store: RedisStore, proxy: ReplyLosingProxy
) -> None:
    session = samples.a_session("s1")
    store.sessions.create(session)
    rotated = samples.a_session("s1", latest=8, parent=7)
    proxy.lose_next_reply()

    assert store.sessions.replace(rotated, expected_version=1) is False

    state = store.sessions.read(SessionId("s1"))
    assert proxy.lost == 1
    assert state is not None
    assert (state.version, state.session) == (2, rotated)


def test_a_creation_whose_reply_is_lost_is_not_repeated_and_is_unavailable(
    store: RedisStore, proxy: ReplyLosingProxy, direct: RedisStore
) -> None:
    proxy.lose_next_reply()

    with pytest.raises(StoreUnavailableError):
        store.records.create(samples.a_client())

    assert direct.log.head().position == 1
    with pytest.raises(AlreadyExistsError):
        store.records.create(samples.a_client())


def test_an_update_whose_reply_is_lost_is_not_repeated_and_shows_in_the_etag(
    store: RedisStore, proxy: ReplyLosingProxy, direct: RedisStore
) -> None:
    created = store.records.create(samples.a_client())
    changed = samples.a_client(max_lifetime=timedelta(minutes=1))
    proxy.lose_next_reply()

    with pytest.raises(StoreUnavailableError):
        store.records.update(changed, expected=created.revision)

    found = direct.records.get(type(changed), changed.id)
    assert found is not None
    assert found.record == changed
    assert found.revision.position == 2
