"""Tokens with which a service acts for the caller of the call that it is handling (token exchange, RFC 8693).

from identity_client import AccessTokens, TokenExchange
from identity_client.grpc import secure_channel

stock = TokenExchange(AccessTokens.from_env(), audience="stock")
channel = secure_channel("stock:443", stock)      # each call carries a token for the caller of its own thread

def Order(self, request, context):
    StockStub(channel).Reserve(...)

Never call for a user with a token from one shared source: the call would act for the service itself.
"""

import hashlib
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Protocol

import grpc

from identity_client import async_renewal, renewal
from identity_client.caller import caller
from identity_client.errors import UnauthenticatedError
from identity_client.renewed_tokens import RenewedTokens
from identity_client.token_renewer import Obtained, TokenRenewer
from identity_client.trust import GenerationRaised, Revocation, SessionEnded, TokenDenied
from identity_client.trust_follower import NotFreshError
from identity_client.values import Rejected
from identity_client.verifier_core import TokenNames
from identity_shared.token_ids import unverified_claims, unverified_token_id

DEFAULT_SIZE: Final = 1000
"""The number of callers whose tokens are kept, by default."""


class Subject(Protocol):
    """A caller, for whom a service acts; `Caller` is one."""

    @property
    def token(self) -> str:
        """The access token that the caller sent."""


class Verifier(Protocol):
    """The part of a local verifier that tells which tokens were revoked."""

    def on_revoked(self, listener: Callable[[tuple[Revocation, ...]], None]) -> Callable[[], None]:
        """Have a function called after revocations; return a function that removes it."""

    def names(self, token: str) -> TokenNames:
        """Return the names by which the token can be revoked. Raises ValueError, NotFreshError."""

    def why_ended(self, token: str) -> Rejected | None:
        """Return why the token is refused, as far as is known here."""


_Name = tuple[type[Revocation], str]
"""A kind of revocation, and the token id, session id or principal that it names."""


@dataclass(slots=True)
class _Entry:
    """The tokens for one subject token."""

    renewer: TokenRenewer
    expiry: float
    """The time at which the subject token expires, in Unix seconds."""
    names: frozenset[_Name] | None = None
    """The revocations that end the subject token; None while the verifier cannot tell."""


class ExchangedTokens:
    """The cache in `TokenExchange` and `AsyncTokenExchange`: tokens for at most `size` subjects.

    Tokens are found by the exact text of the subject token, so that no forged token with the id of another
    one gets the tokens of its subject.
    """

    def __init__(
        self,
        tokens: RenewedTokens,
        *,
        audience: str,
        scopes: Iterable[str] = (),
        caller: Callable[[], Subject] = caller,
        verifier: Verifier | None = None,
        size: int = DEFAULT_SIZE,
    ) -> None:
        """Create the cache; nothing is exchanged yet.

        Args:
            tokens: the source with whose credential this service exchanges; of either kind. It stays open.
            audience: the service to call.
            scopes: of the new tokens; empty = those of the subject token that this service may have.
            caller: returns the caller of the present thread or task, for calls without `for_`; by default the
                caller that a guard of this SDK has admitted.
            verifier: tells of revocations: the tokens for a revoked subject token are dropped at once. Those
                for a subject token that it cannot verify, such as one of a key that it does not know yet, are
                dropped at each revocation, since that may be the one of the token.
            size: the number of subject tokens for which tokens are kept.
        """
        self._tokens = tokens
        self._audience = audience
        self._scopes = tuple(scopes)
        self._caller = caller
        self._size = size
        self._lock = threading.Lock()
        self._entries: dict[bytes, _Entry] = {}
        """By the digest of the subject token; the one that was used last is the last."""
        self._verifier = verifier
        self._stop_listening = verifier.on_revoked(self._drop_revoked) if verifier is not None else None

    def __repr__(self) -> str:
        return f"{type(self).__name__}(audience={self._audience!r})"

    def token_id(self, token: str) -> str:
        """Return the `jti` of a token that this exchange has returned."""
        return unverified_token_id(token)

    def invalidate(self, token: str) -> bool:
        """Stop using this token because a service refuses it; see `AccessTokens.invalidate`."""
        with self._lock:
            renewers = [entry.renewer for entry in self._entries.values()]
        for renewer in renewers:
            current = renewer.tokens
            if current is not None and current.access_token == token:
                return renewer.invalidate(token)
        return True

    def _renewer(self, subject: Subject | str) -> TokenRenewer:
        """Return the renewer of the tokens for this subject, a new one if there is none.

        Raises UnauthenticatedError if the verifier knows that the subject token was revoked.
        """
        text = subject if isinstance(subject, str) else subject.token
        key = hashlib.sha256(text.encode()).digest()
        with self._lock:  # a revocation that is not known yet waits for it, and then finds the entry
            entry = self._entries.pop(key, None)
            if entry is None:
                renewer = TokenRenewer(lambda _: self._exchange(text), audience=self._audience)
                entry = _Entry(renewer, _expiry(text))
            if entry.names is None and self._verifier is not None:
                entry.names = _names(self._verifier, text)
            self._entries[key] = entry
            self._evict()
            return entry.renewer

    def _evict(self) -> None:
        """Drop the entries used least recently while they are too many, or their subject has expired."""
        now = datetime.now(UTC).timestamp()
        while True:
            key, entry = next(iter(self._entries.items()))
            if len(self._entries) <= self._size and (len(self._entries) == 1 or entry.expiry > now):
                return
            del self._entries[key]

    def _exchange(self, subject: str) -> Obtained:
        tokens = self._tokens.exchange(subject, audience=self._audience, scopes=self._scopes)
        # No exchanged token lives longer than its subject token.
        return Obtained(tokens=tokens, renewable=tokens.expire_time.timestamp() < _expiry(subject))

    def _drop_revoked(self, revocations: tuple[Revocation, ...]) -> None:
        revoked = {_name(each) for each in revocations}
        with self._lock:
            for key, entry in list(self._entries.items()):
                if entry.names is None or not entry.names.isdisjoint(revoked):
                    del self._entries[key]

    def close(self) -> None:
        """Forget all tokens, and listen to the verifier no more."""
        if self._stop_listening is not None:
            self._stop_listening()
        with self._lock:
            self._entries.clear()


