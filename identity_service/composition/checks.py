"""Checks of the settings before a service is opened with them, and the name of the store for messages.

A process that only supervises a service imports this module and not `opening.py`, which imports the service.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from identity_service.config.issuer_url import why_not_issuer_url
from identity_service.domain.errors import ConfigurationError, StoreUnavailableError
from identity_service.settings import Settings

if TYPE_CHECKING:
    from identity_service.storage.redis.client.server_checks import Finding

_TRACING = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.grpc")


def check_issuer(settings: Settings, *, dev: bool = False) -> None:
    """Check that clients can find the service by `issuer`, if it serves HTTP.

    Args:
        settings: the settings of the service.
        dev: whether the service runs with `--dev`, so that its issuer may be an http URL of this machine.

    Raises ConfigurationError, which says what to write.
    """
    if settings.http_listen and (why := why_not_issuer_url(settings.issuer, dev=dev)):
        raise ConfigurationError(f"issuer: {why}")


def check_tracing(settings: Settings) -> None:
    """Raise ConfigurationError if the settings ask for traces, and the extra for them is not installed."""
    if settings.traces_endpoint and not all(map(_is_installed, _TRACING)):
        raise ConfigurationError(
            "traces_endpoint: OpenTelemetry is not installed; pip install 'identity-service[otel]'"
        )


def check_store(settings: Settings) -> "Sequence[Finding]":
    """Return the conflicts of the Redis servers' configuration with the settings; empty for other stores.

    Raises StoreUnavailableError, ConfigurationError.
    """
    if not settings.store.startswith("redis"):
        return ()
    # Imported here, since a process on SQLite would start later with the Redis client.
    from identity_service.composition.redis_opening import check_redis

    with named_if_away(settings):
        return check_redis(settings)


@contextmanager
def named_if_away(settings: Settings) -> Iterator[None]:
    """Name the store and the remedy in the error if no server can be used; leave other errors as they are."""
    try:
        yield
    except StoreUnavailableError as error:
        if type(error) is not StoreUnavailableError:
            raise
        raise StoreUnavailableError(
            f"store {store_name(settings)}: {error}. Start Redis there, or correct the URL (setting `store`, "
            "IDENTITY_STORE): host, port, user and password"
        ) from error


def store_name(settings: Settings) -> str:
    """Return the URL of the store without passwords; the path of a file is absolute."""
    file = store_file(settings)
    return f"sqlite:///{file.resolve()}" if file is not None else settings.masked()["store"]


def store_file(settings: Settings) -> Path | None:
    """Return the path of an SQLite store; None for a store in memory and for any other store."""
    scheme, _, rest = settings.store.partition("://")
    path = rest.removeprefix("/")
    return Path(path) if scheme == "sqlite" and path != ":memory:" else None


def _is_installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:  # a package above it is missing
        return False
