"""A service, people and clients that hold tokens of it, and threads that take tokens back while it is copied.

Knows the command line and the clients, as an operator does. Ends what it started.
"""

import random
import secrets
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import cycle
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from identity_client import (
    AdminClient,
    ClientOptions,
    IdentityClient,
    IdentityError,
    LocalVerifier,
    NotFreshError,
    TokenSet,
    UnavailableError,
    Verified,
)
from identity_service.bootstrap import open_office
from identity_service.clock import SystemClock
from identity_service.domain.ids import PrincipalId, TokenId
from identity_service.domain.log import TokenDenied
from identity_service.domain.principals import Client as ClientRecord
from identity_service.domain.secret import Secret
from identity_service.opening import open_store
from identity_service.services.admin import NewUser
from identity_service.settings import Settings
from identityapi.v1 import identity_service_pb2 as pb
from identityapi.v1 import principal_pb2
from tests.e2e.process import CHEAP_PASSWORDS, MASTER_KEY, Installation, Running
from tests.patience import PATIENCE
from tests.redis_server import RedisServer

PASSWORD: Final = "correct horse battery staple"
AUDIENCE: Final = "api"
_LIVE_USERS: Final = 3
_VICTIMS: Final = 40
"""Users of whom everything is taken back, one after the other."""
_PACE: Final = 0.002


@dataclass(kw_only=True)
class CopiedSite:
    """Stores of both kinds, an administrator, and accounts."""

    folder: Path
    stack: ExitStack
    environment: dict[str, str] = field(default_factory=dict)
    secret: str = ""
    """Of the client `reports`."""
    count: int = 0
    servers: dict[str, RedisServer] = field(default_factory=dict)
    """By the URL of the store."""

    def new_store(self, kind: str) -> str:
        """The URL of an empty store."""
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
        """The command line on a store, as the first administrator."""
        return Installation(self.folder, store, dict(self.environment))

    def set_up(self, store: str) -> Installation:
        """Initialise a store with all accounts."""
        cheap = {n.removeprefix("IDENTITY_").lower(): int(value) for n, value in CHEAP_PASSWORDS.items()}
        settings = Settings.model_validate({"store": store, "master_key": MASTER_KEY, **cheap})
        with open_office(settings) as office:
            admin = office.initialise()
            record = ClientRecord(client_id=PrincipalId("reports"), audiences=frozenset({AUDIENCE}))
            _, secret = office.administrator.clients.create(record)
            assert secret is not None
            self.secret = secret.reveal()
            for name in (*live_users(), *victims()):
                office.administrator.users.create(
                    NewUser(username=name, password=Secret(PASSWORD), audiences=(AUDIENCE,))
                )
        self.environment = {
            "IDENTITY_CLIENT_ID": admin.client_id,
            "IDENTITY_CLIENT_SECRET": admin.client_secret.reveal(),
            "IDENTITY_BEAT_INTERVAL": "100ms",
        }
        return self.installation(store)

    def sign_in(self, service: Running, count: int) -> list[TokenSet]:
        """Tokens of 15 minutes for people, in turn, each a session of its own."""
        with service.client() as client:
            names = cycle(live_users())
            return [
                client.issue_with_password(next(names), PASSWORD, audiences=[AUDIENCE]) for _ in range(count)
            ]

    def issue(self, service: Running, count: int) -> list[TokenSet]:
        """Tokens of 15 minutes for the client `reports`."""
        with service.client() as client:
            return [self.issue_one(client) for _ in range(count)]

    def issue_one(self, client: IdentityClient) -> TokenSet:
        """One more token for the client `reports`."""
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


