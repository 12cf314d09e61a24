"""What is said when something in a store is not what this service wrote there. Knows no store."""

from collections.abc import Iterator
from contextlib import contextmanager

from identity_service.domain.errors import StoreDamagedError

_WRONG = (ValueError, KeyError, TypeError, IndexError, OverflowError)
"""What decoding raises for a value that is none of ours."""


def damaged(where: str, what: str) -> StoreDamagedError:
    """The error that names the key or row, what is wrong with it, and what to do."""
    return StoreDamagedError(
        f"the store is damaged: `{where}` {what}. Delete it if another program wrote it, else put its value "
        "back or restore a backup"
    )


@contextmanager
def reading(where: str, what: str = "holds a value that this version does not know") -> Iterator[None]:
    """Around the decoding of a value: whatever is wrong with it is named."""
    try:
        yield
    except StoreDamagedError:
        raise
    except _WRONG as error:
        raise damaged(where, what) from error
