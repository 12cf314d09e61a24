"""Load: threads that issue, verify, refresh and revoke all the time, and threads that verify the results.

The module owns its threads and clients. Every answer goes into the history, which judges it.
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
"""The lifetime of every access token: longer than any test, and than any step of a clock."""
_BATCH: Final = 1000
_PACE: Final = 0.005 if os.environ.get("CRASH_ROUNDS") else 0.03
"""Seconds between two steps of a thread. The shorter pause would take all cores from the tests beside it.
With CRASH_ROUNDS there are none."""
_PAUSE: Final = 0.05
"""Seconds between two steps of a thread after a failed call."""
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
    """Only single sign-ins of theirs are revoked."""
    revoked_users: Sequence[tuple[str, str]]
    """For each process, the name and the subject of a user all of whose tokens are revoked again and
    again."""


class Caller:
    """One service process as its callers see it. Tries nothing twice, so that every answer counts."""

    def __init__(
        self,
        target: str,
        process: int,
        principals: Principals,
        history: History,
        *,
        timeout: float = _CALL_SECONDS,
    ) -> None:
        """The process must be there: from now on it has to know the earlier revocations."""
        self.process = process
        self._began = time.monotonic()
        self._principals = principals
        self._history = history
        self._bearer = ""
        options = ClientOptions(
            timeout=timedelta(seconds=timeout), max_attempts=1, bearer=lambda: self._bearer
        )
        # A process that comes back is found at once: the service is measured, not the pauses of
        # the client's own library.
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
        """One token for a service: issued, verified, and taken back in one of four ways."""
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
        """Everything there is to do, once: sign in, verify, refresh, revoke, and be refused."""
        self._sign_in_as_administrator()
        tokens = self.sign_in()
        self.check_live(tokens)
        renewed = self.refresh(tokens.refresh_token)
        self._revoke("session", renewed)
        self.check_revoked(self._history.revocations[-1:])

    def sign_in(self) -> TokenSet:
        """A session of the user that is never revoked by subject."""
        return self._issue(self._principals.user)

    def refresh(self, refresh_token: str) -> TokenSet:
        tokens = self._call("refresh", lambda: self._client.refresh(refresh_token))
        self._history.count("refreshed")
        return tokens

    def check_live(self, tokens: TokenSet) -> None:
        """Verify a token whose revocation was never requested."""
        token = tokens.access_token
        self._history.judge_live(self._call("verify", lambda: self._client.verify(token, any_audience=True)))

    def check_revoked(self, revocations: Sequence[Revocation]) -> None:
        """Verify tokens that were revoked."""
        asked = time.monotonic()
        outcomes = self._call("verify", lambda: self._outcomes(revocations))
        for known, said in zip(revocations, outcomes, strict=True):
            self._history.judge(known, said, process=self.process, began=self._began, asked=asked)

    def verified_of(self, revocations: Sequence[Revocation]) -> list[Revocation]:
        """Return the tokens that this process still accepts after the last fault. Raises IdentityError."""
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
        """Return the sessions whose refresh token this process would still exchange. Raises IdentityError."""
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
        """Revoking more than the token that one holds takes a scope; its token outlives the test."""
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
                self._bearer = ""  # made by a clock that was right or wrong then, and is not now
            self._history.failed(name, error)
            raise


class Load:
    """Three threads for each process, from `with` to its end."""

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
        """Let it go on for a while: load has no event to wait for."""
        self._stop.wait(seconds)

    def revokes(self, more: int, *, within: float) -> bool:
        """Let it go on; returns whether so many further revocations are acknowledged within some seconds."""
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
                    self._stop.wait(_PAUSE)  # it is in the history
                except Exception as error:  # noqa: BLE001  # a thread that dies unseen would prove nothing
                    self._history.mistake(f"the load itself failed: {error!r}")
                    return

        return repeat


class _Refreshing:
    """A user who stays signed in, and takes another device after a while: rotations have a rate."""

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
    """A client that shows revoked tokens again: the last ones, and some of all."""

    def __init__(self, caller: Caller, history: History) -> None:
        self._caller = caller
        self._history = history
        self._random = random.Random(caller.process)  # noqa: S311  # the choice is not secret

    def turn(self) -> None:
        known = self._history.revocations
        if known:
            some = self._random.sample(known, min(len(known), _ASKED_AT_ONCE))
            self._caller.check_revoked([*known[-_ASKED_AT_ONCE:], *some])
