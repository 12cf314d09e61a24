"""A service in this process that a test restarts, and cuts off from its store, with a clock the test moves.

It can interrupt calls of the store. It knows neither the data in the store nor the calls of the service.
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
"""Methods of a store that work without reaching it."""
READ: Final = "sessions.read"
"""The method that reads a session, and writes only if it also rotates the session."""
WRITES: Final = (
    "facts.deny_token",
    "facts.end_session",
    "facts.raise_generation",
    "sessions.create",
    "sessions.replace",
    READ,
)
"""Methods that write on behalf of a client's call."""


class CuttableStore:
    """A store whose calls can be cut off as by a network: before they arrive, or before the response does."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.is_cut = False
        self._loses_replies = False

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        return CuttablePart(self, name, found) if name in PARTS else self.through(name, found)

    def through(self, name: str, found: Any) -> Any:
        """Return a method of the store or of one of its parts, cut off if the test says so."""
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
        """Let the writes of clients' calls take effect and lose their responses, until the block ends."""
        self._loses_replies = lost
        try:
            yield
        finally:
            self._loses_replies = False


class CuttablePart:
    """A part of a `CuttableStore`, such as `sessions`."""

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
        """Prepare the processes; `like` = another object whose clock and administrator they share."""
        # Denials last until a whole minute: from the start of one, every run rounds alike.
        start = datetime.now(UTC).replace(second=0, microsecond=0)
        self.clock = ShiftedClock(still_at=start) if like is None else like.clock
        self._settings = settings
        self._open_store = open_store
        self._admin: Principal | None = None if like is None else like._admin
        self._running = ExitStack()

    def start(self) -> None:
        """Start a process; the first one initialises the store."""
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
            cleanup.enter_context(self.clock.followed_by(self.heartbeats.met))
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
        """Let time pass, and have the process forget expired denials, as each heartbeat does."""
        self.clock.advance(seconds=seconds)
        self.world.service._replica.heartbeat("a test")

    def stop(self) -> None:
        """End the process; the store keeps its data."""
        self._running.close()


def _initialise(store_admin: StoreAdmin) -> Principal:
    made = store_admin.initialise()
    return Principal(id=made.client_id, credential=client_secret(made.client_id, made.client_secret.reveal()))
