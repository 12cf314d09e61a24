"""Reports the errors of calls with their exit codes. Only commands that call the service import it."""

from collections.abc import Iterator
from contextlib import contextmanager

from identity_client import (
    IdentityError,
    PermissionDeniedError,
    ResourceExhaustedError,
    UnauthenticatedError,
    UnavailableError,
)
from identity_service.cli.output import Exit, fail
from identity_service.domain.visible import escape


@contextmanager
def call_failures(*, as_json: bool) -> Iterator[None]:
    """Print the error of a call that the block raises, and exit with the exit code of its class."""
    try:
        yield
    except IdentityError as error:
        fail(escape(str(error)), code_of(error), as_json=as_json, reason=error.reason)


def code_of(error: IdentityError) -> Exit:
    """Return the exit code of a command whose call failed."""
    if isinstance(error, UnauthenticatedError | PermissionDeniedError):
        return Exit.REFUSED
    if isinstance(error, UnavailableError | ResourceExhaustedError):
        return Exit.UNAVAILABLE
    return Exit.FAILED
