"""The check of a store's set-up against the settings, before a command serves from the store or fills it."""

from identity_service.cli.output import say
from identity_service.composition import opening
from identity_service.domain.errors import ConfigurationError, IdentityError
from identity_service.settings import Settings


def check_store(settings: Settings) -> None:
    """Print the problems of the store's set-up; raise ConfigurationError if one of them forbids its use."""
    refusals = []
    url = settings.masked()["store"]
    try:
        findings = opening.check_store(settings)
    except IdentityError:
        say(f"store {url}: it cannot be used; start it, or set `store` (IDENTITY_STORE) to the right URL")
        raise
    for finding in findings:
        say(f"store {url}: {finding.what}; {finding.fix}")
        if finding.severity == "refuse":
            refusals.append(finding.what)
    if refusals:
        raise ConfigurationError(f"the store cannot be used as it is set up: {'; '.join(refusals)}")
