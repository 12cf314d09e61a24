"""The check of a store's set-up against the settings, before a command serves from the store or fills it."""

from identity_service.cli.output import say
from identity_service.composition import checks
from identity_service.domain.errors import ConfigurationError
from identity_service.settings import Settings


def check_store(settings: Settings) -> None:
    """Print the problems of the store's set-up; raise ConfigurationError if one of them forbids its use."""
    refusals = []
    name = checks.store_name(settings)
    for finding in checks.check_store(settings):
        say(f"store {name}: {finding.what}; {finding.fix}")
        if finding.severity == "refuse":
            refusals.append(finding.what)
    if refusals:
        raise ConfigurationError(f"the store {name} cannot be used as it is set up: {'; '.join(refusals)}")
