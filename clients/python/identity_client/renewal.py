"""An access token that is renewed before it expires, for clients that call the service for a long time.

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
"""The default of the setting `service_audience`: the audience of tokens for calls to the service itself."""

_USED_PART: Final = 0.75
"""The part of a token's lifetime after which it is renewed. While the service is unreachable the token is
used for the rest."""


class AccessTokens:
    """A callable that returns a valid access token at each call, for `ClientOptions.bearer`.

    Any thread may call it. Closing it ends the session that `by_password` began. It may be used as a context
    manager, which closes it.
    """

    def __init__(self, identity: IdentityClient, sign_in: Callable[[IdentityClient], TokenSet]) -> None:
        """Create the callable; its first call signs in.

        Args:
            identity: a client of the service, which is closed together with this object.
            sign_in: issues tokens with the credential.
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
        """Create a callable for a client with a secret; see `IdentityClient.issue_with_secret`.

        Args:
            client_id: the client.
            client_secret: its secret.
            target: host:port of the service.
            audience: the service's setting `service_audience`.
            scopes: the scopes of the token, such as `identity.admin`; empty = the client's default.
            options: of the connection; leave `bearer` out.
        """
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
        """Create a callable for a user with a password; see `IdentityClient.issue_with_password`.

        Args:
            username: the user.
            password: the user's password.
            target: host:port of the service.
            audience: the service's setting `service_audience`.
            scopes: the scopes of the token, such as `identity.admin`; empty = the user's default.
            device: a name for the list of sessions.
            options: of the connection; leave `bearer` out.
        """
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
        """Return an access token that has not expired. Raises IdentityError if the service issues none."""
        with self._lock:
            now = datetime.now(UTC)
            if self._tokens is None or now >= self._renew_time:
                self._renew(now)
            assert self._tokens is not None  # noqa: S101  # otherwise `_renew` has raised
            return self._tokens.access_token

    def close(self) -> None:
        """End the session, if there is one, and close the connection."""
        with self._lock:
            if self._tokens is not None and self._tokens.refresh_token:
                with suppress(IdentityError):  # then the session ends when it expires
                    self._identity.revoke_token(self._tokens.refresh_token, reason="signed out")
            self._tokens = None
            self._identity.close()

    def _renew(self, now: datetime) -> None:
        try:
            tokens = self._next()
        except UnavailableError:
            if self._tokens is None or now >= self._tokens.expire_time:
                raise
            return  # the present token is still valid: the next call tries again
        self._tokens = tokens
        self._renew_time = now + (tokens.expire_time - now) * _USED_PART

    def _next(self) -> TokenSet:
        if self._tokens is not None and self._tokens.refresh_token:
            with suppress(UnauthenticatedError):  # the session has ended: sign in again
                return self._identity.refresh(self._tokens.refresh_token)
        return self._sign_in(self._identity)
