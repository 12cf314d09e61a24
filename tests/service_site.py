"""The use cases of one process, wired as in the service, on a store in memory and a clock that stands still.

The module creates the principals that tests need. It asserts nothing.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from identity_service.composition.opening import key_policy, open_vault, replica_config
from identity_service.composition.store_admin import StoreAdmin
from identity_service.composition.wiring import Parts, UseCases, store_administration
from identity_service.domain.ids import PrincipalId
from identity_service.domain.issuers import TrustedIssuer, TrustRule
from identity_service.domain.principals import Client, Grant
from identity_service.domain.secret import Secret
from identity_service.domain.store import Store
from identity_service.jose.jwks import open_public_key
from identity_service.replication.follower import Follower
from identity_service.replication.replica import Replica
from identity_service.services.admin.administration import NewUser
from identity_service.services.revoke import ByPrincipal, RevokeRequest
from identity_service.settings import Settings
from identity_service.storage.sqlite import SqliteStore
from tests.fakes.clocks import FakeClock
from tests.fakes.event_logs import RecordingEventLog
from tests.fakes.issuer_keys import FakeIssuerKeys
from tests.fakes.password_hashers import PlainHasher
from tests.jwts import PartyKey

OTHER_ISSUER: Final = "https://issuer.example"
PASSWORD: Final = "correct horse battery staple"
MASTER_KEY: Final = "a master key for tests, 32 characters or more"
KEY: Final = PartyKey.make()
"""The key of the clients that sign assertions; the trusted issuer signs with it too."""


@dataclass(kw_only=True)
class ServiceSite:
    """The use cases of one process, and the parts that they use."""

    settings: Settings
    clock: FakeClock
    store: Store
    replica: Replica
    use: UseCases
    hasher: PlainHasher
    event_log: RecordingEventLog
    secrets: dict[str, str] = field(default_factory=dict)
    """The secrets of clients by their ids."""

    def new_client(self, client_id: str = "reports", *, public: bool = False, **changes: Any) -> str:
        """Create a client, with a secret unless it is public or has public keys; return its id."""
        values: dict[str, Any] = {"audiences": {"api"}, "scopes": {"read", "write"}} | changes
        sets = {name: frozenset(value) for name, value in values.items() if isinstance(value, set)}
        client = Client(client_id=PrincipalId(client_id), **(values | sets))
        no_secret = public or bool(client.public_keys)
        _, secret = self.use.administration.clients.create(client, no_secret=no_secret)
        self.secrets[client_id] = secret.reveal() if secret is not None else ""
        self.replica.catch_up()
        return client_id

    def new_app(self, client_id: str = "portal", **changes: Any) -> str:
        """Create a client through which users sign in; return its id."""
        return self.new_client(client_id, grants={Grant.PASSWORD, Grant.REFRESH_TOKEN}, **changes)

    def new_user(self, username: str = "ana") -> PrincipalId:
        made = self.use.administration.users.create(
            NewUser(
                username=username, password=Secret(PASSWORD), audiences=("api",), scopes=("read", "write")
            )
        )
        self.replica.catch_up()
        return made.record.user_id

    def trust_issuer(
        self,
        client_id: str = "reports",
        *,
        issuer: str = OTHER_ISSUER,
        rules: Mapping[str, str] | None = None,
        per_subject: bool = False,
        **changes: Any,
    ) -> None:
        """Trust another issuer, whose tokens authenticate the client `client_id`.

        With `rules`, a token authenticates the client that `rules` names for its `sub`.
        """
        made = tuple(
            TrustRule(claims={"sub": sub}, client_id=PrincipalId(id_), per_subject=per_subject)
            for sub, id_ in (rules or {"*": client_id}).items()
        )
        jwks = json.dumps({"keys": [KEY.public()]})
        self.store.records.create(TrustedIssuer(issuer=issuer, jwks=jwks, rules=made, **changes))
        self.replica.catch_up()

    def update_client(self, client_id: str, **changes: Any) -> None:
        """Change fields of a client."""
        wanted = Client(client_id=PrincipalId(client_id), **changes)
        self.use.administration.clients.update(wanted, list(changes))
        self.replica.catch_up()

    def revoke_all_of(self, client_id: str) -> None:
        """Revoke everything that was issued to a client or through it."""
        target = ByPrincipal(principal=PrincipalId(client_id))
        self.use.revoker.revoke(RevokeRequest(target=target))

    def audited(self, event: str) -> list[dict[str, Any]]:
        """Return the fields of the audit events of this name, as they were logged."""
        return self.event_log.named(event)


def in_memory(clock: FakeClock) -> Store:
    """Open a store in memory."""
    return SqliteStore.open(":memory:", clock=clock)


def start_process(settings: Settings, clock: FakeClock, store: Store) -> ServiceSite:
    """Return the use cases of a process that has read the log of this store and sent one heartbeat."""
    event_log, hasher = RecordingEventLog(), PlainHasher()
    replica = Replica(store.log, clock, event_log, replica_config(settings))
    use = UseCases(
        Parts(
            settings=settings,
            clock=clock,
            store=store,
            replica=replica,
            vault=open_vault(settings),
            hasher=hasher,
            event_log=event_log,
            key_policy=key_policy(settings),
            issuer_keys=FakeIssuerKeys(open_public_key(KEY.public_jwk)),
        )
    )
    interval = timedelta(seconds=1)
    Follower(store.log, replica, event_log, process="tests", heartbeat_interval=interval).load()
    return ServiceSite(
        settings=settings,
        clock=clock,
        store=store,
        replica=replica,
        use=use,
        hasher=hasher,
        event_log=event_log,
    )


@contextmanager
def open_service_site(
    open_store: Callable[[FakeClock], Store] = in_memory, **settings: Any
) -> Iterator[ServiceSite]:
    """Yield the use cases on a store that `identity init` has initialised, with these settings."""
    clock, configured = FakeClock(), Settings(**({"master_key": MASTER_KEY} | settings))
    store = open_store(clock)
    administrator = store_administration(store.records, PlainHasher(), clock, configured.issuer_names)
    StoreAdmin(settings=configured, store=store, administrator=administrator, clock=clock).initialise()
    yield start_process(configured, clock, store)
    store.close()
