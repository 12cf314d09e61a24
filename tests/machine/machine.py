"""The steps that the machine takes in any order: what clients do, and every fault that a promise covers.

`site.py` holds what must be so; a fault that is added is one more rule here.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import ClassVar, Final

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from identity_service.domain.errors import UnavailableError
from tests.machine.clocks import SteppedClock, TrueTime
from tests.machine.facts import OF_SESSIONS, Kind, Token
from tests.machine.process import MAX_STALENESS, Process
from tests.machine.site import Site
from tests.machine.stores import RECORDS, Target

HOUR: Final = 3600
OpenTarget = Callable[[SteppedClock], Target]

WHICH: Final = st.integers(0, 1)
"""Which process."""
BACK: Final = st.integers(0, 12)
"""How long before the newest one a token was issued."""
LIFETIME: Final = st.sampled_from([300, 900])
KINDS: Final = st.sampled_from(list(Kind))
STEPS: Final = st.one_of(
    st.integers(-30 * HOUR, 30 * HOUR), st.sampled_from([-90, -11, 11, 90, -HOUR, HOUR, 20 * HOUR, -4 * HOUR])
)
"""Seconds by which a clock is wrong from then on."""
Work = tuple[Kind, int, int]
WORKS: Final = st.lists(st.tuples(KINDS, WHICH, WHICH), min_size=1, max_size=3)
"""What is revoked: by what, which process issues it, and which one revokes it."""
HEALS: Final = st.booleans()
"""Whether every fault is undone after this one: else the next one meets it."""
WHEN: Final = st.sampled_from(["under load", "while stopped", "unnoticed"])
CLOCKS: Final = {
    "A": ("A",),
    "B": ("B",),
    "store": ("store",),
    "local": ("local",),
    "machine": ("A", "B", "store"),
    "everything": ("A", "B", "store", "local"),
}
SETTINGS: Final[list[dict[str, object]]] = [
    {
        "access_token_lifetime": timedelta(seconds=lifetime),
        "max_access_token_lifetime": timedelta(seconds=lifetime),
        "session_lifetime": timedelta(seconds=session),
        "leeway": timedelta(seconds=leeway),
    }
    for lifetime, session, leeway in (
        (900, 24 * HOUR, 10),
        (300, 600, 0),
        (900, 600, 60),
        (300, 24 * HOUR, 10),
    )
]


class Machine(RuleBasedStateMachine):
    """Takes the steps; `open_target` and `took` are those of the test."""

    open_target: ClassVar[OpenTarget]
    took: ClassVar[Counter[str]]

    def __init__(self) -> None:
        super().__init__()
        time = TrueTime()
        clocks = {name: SteppedClock(time) for name in ("A", "B", "store", "local")}
        self.site = Site(time, type(self).open_target(clocks["store"]), clocks)
        self.has_copy = False

    @initialize()
    def start(self) -> None:
        self.site.begin(SETTINGS[0])

    def teardown(self) -> None:
        self.site.end()
        self.took.update(self.site.took)
        self.took.update({f"event {name}": count for name, count in self.site.events.seen.items()})

    @invariant()
    def nothing_revoked_is_verified_and_nothing_good_refused(self) -> None:
        self.site.check()
        self.site.step += 1
        self.site.took["step"] += 1

    # What clients do

    @rule(who=st.sampled_from(["client", "user", "control"]), which=WHICH, lifetime=LIFETIME, works=WORKS)
    def clients_work(self, who: str, which: int, lifetime: int, works: list[Work]) -> None:
        process = self.site.processes[which]
        if process.works and self.site.issue(process, who, self._at_most(process, lifetime)):
            self.site.took["issue"] += 1
        self._work(works)

    @precondition(lambda self: self.site.tokens)
    @rule(which=WHICH, kind=KINDS, back=BACK)
    def revoke_what_is_older(self, which: int, kind: Kind, back: int) -> None:
        process, token = self.site.processes[which], self._token(back)
        if process.works and (token.session_id or kind not in OF_SESSIONS):
            self.site.revoke(process, kind, token)

    @rule(which=WHICH, back=st.integers(0, 30))
    def resume_a_watcher(self, which: int, back: int) -> None:
        site, process = self.site, self.site.processes[which]
        if not process.is_fresh or site.records_missing:
            return
        # What it has just written itself it tells a watcher once it has read it in the log.
        site.settle(2)
        if process.trouble or not process.is_fresh:
            return
        revisions = site.resumer.revisions
        restarted, missing = site.resumer.resume(process, revisions[max(0, len(revisions) - 1 - back)])
        assert not missing, f"a watcher that resumed was not told of {missing}"
        site.took["watcher told everything" if restarted else "watcher resumed"] += 1

    # Clocks

    @rule(which=st.sampled_from(list(CLOCKS)), seconds=STEPS, before=WORKS, after=WORKS, heals=HEALS)
    def step_clocks(
        self, which: str, seconds: int, before: list[Work], after: list[Work], heals: bool
    ) -> None:
        self._work(before)
        if self._set_clocks(which, seconds):
            self.site.settle(2)
            self._work(after)
        self._heal_if(heals)

    @rule(which=st.sampled_from(list(CLOCKS)), seconds=STEPS, works=WORKS, heals=HEALS)
    def step_clocks_for_a_moment(self, which: str, seconds: int, works: list[Work], heals: bool) -> None:
        self._work(works)
        self.site.settle(2)
        errors = {name: self.site.clocks[name].error for name in CLOCKS[which]}
        if not self._set_clocks(which, seconds):
            return
        self.site.settle(2)
        self.site.check()
        for name, error in errors.items():
            clock = self.site.clocks[name]
            clock.step(error - clock.error)
        self.site.check()
        self.site.settle(2)
        self._heal_if(heals)

    @rule(seconds=st.sampled_from([1, 30, 300, 900, 1200, 2 * HOUR]))
    def time_passes(self, seconds: int) -> None:
        self.site.time.pass_(seconds)
        self.site.check()
        self.site.settle()

    # Processes

    @rule(which=WHICH, works=WORKS)
    def pause_or_resume(self, which: int, works: list[Work]) -> None:
        site, process = self.site, self.site.processes[which]
        if not process.runs:
            self._start(process)
            return
        if not process.paused:
            process.paused = True
            self._work([(kind, 1 - which, 1 - which) for kind, _, _ in works])
            return
        position = site.target.head()[1]
        if process.replica.revision.position < position or process.replica.staleness > MAX_STALENESS:
            site.took["pause"] += 1
        process.paused = False
        site.check()
        site.settle()

    @rule(which=WHICH, stays=st.booleans(), works=WORKS)
    def stop_or_start(self, which: int, stays: bool, works: list[Work]) -> None:
        self._work(works)
        process = self.site.processes[which]
        if process.runs:
            self.site.stop(process)
            self.site.took["stop"] += 1
        if not stays:
            self._start(process)

    @rule(which=WHICH, settings=st.sampled_from(SETTINGS), works=WORKS, heals=HEALS)
    def lower_or_raise_settings(
        self, which: int, settings: dict[str, object], works: list[Work], heals: bool
    ) -> None:
        process = self.site.processes[which]
        self._work(works)
        before, process.settings = process.settings, dict(settings)
        if self._restart(process):
            for name in ("max_access_token_lifetime", "session_lifetime", "leeway"):
                old, new = before[name], settings[name]
                assert isinstance(old, timedelta)
                assert isinstance(new, timedelta)
                if old != new:
                    self.site.took[f"{name} {'lowered' if new < old else 'raised'}"] += 1
        self._heal_if(heals)

    # The store

    @rule(works=WORKS)
    def trim(self, works: list[Work]) -> None:
        """Time passes until everything in the log may be trimmed, with heartbeats in between."""
        self._work(works)
        site, (_, _, _, floor) = self.site, self.site.target.head()
        for seconds in (11 * 60, 7 * HOUR, 11 * 60):
            site.time.pass_(seconds)
            site.settle(2)
        _, _, _, trimmed = site.target.head()
        if trimmed > floor:
            site.took["trim"] += 1

    @rule()
    def copy(self) -> None:
        self.site.target.copy()
        self.has_copy = True

    @rule(
        stopped=st.booleans(), lost=WORKS, revocations=st.integers(0, 6), which=WHICH, back=BACK, heals=HEALS
    )
    def put_an_older_copy_back(
        self, stopped: bool, lost: list[Work], revocations: int, which: int, back: int, heals: bool
    ) -> None:
        """While all that works is stopped, and on Redis also under it. Then the log grows again."""
        site = self.site
        if not self.has_copy:
            self.copy()
        self._work(lost)
        self.resume_a_watcher(which, 0)
        stopped = stopped or not site.target.has_clock
        before = site.target.head()
        works = site.working
        if stopped:
            for process in works:
                process.stop()
        site.target.put_copy_back()
        if before[:3] != site.target.head()[:3]:
            site.took["older copy put back" + (" while stopped" if stopped else "")] += 1
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

    @rule(begin=st.floats(0, 1), size=st.floats(0, 1), when=WHEN, works=WORKS, heals=HEALS)
    def delete_entries(self, begin: float, size: float, when: str, works: list[Work], heals: bool) -> None:
        site = self.site
        self._work(works)
        with self._damage(when) as done:
            positions = site.target.positions()
            if not positions:
                return
            first = int(begin * (len(positions) - 1))
            last = min(len(positions) - 1, first + int(size * len(positions)))
            if site.target.remove_entries(positions[first], positions[last]):
                done.append("entries deleted")
        self._heal_if(heals)

    @rule(key=st.integers(0, 1000), which=st.integers(0, 1000), when=WHEN, works=WORKS, heals=HEALS)
    def delete_one(self, key: int, which: int, when: str, works: list[Work], heals: bool) -> None:
        site = self.site
        self._work(works)
        kind = site.target.kinds[key % len(site.target.kinds)]
        with self._damage(when) as done:
            if site.target.delete(kind, which):
                site.records_missing |= kind in RECORDS
                done.append(f"deleted: {kind}")
        self._heal_if(heals)

    @rule(way=st.integers(0, 2), crashes=st.booleans(), which=WHICH, works=WORKS, heals=HEALS)
    def spoil_the_set_up(self, way: int, crashes: bool, which: int, works: list[Work], heals: bool) -> None:
        """Redis is configured to lose or evict; the write-ahead log of SQLite is removed."""
        self._work(works)
        self.site.took.update(self.site.target.spoil(self.site, way, which, crashes))
        self._heal_if(heals)

    @rule()
    def heal(self) -> None:
        self.site.heal()
        self.site.require_recovered()
        self.site.took["healed"] += 1

    # What the steps are made of

    def _heal_if(self, heals: bool) -> None:
        if heals:
            self.heal()

    def _work(self, works: list[Work]) -> None:
        """Issue tokens, and revoke each in its way."""
        for kind, issuer, revoker in works:
            process, other = self.site.processes[issuer], self.site.processes[revoker]
            if not (process.works and other.works):
                continue
            who = "user" if kind in (*OF_SESSIONS, Kind.SUBJECT) else "client"
            token = self.site.issue(process, who, self._at_most(process, 900))
            if token is not None:
                self.site.revoke(other, kind, token)

    @contextmanager
    def _damage(self, when: str) -> Iterator[list[str]]:
        """Around a damage, which says what it did: under what works, while that is stopped, or without a look."""
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

    def _token(self, back: int) -> Token:
        return self.site.tokens[max(0, len(self.site.tokens) - 1 - back)]

    def _at_most(self, process: Process, lifetime: int) -> int:
        longest = process.settings["max_access_token_lifetime"]
        assert isinstance(longest, timedelta)
        return min(lifetime, int(longest.total_seconds()))

    def _restart(self, process: Process) -> bool:
        """Returns whether it came up again; with records missing it may not."""
        self.site.stop(process)
        return self._start(process)

    def _start(self, process: Process) -> bool:
        site = self.site
        try:
            site.start_with_help(process)
        except UnavailableError:
            site.took["start refused"] += 1
            return False
        site.took["start"] += 1
        return True

    def _set_clocks(self, which: str, seconds: int) -> bool:
        """Set clocks, and hold that a party whose clock was set refuses at once; False = nothing changed."""
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
