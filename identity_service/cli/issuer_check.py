"""The check of `issuer` for a service that clients find by it, over HTTP."""

from identity_service.config.issuer_url import why_not_issuer_url
from identity_service.domain.errors import ConfigurationError
from identity_service.settings import Settings


def check_issuer(settings: Settings, *, dev: bool = False) -> None:
    """Check that clients can find the service by `issuer`, if it serves HTTP.

    Args:
        settings: the settings of the service.
        dev: whether the service runs with `--dev`, so that its issuer may be an http URL of this machine.

    Raises ConfigurationError, which says what to write.
    """
    if settings.http_listen and (why := why_not_issuer_url(settings.issuer, dev=dev)):
        raise ConfigurationError(f"issuer: {why}")
