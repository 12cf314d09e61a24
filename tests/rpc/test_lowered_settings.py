"""Lowering a setting shortens no revocation: each is kept for the longest time that was ever configured."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import grpc
import pytest

from tests.faults.tally import Tally
from tests.rpc.conftest import STORES, address, settings_for_tests
from tests.rpc.restartable import Restartable
from tests.rpc.world import World, failure

Start = Callable[..., Restartable]
LONG = {
    "max_access_token_lifetime": timedelta(hours=24),
    "session_lifetime": timedelta(days=30),
    "leeway": timedelta(minutes=5),
    "rotate_every": timedelta(days=400),  # no key is forgotten before its tokens
}
SHORT = LONG | {
    "max_access_token_lifetime": timedelta(minutes=15),
    "session_lifetime": timedelta(days=1),
    "leeway": timedelta(0),
}
HOUR, DAY = 3600, 86_400


@pytest.fixture(params=STORES)
def start(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Start]:
    """A function that starts a process with other settings on one store.

    Given the process `like`, the new one uses the administrator and the clock of that process.
    """
    store = address(request.param, tmp_path, request)
    with ExitStack() as cleanup:

        def start(settings: dict[str, object], *, like: Restartable | None = None) -> Restartable:
            process = Restartable(settings_for_tests(**settings), store.open, like=like)
            process.start()
            cleanup.callback(process.stop)
            return process

        yield start


def refresh(world: World, refresh_token: str) -> str:
    """Return the reason why Refresh fails, or "" if it succeeds."""
    try:
        world.refresh(refresh_token)
    except grpc.RpcError as error:
        return failure(error).reason
    return ""


def test_a_session_stays_ended_after_its_lifetime_was_lowered(start: Start) -> None:
    process = start(LONG)
    user = process.world.new_user()
    revoked, control = (process.world.issue(user) for _ in range(2))
    process.stop()

    process = start(SHORT, like=process)
    world = process.world
    assert world.revoke(world.admin_token(), session_id=revoked.session_id)
    for _ in range(10):
        process.wait(DAY)
        assert refresh(world, revoked.refresh_token) == "SESSION_ENDED"
    assert refresh(world, control.refresh_token) == "", "the same without the revocation"


def test_a_token_stays_denied_by_its_id_after_the_longest_lifetime_was_lowered(start: Start) -> None:
    process = start(LONG)
    client = process.world.new_client()
    revoked, control = (process.world.issue(client, lifetime=timedelta(hours=24)) for _ in range(2))
    process.stop()

    process = start(SHORT | {"access_token_lifetime": timedelta(minutes=1)}, like=process)
    world = process.world
    assert world.revoke(world.admin_token(), token_id=revoked.token_id)
    tally = Tally(scenario="settings lowered from a day to 15 minutes, both stores")
    tally.revoked(1)
    for _ in range(23):
        process.wait(HOUR)
        reason = world.reason(revoked.access_token)
        tally.answered(reason == "")
        tally.asked(1)
        assert reason == "REVOKED"
        assert world.reason(control.access_token) == "", "the same without the revocation"
    tally.publish()


def test_a_token_of_an_ended_session_stays_denied_after_both_were_lowered(start: Start) -> None:
    process = start(LONG)
    user = process.world.new_user()
    revoked, control = (process.world.issue(user, lifetime=timedelta(hours=24)) for _ in range(2))
    process.stop()

    process = start(SHORT, like=process)
    world = process.world
    assert world.revoke(world.admin_token(), session_id=revoked.session_id)
    process.wait(20 * HOUR)
    assert world.reason(revoked.access_token) == "REVOKED"
    assert world.reason(control.access_token) == "", "the same without the revocation"


@pytest.mark.parametrize("by", ["token", "token_id"])
def test_a_token_stays_denied_when_the_leeway_was_lowered_and_is_raised_again(start: Start, by: str) -> None:
    process = start(LONG)
    client = process.world.new_client()
    revoked, control = (process.world.issue(client, lifetime=timedelta(minutes=15)) for _ in range(2))
    process.stop()
    process = start(SHORT, like=process)
    world = process.world
    target = {"token": revoked.access_token} if by == "token" else {"token_id": revoked.token_id}
    assert world.revoke(world.admin_token(), **target)
    process.stop()

    process = start(LONG, like=process)
    process.wait(15 * 60 + 290)
    assert process.world.reason(revoked.access_token) == "REVOKED"
    assert process.world.reason(control.access_token) == "", "the same without the revocation"


def test_a_process_with_longer_settings_beside_one_with_shorter_accepts_nothing_that_was_revoked(
    start: Start,
) -> None:
    longer = start(LONG)
    client = longer.world.new_client()
    revoked, control = (longer.world.issue(client, lifetime=timedelta(hours=24)) for _ in range(2))
    shorter = start(SHORT, like=longer)

    revision = shorter.world.revoke(shorter.world.admin_token(), token_id=revoked.token_id)
    assert longer.world.reason(revoked.access_token, at_least_revision=revision) == "REVOKED"
    longer.wait(20 * HOUR)
    assert longer.world.reason(revoked.access_token) == "REVOKED"
    assert longer.world.reason(control.access_token) == "", "the same without the revocation"


def test_a_process_knows_the_longer_settings_of_one_that_began_a_moment_ago(start: Start) -> None:
    """The first process has had no heartbeat since a second one with longer settings started.

    The first process must still keep a denial long enough: it reads the longest settings from the store when
    it denies a token.
    """
    shorter = start(SHORT)
    client = shorter.world.new_client()
    with shorter.heartbeats.held():
        longer = start(LONG, like=shorter)
        revoked, control = (longer.world.issue(client, lifetime=timedelta(hours=24)) for _ in range(2))
        revision = shorter.world.revoke(shorter.world.admin_token(), token_id=revoked.token_id)

    longer.world.reason(control.access_token, at_least_revision=revision)
    longer.wait(20 * HOUR)
    assert longer.world.reason(revoked.access_token) == "REVOKED"
    assert longer.world.reason(control.access_token) == "", "the same without the revocation"


@pytest.mark.parametrize("restarts", [False, True], ids=["the same process", "after a restart"])
@pytest.mark.parametrize("by", ["token_id", "session_id", "token"])
def test_a_revoked_token_that_was_issued_while_the_clock_was_ahead_stays_revoked(
    start: Start, by: str, restarts: bool
) -> None:
    """A denial must be kept until the token would expire, although the issuing process's clock was ahead.

    An id does not tell when its token was issued. The token is valid again when the clock reaches that time.
    """
    settings = LONG | {"max_access_token_lifetime": timedelta(minutes=15), "leeway": timedelta(seconds=10)}
    process = start(settings)
    user = process.world.new_user()
    process.clock.step(hours=1)
    revoked, control = (process.world.issue(user) for _ in range(2))
    process.clock.step(hours=-1)
    if restarts:
        process.stop()
        process = start(settings, like=process)

    world = process.world
    shown = {"token_id": revoked.token_id, "session_id": revoked.session_id, "token": revoked.refresh_token}
    assert world.revoke(world.admin_token(), **{by: shown[by]})
    process.wait(HOUR + 60)
    process.stop()
    world = start(settings, like=process).world

    assert world.reason(revoked.access_token) == "REVOKED"
    assert world.reason(control.access_token) == "", "the same without the revocation"
