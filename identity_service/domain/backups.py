"""Backups: what a backup says of itself, and the ports that write one and read it.

Knows no file format and no cryptography.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from identity_service.domain.copying import CopiedItem


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a backup says of itself."""

    time: datetime
    """When it was made, by the store's clock."""
    revision: str
    """The end of the store's log: everything up to there is in the backup."""
    issuer: str
    """The `issuer` of the settings that it was made with."""
    version: str
    """The version of the program that made it."""


class BackupWriter(Protocol):
    """Makes one backup."""

    def require_free(self) -> None:
        """Raise AlreadyExistsError if there is something at its place already."""

    def write(self, manifest: Manifest, items: Iterable[CopiedItem]) -> Mapping[str, int]:
        """Write all of it, durably, or leave nothing; returns how many items of each kind it holds.

        What the iteration raises is passed on. Raises AlreadyExistsError, ConfigurationError.
        """


class BackupReader(Protocol):
    """Reads one backup. Every method raises ConfigurationError if it is not whole and genuine."""

    @property
    def manifest(self) -> Manifest:
        """What it says of itself."""

    def items(self) -> Iterator[CopiedItem]:
        """All items, from the first; verified one part after the other, so the last one may be refused."""
