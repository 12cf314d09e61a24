"""The faults by which acknowledged revocations were once accepted again, as steps of the state machine.

A random run of the machine (`running.py`) meets each of them at some time; these tests meet each of them
every time.
"""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.machine.clients import HOUR, SETTINGS, OpenTarget, Work
from tests.machine.facts import OF_SESSIONS, Kind
from tests.machine.faults import Machine
from tests.machine.redis_target import WRONG, RedisTarget
from tests.machine.sqlite_target import SqliteTarget
from tests.redis_server import RedisServer

EACH: list[Work] = [(kind, 0, 1) for kind in Kind if kind is not Kind.EVERYTHING]
OF_ITS_OWN: list[Work] = [(kind, 0, 1) for kind in (Kind.TOKEN, Kind.TOKEN_ID, *OF_SESSIONS)]
"""Revocations that deny the id of one token or session until it expires."""
Play = Callable[[Machine], None]


@pytest.fixture(params=["sqlite", "redis"])
def open_target(request: pytest.FixtureRequest, tmp_path: Path) -> OpenTarget:
    if request.param == "sqlite":
        return lambda clock: SqliteTarget(tmp_path)
    server: RedisServer = request.getfixturevalue("redis_server")
    return lambda clock: RedisTarget(server, clock)


def take(open_target: OpenTarget, play: Play) -> Counter[str]:
    """Play some steps, heal all faults, and check before and after that; return what took effect."""
    took: Counter[str] = Counter()
    kind = type("Scripted", (Machine,), {"open_target": staticmethod(open_target), "took": took})
    machine = kind()
    try:
        machine.start()
        play(machine)
        machine.nothing_revoked_is_verified_and_nothing_good_refused()
        machine.heal()
        machine.nothing_revoked_is_verified_and_nothing_good_refused()
    finally:
        machine.teardown()
    return took


@pytest.mark.parametrize("which", ["machine", "everything"])
@pytest.mark.parametrize("seconds", [HOUR, 20 * HOUR, -2 * HOUR])
def test_a_clock_that_is_wrong_for_a_moment(open_target: OpenTarget, which: str, seconds: int) -> None:
    def play(machine: Machine) -> None:
        machine.set_clocks(
            which, seconds, for_a_moment=True, before=OF_ITS_OWN, after=OF_ITS_OWN, heals=False
        )

    assert take(open_target, play)[f"clock: {which}"] == 1


def test_a_clock_that_is_corrected_after_the_start(open_target: OpenTarget) -> None:
    def play(machine: Machine) -> None:
        machine.set_clocks("everything", -90, for_a_moment=False, before=EACH, after=[], heals=False)
        for which in (0, 1):
            machine.disturb_a_process("restart", which, SETTINGS[0], EACH, heals=False)

    assert take(open_target, play)["clock set right: A"] == 1


@pytest.mark.parametrize("which", [0, 1])
def test_an_older_copy_that_is_restored_while_everything_is_stopped(
    open_target: OpenTarget, which: int
) -> None:
    """The log grows past the position of a watcher, which then resumes at each revision that it ever had."""

    def play(machine: Machine) -> None:
        lost: list[Work] = [(Kind.TOKEN, 0, 1)] * 3
        machine.restore_an_older_copy(
            copies=True, stopped=True, lost=lost, revocations=6, which=which, back=1, heals=False
        )
        for back in range(len(machine.site.resumer.revisions)):
            machine.resume_a_watcher(which, back)

    took = take(open_target, play)
    assert took["older copy restored while stopped"] == 1
    assert took["watcher got a snapshot"] > 0
    assert took["watcher resumed"] > 0


@pytest.mark.parametrize("kind", list(Kind))
def test_entries_that_are_deleted_below_the_floor_while_nothing_runs(
    open_target: OpenTarget, kind: Kind
) -> None:
    def play(machine: Machine) -> None:
        target = machine.site.target
        machine.clients_work("client", 0, 900, [(kind, 0, 1)] * 4)
        # The log gets a new epoch, so that all of it lies below the floor.
        machine.delete("entries", 0.9, 0.0, 0, "while stopped", [(kind, 1, 0)], heals=False)
        floor = target.head()[3]
        assert floor > 0
        with machine._damage("while stopped") as done:
            assert target.remove_entries(1, floor - 1)
            done.append("entries deleted")

    assert take(open_target, play)["entries deleted"] == 2


def test_a_log_that_is_lost_while_nothing_runs(open_target: OpenTarget) -> None:
    def play(machine: Machine) -> None:
        machine.delete("head or log", 0, 0, 1, "while stopped", EACH, heals=False)

    assert take(open_target, play)["deleted: head or log: log"] == 1


