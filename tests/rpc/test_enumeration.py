"""The times of answers do not reveal which principals exist: their distributions overlap.

The test asserts no time. For two kinds of principals, it compares all pairs of answers and counts how often
the first kind took longer (the probability of superiority, Mann and Whitney 1947). The fraction is near 0.5
if the kinds cannot be distinguished. It would be near 1 if the service hashed no password for unknown
principals.
"""

import random
import sys
import time
from bisect import bisect_left, bisect_right
from collections.abc import Sequence

import grpc
import pytest

from identity_service.domain.secret import Secret
from tests.rpc.conftest import StartWorld
from tests.rpc.world import Principal, World, client_secret, failure, password

# The time of the use case is measured; an engine adds only noise to it. The process that hashes has the
# lowest priority: on a busy machine, a thousand hashes take minutes.
pytestmark = [pytest.mark.in_process, pytest.mark.slow]

ROUNDS = 250
FREE_ATTEMPTS = 5
"""The default of `attempts_per_username`."""
NEAR_ONE_HALF = (0.38, 0.62)
"""The accepted range of the probability of superiority. With 250 answers for each kind, the standard error is
below 0.03; the rest of the range allows for the noise of a busy machine."""


def superiority(one: Sequence[float], other: Sequence[float]) -> float:
    """Return the fraction of pairs in which the value of `one` is greater. Ties count half."""
    ordered = sorted(other)
    wins = sum((bisect_left(ordered, v) + bisect_right(ordered, v)) / 2 for v in one)
    return wins / (len(one) * len(other))


def seconds(world: World, principal: Principal) -> float:
    started = time.perf_counter()
    with pytest.raises(grpc.RpcError) as error:
        world.issue(principal)
    took = time.perf_counter() - started
    assert failure(error.value).reason == "CREDENTIAL_REFUSED"
    return took


def shuffled(names: dict[str, str]) -> list[tuple[str, str]]:
    """Return the kinds of principals in random order: the first call after a write may take longer."""
    return random.sample(list(names.items()), len(names))


def quantiles(times: Sequence[float]) -> str:
    ordered = sorted(times)
    return " ".join(f"p{q}={ordered[len(ordered) * q // 100] * 1000:.2f}ms" for q in (10, 50, 90))


@pytest.fixture
def world(start_world: StartWorld) -> World:
    # A hash takes long enough to be noticed in the time of a call, and can be made a thousand times.
    return start_world(argon2_memory_kib=2048, attempts_per_peer=0)


def test_the_time_of_a_refusal_does_not_reveal_whether_a_user_exists(world: World) -> None:
    """Each principal gets no more attempts than are free, so that no call has to wait for a pause."""
    times: dict[str, list[float]] = {"wrong password": [], "unknown": [], "disabled": [], "no password": []}
    for number in range(ROUNDS // FREE_ATTEMPTS):
        names = {kind: f"{kind.replace(' ', '-')}{number}" for kind in times}
        world.new_user(names["wrong password"])
        world.disable_user(world.new_user(names["disabled"]))
        world.new_user(names["no password"], password=Secret(""))
        for kind, name in [pair for _ in range(FREE_ATTEMPTS) for pair in shuffled(names)]:
            times[kind].append(
                seconds(world, Principal(id="", credential=password(name, "a wrong password")))
            )

    for kind, found in times.items():
        sys.stdout.write(f"\nrefusal={kind!r} n={len(found)} {quantiles(found)}")
    overlap = {kind: superiority(times[kind], times["wrong password"]) for kind in times}
    sys.stdout.write(f"\n{overlap}\n")
    assert {k: NEAR_ONE_HALF[0] < share < NEAR_ONE_HALF[1] for k, share in overlap.items()} == dict.fromkeys(
        times, True
    )


def test_the_time_of_a_refusal_does_not_reveal_whether_a_client_exists(world: World) -> None:
    times: dict[str, list[float]] = {"wrong secret": [], "unknown": []}
    for number in range(ROUNDS):
        world.new_client(f"known{number}")
        for kind, name in shuffled({"wrong secret": f"known{number}", "unknown": f"other{number}"}):
            times[kind].append(seconds(world, Principal(id="", credential=client_secret(name, "idcs_wrong"))))

    share = superiority(times["unknown"], times["wrong secret"])
    sys.stdout.write(
        f"\nclients: {quantiles(times['unknown'])} / {quantiles(times['wrong secret'])} {share}\n"
    )
    assert NEAR_ONE_HALF[0] < share < NEAR_ONE_HALF[1]


def test_the_measurement_detects_a_real_difference(start_world: StartWorld) -> None:
    """The control: a sign-in with an empty username is refused without hashing a password.

    The hash is made so slow here that noise of the machine cannot hide the difference.
    """
    world = start_world(argon2_memory_kib=64 * 1024, attempts_per_peer=0)
    hashed, unhashed = [], []
    for number in range(30):
        hashed.append(seconds(world, Principal(id="", credential=password(f"nobody{number}", "x" * 20))))
        started = time.perf_counter()
        with pytest.raises(grpc.RpcError):
            world.issue(Principal(id="", credential=password("", "x" * 20)))
        unhashed.append(time.perf_counter() - started)

    assert superiority(hashed, unhashed) > 0.9
