"""Load for fault tests: threads that issue, verify, refresh and revoke tokens all the time.

Other threads verify revoked tokens again. Every answer is recorded in the history, which judges it.
"""

import os
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import cycle
from types import TracebackType
from typing import Final, Self, TypeVar

import grpc

from identity_client import (
    ClientOptions,
    IdentityClient,
    IdentityError,
    Outcome,
    TokenSet,
    UnauthenticatedError,
)
from identityapi.v1 import identity_service_pb2 as pb
from tests.faults.history import History, Revocation
from tests.patience import PATIENCE, until

PASSWORD: Final = "correct horse battery staple"
TOKEN_LIFETIME: Final = timedelta(hours=24)
"""Lifetime of every access token: longer than any test, and longer than any step of a clock."""
_BATCH: Final = 1000
_PACE: Final = 0.005 if os.environ.get("CRASH_ROUNDS") else 0.03
"""Pause in seconds between two steps of a thread. It is longer without CRASH_ROUNDS, because other tests then
run at the same time and need the processor."""
_PAUSE: Final = 0.05
"""Additional pause in seconds after a failed call."""
_CALL_SECONDS: Final = 2.0
_ASKED_AT_ONCE: Final = 16
_REFRESHED_AT_MOST: Final = 30

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Principals:
    """The principals that sign in, all with one password."""

    client_id: str
    client_secret: str
    user: str
    """A user whose single sessions are revoked, but never all tokens at once."""
    revoked_users: Sequence[tuple[str, str]]
    """For each process, the name and the subject of a user all of whose tokens are revoked repeatedly."""


class Caller:
    """A client of one service process. It never retries a call, so that every answer is recorded."""

    def __init__(
        self,
        target: str,
        process: int,
        principals: Principals,
        history: History,
        *,
        timeout: float = _CALL_SECONDS,
    ) -> None:
        """Connect to a running process, which must know each revocation acknowledged before now."""
        self.process = process
        self._began = time.monotonic()
        self._principals = principals
        self._history = history
        self._bearer = ""
        options = ClientOptions(
            timeout=timedelta(seconds=timeout), max_attempts=1, bearer=lambda: self._bearer
        )
        # Reconnect at once to a restarted process: the test measures the service, not the backoff of
        # the client.
        arguments = [
            *options.channel_arguments(),
            ("grpc.initial_reconnect_backoff_ms", 50),
            ("grpc.min_reconnect_backoff_ms", 50),
            ("grpc.max_reconnect_backoff_ms", 200),
            ("grpc.use_local_subchannel_pool", 1),
        ]
        self.channel = grpc.insecure_channel(target, options=arguments)
        self._client = IdentityClient(options=options, channel=self.channel)
        self._targets = cycle(["token", "token_id", "session", "subject"])

    def close(self) -> None:
        self.channel.close()

    def turn(self) -> None:
        """Issue one token, verify it, and revoke it in the next of four ways."""
        self._sign_in_as_administrator()
        target = next(self._targets)
        user = None
        if target in ("session", "subject"):
            user = (
                self._principals.user
                if target == "session"
                else self._principals.revoked_users[self.process][0]
            )
        tokens = self._issue(user)
        if target != "subject":  # an unacknowledged revocation may still take effect at any time
            self.check_live(tokens)
        self._revoke(target, tokens)

    def round_trip(self) -> None:
        """Make one call of each kind: sign in, verify, refresh, revoke, and verify the revoked token."""
        self._sign_in_as_administrator()
        tokens = self.sign_in()
        self.check_live(tokens)
        renewed = self.refresh(tokens.refresh_token)
        self._revoke("session", renewed)
        self.check_revoked(self._history.revocations[-1:])

    def sign_in(self) -> TokenSet:
        """Sign in the user whose tokens are never revoked by subject."""
        return self._issue(self._principals.user)

    def refresh(self, refresh_token: str) -> TokenSet:
        tokens = self._call("refresh", lambda: self._client.refresh(refresh_token))
        self._history.count("refreshed")
        return tokens

    def check_live(self, tokens: TokenSet) -> None:
        """Verify a token that no caller has asked to revoke."""
        token = tokens.access_token
        self._history.judge_live(self._call("verify", lambda: self._client.verify(token, any_audience=True)))

    def check_revoked(self, revocations: Sequence[Revocation]) -> None:
        """Verify the tokens of these revocations while a fault may last."""
        asked = time.monotonic()
        outcomes = self._call("verify", lambda: self._outcomes(revocations))
        for known, said in zip(revocations, outcomes, strict=True):
            self._history.judge(known, said, process=self.process, began=self._began, asked=asked)

    def verified_of(self, revocations: Sequence[Revocation]) -> list[Revocation]:
        """Return the revocations whose token this process still accepts after the fault.

        Raises IdentityError.
        """
        found = []
        for start in range(0, len(revocations), _BATCH):
            chunk = revocations[start : start + _BATCH]
            asked = time.monotonic()
            for known, said in zip(chunk, self._outcomes(chunk), strict=True):
                if not self._history.judge_finally(
                    known, said, process=self.process, began=self._began, asked=asked
                ):
                    found.append(known)
        return found

    def refreshed(self, revocations: Sequence[Revocation]) -> list[Revocation]:
        """Return the revocations whose refresh token this process still accepts. Raises IdentityError."""
        found = []
        for known in revocations:
            try:
                self._client.refresh(known.refresh_token)
            except UnauthenticatedError as error:
                if error.reason != "SESSION_ENDED":
                    self._history.mistake(f"refresh after the end of the session: {error.reason}")
                continue
            found.append(known)
        return found

    def _outcomes(self, revocations: Sequence[Revocation]) -> Sequence[Outcome]:
        requests = [pb.VerifyRequest(token=known.token, any_audience=True) for known in revocations]
        return self._client.verify_batch(requests)

    def _issue(self, user: str | None) -> TokenSet:
        principals = self._principals
        tokens = self._call(
            "issue",
            lambda: (
                self._client.issue_with_password(user, PASSWORD)
                if user
                else self._client.issue_with_secret(principals.client_id, principals.client_secret)
            ),
        )
        self._history.count("issued")
        return tokens

    def _sign_in_as_administrator(self) -> None:
        """Get a token with the scope to revoke other principals' tokens; the token outlives the test."""
        if not self._bearer:
            principals = self._principals
            self._bearer = self._call(
                "issue",
                lambda: self._client.issue_with_secret(
                    principals.client_id, principals.client_secret, scopes=["identity.revoke"]
                ),
            ).access_token

    def _revoke(self, target: str, tokens: TokenSet) -> None:
        client = self._client
        self._history.count("revocations tried")
        match target:
            case "token":
                self._call("revoke", lambda: client.revoke_token(tokens.access_token))
            case "token_id":
                self._call("revoke", lambda: client.revoke_token_id(tokens.token_id))
            case "session":
                self._call("revoke", lambda: client.revoke_session(tokens.session_id))
            case _:
                subject = self._principals.revoked_users[self.process][1]
                self._call("revoke", lambda: client.revoke_subject(subject))
        self._history.acknowledged(
            Revocation(
                token=tokens.access_token,
                refresh_token=tokens.refresh_token,
                target=target,
                process=self.process,
                time=time.monotonic(),
                valid_from=tokens.expire_time - TOKEN_LIFETIME,
            )
        )

    def _call(self, name: str, call: Callable[[], T]) -> T:
        try:
            return call()
        except IdentityError as error:
            if error.reason == "CALLER_UNAUTHENTICATED":
                self._bearer = ""  # a clock was set: the token's times do not fit it
            self._history.failed(name, error)
            raise


