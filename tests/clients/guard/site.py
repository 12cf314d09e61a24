"""An identity service with TLS, its users, and the verifiers of other services. Asserts nothing."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from identity_client import AdminClient, ClientOptions, IdentityClient, LocalVerifier, TokenSet
from identity_client.freshness import steady
from identityapi.v1 import trust_service_pb2 as trust_pb
from tests.clients.answers import HEARTBEAT
from tests.clients.guard.reports import ADMIN as ADMIN
from tests.clients.guard.reports import AUDIENCE as AUDIENCE
from tests.clients.guard.reports import READ as READ
from tests.patience import PATIENCE
from tests.rpc.conftest import ENVOY, GRPCIO, running, running_in_envoy, settings_for_tests
from tests.rpc.engines import EnvoyHost
from tests.rpc.envoy_inside import StoreAddress
from tests.rpc.world import PASSWORD, World
from tests.tls import Certifier

USERS = ("ana", "bo")


class Site:
    """An identity service with TLS and users, which tests of guards sign in at."""

    def __init__(self, world: World, certifier: Certifier) -> None:
        self.world = world
        self.certifier = certifier
        self.users = {
            name: world.new_user(name, audiences=(AUDIENCE, "other"), scopes=(READ, ADMIN)) for name in USERS
        }

    def sign_in(self, name: str = "ana", **fields: Any) -> TokenSet:
        """Issue tokens to a user, by default with the audience and the scope for reading."""
        wanted = {"audiences": [AUDIENCE], "scopes": [READ]} | fields
        with self._identity() as client:
            return client.issue_with_password(name, PASSWORD, **wanted)

    def token(self, name: str = "ana", **fields: Any) -> str:
        return self.sign_in(name, **fields).access_token

    def options(self, *scopes: str) -> ClientOptions:
        """Return the options of a client that calls as the first administrator, with a new token per call."""
        return ClientOptions(
            tls=self.certifier.options(),
            bearer=lambda: self._admin_token(scopes),
            timeout=timedelta(seconds=PATIENCE),
        )

    def revoke(self, by: Callable[[IdentityClient], str]) -> None:
        with self._identity("identity.revoke") as client:
            by(client)

    def retire_key(self) -> None:
        """Retire the key that signs at present; the next key replaces it."""
        with AdminClient(self.world.target, options=self.options("identity.admin")) as admin:
            (key,) = (
                key
                for key in admin.list_keys()
                if key.purpose == trust_pb.KEY_PURPOSE_SIGN and key.state == trust_pb.KEY_STATE_SIGNING
            )
            admin.retire_key(key.key_id, reason="a test")

    @contextmanager
    def verifier(self, **options: Any) -> Iterator[LocalVerifier]:
        """Yield a verifier of another service, once it is ready."""
        settings: dict[str, Any] = {"issuer": self.world.settings.issuer, "leeway": timedelta(0)} | options
        with LocalVerifier(
            self.world.target,
            options=self.options("identity.verify"),
            max_staleness=timedelta(seconds=PATIENCE),
            **settings,
        ) as verifier:
            verifier.wait_ready(timedelta(seconds=PATIENCE))
            yield verifier

    def _identity(self, *scopes: str) -> IdentityClient:
        options = self.options(*scopes) if scopes else ClientOptions(tls=self.certifier.options())
        return IdentityClient(self.world.target, options=options)

    def _admin_token(self, scopes: tuple[str, ...]) -> str:
        credential = self.world.admin.credential.client_secret
        with self._identity() as client:
            tokens = client.issue_with_secret(
                credential.client_id, credential.client_secret, scopes=list(scopes)
            )
        return tokens.access_token


@contextmanager
def running_site(folder: Path, engine: str = GRPCIO) -> Iterator[Site]:
    """Run the service on SQLite with this engine and the clock of the system."""
    certifier = Certifier(folder / "tls")
    settings = settings_for_tests(
        engine=engine,
        watch_heartbeat=HEARTBEAT,
        publish_before=timedelta(0),
        **certifier.server().settings(),
    )
    store = StoreAddress(kind="sqlite", place=str(folder / "identity.db"))
    with ExitStack() as cleanup:
        if engine == ENVOY:
            host = cleanup.enter_context(closing(EnvoyHost(settings, folder)))
            world = cleanup.enter_context(running_in_envoy(host, settings, store, folder))
        else:
            world = cleanup.enter_context(running(settings, store.open))
        yield Site(world, certifier)


def make_stale(verifier: LocalVerifier, since: timedelta) -> None:
    """Disconnect the verifier from the service, and have its state be too old since `since`."""
    verifier._closing.set()
    verifier._client.close()
    verifier._thread.join(PATIENCE)
    verifier._fresh.until = steady() - since.total_seconds()
