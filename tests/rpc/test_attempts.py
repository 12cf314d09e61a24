"""Concurrent sign-ins: the service checks no more wrong passwords than the free attempts allow.

Concurrent sign-ins with the right password all succeed.
"""

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import datetime
from itertools import cycle
from pathlib import Path

import grpc
import pytest

from identity_service.bootstrap import Service
from identityapi.v1 import identity_service_pb2 as pb
from identityapi.v1 import identity_service_pb2_grpc as rpc
from identityapi.v1 import token_pb2
from tests.patience import PATIENCE
from tests.rpc.conftest import STORES, StartWorld, address, running, settings_for_tests
from tests.rpc.world import World, failure, password

REFUSED_UNCHECKED = {"TOO_MANY_ATTEMPTS", "SERVER_BUSY"}
CHECKED = "CREDENTIAL_REFUSED"


def at_once(
    world: World,
    credentials: Sequence[token_pb2.Credential],
    stubs: Sequence[rpc.IdentityServiceStub] = (),
) -> Counter[str]:
    """Make all calls concurrently; return how often each outcome came: a reason, or "" if tokens were issued.

    The calls are spread over `stubs`; without them, all go to the process of `world`.
    """
    requests = [pb.IssueRequest(credential=credential) for credential in credentials]
    turns = zip(requests, cycle(stubs or [world.stub]), strict=False)
    calls = [stub.Issue.future(request, timeout=PATIENCE) for request, stub in turns]
    return Counter(outcome(call) for call in calls)


def outcome(call: "grpc.Future[pb.IssueResponse]") -> str:
    try:
        call.result()
    except grpc.RpcError as error:
        return failure(error).reason
    return ""


def wrong(number: int, name: str = "ana") -> token_pb2.Credential:
    return password(name, f"wrong password {number}")


@pytest.mark.parametrize("exists", [True, False])
def test_of_sixty_concurrent_wrong_passwords_only_the_free_attempts_are_checked(
    world: World, exists: bool
) -> None:
    if exists:
        world.new_user()

    found = at_once(world, [wrong(number) for number in range(60)])

    assert found[CHECKED] == world.settings.attempts_per_username
    assert set(found) <= {CHECKED, *REFUSED_UNCHECKED}
    assert found["TOO_MANY_ATTEMPTS"]


def test_after_the_free_attempts_the_right_password_has_to_wait_for_the_pause(world: World) -> None:
    """The control of the test of many concurrent attempts: the attempts that were refused did count.

    The pause ends by itself.
    """
    world.new_user()
    at_once(world, [wrong(number) for number in range(60)])

    assert at_once(world, [password("ana")]) == {"TOO_MANY_ATTEMPTS": 1}
    world.clock.advance(seconds=1)
    assert at_once(world, [password("ana")]) == {"": 1}
    assert at_once(world, [wrong(1)]) == {CHECKED: 1}


def test_after_a_pause_one_of_many_at_once_is_checked(world: World) -> None:
    world.new_user()
    at_once(world, [wrong(number) for number in range(60)])

    world.clock.advance(seconds=1)

    assert at_once(world, [wrong(number) for number in range(30)])[CHECKED] == 1


def test_the_right_password_twenty_times_at_once_gets_in_each_time(world: World) -> None:
    world.new_user()

    assert at_once(world, [password("ana")] * 20) == {"": 20}


def test_wrong_passwords_beside_a_right_one_get_no_more_checks_than_are_free(world: World) -> None:
    """A success resets the count of failures, but only of those from before the sign-in began.

    Between two successes there are therefore at most as many checks as free attempts.
    """
    world.new_user()
    free = world.settings.attempts_per_username
    for _ in range(free - 1):
        assert at_once(world, [wrong(0)]) == {CHECKED: 1}

    found = at_once(world, [password("ana"), *(wrong(number) for number in range(60))])

    # Either the right password was checked first and reset the count, or no free attempt was left for it.
    assert found[CHECKED] == free if found[""] else found[CHECKED] == 1


def test_of_many_usernames_tried_at_once_from_one_address_as_many_are_checked_as_are_free_there(
    start_world: StartWorld,
) -> None:
    world = start_world(attempts_per_peer=7)

    found = at_once(world, [wrong(0, f"user{number}") for number in range(60)])

    assert found[CHECKED] == 7
    # An attempt that the limit of the address refused does not count toward the limit of the username.
    assert at_once(world, [wrong(0, "another")]) == {"TOO_MANY_ATTEMPTS": 1}


@pytest.mark.parametrize("kind", STORES)
def test_processes_on_one_store_check_no_more_together(
    request: pytest.FixtureRequest, tmp_path: Path, still_at: datetime, kind: str
) -> None:
    settings, store = settings_for_tests(), address(kind, tmp_path, request)
    with ExitStack() as cleanup:
        world = cleanup.enter_context(running(settings, store.open, still_at=still_at))
        theirs = store.open(world.clock)
        cleanup.callback(theirs.close)
        other = Service(settings, clock=world.clock, store=theirs)
        port = other.start()
        cleanup.callback(other.stop)
        channel = cleanup.enter_context(grpc.insecure_channel(f"127.0.0.1:{port}"))
        stubs = (world.stub, rpc.IdentityServiceStub(channel))
        world.new_user()

        found = at_once(world, [wrong(number) for number in range(60)], stubs)
        assert found[CHECKED] == settings.attempts_per_username
        world.clock.advance(seconds=1)
        assert at_once(world, [password("ana")] * 20, stubs) == {"": 20}