class Revoking:
    """Four threads that take tokens back in every way, and one that administers, until they are stopped."""

    def __init__(self, site: CopiedSite, service: Running, tokens: Sequence[TokenSet]) -> None:
        """`tokens` = what is taken back first; then come tokens that are issued for it, without end."""
        self._site = site
        self._service = service
        self._tokens = list(tokens)
        self._wanted = {each.token_id for each in tokens}
        self._name = secrets.token_hex(4)
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self.acknowledged: list[TokenSet] = []
        """Only these must be refused: what was not acknowledged may have been taken back or not."""
        self.administered = 0
        self.mistakes: list[str] = []
        self._bearer = site.administrator(service, "identity.revoke", "identity.admin")
        self._victims = self._signed_in_victims()
        self._threads = [threading.Thread(target=self._guarded, args=[self._revoke]) for _ in range(4)]
        self._threads.append(threading.Thread(target=self._guarded, args=[self._administer]))

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(PATIENCE)
        assert self.mistakes == [], self.mistakes

    @property
    def has_ended(self) -> bool:
        """Whether every thread has found the service unavailable."""
        return not any(thread.is_alive() for thread in self._threads)

    @property
    def has_taken_back(self) -> bool:
        """Whether everything that was named to it has been acknowledged."""
        done = {tokens.token_id for tokens in list(self.acknowledged)}
        return self._wanted <= done

    def _signed_in_victims(self) -> list[tuple[str, TokenSet]]:
        with self._service.client() as client, self._admin() as admin:
            return [
                (
                    admin.find_user(name).user_id,
                    client.issue_with_password(name, PASSWORD, audiences=[AUDIENCE]),
                )
                for name in victims()
            ]

    def _admin(self) -> AdminClient:
        return AdminClient(self._service.target, options=ClientOptions(bearer=self._bearer, max_attempts=1))

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except UnavailableError:
            pass  # the store is closed, or the service gone: what it is about
        except Exception as error:  # noqa: BLE001  # a thread that dies in silence would spoil the test
            self.mistakes.append(repr(error))

    def _revoke(self) -> None:
        ways = random.Random(0)  # noqa: S311  # chance, no secret
        options = ClientOptions(bearer=self._bearer, max_attempts=1)
        with IdentityClient(self._service.target, options=options) as client:
            while not self._stop.is_set():
                time.sleep(_PACE)  # the pace of the load, not a wait for anything
                way = ways.choice(["token", "token_id", "session", "refresh_token", "subject"])
                with self._lock:
                    subject, tokens = "", None
                    if way == "subject" and self._victims:
                        subject, tokens = self._victims.pop()
                    elif self._tokens:
                        tokens = self._tokens.pop()
                tokens = tokens or self._site.issue_one(client)
                self._take_back(client, way, subject, tokens)
                with self._lock:
                    self.acknowledged.append(tokens)

    def _take_back(self, client: IdentityClient, way: str, subject: str, tokens: TokenSet) -> None:
        if subject:
            client.revoke_subject(subject)
        elif way == "refresh_token" and tokens.refresh_token:
            client.revoke_token(tokens.refresh_token)
        elif way == "session" and tokens.session_id:
            client.revoke_session(tokens.session_id)
        elif way == "token_id" and not tokens.session_id:
            client.revoke_token_id(tokens.token_id)
        elif tokens.session_id:
            client.revoke_session(tokens.session_id)
        else:
            client.revoke_token(tokens.access_token)

    def _administer(self) -> None:
        with self._admin() as admin:
            number = 0
            while not self._stop.is_set():
                number += 1
                client_id = f"made-{self._name}-{number}"
                admin.create_client(principal_pb2.Client(client_id=client_id, audiences=[AUDIENCE]))
                admin.rotate_client_secret(client_id)
                if number % 2:
                    admin.delete_client(client_id)
                self.administered += 1


def verdicts(client: IdentityClient, tokens: Sequence[TokenSet]) -> list[str]:
    """For each access token VERIFIED, or why it is rejected."""
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
    """For each refresh token REFRESHED, or why it is refused; those without one are left out."""
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


def killed_after(installation: Installation, seconds: float, *words: str) -> bool:
    """Start a command and SIGKILL it after so long; returns whether it was still running then."""
    process = installation.start_command(*words)
    try:
        process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate(timeout=PATIENCE)
        return True
    return False


def deny_many(store: str, count: int) -> None:
    """Make the store so large that copying it takes a while."""
    settings = Settings.model_validate({"store": store, "master_key": MASTER_KEY})
    opened = open_store(settings, SystemClock())
    try:
        until = SystemClock().now() + timedelta(hours=20)
        for start in range(0, count, 1000):
            opened.restore(
                [
                    TokenDenied(token_id=TokenId(f"many-{number}"), deny_until=until)
                    for number in range(start, start + 1000)
                ]
            )
    finally:
        opened.close()


def _word(outcome: object) -> str:
    return "VERIFIED" if isinstance(outcome, Verified) else str(getattr(outcome, "reason", outcome))
