"""Whether a store is set up as the settings promise: asked before a command serves from it or fills it."""

from identity_service import opening
from identity_service.cli.output import say
from identity_service.domain.errors import ConfigurationError
from identity_service.settings import Settings


def check_store(settings: Settings) -> None:
    """Print what is wrong with the set-up; raise ConfigurationError if the store breaks what was promised."""
    refusals = []
    for finding in opening.check_store(settings):
        say(f"store: {finding.what}; {finding.fix}")
        if finding.severity == "refuse":
            refusals.append(finding.what)
    if refusals:
        raise ConfigurationError(f"the store cannot be used as it is set up: {'; '.join(refusals)}")
