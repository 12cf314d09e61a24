"""How commands reach the service: the options that all of them share, and the clients that come of it.

A command names what it needs as its first parameter, `service`; `remote` adds the options to it.
"""

import functools
import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Final

import grpc
import typer

from identity_client import (
    AdminClient,
    ClientOptions,
    IdentityClient,
    TlsOptions,
    TrustClient,
    UnavailableError,
)
from identity_client.renewal import SERVICE_AUDIENCE
from identity_service.cli.caller import Caller, secret_of, subject_of
from identity_service.cli.output import Exit, fail, failures

DEFAULT_TARGET: Final = "127.0.0.1:50051"
ADMIN_SCOPES: Final = ("identity.admin",)
REVOKE_SCOPES: Final = ("identity.revoke",)
_PATIENCE: Final = timedelta(seconds=30)
"""The deadline of each call: what an administrator asks for may take long on a machine that is busy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """The service that a command calls, and who calls it."""

    target: str
    tls: TlsOptions | None
    http_proxy: bool
    caller: Caller

    def identity(self, *, bearer: str | None = None) -> IdentityClient:
        """For calls that carry their own proof."""
        return IdentityClient(self.target, options=self._options(bearer))

    def trust(self) -> TrustClient:
        return TrustClient(self.target, options=self._options(bearer_of_environment()))

    @contextmanager
    def revoker(self) -> Iterator[IdentityClient]:
        """To revoke more than a token that the caller holds."""
        with (
            self.caller.bearer(self.target, self._options(), REVOKE_SCOPES) as bearer,
            IdentityClient(self.target, options=self._options(bearer)) as client,
        ):
            yield client

    @contextmanager
    def admin(self) -> Iterator[AdminClient]:
        with self.admin_as() as (client, _):
            yield client

    @contextmanager
    def admin_as(self) -> Iterator[tuple[AdminClient, str]]:
        """With the caller's id; empty where the connection's certificate proves the caller."""
        with (
            self.caller.bearer(self.target, self._options(), ADMIN_SCOPES) as bearer,
            AdminClient(self.target, options=self._options(bearer)) as client,
        ):
            token = bearer() if callable(bearer) else bearer
            yield client, subject_of(token or "")

    def _options(self, bearer: str | Callable[[], str] | None = None) -> ClientOptions:
        return ClientOptions(tls=self.tls, bearer=bearer, http_proxy=self.http_proxy, timeout=_PATIENCE)


def bearer_of_environment() -> str | None:
    """The caller's own token, where one is set: most calls need none."""
    return secret_of("IDENTITY_TOKEN") or None


def remote(command: Callable[..., None]) -> Callable[..., None]:
    """A command that calls the service in somebody's name: its options are added, its errors shown."""
    return _with_options(command, _OPTIONS)


def connected(command: Callable[..., None]) -> Callable[..., None]:
    """A command that calls the service with what it says itself."""
    return _with_options(command, [option for option in _OPTIONS if option.name not in _CALLERS])


def _with_options(command: Callable[..., None], options: Sequence[inspect.Parameter]) -> Callable[..., None]:
    signature = inspect.signature(command)
    service, *own = signature.parameters.values()
    if service.name != "service":
        raise TypeError(f"{command.__name__} must take `service` first")
    as_json = signature.parameters.get("as_json")

    @functools.wraps(command)
    def run(**values: Any) -> None:
        given = {option.name: values.pop(option.name) for option in options}
        with failures(as_json=bool(values.get("as_json"))):
            service = _service(**given)
            with _late_answers_named(service.target):
                command(service, **values)

    before, after = (own[:-1], own[-1:]) if as_json is not None else (own, [])
    parameters = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in (*before, *options, *after)
    ]
    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


@contextmanager
def _late_answers_named(target: str) -> Iterator[None]:
    """Say which service did not answer in time, where gRPC says only that the deadline was exceeded."""
    try:
        yield
    except UnavailableError as error:
        if error.code is not grpc.StatusCode.DEADLINE_EXCEEDED or error.reason:
            raise
        raise UnavailableError(
            f"the service at {target} did not answer within {_PATIENCE.total_seconds():.0f} s, and may yet "
            "do what was asked: look before you repeat it. Is the address right, and is the service healthy?",
            code=error.code,
            request_id=error.request_id,
        ) from error


def _service(
    *,
    target: Annotated[
        str, typer.Option("--target", envvar="IDENTITY_TARGET", help="host:port of the service.")
    ] = DEFAULT_TARGET,
    tls: Annotated[
        bool, typer.Option("--tls", envvar="IDENTITY_TLS", help="TLS; --ca and --cert turn it on as well.")
    ] = False,
    ca: Annotated[
        Path | None,
        typer.Option("--ca", envvar="IDENTITY_CA", help="Authorities to trust (PEM). Default: the usual."),
    ] = None,
    cert: Annotated[
        Path | None, typer.Option("--cert", envvar="IDENTITY_CERT", help="Own certificate (PEM).")
    ] = None,
    key: Annotated[
        Path | None, typer.Option("--key", envvar="IDENTITY_KEY", help="Its private key (PEM).")
    ] = None,
    caller_username: Annotated[
        str | None,
        typer.Option("--username", help="Who calls; the password is IDENTITY_PASSWORD, or asked for."),
    ] = None,
    caller_client_id: Annotated[
        str | None,
        typer.Option("--client-id", help="Who calls; the secret is IDENTITY_CLIENT_SECRET, or asked for."),
    ] = None,
    http_proxy: Annotated[
        bool,
        typer.Option(
            "--http-proxy",
            envvar="IDENTITY_HTTP_PROXY",
            help="Connect through the proxy that http_proxy or https_proxy of the environment names.",
        ),
    ] = False,
    service_audience: Annotated[
        str,
        typer.Option(
            "--service-audience",
            envvar="IDENTITY_SERVICE_AUDIENCE",
            help="The audience of tokens for the service itself.",
        ),
    ] = SERVICE_AUDIENCE,
) -> Service:
    """The options that commands share; `remote` and `connected` read them here."""
    if (cert is None) != (key is None):
        fail("--cert and --key go together", Exit.USAGE)
    for path in (ca, cert, key):
        if path is not None and not path.is_file():
            fail(f"{path}: there is no such file", Exit.USAGE)
    options = TlsOptions(ca_file=ca, certificate_file=cert, key_file=key) if tls or ca or cert else None
    caller = Caller(username=caller_username, client_id=caller_client_id, audience=service_audience)
    return Service(target=target, tls=options, http_proxy=http_proxy, caller=caller)


_OPTIONS: Final = tuple(inspect.signature(_service).parameters.values())
_CALLERS: Final = ("caller_username", "caller_client_id", "service_audience")
