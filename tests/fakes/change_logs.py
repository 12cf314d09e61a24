"""A fake of the port `ChangeLog`; the logs of the real stores pass the conformance suite."""

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta

from identity_service.domain.change_log import NO_MARKS
from identity_service.domain.errors import StoreUnavailableError
from identity_service.domain.ids import NO_LINK, Epoch, Link, PrincipalId
from identity_service.domain.log import (
    Change,
    Fact,
    Generation,
    Head,
    Heartbeat,
    LogEntry,
    LogPage,
    Marks,
    RepairResult,
)
from tests.fakes.clocks import FakeClock


class MemoryChangeLog:
    """Implements the port `ChangeLog` with a list that tests may damage."""

    def __init__(self, clock: FakeClock) -> None:
        self.epoch, self.entries = Epoch("e1"), list[LogEntry]()
        self.floor = 0
        self.end = 0
        """The position that the head names; it is higher than the last entry's if a test has removed
        entries."""
        self.retention = timedelta(0)
        self.generation_table: dict[PrincipalId, Generation] = {}
        self.adopted: Epoch | None = None
        self.reachable = True
        """True if `repair` succeeds."""
        self.reads, self.repairs = 0, 0
        """The numbers of calls of `read` and of `repair`."""
        self.repaired: list[Fact] = []
        self.kept: list[Fact] = []
        self.before_read: Callable[[int], None] = lambda after: None
        """Called before each read, with the position after which the read begins."""
        self._clock = clock

    def append(self, change: Change) -> LogEntry:
        position = self.head().position + 1
        previous = self.entries[-1].link if self.entries else NO_LINK
        entry = LogEntry(
            position=position,
            link=Link(f"{self.epoch}-{position}"),
            previous_link=previous,
            change=change,
        )
        self.entries.append(entry)
        return entry

    def head(self) -> Head:
        last = self.entries[-1] if self.entries else None
        return Head(
            epoch=self.epoch,
            position=max(self.end, last.position if last else 0),
            link=last.link if last else NO_LINK,
            time=self._clock.now(),
            floor=self.floor,
            retention=self.retention,
        )

    def read(self, after: int, limit: int) -> LogPage:
        self.before_read(after)
        self.reads += 1
        found = [entry for entry in self.entries if entry.position > after]
        return LogPage(entries=tuple(found[:limit]), head=self.head())

    def read_entries(self, after: int, limit: int) -> tuple[LogEntry, ...]:
        return self.read(after, limit).entries

    def wait(self, after: int, timeout: float) -> None:
        raise AssertionError("only the follower waits, and it has a real store")

    def heartbeat(
        self,
        process: str,
        retention: timedelta = timedelta(0),
        *,
        marks: Marks = NO_MARKS,
        status: str = "",
    ) -> Head:
        return self.head()

    def heartbeats(self) -> Sequence[Heartbeat]:
        return ()

    def rebuild(self) -> int:
        return 0

    def renew(self, found: Epoch | None, epoch: Epoch) -> Epoch:
        if found == self.epoch:
            self.epoch, self.floor = epoch, self.head().position
            self.end = self.floor
        return self.epoch

    def repair(self, facts: Sequence[Fact]) -> RepairResult:
        if not self.reachable:
            raise StoreUnavailableError("unreachable")
        self.repairs += 1
        absent = [fact for fact in facts if fact not in self.repaired]
        self.repaired += absent
        return RepairResult(end=self.head().revision, absent=len(absent))

    def trim(self, position: int, keep: Sequence[Fact] = ()) -> int:
        self.floor = position
        self.kept += keep
        return position

    def generations(self) -> Mapping[PrincipalId, Generation]:
        return self.generation_table

    def adopt(self, epoch: Epoch) -> None:
        self.adopted = epoch
