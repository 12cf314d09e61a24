"""The base class of `AccessTokens` and `AsyncAccessTokens`: the credentials, the renewal and its files."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Self, TypedDict, Unpack

from identity_client import credentials
from identity_client.assertions import SERVICE_ISSUER, AssertionSigner
from identity_client.client import IdentityClient
from identity_client.environment import DEFAULT_TARGET, SERVICE_AUDIENCE, Environment
from identity_client.options import ClientOptions
from identity_client.requests import issue_request
from identity_client.token_renewer import TokenRenewer
from identity_client.token_requests import TokenRequests
from identity_client.token_store import TokenStore
from identity_client.values import TokenSet
from identity_shared.token_ids import unverified_token_id
from identityapi.v1 import token_pb2


class SourceOptions(TypedDict, total=False):
    """The arguments of all constructors of a source of tokens; each may be left out."""

    target: str
    """host:port of the service."""
    audience: str
    """The service that the token is for; by default the identity service itself."""
    scopes: Iterable[str]
    """The scopes of the token, such as `identity.admin`; empty = the principal's default."""
    options: ClientOptions | None
    """The options of the connection, without `bearer`. `options.timeout` bounds each attempt, and a call that
    names no time of its own."""
    store: TokenStore | None
    """A store in which the processes of a program share the tokens; None = none. Closing a source with a
    store ends no session, since other processes may use it."""


