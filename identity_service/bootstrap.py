"""The composition root: the only place that knows every concrete class. Read this first.

settings → store → replica ← follower        (memory follows the log)
             ↓        ↓
           use cases: issue, verify, refresh, revoke, watch, administration
                      ↓
           servicers → pipeline → gRPC server
"""

import secrets
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from identity_service import logs
from identity_service.clock import AnchoredClock, SystemClock
from identity_service.domain.errors import ConfigurationError
from identity_service.domain.grants import LifetimeBounds
from identity_service.domain.ports import Clock, Journal
from identity_service.domain.store import Store
from identity_service.grpc_api import answers
from identity_service.grpc_api.callers import CallerGate
from identity_service.grpc_api.identity import IdentityServicer
from identity_service.grpc_api.senders import Senders
from identity_service.grpc_api.server import Server, ServerConfig
from identity_service.grpc_api.trust import KEYS_MAX_AGE, TrustServicer
from identity_service.grpc_api.trust_messages import WatchRenderer
from identity_service.jose.access_tokens import AccessTokenCodec
from identity_service.jose.sealing import Sealer
from identity_service.jose.vault import Vault
from identity_service.metrics import Metrics
from identity_service.passwords import Argon2Config, Argon2Hasher
from identity_service.services.admin import Administrator
from identity_service.services.authenticate import Authenticator
from identity_service.services.directory import Directory
from identity_service.services.issue import Issuer
from identity_service.services.keyring import KeyRing
from identity_service.services.refresh import Refresher
from identity_service.services.revoke import RevokeConfig, Revoker
from identity_service.services.setup import Initialised, initialise
from identity_service.services.token_maker import IssueConfig, TokenMaker
from identity_service.services.verify import Verifier
from identity_service.services.watch import WatchConfig, WatchHub
from identity_service.settings import Settings
from identity_service.storage.follower import Follower
from identity_service.storage.redis import RedisStore
from identity_service.storage.redis.checks import Demands, Finding
from identity_service.storage.replica import Replica, ReplicaConfig
from identity_service.storage.sqlite import SqliteStore
from identity_service.storage.upkeep import retention_for

_HEALTH_INTERVAL = 0.25


def open_store(settings: Settings, clock: Clock, journal: Journal | None = None) -> Store:
    """The store of the settings' URL. Raises StoreUnavailableError, ConfigurationError.

    With a journal, no server is used that cannot give what the settings promise, and the journal says so.
    """
    scheme, _, rest = settings.store.partition("://")
    if scheme == "sqlite":
        # The embedded store's clock is the process's own as it was at start: see AnchoredClock.
        return SqliteStore.open(rest.removeprefix("/"), clock=AnchoredClock(clock))
    if scheme.startswith("redis"):
        demands = _demands(settings, insist=journal is not None)
        return RedisStore.connect(settings.store, demands=demands, wall_clock=clock, journal=journal)
    raise ConfigurationError(f"store: the scheme {scheme!r} is not offered; use sqlite:/// or redis://")


def _demands(settings: Settings, *, insist: bool) -> Demands:
    return Demands(
        durability=settings.durability,
        allow_unsafe=settings.allow_unsafe_redis,
        max_staleness=settings.max_staleness,
        leeway=settings.leeway,
        insist=insist,
    )


def open_vault(settings: Settings) -> Vault:
    """What makes and opens keys. Raises ConfigurationError: no master key, or a short one."""
    return Vault(Sealer(settings.read_master_key()))


def check_store(settings: Settings) -> Sequence[Finding]:
    """What in the store's set-up goes against the settings; an embedded store has nothing to set up."""
    if settings.store.startswith("sqlite:"):
        return ()
    demands = _demands(settings, insist=False)
    store = RedisStore.connect(settings.store, demands=demands, wall_clock=SystemClock())
    try:
        return store.check_all(demands)
    finally:
        store.close()


