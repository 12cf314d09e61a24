"""Backup: writes everything that a restore needs into a file, while processes use the store.

A backup has no sessions and no audit events, because a restore would not bring them back.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from identity_service.domain.copying import BackupWriter, CopiedItem, CopiedRecord, CopySource, Manifest
from identity_service.domain.errors import StoreFencedError, StoreReplacedError
from identity_service.domain.keys import StoredKey
from identity_service.services.copy_tally import Tally

_ATTEMPTS: Final = 3
"""The number of times that a backup is begun if the store is replaced meanwhile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BackedUp:
    """The result of a backup."""

    manifest: Manifest
    counts: Mapping[str, int]
    """The number of things of each kind that it holds."""


def back_up(
    source: CopySource,
    writer: BackupWriter,
    *,
    check_key: Callable[[StoredKey], None],
    issuer: str,
    version: str,
) -> BackedUp:
    """Write a backup; if the store is replaced meanwhile, begin again, up to three times in all.

    Args:
        source: the store to copy.
        writer: writes the file.
        check_key: raises ConfigurationError for a key that the master key does not open.
        issuer: this service's issuer name, for the manifest.
        version: the version of this program, for the manifest.

    Raises:
        AlreadyExistsError: the file exists.
        ConfigurationError: the file cannot be written, or the master key is not the one of the store.
        StoreFencedError: the store was migrated to another one; the backup would lack the changes there.
        StoreUninitializedError, StoreDamagedError, StoreUnavailableError: the store cannot be read.
        StoreReplacedError: the store was replaced during each of the three attempts.
    """
    writer.require_free()
    fence = source.fenced()
    if fence is not None:
        raise StoreFencedError(fence.target)
    for left in reversed(range(_ATTEMPTS)):
        tally = Tally()
        try:
            with source.export(whole=False) as (head, items):
                manifest = Manifest(
                    time=head.time, revision=str(head.revision), issuer=issuer, version=version
                )
                writer.write(manifest, _checked(tally.watching(items), check_key))
        except StoreReplacedError:
            if not left:
                raise
        else:
            return BackedUp(manifest=manifest, counts=tally.counts)
    raise AssertionError("unreachable")


def _checked(items: Iterator[CopiedItem], check_key: Callable[[StoredKey], None]) -> Iterator[CopiedItem]:
    for item in items:
        if isinstance(item, CopiedRecord) and isinstance(item.record, StoredKey):
            check_key(item.record)
        yield item
