"""The connection of commands to the service: the options that they share, and the clients built from them.

Such a command has a parameter `service` of the type `Connected` or `Remote`.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Final

import typer

from identity_client import (
    AdminClient,
    ClientOptions,
    IdentityClient,
    IdentityError,
    TlsOptions,
    TrustClient,
)
from identity_client.environment import DEFAULT_TARGET, SERVICE_AUDIENCE
from identity_service.cli.call_errors import code_of
from identity_service.cli.caller import CommandCaller, secret_of, subject_of
from identity_service.cli.option_groups import OptionsOf
from identity_service.cli.output import fail
from identity_service.cli.tls_files import tls_options
from identity_service.cli.unreachable import explained
from identity_service.domain.visible import escape

ADMIN_SCOPES: Final = ("identity.admin",)
REVOKE_SCOPES: Final = ("identity.revoke",)
VERIFY_SCOPES: Final = ("identity.verify",)
_PATIENCE: Final = timedelta(seconds=30)
"""The deadline of each call: an administrative call may take long on a busy machine."""
_LOG_OF_CLIENT: Final = logging.NullHandler()
"""A handler that drops the log entries of the client: the command prints its errors itself, with the address
and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CalledService:
    """The service that a command calls: its address, the connection's options, and the caller."""

    target: str
    tls: TlsOptions | None
    allow_plaintext: bool
    http_proxy: bool
    caller: CommandCaller

    def identity(self, *, bearer: str | None = None) -> IdentityClient:
        """Return a client for requests that carry a credential or a token themselves."""
        return IdentityClient(self.target, options=self._options(bearer))

    @contextmanager
    def verifier(self) -> Iterator[IdentityClient]:
        """Yield a client with scope identity.verify."""
        with (
            self._verify_bearer() as bearer,
            IdentityClient(self.target, options=self._options(bearer)) as client,
        ):
            yield client

    @contextmanager
    def trust(self) -> Iterator[TrustClient]:
        """Yield a client for keys and revocations, with scope identity.verify."""
        with (
            self._verify_bearer() as bearer,
            TrustClient(self.target, options=self._options(bearer)) as client,
        ):
            yield client

    @contextmanager
    def revoker(self) -> Iterator[IdentityClient]:
        """Yield a client with scope identity.revoke.

        A caller that shows the very token to revoke does not need the scope.
        """
        with (
            self.caller.bearer(self.target, self._options(), REVOKE_SCOPES) as bearer,
            IdentityClient(self.target, options=self._options(bearer)) as client,
        ):
            yield client

    @contextmanager
    def admin(self) -> Iterator[AdminClient]:
        """Yield a client for administration, with scope identity.admin if the caller may have it."""
        with self.admin_as() as (client, _):
            yield client

    @contextmanager
    def admin_as(self) -> Iterator[tuple[AdminClient, str]]:
        """Yield the client of `admin`, and the caller's id; "" if it is not known from a token."""
        with (
            self.caller.bearer(self.target, self._options(), ADMIN_SCOPES) as bearer,
            AdminClient(self.target, options=self._options(bearer)) as client,
        ):
            token = bearer() if callable(bearer) else bearer
            yield client, subject_of(token or "")

    def _verify_bearer(self) -> AbstractContextManager[str | Callable[[], str] | None]:
        """Return the caller's token, for methods that need a caller only if the service has TLS.

        Without TLS, that is IDENTITY_TOKEN alone, unless the command line names a caller.
        """
        if self.tls is None and not self.caller.is_named:
            return nullcontext(bearer_of_environment())
        return self.caller.bearer(self.target, self._options(), VERIFY_SCOPES)

    def _options(self, bearer: str | Callable[[], str] | None = None) -> ClientOptions:
        return ClientOptions(
            tls=self.tls,
            allow_plaintext=self.allow_plaintext,
            bearer=bearer,
            http_proxy=self.http_proxy,
            timeout=_PATIENCE,
        )


def bearer_of_environment() -> str | None:
    """Return IDENTITY_TOKEN, or None if it is not set: most calls need no token."""
    return secret_of("IDENTITY_TOKEN") or None


@contextmanager
def _connected(
    *,
    target: Annotated[
        str, typer.Option("--target", envvar="IDENTITY_TARGET", help="host:port of the service.")
    ] = DEFAULT_TARGET,
    tls: Annotated[
        bool, typer.Option("--tls", envvar="IDENTITY_TLS", help="Use TLS. Implied by --ca and --cert.")
    ] = False,
    ca: Annotated[
        Path | None,
        typer.Option("--ca", envvar="IDENTITY_CA", help="CA certificates (PEM). Default: those of gRPC."),
    ] = None,
    cert: Annotated[
        Path | None, typer.Option("--cert", envvar="IDENTITY_CERT", help="Client certificate (PEM).")
    ] = None,
    key: Annotated[
        Path | None, typer.Option("--key", envvar="IDENTITY_KEY", help="Private key of --cert (PEM).")
    ] = None,
    allow_plaintext: Annotated[
        bool,
        typer.Option(
            "--allow-plaintext",
            envvar="IDENTITY_ALLOW_PLAINTEXT",
            help="Connect to another machine without TLS: any host in between can read secrets and tokens.",
        ),
    ] = False,
    http_proxy: Annotated[
        bool,
        typer.Option(
            "--http-proxy",
            envvar="IDENTITY_HTTP_PROXY",
            help="Connect through the proxy in the environment variable http_proxy or https_proxy.",
        ),
    ] = False,
) -> Iterator[CalledService]:
    """Yield the service that these options name; errors of its calls end the command."""
    logging.getLogger("identity_client").addHandler(_LOG_OF_CLIENT)
    options = tls_options(target, tls=tls, ca=ca, cert=cert, key=key, allow_plaintext=allow_plaintext)
    try:
        with explained(target, options, _PATIENCE):
            yield CalledService(
                target=target,
                tls=options,
                allow_plaintext=allow_plaintext,
                http_proxy=http_proxy,
                caller=CommandCaller(audience=SERVICE_AUDIENCE),
            )
    except IdentityError as error:
        fail(escape(str(error)), code_of(error), reason=error.reason)


Connected = Annotated[CalledService, OptionsOf(_connected)]
"""The service that a command calls, named by options."""


def _remote(
    *,
    service: Connected,
    caller_username: Annotated[
        str | None,
        typer.Option("--username", help="Call as this user. Password: IDENTITY_PASSWORD, or a prompt."),
    ] = None,
    caller_client_id: Annotated[
        str | None,
        typer.Option("--client-id", help="Call as this client. Secret: IDENTITY_CLIENT_SECRET, or a prompt."),
    ] = None,
    service_audience: Annotated[
        str,
        typer.Option(
            "--service-audience",
            envvar="IDENTITY_SERVICE_AUDIENCE",
            help="Audience of tokens for the service itself.",
        ),
    ] = SERVICE_AUDIENCE,
) -> CalledService:
    """Return the service with the caller that these options name."""
    caller = CommandCaller(username=caller_username, client_id=caller_client_id, audience=service_audience)
    return replace(service, caller=caller)


Remote = Annotated[CalledService, OptionsOf(_remote)]
"""The service that a command calls, and its caller, named by options."""
