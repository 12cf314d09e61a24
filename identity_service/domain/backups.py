"""Backups: the manifest, and the ports that write and read a backup.

Knows no file format and no cryptography.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from identity_service.domain.copying import CopiedItem


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The description of a backup, stored in it."""

    time: datetime
    """The time at which the backup was made, by the store's clock."""
    revision: str
    """The revision at the end of the store's log: everything up to it is in the backup."""
    issuer: str
    """The `issuer` of the settings with which the backup was made."""
    version: str
    """The version of the program that made the backup."""


class BackupWriter(Protocol):
    """A writer of one backup."""

    def require_free(self) -> None:
        """Raise AlreadyExistsError if there is already something at the place of the backup."""

    def write(self, manifest: Manifest, items: Iterable[CopiedItem]) -> Mapping[str, int]:
        """Write the whole backup durably, or leave nothing behind; return the number of items of each kind.

        Exceptions of the iteration are passed on. Raises AlreadyExistsError, ConfigurationError.
        """


class BackupReader(Protocol):
    """A reader of one backup.

    Every method raises ConfigurationError if the backup is incomplete or not authentic.
    """

    @property
    def manifest(self) -> Manifest:
        """Return the manifest of the backup."""

    def items(self) -> Iterator[CopiedItem]:
        """Yield all items.

        They are verified part by part, so an error may come as late as at the last item.
        """
