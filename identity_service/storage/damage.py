"""The error for a value in a store that this service did not write there. Knows no store."""

from collections.abc import Iterator
from contextlib import contextmanager

from identity_service.domain.errors import StoreDamagedError

_DECODING_ERRORS = (ValueError, KeyError, TypeError, IndexError, OverflowError)
"""The exceptions that decoding raises for a value that this service did not write."""


def damaged(where: str, what: str) -> StoreDamagedError:
    """Return the error that names the key or row (`where`), what is wrong with it, and what to do."""
    return StoreDamagedError(
        f"the store is damaged: `{where}` {what}. Delete it if another program wrote it; otherwise restore "
        "its value, or a backup"
    )


@contextmanager
def reading(where: str, what: str = "holds a value that this version does not know") -> Iterator[None]:
    """Translate the errors of decoding in the block into a StoreDamagedError that names `where`."""
    try:
        yield
    except StoreDamagedError:
        raise
    except _DECODING_ERRORS as error:
        raise damaged(where, what) from error
