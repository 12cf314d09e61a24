"""Backup: writes everything that a store needs to be restored into a file, while processes use the store.

What it leaves out is what a restore would not bring back: sessions, and audit events.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from identity_service.domain.backups import BackupWriter, Manifest
from identity_service.domain.copying import CopiedItem, CopiedRecord, CopySource
from identity_service.domain.errors import StoreFencedError, StoreReplacedError
from identity_service.domain.keys import StoredKey
from identity_service.services.copy_tally import Tally

_ATTEMPTS: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class BackedUp:
    """A backup was written."""

    manifest: Manifest
    counts: Mapping[str, int]


def back_up(
    source: CopySource,
    writer: BackupWriter,
    *,
    check_key: Callable[[StoredKey], None],
    issuer: str,
    version: str,
) -> BackedUp:
    """Write a backup; begins again, up to three times in all, if the store is replaced meanwhile.

    `check_key` raises ConfigurationError for a key that the master key does not open.

    Raises:
        AlreadyExistsError: the file exists.
        ConfigurationError: the file cannot be written, or the master key is not the one of the store.
        StoreFencedError: the store was moved; a backup of it would miss what happens in the other one.
        StoreUninitializedError, StoreDamagedError, StoreReplacedError, StoreUnavailableError.
    """
    writer.require_free()
    fence = source.fenced()
    if fence is not None:
        raise StoreFencedError(fence.target)
    for left in reversed(range(_ATTEMPTS)):
        try:
            return _write(source, writer, check_key, issuer, version)
        except StoreReplacedError:
            if not left:
                raise
    raise AssertionError("unreachable")


def _write(
    source: CopySource,
    writer: BackupWriter,
    check_key: Callable[[StoredKey], None],
    issuer: str,
    version: str,
) -> BackedUp:
    tally = Tally()
    with source.export(whole=False) as (head, items):
        manifest = Manifest(time=head.time, revision=str(head.revision), issuer=issuer, version=version)
        writer.write(manifest, _checked(tally.watching(items), check_key))
    return BackedUp(manifest=manifest, counts=tally.counts)


def _checked(items: Iterator[CopiedItem], check_key: Callable[[StoredKey], None]) -> Iterator[CopiedItem]:
    for item in items:
        match item:
            case CopiedRecord(record=StoredKey() as key):
                check_key(key)
            case _:
                pass
        yield item
