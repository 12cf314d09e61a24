"""Every fault that the service promises to survive, in any order. A new fault is one more step here.

The invariants are in `site.py`, which also counts the faults that took effect.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Final

from hypothesis import strategies as st

from tests.machine.clients import BACK, HOUR, SETTINGS, WHICH, WORKS, Clients, Work, step
from tests.machine.facts import Kind
from tests.machine.process import Process
from tests.machine.stores import GROUPS, RECORDS

STEPS: Final = st.one_of(
    st.integers(-30 * HOUR, 30 * HOUR), st.sampled_from([-90, -11, 11, 90, -HOUR, HOUR, 20 * HOUR, -4 * HOUR])
)
"""A strategy for the error of a clock, in seconds."""
HEALS: Final = st.booleans()
"""A strategy: true = all faults are undone after the step; false = they are still present in the next
step."""
WHEN: Final = st.sampled_from(["under load", "while stopped", "unnoticed"])
CLOCKS: Final = {
    "A": ("A",),
    "B": ("B",),
    "store": ("store",),
    "local": ("local",),
    "machine": ("A", "B", "store"),
    "everything": ("A", "B", "store", "local"),
}
"""The groups of clocks that one step sets together, by name."""


class Machine(Clients):
    """The state machine: the steps of clients, and the faults of clocks, processes and the store."""

    # Clocks

    @step(
        which=st.sampled_from(list(CLOCKS)),
        seconds=STEPS,
        for_a_moment=st.booleans(),
        before=WORKS,
        after=WORKS,
        heals=HEALS,
    )
    def set_clocks(
        self,
        which: str,
        seconds: int,
        for_a_moment: bool,
        before: list[Work],
        after: list[Work],
        heals: bool,
    ) -> None:
        """Set clocks wrong for two heartbeats, or until a later step corrects them."""
        site, errors = self.site, {name: self.site.clocks[name].error for name in CLOCKS[which]}
        self._work(before)
        site.settle(2)
        if not self._set_clocks(which, seconds):
            return
        site.settle(2)
        self._work(after)
        site.check()
        if for_a_moment:
            for name, error in errors.items():
                clock = site.clocks[name]
                clock.step(error - clock.error)
            site.check()
            site.settle(2)
        self._heal_if(heals)

    @step(seconds=st.sampled_from([0, 1, 30, 300, 900, 1200, 2 * HOUR]), works=WORKS, heals=HEALS)
    def time_passes(self, seconds: int, works: list[Work], heals: bool) -> None:
        """Let time pass without heartbeats; with 0, until the whole log may be trimmed, with heartbeats."""
        self._work(works)
        if not seconds:
            self._trim()
        else:
            self.site.time.pass_(seconds)
            self.site.check()
            self.site.settle()
        self._heal_if(heals)

    # Processes

    @step(
        what=st.sampled_from(["pause", "pause", "stop", "restart", "set up", "set up"]),
        which=WHICH,
        settings=st.sampled_from(SETTINGS),
        works=WORKS,
        heals=HEALS,
    )
    def disturb_a_process(
        self, what: str, which: int, settings: dict[str, object], works: list[Work], heals: bool
    ) -> None:
        """Pause, resume, stop or restart a process, or restart it with other settings."""
        process = self.site.processes[which]
        self._work(works)
        match what:
            case "pause":
                self._pause_or_resume(process, [(kind, 1 - which, 1 - which) for kind, _, _ in works])
            case "stop" if process.runs:
                self.site.stop(process)
                self.site.took["stop"] += 1
            case "stop" | "restart":
                self._restart(process)
            case _:
                self._set_up(process, settings)
        self._heal_if(heals)

    def _pause_or_resume(self, process: Process, works: list[Work]) -> None:
        site = self.site
        if not process.runs:
            self._start(process)
        elif not process.paused:
            process.paused = True
            self._work(works)
        else:
            site.resume(process)
            site.settle()

    def _set_up(self, process: Process, settings: dict[str, object]) -> None:
        before, process.settings = process.settings, dict(settings)
        if not self._restart(process):
            return
        for name in ("max_access_token_lifetime", "session_lifetime", "leeway"):
            old, new = before[name], settings[name]
            assert isinstance(old, timedelta)
            assert isinstance(new, timedelta)
            if old != new:
                self.site.took[f"{name} {'lowered' if new < old else 'raised'}"] += 1

    # The store

    @step(
        copies=st.booleans(),
        stopped=st.booleans(),
        lost=WORKS,
        revocations=st.integers(0, 6),
        which=WHICH,
        back=BACK,
        heals=HEALS,
    )
    def restore_an_older_copy(
        self,
        copies: bool,
        stopped: bool,
        lost: list[Work],
        revocations: int,
        which: int,
        back: int,
        heals: bool,
    ) -> None:
        """Restore an older copy of the store, then let the log grow again.

        Processes are stopped meanwhile; on Redis they may also go on running.
        """
        site = self.site
        if copies or not self.has_copy:
            site.target.copy()
            self.has_copy = True
        self._work(lost)
        self.resume_a_watcher(which, 0)
        stopped = stopped or not site.target.has_clock
        before = site.target.head()
        works = site.working
        if stopped:
            for process in works:
                process.stop()
        site.target.restore_copy()
        if before[:3] != site.target.head()[:3]:
            site.took["older copy restored" + (" while stopped" if stopped else "")] += 1
        site.note_losses()
        site.note_lost_keys()
        if stopped:
            for process in works:
                self._start(process)
        process = site.processes[which]
        for _ in range(revocations):
            if process.works and (token := site.issue(process, "client", 300)) is not None:
                site.revoke(process, Kind.TOKEN, token)
        site.settle()
        self.resume_a_watcher(which, back)
        self._heal_if(heals)

    @step(
        what=st.sampled_from(["entries", "entries", "entries", *GROUPS]),
        begin=st.floats(0, 1),
        size=st.floats(0, 1),
        which=st.integers(0, 1000),
        when=WHEN,
        works=WORKS,
        heals=HEALS,
    )
    def delete(
        self, what: str, begin: float, size: float, which: int, when: str, works: list[Work], heals: bool
    ) -> None:
        """Delete a range of log entries, or a single key or row of the store."""
        self._work(works)
        if what == "generations":
            # A process that raises one anew before it has read of the first raise counts it twice: a start is
            # refused then, until the store is restored as a whole. That takes both within one heartbeat.
            self.site.heartbeat_all()
        with self._damage(when) as done:
            done += self._delete_entries(begin, size) if what == "entries" else self._delete_one(what, which)
        self._heal_if(heals)

    def _delete_entries(self, begin: float, size: float) -> list[str]:
        positions = self.site.target.positions()
        if not positions:
            return []
        first = int(begin * (len(positions) - 1))
        last = min(len(positions) - 1, first + int(size * len(positions)))
        removed = self.site.target.remove_entries(positions[first], positions[last])
        return ["entries deleted"] if removed else []

    def _delete_one(self, group: str, which: int) -> list[str]:
        target = self.site.target
        kinds = [kind for kind in GROUPS[group] if kind in target.kinds]
        kind = kinds[which % len(kinds)]
        if not target.delete(kind, which):
            return []
        self.site.records_missing |= kind in RECORDS
        return [f"deleted: {group}", f"deleted: {group}: {kind}"]

    @step(way=st.integers(0, 2), crashes=st.booleans(), which=WHICH, works=WORKS, heals=HEALS)
    def spoil_the_set_up(self, way: int, crashes: bool, which: int, works: list[Work], heals: bool) -> None:
        """Configure Redis so that it may lose data; on SQLite, remove the write-ahead log or its index."""
        self._work(works)
        self.site.took.update(self.site.target.spoil(self.site, way, which, crashes))
        self._heal_if(heals)

    # The values of the steps

    def _trim(self) -> None:
        """Let time pass until the whole log may be trimmed, with heartbeats in between."""
        site, (_, _, _, floor) = self.site, self.site.target.head()
        for seconds in (11 * 60, 7 * HOUR, 11 * 60):
            site.time.pass_(seconds)
            site.settle(2)
        _, _, _, trimmed = site.target.head()
        if trimmed > floor:
            site.took["trim"] += 1

    @contextmanager
    def _damage(self, when: str) -> Iterator[list[str]]:
        """Run a block that damages the store, while processes run or are stopped; check afterwards.

        The block adds a name for each effect that it had to the list.
        """
        site, done = self.site, list[str]()
        stopped = site.working if when == "while stopped" else []
        for process in stopped:
            process.stop()
        yield done
        if done:
            site.note_losses()
            site.took.update(done)
        for process in stopped:
            self._start(process)
        if done and when != "unnoticed":
            site.check()
            site.settle()
            site.check_refresh()

    def _restart(self, process: Process) -> bool:
        """Restart a process; return whether it started, which it may refuse while records are missing."""
        self.site.stop(process)
        return self._start(process)

    def _set_clocks(self, which: str, seconds: int) -> bool:
        """Set clocks, and check that each party whose clock has moved refuses calls at once.

        Returns False if there is no such clock, since the store uses the clocks of the processes.
        """
        site, names = self.site, CLOCKS[which]
        if not site.target.has_clock and which == "store":
            return False
        refused = False
        for name in names:
            clock = site.clocks[name]
            moved = abs(seconds - clock.error) > 1.5
            judged = self._judges(name)
            clock.step(seconds - clock.error)
            if moved and judged:
                assert not self._judges(name), f"{name} goes on by a clock that was just set"
            refused |= moved and (judged or name == "store")
        if refused:
            site.took[f"clock: {which}"] += 1
        return True

    def _judges(self, name: str) -> bool:
        site = self.site
        if name == "local":
            return site.local.verifier._is_fresh()
        return any(process.name == name and process.is_fresh for process in site.processes)
