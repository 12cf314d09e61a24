"""A new file that appears complete or not at all, and never replaces another. The module knows no format."""

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from identity_service.domain.errors import AlreadyExistsError, ConfigurationError

_MODE: Final = 0o600
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL


def require_absent(path: Path) -> None:
    """Raise AlreadyExistsError if the path exists, even as a broken symbolic link."""
    if os.path.lexists(path):
        raise AlreadyExistsError(f"{path} exists already and is not overwritten: name another file")


@contextmanager
def new_file(path: Path) -> Iterator[Callable[[bytes], None]]:
    """Yield a function that appends bytes to a temporary file, which gets its name when the block ends.

    File and name are on disk then. If the block raises an exception, the file is removed. Raises
    ConfigurationError if the file cannot be written, AlreadyExistsError if the path is taken by then.
    """
    require_absent(path)
    temporary = path.with_name(f".{path.name[:80]}.{secrets.token_hex(8)}.part")
    with _translated(path):
        file = os.fdopen(os.open(temporary, _NEW, _MODE), "wb")

    def write(data: bytes) -> None:
        with _translated(path):
            file.write(data)

    try:
        yield write
        with _translated(path):
            file.flush()
            os.fsync(file.fileno())
            _rename(temporary, path)
    finally:
        with suppress(OSError):
            file.close()
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _rename(temporary: Path, path: Path) -> None:
    """Give the file its name, durably. Raises AlreadyExistsError if the path is taken, OSError."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        require_absent(path)
        raise
    except OSError:
        # A file system without hard links: reserve the name with an empty file, then replace it.
        os.close(os.open(path, _NEW, _MODE))
        temporary.replace(path)
    temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigurationError(f"cannot write {path}: {error.strerror}") from error
