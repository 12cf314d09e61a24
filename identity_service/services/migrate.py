"""Migration: copies a whole store into another one, sessions included, so that every token stays valid.

The source is fenced first, durably: from then on no process can write to it, so every acknowledged write is
in the copy. The head of the target decides the outcome: if it has the epoch that the fence names, the
migration is finished and the fence stays for good; if not, the fence is lifted.
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from identity_service.domain.audit import AuditEvent, AuditType, StoredEvent
from identity_service.domain.copying import CopiedEvent, CopiedItem, Fence
from identity_service.domain.errors import (
    AlreadyExistsError,
    ConfigurationError,
    IdentityError,
    StoreDamagedError,
    StoreUnavailableError,
    StoreUninitializedError,
)
from identity_service.domain.ids import Epoch, new_epoch
from identity_service.domain.log import Head
from identity_service.domain.ports import Clock
from identity_service.domain.store import Store
from identity_service.services.copy_tally import Tally


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A store and its name in messages."""

    store: Store
    url: str
    """The URL of the store, without passwords."""

    def epoch(self) -> Epoch | None:
        """Return the epoch of the store; None = it has no head. Raises StoreUnavailableError."""
        try:
            return self.store.log.head().epoch
        except StoreUninitializedError:
            return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Migrated:
    """The result of a migration."""

    counts: Mapping[str, int]
    """The number of things of each kind that the target holds."""
    was_finished: bool
    """True if an earlier run had copied everything already."""


