"""The steps of clients: the state machine makes them between the faults, which are in `faults.py`."""

from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any, ClassVar, Final, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from identity_service.domain.errors import UnavailableError
from tests.machine.clocks import PartyClock, TrueTime
from tests.machine.facts import OF_SESSIONS, Kind, Token
from tests.machine.process import Process
from tests.machine.site import Site
from tests.machine.stores import Target

OpenTarget = Callable[[PartyClock], Target]
HOUR: Final = 3600
WHICH: Final = st.integers(0, 1)
"""A strategy that picks one of the two processes."""
BACK: Final = st.integers(0, 12)
"""A strategy that picks a token: its distance from the newest one."""
LIFETIME: Final = st.sampled_from([300, 900])
KINDS: Final = st.sampled_from(list(Kind))
Work = tuple[Kind, int, int]
WORKS: Final = st.lists(st.tuples(KINDS, WHICH, WHICH), min_size=1, max_size=3)
"""A strategy for revocations: the kind, the process that issues the token, and the process that revokes
it."""
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
"""Settings of processes. Process A starts with the first of them, process B with the second."""


_TAKEN: Final[dict[str, st.SearchStrategy[dict[str, Any]]]] = {}
Method = TypeVar("Method", bound=Callable[..., None])


def step(**words: st.SearchStrategy[Any]) -> Callable[[Method], Method]:
    """Register a method as a step of the machine; `words` are the strategies of its arguments.

    All steps are a single rule of Hypothesis: of several rules, Hypothesis leaves some out in each run.
    """

    def register(method: Method) -> Method:
        _TAKEN[method.__name__] = st.fixed_dictionaries(words)
        return method

    return register


def _steps() -> st.SearchStrategy[tuple[str, dict[str, Any]]]:
    return st.one_of(*(st.tuples(st.just(name), words) for name, words in _TAKEN.items()))


class Clients(RuleBasedStateMachine):
    """The part of the state machine that acts as clients do. The test sets `open_target` and `took`."""

    open_target: ClassVar[OpenTarget]
    took: ClassVar[Counter[str]]

    def __init__(self) -> None:
        super().__init__()
        time = TrueTime()
        clocks = {name: PartyClock(time) for name in ("A", "B", "store", "local")}
        self.site = Site(time, type(self).open_target(clocks["store"]), clocks)
        self.has_copy = False

    @initialize()
    def start(self) -> None:
        self.site.begin(SETTINGS[0], SETTINGS[1])

    def teardown(self) -> None:
        self.site.end()
        self.took.update(self.site.took)
        self.took.update(f"event {name}" for name in self.site.event_log.names)

    @invariant()
    def nothing_revoked_is_verified_and_nothing_good_refused(self) -> None:
        self.site.check()
        self.site.step += 1
        self.site.took["step"] += 1

    @rule(taken=st.deferred(_steps))
    def take(self, taken: tuple[str, dict[str, Any]]) -> None:
        name, words = taken
        getattr(self, name)(**words)

    @step(who=st.sampled_from(["client", "user", "control"]), which=WHICH, lifetime=LIFETIME, works=WORKS)
    def clients_work(self, who: str, which: int, lifetime: int, works: list[Work]) -> None:
        process = self.site.processes[which]
        if process.works and self.site.issue(process, who, self._at_most(process, lifetime)):
            self.site.took["issue"] += 1
        self._work(works)

    @step(which=WHICH, kind=KINDS, back=BACK)
    def revoke_what_is_older(self, which: int, kind: Kind, back: int) -> None:
        if not self.site.tokens:
            return
        process, token = self.site.processes[which], self._token(back)
        if process.works and (token.session_id or kind not in OF_SESSIONS):
            self.site.revoke(process, kind, token)

    @step(which=WHICH, back=st.integers(0, 30))
    def resume_a_watcher(self, which: int, back: int) -> None:
        site, process = self.site, self.site.processes[which]
        if not process.is_fresh or site.records_missing:
            return
        # It sends its own writes to a watcher only once it has read them in the log.
        site.settle(2)
        if process.trouble or not process.is_fresh:
            return
        revisions = site.resumer.revisions
        restarted, missing = site.resumer.resume(process, revisions[max(0, len(revisions) - 1 - back)])
        assert not missing, f"a watcher that resumed did not get {missing}"
        site.took["watcher got a snapshot" if restarted else "watcher resumed"] += 1

    def heal(self) -> None:
        self.site.heal()
        self.site.require_recovered()
        self.site.took["healed"] += 1

    # The values of the steps

    def _heal_if(self, heals: bool) -> None:
        if heals:
            self.heal()

    def _work(self, works: list[Work]) -> None:
        """Issue a token for each of `works`, and revoke it in the given way."""
        for kind, issuer, revoker in works:
            process, other = self.site.processes[issuer], self.site.processes[revoker]
            if not (process.works and other.works):
                continue
            who = "user" if kind in (*OF_SESSIONS, Kind.SUBJECT) else "client"
            token = self.site.issue(process, who, self._at_most(process, 900))
            if token is not None:
                self.site.revoke(other, kind, token)

    def _token(self, back: int) -> Token:
        return self.site.tokens[max(0, len(self.site.tokens) - 1 - back)]

    def _at_most(self, process: Process, lifetime: int) -> int:
        longest = process.settings["max_access_token_lifetime"]
        assert isinstance(longest, timedelta)
        return min(lifetime, int(longest.total_seconds()))

    def _start(self, process: Process) -> bool:
        site = self.site
        try:
            site.start_with_help(process)
        except UnavailableError:
            site.took["start refused"] += 1
            return False
        site.took["start"] += 1
        return True