@pytest.mark.parametrize("way", range(len(WRONG)))
@pytest.mark.parametrize("crashes", [False, True])
def test_a_set_up_that_is_spoilt_at_run_time(open_target: OpenTarget, way: int, crashes: bool) -> None:
    """Redis is reconfigured; on SQLite, the write-ahead log, its index or both are removed."""

    def play(machine: Machine) -> None:
        machine.spoil_the_set_up(way, crashes, 0, EACH, heals=False)

    took = take(open_target, play)
    assert any(name.startswith(("set up wrongly", "files removed")) for name in took)


@pytest.mark.parametrize("kind", [Kind.TOKEN_ID, Kind.SESSION, Kind.REFRESH_TOKEN])
def test_settings_that_are_lowered_before_a_revocation(open_target: OpenTarget, kind: Kind) -> None:
    def play(machine: Machine) -> None:
        # Issued by A for 15 minutes, revoked by B, which gives tokens 5 minutes; then A has the same.
        machine.disturb_a_process("set up", 0, SETTINGS[2], [], heals=False)
        machine.clients_work("user", 0, 900, [(kind, 0, 1)])
        for which in (0, 1):
            machine.disturb_a_process("set up", which, SETTINGS[1], [(kind, 0, 1)], heals=False)
        for _ in range(3):
            machine.time_passes(240, [], heals=False)
            machine.nothing_revoked_is_verified_and_nothing_good_refused()

    assert take(open_target, play)["leeway lowered"] == 1


def test_time_in_which_the_log_is_trimmed(open_target: OpenTarget) -> None:
    def play(machine: Machine) -> None:
        machine.time_passes(0, EACH, heals=False)
        machine.set_clocks("everything", -2 * HOUR, for_a_moment=True, before=EACH, after=EACH, heals=False)

    assert take(open_target, play)["trim"] == 1


@pytest.mark.parametrize("kind", [Kind.EVERYTHING, Kind.CLIENT])
@pytest.mark.parametrize("before", [0, 1])
@pytest.mark.parametrize("lost", [1, 2])
def test_a_generation_of_a_lost_history_that_a_paused_process_remembers(
    open_target: OpenTarget, kind: Kind, before: int, lost: int
) -> None:
    """The token has a generation of the lost history, which the paused process brings back.

    `before` and `lost` are the numbers of raises before and after the copy was made. They decide whether the
    restored store has reached the number in the token again by then.
    """

    def play(machine: Machine) -> None:
        site = machine.site
        a, b = site.processes
        machine.clients_work("client", 1, 300, [(kind, 1, 1)] * before)
        site.target.copy()
        machine.clients_work("client", 1, 300, [(kind, 1, 1)] * lost)
        site.settle()
        token = site.issue(b, "client", 300)
        assert token is not None
        b.paused = True
        a.stop()
        site.target.restore_copy()
        site.note_losses()
        site.start(a)
        assert site.revoke(a, kind, token) is not None
        assert a.verify([token.text]) == ["REVOKED"]
        site.resume(b)
        machine.heal()  # on SQLite the process that was paused is started again, as its message says
        assert [a.verify([token.text]), b.verify([token.text])] == [["REVOKED"], ["REVOKED"]]

    take(open_target, play)


def test_the_first_store_is_restored_after_an_older_copy_in_which_everything_was_revoked(
    redis_server: RedisServer,
) -> None:
    """While the older copy serves, a process raises a generation to a number that the first store has used.

    When the first store is back, with another raise to that number, the raise of the process must still
    count. The test does not apply to SQLite, where a process is restarted after its file was replaced, and
    then remembers nothing.
    """

    def play(machine: Machine) -> None:
        site = machine.site
        a, b = site.processes
        target = site.target
        assert isinstance(target, RedisTarget)
        machine.clients_work("client", 1, 300, [(Kind.EVERYTHING, 1, 1)])
        target.copy()
        older = target._copy
        machine.clients_work("client", 1, 300, [(Kind.EVERYTHING, 1, 1)] * 2)
        site.settle()
        token = site.issue(b, "client", 300)
        assert token is not None
        target.copy()
        first = target._copy
        for process in (a, b):
            process.stop()
        for copy in (older, first):
            target._copy = copy
            target.restore_copy()
            site.note_losses()
            if copy is older:
                site.start(a)
                assert site.revoke(a, Kind.EVERYTHING, token) is not None
            site.heartbeat_all()
            assert a.verify([token.text]) == ["REVOKED"]

    take(lambda clock: RedisTarget(redis_server, clock), play)