class TokenExchange(ExchangedTokens):
    """The tokens with which a service with threads acts for its callers. Any thread may use it."""

    def for_(self, subject: Subject | str, timeout: float | None = None) -> str:
        """Return an access token with which this service acts for the subject.

        Args:
            subject: the caller, or the access token that it sent.
            timeout: the seconds to wait for it at most; None = `options.timeout` of the source.

        Raises UnauthenticatedError if the service refuses the caller's token, another IdentityError if it
        issues no token, UnavailableError if it cannot be reached in time.
        """
        found = renewal.wait_for_tokens(self._renewer(subject), timeout, self._tokens.wait)
        return found.access_token

    def __call__(self, timeout: float | None = None) -> str:
        """Return an access token for the caller of the present thread; see `for_`."""
        return self.for_(self._caller(), timeout)


class AsyncTokenExchange(ExchangedTokens):
    """The same as `TokenExchange`, with coroutines, for services that use asyncio."""

    async def for_(self, subject: Subject | str, timeout: float | None = None) -> str:
        """Return an access token with which this service acts for the subject; see `TokenExchange.for_`."""
        found = await async_renewal.wait_for_tokens(self._renewer(subject), timeout, self._tokens.wait)
        return found.access_token

    async def __call__(self, timeout: float | None = None) -> str:
        """Return an access token for the caller of the present task; see `for_`."""
        return await self.for_(self._caller(), timeout)


def _names(verifier: Verifier, subject: str) -> frozenset[_Name] | None:
    """Return the revocations that end a subject token; None if the verifier cannot tell.

    Raises UnauthenticatedError if one of them is known already: the service may not know it yet.
    """
    ended = verifier.why_ended(subject)
    if ended is not None and ended.reason == "REVOKED":
        raise UnauthenticatedError(
            f"subject_token was rejected: {ended.reason}: {ended.detail}",
            code=grpc.StatusCode.UNAUTHENTICATED,
        )
    try:
        names = verifier.names(subject)
    except (ValueError, NotFreshError):
        return None
    principals = [(GenerationRaised, principal) for principal in names.principals]
    return frozenset([(TokenDenied, names.token_id), (SessionEnded, names.session_id), *principals])


def _name(revocation: Revocation) -> _Name:
    match revocation:
        case TokenDenied():
            return TokenDenied, revocation.token_id
        case SessionEnded():
            return SessionEnded, revocation.session_id
        case GenerationRaised():
            return GenerationRaised, revocation.principal


def _expiry(token: str) -> float:
    """Return the `exp` of a token, unverified; infinity if it cannot be read, as of an encrypted token."""
    try:
        return float(unverified_claims(token)["exp"])
    except (ValueError, KeyError, TypeError):
        return float("inf")
