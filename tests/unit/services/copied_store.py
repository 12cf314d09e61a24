"""A store in memory for backup, restore and migration, which fails at the calls that a test chooses.

It has items, but no log.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, cast

from identity_service.domain.copying import (
    CopiedEvent,
    CopiedGeneration,
    CopiedItem,
    CopiedRecord,
    CopiedSession,
    Fence,
)
from identity_service.domain.errors import (
    AlreadyExistsError,
    CopyUnfinishedError,
    StoreFencedError,
    StoreUninitializedError,
)
from identity_service.domain.ids import NO_LINK, Epoch, PrincipalId
from identity_service.domain.log import Generation, Head, Heartbeat
from identity_service.domain.records import Versioned
from identity_service.domain.store import Store

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
Fault = Callable[[], object]


class MemoryStore:
    """Implements the port Store and its part `copying`, as far as backup, restore and migration use them."""

    def __init__(self, items: Iterable[CopiedItem] = (), epoch: str | None = None) -> None:
        self.items = list(items)
        self.epoch = Epoch(epoch) if epoch is not None else None
        self.is_unfinished = False
        self.fence_: Fence | None = None
        self.written_heartbeats: Sequence[Heartbeat] = ()
        self.adopted: Epoch | None = None
        self.rebuilt = 0
        self.faults: dict[str, list[Fault]] = {}
        """The errors of the next calls of each method, in order."""

    @property
    def store(self) -> Store:
        """Return this object as a `Store`: the use cases call no other part of the port."""
        return cast("Store", self)

    @property
    def copying(self) -> "MemoryStore":
        return self

    log = records = copying

    def fail(self, method: str, *errors: BaseException | None) -> None:
        """Have the next calls of a method raise these errors; None = the call succeeds."""
        self.faults[method] = [_raiser(error) for error in errors]

    def head(self) -> Head:
        self._at("head")
        if self.is_unfinished:
            raise CopyUnfinishedError
        if self.epoch is None:
            raise StoreUninitializedError("the store is not initialised")
        return Head(epoch=self.epoch, position=0, link=NO_LINK, time=NOW)

    def adopt(self, epoch: Epoch) -> None:
        self.adopted = epoch

    def rebuild(self) -> int:
        self._at("rebuild")
        assert self.adopted == self.epoch
        self.rebuilt += 1
        return 0

    def heartbeats(self) -> Sequence[Heartbeat]:
        return self.written_heartbeats

    def list_of(self, kind: type[Any], *, after: str = "", limit: int = 100) -> Sequence[Versioned[Any]]:
        self._at("list_of")
        found = {i.record.id: i.record for i in self.items if isinstance(i, CopiedRecord)}
        revision = self.head().revision
        return [
            Versioned(record=record, revision=revision)
            for id_, record in sorted(found.items())
            if isinstance(record, kind) and id_ > after
        ][:limit]

    # CopySource

    @contextmanager
    def export(self, *, whole: bool) -> Iterator[tuple[Head, Iterator[CopiedItem]]]:
        assert self.fence_ is not None or not whole or self.adopted, "the caller fences before"

        def items() -> Iterator[CopiedItem]:
            for item in list(self.items):
                self._at("item")
                if whole or not isinstance(item, CopiedSession | CopiedEvent):
                    yield item

        yield self.head(), items()

    def fence(self, fence: Fence) -> None:
        if self.fence_ is not None and self.fence_.target != fence.target:
            raise StoreFencedError(self.fence_.target)
        self.fence_ = fence
        self._at("fence")

    def fenced(self) -> Fence | None:
        return self.fence_

    def lift_fence(self, only: Fence | None = None) -> bool:
        self._at("lift_fence")
        if self.fence_ is None or (only is not None and self.fence_ != only):
            return False
        self.fence_ = None
        return True

    # CopyTarget

    def is_empty(self) -> bool:
        return self.epoch is None and not self.items and not self.is_unfinished

    def has_part_of_copy(self) -> bool:
        return self.is_unfinished

    def generations_held(self) -> Mapping[PrincipalId, Generation]:
        return generations_of(self.items)

    def write_copy(self, items: Iterable[CopiedItem], epoch: Epoch, *, replace: bool) -> None:
        if not replace and not self.is_empty():
            raise AlreadyExistsError("the store is not empty")
        self.epoch, self.items, self.is_unfinished = None, [], True
        self._at("write_copy")
        for item in items:
            self._at("write_item")
            self.items.append(item)
        self._at("write_head")
        self.epoch, self.is_unfinished, self.fence_ = epoch, False, None
        self._at("confirm_head")

    def discard_copy(self) -> None:
        self._at("discard_copy")
        if self.epoch is not None:
            raise AlreadyExistsError("the store has its head")
        self.items, self.is_unfinished = [], False

    def _at(self, method: str) -> None:
        if waiting := self.faults.get(method):
            waiting.pop(0)()


def generations_of(items: Iterable[CopiedItem]) -> dict[PrincipalId, Generation]:
    return {item.principal: item.generation for item in items if isinstance(item, CopiedGeneration)}


def records_of(items: Iterable[CopiedItem], kind: type[Any]) -> list[Any]:
    return [i.record for i in items if isinstance(i, CopiedRecord) and isinstance(i.record, kind)]


def events_of(items: Iterable[CopiedItem]) -> list[CopiedEvent]:
    return [item for item in items if isinstance(item, CopiedEvent)]


def _raiser(error: BaseException | None) -> Fault:
    def fault() -> None:
        if error is not None:
            raise error

    return fault
