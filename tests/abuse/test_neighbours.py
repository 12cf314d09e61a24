"""Tests of further attacks, variants of those in test_lines.py, one after another on one service.

Meanwhile the service must answer every other client.
"""

import pytest

from tests.abuse.abuser import abusing
from tests.abuse.bystander import ROUNDS
from tests.abuse.site import Site

MB = 2**20
SLOW_ROUNDS = {"crowded-calls": 3}
"""For some abuses, a smaller number of rounds of calls. In `crowded-calls`, each call waits behind up to
5,000 others, for which the service needs two seconds of processor time."""
ANSWERS = [
    "unread-answers",  # their messages wait for a window that never opens
    "unread-reflection",
]
REQUESTS = [
    "never-ended",  # a whole message, and no end of the stream
    "half-prefix",
    "drip",
    "zeros",  # messages that decompress to the limit
    "unknown-methods",
    "crowded-calls",  # 5,000 in progress: more than grpcio's core lets wait by default
    "passwords",
]
CONNECTIONS = ["silent-connections", "half-preface", "half-handshake", "reconnects"]
FRAMES = [
    "resets-of-headers",
    "settings-flood",
    "ping-flood",
    "window-flood",
    "empty-data-flood",
    "continuation-flood",
]


@pytest.mark.parametrize("abuse", [*ANSWERS, *REQUESTS, *CONNECTIONS, *FRAMES])
def test_others_are_answered(shared: Site, abuse: str) -> None:
    with abusing(abuse, shared.target):
        assert shared.bystander.failures(SLOW_ROUNDS.get(abuse, ROUNDS)) == {}
    assert shared.bystander.failures() == {}


def test_a_header_block_without_an_end_takes_no_memory(shared: Site) -> None:
    """One second of this abuse sends 2.6 MB on each connection that the server does not close."""
    before = shared.resident_bytes

    with abusing("continuation-flood", shared.target):
        assert shared.resident_bytes < before + 64 * MB