class Migration:
    """A migration of one store into another, which can be run, or undone while it is unfinished."""

    def __init__(self, source: Place, target: Place, clock: Clock) -> None:
        self._source = source
        self._target = target
        self._clock = clock
        self._command = f"identity migrate {source.url} {target.url}"

    def run(self) -> Migrated:
        """Copy everything, or finish the copy that an earlier run began; the source stays fenced.

        Raises:
            AlreadyExistsError: the target holds data.
            ConfigurationError: the source is fenced for another target, or another migration runs.
            StoreUninitializedError: the source cannot be copied.
            StoreDamagedError: the source cannot be copied, or another program has written into the target.
            StoreUnavailableError: one of the stores cannot be reached; the message says what to do if the
                source stays fenced.
        """
        fence = self._source.store.copying.fenced()
        if fence is None:
            return self._copy(new_epoch())
        if fence.target != self._target.url:
            raise ConfigurationError(self._fenced_for(fence))
        if self._target.epoch() == fence.epoch:
            return Migrated(counts=self._finish(fence.epoch), was_finished=True)
        return self._copy(new_epoch())  # a new epoch, so that the killed run cannot complete this copy

    def undo(self) -> bool:
        """Lift the fence of the source if the target is not complete; return whether there was a fence.

        Raises:
            ConfigurationError: the target has taken over, or the fence names another store.
            StoreUnavailableError: one of the stores cannot be reached.
        """
        copying = self._source.store.copying
        fence = copying.fenced()
        if fence is None:
            return False
        if fence.target != self._target.url:
            raise ConfigurationError(self._fenced_for(fence))
        if self._has_taken_over(fence):
            raise ConfigurationError(
                f"{self._target.url} has taken over, and may have taken revocations that {self._source.url} "
                "does not know. Migrate back into a new, empty store instead"
            )
        self._lift(fence)
        return True

    def _lift(self, fence: Fence) -> None:
        """Lift this fence and no other. Raises ConfigurationError if another run has set its own."""
        copying = self._source.store.copying
        if not copying.lift_fence(fence) and copying.fenced() is not None:
            raise ConfigurationError(
                f"another `identity migrate` has closed {self._source.url} to writes again, and it stays "
                "closed. Run one command at a time"
            )

    def _copy(self, epoch: Epoch) -> Migrated:
        target = self._target.store.copying
        if not target.is_empty():
            if not target.has_part_of_copy():
                raise AlreadyExistsError(f"{self._target.url} holds data: name an empty store")
            target.discard_copy()
        tally, fence = Tally(), Fence(target=self._target.url, epoch=epoch)
        try:
            self._source.store.copying.fence(fence)
            with self._source.store.copying.export(whole=True) as (head, items):
                target.write_copy(self._items(head, items, tally, fence), epoch, replace=False)
        except BaseException as error:  # noqa: BLE001  # Ctrl-C too; it is raised again
            self._settle(fence, error)
        self._require(fence)
        counts = self._finish(epoch, tally)
        return Migrated(counts=counts, was_finished=False)

    def _items(
        self, head: Head, items: Iterator[CopiedItem], tally: Tally, fence: Fence
    ) -> Iterator[CopiedItem]:
        yield from tally.watching(items)
        yield CopiedEvent(event=self._migrated_event(head, self._clock.now()))
        self._require(fence)  # the last check before the head is written

    def _require(self, fence: Fence) -> None:
        """Raise ConfigurationError if the source is not fenced by this run any more."""
        if self._source.store.copying.fenced() != fence:
            raise ConfigurationError(
                f"another `identity migrate` has opened {self._source.url} for writes, or closed it again, "
                f"during the copy. Start no service on {self._target.url}: it may lack revocations. Run one "
                "command at a time"
            )

    def _settle(self, fence: Fence, error: BaseException) -> None:
        """Handle a failure: return if the target is complete despite it, else lift the fence and raise.

        A fence that another run has set since is not lifted.
        """
        try:
            is_mine = self._source.store.copying.fenced() == fence
        except IdentityError as stuck:
            raise self._fence_unknown(error, stuck) from error
        if not is_mine:
            raise error
        try:
            # AlreadyExistsError: the target held data before the copy began, so this run wrote none of it.
            has_taken_over = not isinstance(error, AlreadyExistsError) and self._has_taken_over(fence)
        except IdentityError as unknown:
            raise StoreUnavailableError(
                f"{_words(error)}. Whether {self._target.url} is complete is not known ({unknown}); until it "
                f"is, {self._source.url} accepts no writes. Make {self._target.url} reachable, then run "
                f"`{self._command}` again: it finishes, or copies again"
            ) from error
        if has_taken_over:
            return
        try:
            self._lift(fence)
        except IdentityError as stuck:
            raise self._fence_unknown(error, stuck) from error
        raise error

    def _fence_unknown(self, error: BaseException, stuck: IdentityError) -> StoreUnavailableError:
        return StoreUnavailableError(
            f"{_words(error)}. Whether {self._source.url} accepts writes again is not known ({stuck}): run "
            f"`{self._command} --undo`, or run it without --undo to continue the migration"
        )

    def _has_taken_over(self, fence: Fence) -> bool:
        """Return whether the target is complete; if not, delete its contents, so that it cannot become so.

        A command that writes the head may still be in flight; it then finds no copy to complete.

        Raises ConfigurationError if the target is a store of another epoch: it may have taken over, and got
        a new epoch later, after a loss of data or a restore.
        """
        if self._target.epoch() is None:
            with suppress(AlreadyExistsError):  # the head has come meanwhile
                self._target.store.copying.discard_copy()
        epoch = self._target.epoch()
        if epoch not in (None, fence.epoch):
            raise ConfigurationError(
                f"the change log of {self._target.url} is not the one of this migration. If a service has "
                f"run on it since the migration, keep it; to have {self._source.url} back, migrate into a "
                f"new, empty store. If none has, empty it, then run `{self._command} --undo` again"
            )
        return epoch == fence.epoch

    def _finish(self, epoch: Epoch, copied: Tally | None = None) -> Mapping[str, int]:
        """Complete the target's log, and return how many things of each kind the target holds.

        Args:
            epoch: the epoch of the target.
            copied: the items that this run has copied, to compare the target with; None = an earlier run has
                copied them.

        Raises StoreUnavailableError; StoreDamagedError if the target lacks something of `copied`.
        """
        store = self._target.store
        try:
            store.log.adopt(epoch)
            store.log.rebuild()
            found = Tally()
            with store.copying.export(whole=True) as (_, items):
                for item in items:
                    found.add(item)
        except StoreUnavailableError as error:
            raise StoreUnavailableError(
                f"{self._target.url} has all data, but its change log could not be completed: {error}. Run "
                f"`{self._command}` again"
            ) from error
        if copied is not None and (missing := copied.missing_in(found, self._clock.now())):
            raise StoreDamagedError(
                f"{self._target.url} lacks {missing:,} items that were copied into it: another program "
                f"wrote into it. Start no service on it. Empty it, then run `{self._command}` again; or run "
                f"that with --undo, to keep {self._source.url}"
            )
        return found.counts

    def _fenced_for(self, fence: Fence) -> str:
        return (
            f"{self._source.url} was moved to {fence.target}, or is about to be. To finish or repeat that, "
            f"run `identity migrate {self._source.url} {fence.target}`; to undo it, the same with --undo"
        )

    def _migrated_event(self, head: Head, now: datetime) -> StoredEvent:
        event = AuditEvent.of(AuditType.STORE_MIGRATED, source=self._source.url, revision=str(head.revision))
        return StoredEvent(event_id="", time=now, event=event)


def _words(error: BaseException) -> str:
    return str(error) or "it was stopped"
