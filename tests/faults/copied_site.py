"""Helpers for tests that back up, restore or migrate a store: principals, tokens and verdicts on them.

The helpers use the command line and the client library, as an operator does. They stop every process that
they started.
"""

import random
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import cycle
from pathlib import Path
from typing import Final

from identity_client import (
    IdentityClient,
    IdentityError,
    LocalVerifier,
    NotFreshError,
    TokenSet,
    UnavailableError,
    Verified,
)
from identity_service.adapters.clock import SystemClock
from identity_service.composition.opening import open_store
from identity_service.composition.store_admin import open_store_admin
from identity_service.domain.ids import PrincipalId, TokenId
from identity_service.domain.log import TokenDenied
from identity_service.domain.principals import Client as ClientRecord
from identity_service.domain.secret import Secret
from identity_service.services.admin.administration import NewUser
from identity_service.settings import Settings
from identityapi.v1 import identity_service_pb2 as pb
from tests.e2e.process import CHEAP_PASSWORDS, MASTER_KEY, Installation, Running
from tests.patience import PATIENCE
from tests.redis_server import RedisServer

PASSWORD: Final = "correct horse battery staple"
AUDIENCE: Final = "api"
_LIVE_USERS: Final = 3
_VICTIMS: Final = 40
"""Number of users of whom a test revokes every token, one user after another."""


@dataclass(kw_only=True)
class CopiedSite:
    """A factory of SQLite and Redis stores, with the credentials of the principals that `set_up` creates."""

    folder: Path
    stack: ExitStack
    environment: dict[str, str] = field(default_factory=dict)
    secret: str = ""
    """The secret of the client `reports`."""
    count: int = 0
    servers: dict[str, RedisServer] = field(default_factory=dict)
    """The Redis servers, by the URL of the store."""

    def new_store(self, kind: str) -> str:
        """Create an empty store of this kind ("sqlite" or "redis"), and return its URL."""
        self.count += 1
        place = self.folder / f"{kind}-{self.count}"
        place.mkdir()
        if kind == "sqlite":
            return f"sqlite:///{place}/identity.db"
        server = RedisServer(place)
        server.start()
        self.stack.callback(server.stop)
        self.servers[server.url] = server
        return server.url

    def installation(self, store: str) -> Installation:
        """Return the command line for this store, with the credentials of the first administrator."""
        return Installation(self.folder, store, dict(self.environment), forked=True)

    def set_up(self, store: str) -> Installation:
        """Initialise a store, and create the client `reports` and all users in it."""
        cheap = {n.removeprefix("IDENTITY_").lower(): int(value) for n, value in CHEAP_PASSWORDS.items()}
        settings = Settings.model_validate({"store": store, "master_key": MASTER_KEY, **cheap})
        with open_store_admin(settings) as store_admin:
            admin = store_admin.initialise()
            record = ClientRecord(client_id=PrincipalId("reports"), audiences=frozenset({AUDIENCE}))
            _, secret = store_admin.administrator.clients.create(record)
            assert secret is not None
            self.secret = secret.reveal()
            for name in (*live_users(), *victims()):
                store_admin.administrator.users.create(
                    NewUser(username=name, password=Secret(PASSWORD), audiences=(AUDIENCE,))
                )
        self.environment = {
            "IDENTITY_CLIENT_ID": admin.client_id,
            "IDENTITY_CLIENT_SECRET": admin.client_secret.reveal(),
            "IDENTITY_HEARTBEAT_INTERVAL": "100ms",
        }
        return self.installation(store)

    def sign_in(self, service: Running, count: int) -> list[TokenSet]:
        """Sign in `count` times, the users taking turns; return the tokens of these sessions."""
        with service.client() as client:
            names = cycle(live_users())
            return [
                client.issue_with_password(next(names), PASSWORD, audiences=[AUDIENCE]) for _ in range(count)
            ]

    def issue(self, service: Running, count: int) -> list[TokenSet]:
        """Issue this many access tokens to the client `reports`."""
        with service.client() as client:
            return [self.issue_one(client) for _ in range(count)]

    def issue_one(self, client: IdentityClient) -> TokenSet:
        """Issue one access token to the client `reports`."""
        return client.issue_with_secret("reports", self.secret, audiences=[AUDIENCE])

    def administrator(self, service: Running, *scopes: str) -> str:
        with service.client() as client:
            environment = self.environment
            issued = client.issue_with_secret(
                environment["IDENTITY_CLIENT_ID"], environment["IDENTITY_CLIENT_SECRET"], scopes=list(scopes)
            )
        return issued.access_token