def open_hasher(settings: Settings) -> Argon2Hasher:
    return Argon2Hasher(
        Argon2Config(
            time_cost=settings.argon2_time_cost,
            memory_kib=settings.argon2_memory_kib,
            parallelism=settings.argon2_parallelism,
            threads=settings.password_threads,
            queue=settings.password_queue,
        )
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Office:
    """What the command line needs to administer a store directly."""

    settings: Settings
    store: Store
    administrator: Administrator
    clock: Clock

    def initialise(self) -> Initialised:
        """Initialise the store; see `services/setup.py`."""
        return initialise(
            self.store,
            open_vault(self.settings),
            self.administrator,
            self.clock,
            algorithm=self.settings.algorithm,
            service_audience=self.settings.service_audience,
        )


@contextmanager
def open_office(settings: Settings) -> Iterator[Office]:
    """Open the store for administration, and close it again."""
    clock = SystemClock()
    store = open_store(settings, clock)
    hasher = open_hasher(settings)
    try:
        yield Office(
            settings=settings,
            store=store,
            administrator=Administrator(store, hasher, clock, logs.LogJournal()),
            clock=clock,
        )
    finally:
        hasher.close()
        store.close()


class Service:
    """One server process, wired. `start` returns when it serves; `stop` drains and releases."""

    def __init__(self, settings: Settings, *, clock: Clock | None = None, store: Store | None = None) -> None:
        """Wire it; a clock and a store are given by tests that move time."""
        clock = clock or SystemClock()
        self._metrics = Metrics()
        self._metrics_listen = settings.metrics_listen
        journal = self._metrics.counting(logs.LogJournal())
        vault = open_vault(settings)
        self._store = store = store or open_store(settings, clock, journal)
        self._hasher = open_hasher(settings)
        self._replica = replica = Replica(
            store,
            clock,
            journal,
            ReplicaConfig(
                max_staleness=settings.max_staleness,
                leeway=settings.leeway,
                retention=retention_for(settings.max_access_token_lifetime, settings.leeway),
                strong_limit=settings.strong_limit,
            ),
        )
        self._follower = Follower(
            store,
            replica,
            journal,
            process=secrets.token_hex(8),
            beat_interval=settings.beat_interval,
        )
        self._metrics.watch(replica)
        keys = KeyRing(store, vault, clock)
        directory = Directory(store)
        replica.subscribe(keys.on_change)
        replica.subscribe(directory.on_change)

        codec = AccessTokenCodec(keys, settings.issuer)
        issue_config = IssueConfig(
            issuer=settings.issuer,
            lifetimes=LifetimeBounds(
                default=settings.access_token_lifetime, maximum=settings.max_access_token_lifetime
            ),
            session_lifetime=settings.session_lifetime,
            known_scopes=frozenset(settings.known_scopes),
        )
        authenticator = Authenticator(store, replica, directory, self._hasher, clock)
        maker = TokenMaker(codec, keys, clock, issue_config)
        verifier = Verifier(
            codec,
            keys,
            replica,
            clock,
            answers.render,
            leeway=settings.leeway,
            cache_entries=settings.cache_entries,
            serve_stale=settings.on_stale == "serve",
        )
        revoker = Revoker(
            store,
            replica,
            codec,
            keys,
            clock,
            journal,
            RevokeConfig(
                longest_lifetime=settings.max_access_token_lifetime,
                session_lifetime=settings.session_lifetime,
                leeway=settings.leeway,
            ),
        )
        refresher = Refresher(
            store,
            replica,
            authenticator,
            keys,
            maker,
            revoker,
            journal,
            grace=settings.refresh_grace,
            known_scopes=issue_config.known_scopes,
        )
        issuer = Issuer(authenticator, maker, keys, store, replica, journal, issue_config)
        gate = CallerGate(
            verifier, audience=settings.service_audience, require_caller_auth=settings.require_caller_auth
        )
        hub = WatchHub(
            replica,
            keys,
            clock,
            WatchRenderer(KEYS_MAX_AGE),
            WatchConfig(max_watchers=settings.max_watchers, queue=settings.watch_queue),
        )
        replica.follow(hub)
        replica.subscribe(hub.on_change)
        self._metrics.gauge("identity_watchers", "Open streams of Watch.", lambda: len(hub))
        senders = Senders(
            send_timeout=settings.watch_send_timeout,
            heartbeat=settings.watch_heartbeat,
            beat=hub.beat,
            leave=hub.close,
        )
        self._keys = keys
        self._server = Server(
            _server_config(settings),
            IdentityServicer(issuer, verifier, refresher, revoker, replica),
            TrustServicer(keys, replica, hub, senders),
            senders,
            gate,
        )
        self._stopping = threading.Event()
        self._health = threading.Thread(target=self._report_health, name="identity-health", daemon=True)

    def start(self) -> int:
        """Listen, read the log to its end, and serve; returns the port.

        Raises ConfigurationError, UnavailableError; before it returns, every call is UNAVAILABLE.
        """
        try:
            port = self._server.start()
            if self._metrics_listen:
                self._metrics.serve(self._metrics_listen)
            self._follower.start()
            self._keys.signing()
            self._keys.current_refresh_key()
        except BaseException:
            self.stop()
            raise
        self._server.set_serving(serving=True)
        self._health.start()
        return port

    def stop(self) -> bool:
        """NOT_SERVING, drain, release everything; returns whether every call could end in time."""
        self._stopping.set()
        done = self._server.stop()
        self._follower.close()
        self._store.close()
        self._follower.join(timeout=2)
        self._hasher.close()
        self._metrics.close()
        return done

    def _report_health(self) -> None:
        while not self._stopping.wait(_HEALTH_INTERVAL):
            self._server.set_serving(serving=self._replica.is_fresh())


def _server_config(settings: Settings) -> ServerConfig:
    return ServerConfig(
        listen=settings.listen,
        max_message_bytes=settings.max_message_bytes,
        memory_threads=settings.verify_threads,
        work_threads=settings.work_threads,
        max_connection_age=settings.max_connection_age,
        drain_grace=settings.drain_grace,
        reflection=settings.reflection,
    )
