"""A new file that appears complete or not at all, and never replaces another. The module knows no format."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from identity_service.domain.errors import AlreadyExistsError, ConfigurationError

_MODE: Final = 0o600
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL


def require_absent(path: Path) -> None:
    """Raise AlreadyExistsError if the path exists, even as a broken symbolic link."""
    if os.path.lexists(path):
        raise AlreadyExistsError(f"{path} exists already and is not overwritten: name another file")


class NewFile:
    """A file that is written under a temporary name; `finish` renames it once it is on disk.

    Leaving the `with` block without `finish` removes the temporary file. Raises ConfigurationError if the
    file cannot be written, AlreadyExistsError if the path is taken by then.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._temporary = path.with_name(f".{path.name[:80]}.{secrets.token_hex(8)}.part")

    def __enter__(self) -> Self:
        require_absent(self._path)
        with self._errors():
            self._file = os.fdopen(os.open(self._temporary, _NEW, _MODE), "wb")
        return self

    def write(self, data: bytes) -> None:
        """Append the bytes."""
        with self._errors():
            self._file.write(data)

    def finish(self) -> None:
        """Sync the file to disk and give it its name; the name is on disk, too, when this returns."""
        with self._errors():
            self._file.flush()
            os.fsync(self._file.fileno())
            try:
                os.link(self._temporary, self._path)
            except FileExistsError:
                require_absent(self._path)
                raise
            except OSError:
                # A file system without hard links: reserve the name with an empty file, then replace it.
                os.close(os.open(self._path, _NEW, _MODE))
                self._temporary.replace(self._path)
            self._temporary.unlink(missing_ok=True)
            self._sync_folder()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):
            self._file.close()
        with suppress(OSError):
            self._temporary.unlink(missing_ok=True)

    def _sync_folder(self) -> None:
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ConfigurationError(f"cannot write {self._path}: {error.strerror}") from error