@contextmanager
def copied_site(folder: Path) -> Iterator[CopiedSite]:
    with ExitStack() as stack:
        yield CopiedSite(folder=folder, stack=stack)


def live_users() -> list[str]:
    return [f"live-{number}" for number in range(_LIVE_USERS)]


def victims() -> list[str]:
    return [f"victim-{number}" for number in range(_VICTIMS)]


def verdicts(client: IdentityClient, tokens: Sequence[TokenSet]) -> list[str]:
    """Return for each access token "VERIFIED", or the reason of the rejection."""
    found = []
    for start in range(0, len(tokens), 1000):
        requests = [
            pb.VerifyRequest(token=each.access_token, any_audience=True)
            for each in tokens[start : start + 1000]
        ]
        found += [_word(outcome) for outcome in client.verify_batch(requests)]
    return found


def local_verdicts(verifier: LocalVerifier, tokens: Sequence[TokenSet]) -> list[str]:
    found = []
    for each in tokens:
        try:
            found.append(_word(verifier.verify(each.access_token, any_audience=True)))
        except NotFreshError:
            found.append("NOT_FRESH")
    return found


def refreshes(client: IdentityClient, tokens: Sequence[TokenSet]) -> list[str]:
    """Return for each refresh token "REFRESHED", or the reason why the refresh failed."""
    found = []
    for each in tokens:
        if not each.refresh_token:
            continue
        try:
            client.refresh(each.refresh_token)
            found.append("REFRESHED")
        except IdentityError as error:
            found.append(error.reason)
    return found


def is_unavailable(client: IdentityClient, token: str) -> bool:
    try:
        client.verify(token, any_audience=True)
    except UnavailableError:
        return True
    return False


class Killer:
    """Starts commands and kills each of them at a random moment.

    If a command finishes before its moment, the moments of the next commands are earlier.
    """

    def __init__(self, whole: float, *, waits: float = 0.0) -> None:
        """Store how long the command runs, from which the moments of the kills are drawn.

        Args:
            whole: seconds that the command takes, without `waits`.
            waits: seconds that the command waits before it changes anything.
        """
        self.killed = self.rounds = 0
        self._whole = whole
        self._waits = waits
        self._moments = random.Random(whole)  # noqa: S311  # chance, no secret

    def goes_on(self, rounds: int) -> bool:
        """Return whether to run another round: if fewer than `rounds` ran, or no command was killed yet."""
        return self.rounds < rounds or not self.killed

    def run(self, installation: Installation, *words: str) -> None:
        """Start the command, and kill it at a random moment unless it has finished."""
        self.rounds += 1
        moment = self._waits + self._moments.uniform(0.3, 1.1) * self._whole
        if killed_after(installation, moment, *words):
            self.killed += 1
        else:
            self._whole *= 0.8


def killed_after(installation: Installation, seconds: float, *words: str) -> bool:
    """Start a command and SIGKILL it after this many seconds; return whether it was still running."""
    process = installation.start_command(*words)
    try:
        process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate(timeout=PATIENCE)
        return True
    return False


def deny_many(store: str, count: int) -> None:
    """Append this many denials to the store, so that a test can interrupt the copying of the store."""
    settings = Settings.model_validate({"store": store, "master_key": MASTER_KEY})
    opened = open_store(settings, SystemClock())
    try:
        until = SystemClock().now() + timedelta(hours=20)
        for start in range(0, count, 1000):
            opened.log.repair(
                [
                    TokenDenied(token_id=TokenId(f"many-{number}"), deny_until=until)
                    for number in range(start, start + 1000)
                ]
            )
    finally:
        opened.close()


def _word(outcome: object) -> str:
    return "VERIFIED" if isinstance(outcome, Verified) else str(getattr(outcome, "reason", outcome))
