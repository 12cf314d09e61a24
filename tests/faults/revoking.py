"""Threads that revoke tokens in every way while a store is copied, and record the acknowledgements."""

import random
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Final, Self

from identity_client import AdminClient, ClientOptions, IdentityClient, TokenSet, UnavailableError
from identityapi.v1 import principal_pb2
from tests.e2e.process import Running
from tests.faults.copied_site import AUDIENCE, PASSWORD, CopiedSite, victims
from tests.patience import PATIENCE

_PACE: Final = 0.002
"""Pause in seconds between two revocations of a thread."""


class Revoking:
    """A context manager that runs four threads that revoke tokens, and one that makes admin calls."""

    def __init__(self, site: CopiedSite, service: Running, tokens: Sequence[TokenSet]) -> None:
        """Prepare the threads; they revoke `tokens` first, and then tokens that they issue themselves."""
        self._site = site
        self._service = service
        self._tokens = list(tokens)
        self._wanted = {each.token_id for each in tokens}
        self._name = secrets.token_hex(4)
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self.acknowledged: list[TokenSet] = []
        """Tokens whose revocation was acknowledged: a test may require the rejection of these only, because
        an unacknowledged revocation may or may not have taken effect."""
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
        """Return whether every thread has ended because the service was unavailable to it."""
        return not any(thread.is_alive() for thread in self._threads)

    @property
    def has_taken_back(self) -> bool:
        """Return whether the revocation of each of the given `tokens` has been acknowledged."""
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
            pass  # the store is closed, or the service gone, as this test intends
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