class Load:
    """A context manager that runs three threads for each process: revoking, refreshing and verifying."""

    def __init__(self, callers: Sequence[Caller], history: History) -> None:
        self._callers = callers
        self._history = history
        self._stop = threading.Event()
        steps = [
            self._forever(step)
            for caller in callers
            for step in (caller.turn, _Refreshing(caller, history).turn, _Asking(caller, history).turn)
        ]
        self._threads = [threading.Thread(target=step, name="load", daemon=True) for step in steps]

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

    def run(self, seconds: float) -> None:
        """Wait while the threads work for this many seconds; no event marks the end of enough load."""
        self._stop.wait(seconds)

    def revokes(self, more: int, *, within: float) -> bool:
        """Return whether `more` further revocations are acknowledged within this many seconds."""
        enough = len(self._history.revocations) + more
        try:
            until(lambda: len(self._history.revocations) >= enough, within)
        except TimeoutError:
            return False
        return True

    def _forever(self, step: Callable[[], None]) -> Callable[[], None]:
        def repeat() -> None:
            while not self._stop.wait(_PACE):
                try:
                    step()
                except IdentityError:
                    self._stop.wait(_PAUSE)  # the history has recorded it
                except Exception as error:  # noqa: BLE001  # a thread that dies unseen would prove nothing
                    self._history.mistake(f"the load itself failed: {error!r}")
                    return

        return repeat


class _Refreshing:
    """A user who refreshes a session 30 times, then signs in again: rotations of a session are limited."""

    def __init__(self, caller: Caller, history: History) -> None:
        self._caller = caller
        self._history = history
        self._token: str | None = None
        self._number = 0

    def turn(self) -> None:
        if self._token is None or self._number >= _REFRESHED_AT_MOST:
            self._token, self._number = self._caller.sign_in().refresh_token, 0
        try:
            tokens = self._caller.refresh(self._token)
        except UnauthenticatedError:
            self._token = None
            self._history.count("signed out")
            return
        self._token, self._number = tokens.refresh_token, self._number + 1
        self._caller.check_live(tokens)


class _Asking:
    """A client that verifies revoked tokens again: the last 16, and up to 16 random ones of all."""

    def __init__(self, caller: Caller, history: History) -> None:
        self._caller = caller
        self._history = history
        self._random = random.Random(caller.process)  # noqa: S311  # the choice is not secret

    def turn(self) -> None:
        known = self._history.revocations
        if known:
            some = self._random.sample(known, min(len(known), _ASKED_AT_ONCE))
            self._caller.check_revoked([*known[-_ASKED_AT_ONCE:], *some])
