"""Tests that the abuses harm a plain grpcio server; otherwise the tests of the service prove nothing.

The abuse `refused` has no such test, because it fills an audit trail, which the plain server does not have;
the test in test_refused.py counts the refused calls instead.
"""

import subprocess
from collections.abc import Mapping

import grpc
import pytest

from tests.abuse.abuser import abusing
from tests.abuse.bystander import PlainBystander
from tests.abuse.plain_server import THREADS
from tests.abuse.site import resident_bytes
from tests.patience import until

SHORT = 2.0
"""Timeout of a call in seconds. A blocked call is never answered, so a busy machine changes nothing."""
_HELD_UP = {grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED}
"""Status of a blocked call: grpcio's core cancels new calls while a thousand calls wait for a thread."""
METHODS = {"Verify", "Issue", "Refresh", "Revoke", "GetKeys", "Check"}


@pytest.fixture
def bystander(plain_server: "subprocess.Popen[str]") -> PlainBystander:
    assert plain_server.stdout is not None
    return PlainBystander(f"127.0.0.1:{int(plain_server.stdout.readline())}")


@pytest.mark.parametrize(
    "abuse",
    [
        "reflection",
        "health-watch",
        "headers-verify",
        "headers-issue",
        "headers",
        "bodies",
        "half-prefix",
        "drip",
        "unread-reflection",
    ],
)
def test_every_call_of_another_client_is_held_up_until_the_abuse_ends(
    bystander: PlainBystander, abuse: str
) -> None:
    assert bystander.failures() == {}

    with abusing(abuse, bystander.target, count=THREADS if abuse == "reflection" else 0):
        until(lambda: _all_held_up(bystander.failures_at_once(SHORT)))

    assert bystander.failures() == {}


def _all_held_up(failed: Mapping[str, grpc.StatusCode]) -> bool:
    """Return whether the calls of all methods were blocked, not only those of some."""
    return failed.keys() == METHODS and set(failed.values()) <= _HELD_UP


@pytest.mark.parametrize("abuse", ["resets"])
def test_calls_of_another_client_are_cancelled(bystander: PlainBystander, abuse: str) -> None:
    """While a thousand calls wait to begin, grpcio's core cancels new calls; other calls may be answered."""
    assert bystander.failures() == {}

    with abusing(abuse, bystander.target):
        until(lambda: grpc.StatusCode.CANCELLED in bystander.failures_at_once(SHORT).values())


@pytest.mark.parametrize("plain_server", [32], indirect=True)
def test_unfinished_bodies_take_memory_until_the_abuse_ends(
    plain_server: "subprocess.Popen[str]", bystander: PlainBystander
) -> None:
    """The abuser sends 24 bodies of 16 MiB, but some bytes may still be in the sockets."""
    assert bystander.failures() == {}
    before = resident_bytes(plain_server.pid)

    with abusing("bodies-once", bystander.target):
        assert resident_bytes(plain_server.pid) > before + 300 * 2**20
