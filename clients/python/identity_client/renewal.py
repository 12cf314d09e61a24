"""The caller's own access token, renewed in time: what a client that calls the service for long needs.

from identity_client import AccessTokens, AdminClient, ClientOptions

with AccessTokens.by_secret("ops", secret, scopes=["identity.admin"]) as tokens:
    with AdminClient(options=ClientOptions(bearer=tokens)) as admin:
        print([client.client_id for client in admin.list_clients()])
"""

import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime
from types import TracebackType
from typing import Final, Self

from identity_client.client import IdentityClient
from identity_client.errors import IdentityError, UnauthenticatedError, UnavailableError
from identity_client.options import ClientOptions
from identity_client.values import TokenSet

SERVICE_AUDIENCE: Final = "identity-service"
"""The audience of tokens that call the service itself, where its operator has set no other."""

_USED_PART: Final = 0.75
"""Of a token's life, after which the next one is asked for: the rest is for a service that is away."""


class AccessTokens:
    """Gives a good access token whenever it is called, as `ClientOptions.bearer` does before each call.

    Any thread may call it. Closing it ends the session that a password began.
    """

    def __init__(self, identity: IdentityClient, sign_in: Callable[[IdentityClient], TokenSet]) -> None:
        """Asks for nothing yet.

        Args:
            identity: how the service is reached; it is closed with this.
            sign_in: shows the credential.
        """
        self._identity = identity
        self._sign_in = sign_in
        self._lock = threading.Lock()
        self._tokens: TokenSet | None = None
        self._renew_time = datetime.min.replace(tzinfo=UTC)

    @classmethod
    def by_secret(
        cls,
        client_id: str,
        client_secret: str,
        *,
        target: str = "127.0.0.1:50051",
        audience: str = SERVICE_AUDIENCE,
        scopes: Iterable[str] = (),
        options: ClientOptions | None = None,
    ) -> Self:
        """For a service, by its secret. `options` say how to connect; a bearer in them is not used."""
        scopes = list(scopes)

        def sign_in(identity: IdentityClient) -> TokenSet:
            return identity.issue_with_secret(client_id, client_secret, audiences=[audience], scopes=scopes)

        return cls(IdentityClient(target, options=options), sign_in)

    @classmethod
    def by_password(
        cls,
        username: str,
        password: str,
        *,
        target: str = "127.0.0.1:50051",
        audience: str = SERVICE_AUDIENCE,
        scopes: Iterable[str] = (),
        device: str = "",
        options: ClientOptions | None = None,
    ) -> Self:
        """For a person. `device` is the name of the session while it lasts; `options` as above."""
        scopes = list(scopes)

        def sign_in(identity: IdentityClient) -> TokenSet:
            return identity.issue_with_password(
                username, password, audiences=[audience], scopes=scopes, device=device
            )

        return cls(IdentityClient(target, options=options), sign_in)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __call__(self) -> str:
        """An access token that is still good. Raises IdentityError: none is to be had."""
        with self._lock:
            now = datetime.now(UTC)
            if self._tokens is None or now >= self._renew_time:
                self._renew(now)
            assert self._tokens is not None  # noqa: S101  # else renewing has raised
            return self._tokens.access_token

    def close(self) -> None:
        """End the session, if there is one, and the connection."""
        with self._lock:
            if self._tokens is not None and self._tokens.refresh_token:
                with suppress(IdentityError):  # then it ends when its time is over
                    self._identity.revoke_token(self._tokens.refresh_token, reason="signed out")
            self._tokens = None
            self._identity.close()

    def _renew(self, now: datetime) -> None:
        try:
            tokens = self._next()
        except UnavailableError:
            if self._tokens is None or now >= self._tokens.expire_time:
                raise
            return  # the one at hand is good for a while: ask again with the next call
        self._tokens = tokens
        self._renew_time = now + (tokens.expire_time - now) * _USED_PART

    def _next(self) -> TokenSet:
        if self._tokens is not None and self._tokens.refresh_token:
            with suppress(UnauthenticatedError):  # the session has ended: begin another
                return self._identity.refresh(self._tokens.refresh_token)
        return self._sign_in(self._identity)
