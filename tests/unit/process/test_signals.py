"""Tests can interrupt the processes that they start, even if the tests themselves run in the background."""

import signal
import subprocess
import sys

import pytest

AS_IN_THE_BACKGROUND = """
import os, signal, subprocess, sys
from tests.signals import give_default_signals_to_children
number = signal.Signals(int(sys.argv[1]))
{before}
{mended}
os.kill(os.getpid(), number)  # this process ignores it as it did
child = "import signal, sys; print(signal.getsignal({{0}}) in (signal.SIG_DFL, signal.default_int_handler)"
child += ", {{0}} in signal.pthread_sigmask(signal.SIG_BLOCK, []))"
print(subprocess.run([sys.executable, "-c", child.format(number)], capture_output=True, text=True).stdout)
"""
IGNORED = "signal.signal(number, signal.SIG_IGN)"
MENDED = "give_default_signals_to_children()"


def child_of(before: str, mended: str, number: signal.Signals) -> list[str]:
    """Return whether a grandchild handles the signal by default, and whether the signal is blocked."""
    program = AS_IN_THE_BACKGROUND.format(before=before, mended=mended)
    done = subprocess.run(
        [sys.executable, "-c", program, str(int(number))], capture_output=True, text=True, check=True
    )
    return done.stdout.split()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP, signal.SIGTERM])
def test_signals_that_the_tests_ignore_are_not_ignored_by_their_child_processes(
    number: signal.Signals,
) -> None:
    assert child_of(IGNORED, "", number) == ["False", "False"], "else this test shows nothing"

    assert child_of(IGNORED, MENDED, number) == ["True", "False"]


def test_signals_that_the_tests_block_are_not_blocked_in_their_child_processes() -> None:
    blocked = f"{IGNORED}; signal.pthread_sigmask(signal.SIG_BLOCK, [number])"
    assert child_of(blocked, "", signal.SIGINT)[1] == "True"

    assert child_of(blocked, MENDED, signal.SIGINT) == ["True", "False"]


def test_this_run_of_the_tests_ignores_nothing_that_it_would_hand_down() -> None:
    """Each process of the test run restores the default signals at its start."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        assert signal.getsignal(number) is not signal.SIG_IGN
