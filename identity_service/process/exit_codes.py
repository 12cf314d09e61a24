"""The exit codes of the service and the command line, for scripts and supervisors.

0 done · 1 failed · 2 wrong usage · 3 refused or rejected · 4 unavailable, try again ·
5 there is a difference (`apply --dry-run`) · 6 ended by force while stopping, since something hung.
"""

from enum import IntEnum

from identity_service.domain import errors


class Exit(IntEnum):
    """The exit code of a process."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    REFUSED = 3
    UNAVAILABLE = 4
    DIFFERENT = 5
    FORCED = 6


def code_of_refusal(error: errors.IdentityError) -> Exit:
    """Return the exit code of a process that ends because of this error."""
    if isinstance(error, errors.UnavailableError | errors.ExhaustedError):
        return Exit.UNAVAILABLE
    return Exit.FAILED
