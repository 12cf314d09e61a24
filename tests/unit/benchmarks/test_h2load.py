"""The parser of h2load's output: a number of bytes that does not fit the number of calls is an error."""

import pytest

from benchmarks import h2load
from benchmarks.processes import BenchmarkError

PRINTED = """\
finished in 2.00s, 6423.50 req/s, 3.05MB/s
requests: 12911 total, 12911 started, 12847 done, 12840 succeeded, 7 failed, 4 errored, 3 timeout
status codes: 12847 2xx, 0 3xx, 0 4xx, 0 5xx
traffic: 6.10MB (6391234) total, 26.33KB (26962) headers (space savings 98.63%), 5.98MB (6270400) data
"""


def test_calls_failures_and_bytes_are_read() -> None:
    assert h2load.parse(PRINTED) == h2load.Outcome(calls=12840, bad=14, data_bytes=6270400)


def test_a_figure_that_h2load_did_not_measure_is_an_error() -> None:
    with pytest.raises(BenchmarkError, match="connection refused"):
        h2load.parse("starting benchmark...\nconnection refused")


@pytest.mark.parametrize("data_bytes", [1_000, 1_064])
def test_answers_of_the_right_length_count(data_bytes: int) -> None:
    """h2load may count the bytes of the calls in flight at the end, but not the calls."""
    outcome = h2load.Outcome(calls=100, bad=0, data_bytes=data_bytes)
    h2load.require_good(outcome, answer_bytes=10, in_flight=7)


@pytest.mark.parametrize(
    "outcome",
    [
        h2load.Outcome(calls=100, bad=0, data_bytes=999),
        h2load.Outcome(calls=100, bad=0, data_bytes=1_071),
        h2load.Outcome(calls=100, bad=1, data_bytes=1_000),
        h2load.Outcome(calls=0, bad=0, data_bytes=0),
    ],
)
def test_other_answers_do_not(outcome: h2load.Outcome) -> None:
    with pytest.raises(BenchmarkError):
        h2load.require_good(outcome, answer_bytes=10, in_flight=7)


def test_a_message_is_framed_uncompressed_with_its_length() -> None:
    assert h2load.frame(b"abc") == b"\x00\x00\x00\x00\x03abc"
