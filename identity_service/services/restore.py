"""Restore: writes a backup into a store, so that nothing revoked after the backup becomes valid again.

Every token that was issued before is refused: all generations are at least those of the backup and of the
replaced store, `*` is raised above both, and every signing key of the backup is retired. The whole backup is
read and verified before the store is changed; the store's head is written last.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime

from identity_service.domain.audit import AuditEvent, AuditType, StoredEvent
from identity_service.domain.copying import (
    BackupReader,
    CopiedEvent,
    CopiedGeneration,
    CopiedItem,
    CopiedRecord,
    Manifest,
    RecordDeleted,
)
from identity_service.domain.errors import (
    AlreadyExistsError,
    IdentityError,
    StoreDamagedError,
    StoreUnavailableError,
    StoreUninitializedError,
    UnavailableError,
)
from identity_service.domain.ids import EVERYONE, Epoch, PrincipalId, key_principal, new_epoch, new_link
from identity_service.domain.keys import KeyPolicy, KeyPurpose, StoredKey
from identity_service.domain.log import NEVER_RAISED, Generation
from identity_service.domain.ports import Clock, KeyVault
from identity_service.domain.store import Store
from identity_service.services.copy_tally import Tally
from identity_service.services.regained import BackupRecords, Regained


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreConfig:
    """The settings of the new keys of a restored store."""

    algorithm: str
    """The algorithm of the new signing keys."""
    policy: KeyPolicy
    """The times that govern the rotation of the keys."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """The contents of a verified backup."""

    manifest: Manifest
    counts: Mapping[str, int]
    generations: Mapping[PrincipalId, Generation]
    keys: tuple[StoredKey, ...]
    records: BackupRecords = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A restore that can be carried out: the backup was verified, and the store can be written."""

    contents: Contents
    replaces: bool
    """True if the store holds data, which `Restore.run` deletes."""
    only_a_part: bool = False
    """True if only an unfinished copy may be deleted; `Restore.run` fails if it is finished by then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """The result of a restore."""

    manifest: Manifest
    counts: Mapping[str, int]
    """The number of things of each kind that the backup holds."""
    regained: Regained | None
    """The access that is allowed again; None = the store was empty before, or could not be read."""
    signing_key: str
    """The id of the new signing key."""


@dataclass(frozen=True, slots=True)
class Restore:
    """A restore of a backup in two steps, so that the operator can be asked in between."""

    store: Store
    reader: BackupReader
    vault: KeyVault
    clock: Clock
    config: RestoreConfig
    require_stopped: Callable[[], None]
    """Raises ConfigurationError while any process serves from the store."""

    def prepare(self, *, replace: bool) -> Prepared:
        """Verify the backup and check the store, without changing anything.

        Raises:
            ConfigurationError: the backup is damaged, or the master key does not open it or its keys.
            AlreadyExistsError: the store holds data, and `replace` is False.
            StoreUnavailableError: the store cannot be reached.
        """
        contents = self._read()
        for key in contents.keys:
            require_openable(self.vault, key)
        copying = self.store.copying
        is_empty = copying.is_empty()
        only_a_part = not is_empty and not replace
        if only_a_part and not copying.has_part_of_copy():
            raise AlreadyExistsError(
                "the store is not empty. Name an empty store, or give --replace to delete everything in it"
            )
        return Prepared(contents=contents, replaces=not is_empty, only_a_part=only_a_part)

    def run(self, prepared: Prepared) -> Restored:
        """Write the backup into the store. After a failure, prepare and run the restore again.

        Raises:
            ConfigurationError: a process serves from the store, or the file has changed since `prepare`.
            AlreadyExistsError: another command has finished a copy into the store since `prepare`.
            StoreUnavailableError: the store cannot be reached.
        """
        self.require_stopped()
        contents = prepared.contents
        regained, held = None, {}
        if prepared.replaces:
            with suppress(UnavailableError):
                regained = contents.records.regained_over(self.store.records)
            # A damaged table of generations is not needed: every key that has signed is retired, or unknown.
            with suppress(StoreDamagedError):
                held = dict(self.store.copying.generations_held())
        keys = self._make_keys()
        epoch = new_epoch()
        items = self._items(contents, _raised(contents, held), keys)
        if prepared.only_a_part:
            self.store.copying.discard_copy()
        self._write(items, epoch, replaces=prepared.replaces and not prepared.only_a_part)
        self.store.log.adopt(epoch)
        self.store.log.rebuild()
        return Restored(
            manifest=contents.manifest,
            counts=contents.counts,
            regained=regained,
            signing_key=keys[0].key_id,
        )

    def _read(self) -> Contents:
        generations: dict[PrincipalId, Generation] = {}
        keys: dict[str, StoredKey] = {}
        records, tally = BackupRecords(), Tally()
        for item in tally.watching(self.reader.items()):
            match item:
                case CopiedGeneration(principal=principal, generation=generation):
                    generations[principal] = generation.merged(generations.get(principal, NEVER_RAISED))
                case CopiedRecord(record=StoredKey() as key):
                    keys[key.key_id] = key
                case CopiedRecord() | RecordDeleted():
                    records.add(item)
                case _:
                    pass
        return Contents(
            manifest=self.reader.manifest,
            counts=tally.counts,
            generations=generations,
            keys=tuple(keys.values()),
            records=records,
        )

    def _make_keys(self) -> tuple[StoredKey, StoredKey]:
        """Return a signing key that is in use at once, and the next one."""
        now = self.clock.now()
        first, second = (self.vault.make(KeyPurpose.SIGN, self.config.algorithm, now) for _ in range(2))
        return first, replace(second, activate_time=now + self.config.policy.rotate_every)

    def _items(
        self,
        contents: Contents,
        generations: Mapping[PrincipalId, Generation],
        keys: tuple[StoredKey, StoredKey],
    ) -> Iterator[CopiedItem]:
        for item in self.reader.items():
            if not isinstance(item, CopiedGeneration):
                yield item
        for principal, generation in generations.items():
            yield CopiedGeneration(principal=principal, generation=generation)
        for key in keys:
            yield CopiedRecord(record=key)
        yield CopiedEvent(event=_restored_event(contents.manifest, self.clock.now()))

    def _write(self, items: Iterator[CopiedItem], epoch: Epoch, *, replaces: bool) -> None:
        """Write the copy; return once the store has its head, even if the head may not be durable yet.

        The caller's `rebuild` makes it durable then. If there is no head, the error of the store is raised.
        """
        try:
            self.store.copying.write_copy(items, epoch, replace=replaces)
        except StoreUnavailableError as error:
            if not self._has(epoch):
                raise StoreUnavailableError(
                    f"{error}. The restore was not finished: run the same command again"
                ) from error
        except BaseException:
            if not replaces:
                with suppress(IdentityError):
                    self.store.copying.discard_copy()
            raise

    def _has(self, epoch: Epoch) -> bool:
        try:
            return self.store.log.head().epoch == epoch
        except StoreUninitializedError:
            return False


def require_openable(vault: KeyVault, key: StoredKey) -> None:
    """Raise ConfigurationError if the master key does not open this key, which a backup needs."""
    match key.purpose:
        case KeyPurpose.SIGN:
            vault.open_signing(key)
        case KeyPurpose.REFRESH:
            vault.open_refresh(key)
        case KeyPurpose.ENCRYPT:
            vault.open_decrypting(key)


def _raised(contents: Contents, held: Mapping[PrincipalId, Generation]) -> Mapping[PrincipalId, Generation]:
    """Return the generations of the restored store, which revoke every token issued before."""
    merged = {
        principal: _above(contents.generations.get(principal), held.get(principal))
        for principal in {*contents.generations, *held}
    }
    retired = [key_principal(key.key_id) for key in contents.keys if key.purpose is KeyPurpose.SIGN]
    for principal in (EVERYONE, *retired):
        number = merged.get(principal, NEVER_RAISED).number + 1
        merged[principal] = Generation(number=number, link=new_link())
    return merged


def _above(one: Generation | None, other: Generation | None) -> Generation:
    """Return the higher generation; if both have one number in different histories, one above both."""
    if one is None or other is None or one == other:
        return one or other or NEVER_RAISED
    if one.number == other.number:
        return Generation(number=one.number + 1, link=new_link())
    return max(one, other, key=lambda generation: generation.number)


def _restored_event(manifest: Manifest, now: datetime) -> StoredEvent:
    event = AuditEvent.of(
        AuditType.STORE_RESTORED, time=manifest.time.isoformat(), revision=manifest.revision
    )
    return StoredEvent(event_id="", time=now, event=event)
