"""A service in this process that tests restart and cut off from its store. Only tests move its clocks.

The module breaks the connection to the store. It knows neither the content of the store nor the calls.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from typing import Any, Final, cast

import grpc

from identity_service.bootstrap import Service
from identity_service.composition.opening import open_hasher
from identity_service.composition.store_admin import StoreAdmin
from identity_service.composition.wiring import store_administration
from identity_service.domain.errors import StoreUnavailableError
from identity_service.domain.store import Store
from identity_service.settings import Settings
from tests.rpc.heartbeats import Heartbeats
from tests.rpc.world import Principal, ShiftedClock, World, client_secret

PARTS: Final = ("log", "facts", "records", "sessions", "single_use", "audit", "attempts", "copying")
LOCAL: Final = ("close", "log.adopt", "log.wait")
"""Methods of a store that work without a connection to it."""
READ: Final = "sessions.read"
"""A method that reads a session, and writes only if it also rotates the refresh token."""
WRITES: Final = (
    "facts.deny_token",
    "facts.end_session",
    "facts.raise_generation",
    "sessions.create",
    "sessions.replace",
    READ,
)
"""Methods that write to the store for a call of a client."""


class CuttableStore:
    """A store with a connection that tests break: no call arrives, or the replies to writes are lost."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.is_cut = False
        self._loses_replies = False

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        return CuttablePart(self, name, found) if name in PARTS else self.through(name, found)

    def through(self, name: str, found: Any) -> Any:
        """Return a method of the store with the present fault of the connection applied."""
        if self.is_cut and name not in LOCAL:
            raise StoreUnavailableError("the store is cut off")
        if not (self._loses_replies and name in WRITES):
            return found

        def lose_the_reply(*words: Any, **more: Any) -> Any:
            answer = found(*words, **more)
            if name == READ and not (answer and answer.rotated):
                return answer  # it has written nothing
            raise StoreUnavailableError("the reply of the store was lost")

        return lose_the_reply

    @contextmanager
    def losing_replies(self, lost: bool = True) -> Iterator[None]:
        """Lose the replies to the writes of clients' calls until the block ends. The writes take effect."""
        self._loses_replies = lost
        try:
            yield
        finally:
            self._loses_replies = False


class CuttablePart:
    """A part of a `CuttableStore`, such as its log; the connection that tests break is that of the store."""

    def __init__(self, store: CuttableStore, name: str, part: Any) -> None:
        self._store, self._name, self._part = store, name, part

    def __getattr__(self, name: str) -> Any:
        return self._store.through(f"{self._name}.{name}", getattr(self._part, name))


class Restartable:
    """Processes that run one after the other on one store.

    `world`, `store` and `heartbeats` belong to the latest process.
    """

    world: World
    store: CuttableStore
    heartbeats: Heartbeats
    clock: ShiftedClock

    def __init__(
        self,
        settings: Settings,
        open_store: Callable[[ShiftedClock], Store],
        *,
        like: "Restartable | None" = None,
    ) -> None:
        """Prepare the first process.

        If `like` is given, share the clock and the administrator of that one.
        """
        # The end of a denial is rounded up to a whole minute. If each run starts at one, all round alike.
        start = datetime.now(UTC).replace(second=0, microsecond=0)
        self.clock = ShiftedClock(still_at=start) if like is None else like.clock
        self._settings = settings
        self._open_store = open_store
        self._admin: Principal | None = None if like is None else like._admin
        self._running = ExitStack()

    def start(self) -> None:
        """Start a process.

        The first one initialises the store, unless it shares the administrator of another.
        """
        settings = self._settings
        with ExitStack() as cleanup:
            self.store = CuttableStore(self._open_store(self.clock))
            cleanup.callback(self.store.close)
            store = cast("Store", self.store)  # whose methods it passes on by name, which types cannot say
            hasher = open_hasher(settings)
            administrator = store_administration(store.records, hasher, self.clock, settings.issuer_names)
            store_admin = StoreAdmin(
                settings=settings, store=store, administrator=administrator, clock=self.clock
            )
            self._admin = self._admin or _initialise(store_admin)
            service = Service(settings, clock=self.clock, store=store)
            cleanup.callback(service.stop)
            self.heartbeats = Heartbeats(service)
            target = f"127.0.0.1:{service.start()}"
            cleanup.enter_context(self.clock.followed_by(self.heartbeats.notices_a_move))
            channel = cleanup.enter_context(grpc.insecure_channel(target))
            self.world = World(
                settings=settings,
                clock=self.clock,
                store=store,
                store_admin=store_admin,
                service=service,
                target=target,
                channel=channel,
                admin=self._admin,
            )
            self._running = cleanup.pop_all()

    def wait(self, seconds: float) -> None:
        """Let time pass, and send a heartbeat, at which the process drops denials past their end."""
        self.clock.advance(seconds=seconds)
        self.world.service._replica.heartbeat("a test")

    def stop(self) -> None:
        """Stop the process; the store keeps its content."""
        self._running.close()


def _initialise(store_admin: StoreAdmin) -> Principal:
    made = store_admin.initialise()
    return Principal(id=made.client_id, credential=client_secret(made.client_id, made.client_secret.reveal()))
