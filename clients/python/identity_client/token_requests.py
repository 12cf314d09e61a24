"""Requests the tokens of one source: by its session or credential, or from a store of processes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

from identity_client.client import IdentityClient
from identity_client.errors import IdentityError, UnauthenticatedError
from identity_client.token_renewer import Obtained
from identity_client.token_state import EARLIEST
from identity_client.token_store import StoredTokens, TokenStore, age
from identity_client.values import TokenSet


class TokenRequests:
    """The calls of the service for one source of tokens. One thread at a time uses it."""

    def __init__(
        self,
        identity: IdentityClient | Callable[[], IdentityClient],
        sign_in: Callable[[IdentityClient], TokenSet],
        store: TokenStore | None,
    ) -> None:
        """Take the arguments of `RenewedTokens`; nothing is requested."""
        self._identity = identity
        self._sign_in = sign_in
        self._store = store
        self._closed = False

    def obtain(self, present: TokenSet | None) -> Obtained:
        """Return the next tokens: those that another process has stored, or new ones, which are stored first.

        Raises IdentityError if the service issues none, and the errors of reading the credential and of the
        store.
        """
        if self._closed:
            raise RuntimeError("this source of tokens is closed")
        if self._store is None:
            return Obtained(tokens=self._request(present))
        with self._store.locked():
            stored = self._store.load()
            if stored is not None:
                found = Obtained(tokens=stored.tokens, age=age(stored), requested=False)
                is_other = present is None or present.access_token != stored.tokens.access_token
                if is_other and found.age < EARLIEST * found.lifetime:
                    return found
                present = stored.tokens
            tokens = self._request(present)
            self._store.save(StoredTokens(tokens=tokens, save_time=datetime.now(UTC)))
        return Obtained(tokens=tokens)

    def end_session(self, tokens: TokenSet | None) -> None:
        """End the session of the tokens, or of those in the store, which are removed."""
        if self._store is not None:
            with self._store.locked():
                stored = self._store.load()
                tokens = stored.tokens if stored is not None else tokens
                self._store.save(None)
        if tokens is not None and tokens.refresh_token:
            with suppress(IdentityError), self.client() as identity:  # else the session ends when it expires
                identity.revoke_token(tokens.refresh_token, reason="signed out")

    def close(self, tokens: TokenSet | None) -> None:
        """Request no more tokens; end the session unless other processes may use it."""
        self._closed = True
        if self._store is None:
            self.end_session(tokens)
        if isinstance(self._identity, IdentityClient):
            self._identity.close()

    @contextmanager
    def client(self) -> Iterator[IdentityClient]:
        """Yield a client of the service until the block ends."""
        if isinstance(self._identity, IdentityClient):
            yield self._identity
        else:
            with self._identity() as identity:
                yield identity

    def _request(self, present: TokenSet | None) -> TokenSet:
        """Request tokens: of the session, if there is one, or of a new sign-in."""
        with self.client() as identity:
            if present is not None and present.refresh_token:
                with suppress(UnauthenticatedError):  # the session has ended: sign in again
                    return identity.refresh(present.refresh_token)
            return self._sign_in(identity)
