"""The exit codes of failed calls. Only commands that call the service import it."""

from identity_client import (
    IdentityError,
    PermissionDeniedError,
    ResourceExhaustedError,
    UnauthenticatedError,
    UnavailableError,
)
from identity_service.cli.output import Exit


def code_of(error: IdentityError) -> Exit:
    """Return the exit code of a command whose call failed."""
    if isinstance(error, UnauthenticatedError | PermissionDeniedError):
        return Exit.REFUSED
    if isinstance(error, UnavailableError | ResourceExhaustedError):
        return Exit.UNAVAILABLE
    return Exit.FAILED