class RenewedTokens:
    """A source of access tokens that are renewed at about three quarters of their life.

    Until a token expires, a call gets it at once, even while the next one is requested in the background or
    the service cannot be reached. Without a valid token a call waits, and a failed renewal is repeated after
    a pause of at most 10 s. All threads may use one object; a child process (`os.fork`) makes connections of
    its own.

    The constructors take `SourceOptions`. They raise ValueError if the connection would have no TLS (see
    `ClientOptions.allow_plaintext`), and OSError if a file of `options.tls` cannot be read. Each renewal
    makes a connection of its own, so that it also uses new certificates.
    """

    def __init__(
        self,
        identity: IdentityClient | Callable[[], IdentityClient],
        sign_in: Callable[[IdentityClient], TokenSet],
        *,
        credential: Callable[[], token_pb2.Credential] | None = None,
        audience: str = "",
        wait: float = 0.0,
        store: TokenStore | None = None,
    ) -> None:
        """Create the source; the first call signs in.

        Args:
            identity: a function that makes a client, which is closed after each renewal; or a client, which
                is used throughout and closed with this object.
            sign_in: issues tokens with the credential.
            credential: returns the credential, which token exchange needs; None = no exchange.
            audience: the service that the tokens are for, which the log names; empty = unknown.
            wait: the seconds for which a call that names no time repeats a failed renewal; 0 = no call does.
            store: shared with other processes; None = none.
        """
        self._credential = credential
        self.wait = wait
        """The seconds for which a call that names no time repeats a failed renewal."""
        self._requests = TokenRequests(identity, sign_in, store)
        self._renewer = TokenRenewer(self._requests.obtain, audience=audience)

    @classmethod
    def from_env(
        cls,
        *,
        audience: str | None = None,
        scopes: Iterable[str] = (),
        environment: Environment | None = None,
        allow_plaintext: bool = False,
        store: TokenStore | None = None,
    ) -> Self:
        """Create a source with the credential that the environment names; see `Environment`.

        Args:
            audience: the service that the token is for; None = the identity service itself.
            scopes: of the token.
            environment: None = that of this process.
            allow_plaintext: whether to do without TLS to another machine, if no variable asks for TLS.
            store: shared with other processes; None = none.

        Raises ValueError if the environment names no credential, or more than one; the message says what to
        set.
        """
        found = environment or Environment.read()
        named = found.credential()
        return cls._by(
            named.make,
            once=named.once,
            target=found.target,
            audience=audience or found.service_audience,
            scopes=scopes,
            options=found.options(allow_plaintext=allow_plaintext),
            store=store,
        )

    @classmethod
    def by_secret(cls, client_id: str, client_secret: str | Path, **source: Unpack[SourceOptions]) -> Self:
        """Create a source for a client with a secret; see `IdentityClient.issue_with_secret`.

        `client_secret` is the secret, or the path of the file that holds it, which is read at each renewal.
        """

        def credential() -> token_pb2.Credential:
            return credentials.by_secret(client_id, credentials.read_secret(client_secret))

        return cls._by(credential, **source)

    @classmethod
    def by_password(
        cls, username: str, password: str, *, device: str = "", **source: Unpack[SourceOptions]
    ) -> Self:
        """Create a source for a user with a password; see `IdentityClient.issue_with_password`.

        It begins a session, which closing the source ends. `device` is its name in the list of sessions.
        """
        return cls._by(lambda: credentials.by_password(username, password), device=device, **source)

    @classmethod
    def by_private_key(
        cls,
        client_id: str,
        private_key_file: str | Path,
        *,
        issuer: str = SERVICE_ISSUER,
        **source: Unpack[SourceOptions],
    ) -> Self:
        """Create a source for a client with a private key (RFC 7523); see `AssertionSigner.from_file`.

        The file is read at each renewal. `issuer` is the service's setting of that name.
        """

        def credential() -> token_pb2.Credential:
            return credentials.by_assertion(
                AssertionSigner.from_file(client_id, private_key_file, audience=issuer)
            )

        return cls._by(credential, once=True, **source)

    @classmethod
    def by_assertion(cls, fetch: Callable[[], str], **source: Unpack[SourceOptions]) -> Self:
        """Create a source for a client whose assertions are signed elsewhere, such as in a key service.

        `fetch` returns a new assertion for each attempt, since the service accepts each one once. It runs in
        a thread of this source and may block. An exception of it is the error of the calls that wait.
        """
        return cls._by(lambda: credentials.by_assertion(fetch), once=True, **source)

    @classmethod
    def by_certificate(cls, **source: Unpack[SourceOptions]) -> Self:
        """Create a source for a client with a certificate (RFC 8705): `options.tls.certificate_file`.

        Its tokens are bound to the certificate: connections to other services must show it too. Raises
        ValueError if `options` name no certificate.
        """
        options = source.get("options")
        if options is None or options.tls is None or options.tls.certificate_file is None:
            raise ValueError("by_certificate needs options.tls with certificate_file and key_file")
        return cls._by(credentials.by_certificate, **source)

    @classmethod
    def by_federated_file(cls, path: str | Path, **source: Unpack[SourceOptions]) -> Self:
        """Create a source for a JWT of a trusted issuer, such as a Kubernetes service account token.

        The file is read at each renewal, since its writer replaces it.
        """
        path = Path(path)
        return cls._by(lambda: credentials.by_federated_token(path), **source)

    @classmethod
    def _by(
        cls,
        credential: Callable[[], token_pb2.Credential],
        *,
        target: str = DEFAULT_TARGET,
        audience: str = SERVICE_AUDIENCE,
        scopes: Iterable[str] = (),
        options: ClientOptions | None = None,
        store: TokenStore | None = None,
        device: str = "",
        once: bool = False,
    ) -> Self:
        """Create a source. `once`: the service accepts a credential once, so gRPC must not resend it."""
        scopes, options = list(scopes), options or ClientOptions()
        if once:
            options = replace(options, max_attempts=1)

        def sign_in(identity: IdentityClient) -> TokenSet:
            request = issue_request(credential(), audiences=[audience], scopes=scopes, device=device)
            return identity.issue(request)

        def connect() -> IdentityClient:
            return IdentityClient(target, options=options)

        connect().close()  # a file that cannot be read is an error here, and not at the first call
        wait = options.timeout.total_seconds()
        return cls(connect, sign_in, credential=credential, audience=audience, wait=wait, store=store)

    def token_id(self, token: str) -> str:
        """Return the `jti` of a token that this source has returned; "" if it is not known any more."""
        tokens = self._renewer.tokens
        if tokens is not None and tokens.access_token == token and tokens.token_id:
            return tokens.token_id
        return unverified_token_id(token)

    def invalidate(self, token: str) -> bool:
        """Stop using this token because a service refuses it; the next call waits for another one.

        It has no effect if the token is not the current one any more, and at most three times in three
        minutes. Returns whether the next call may get another token, so that a second attempt makes sense.
        """
        return self._renewer.invalidate(token)

    def exchange(self, subject_token: str, *, audience: str, scopes: Iterable[str] = ()) -> TokenSet:
        """Exchange a token that was received for one with which this client acts for its subject (RFC 8693).

        It calls the service each time; `TokenExchange` keeps the answers. Raises TypeError if this source was
        made without a credential, and the errors of `IdentityClient.exchange`.
        """
        if self._credential is None:
            raise TypeError(
                "a source of tokens needs a credential to exchange tokens: use from_env or a by_ method"
            )
        with self._requests.client() as identity:
            return identity.exchange(subject_token, self._credential(), audiences=[audience], scopes=scopes)

    def _end_session(self) -> None:
        self._requests.end_session(self._renewer.forget())

    def _end(self) -> None:
        tokens = self._renewer.forget()
        self._requests.close(tokens)
