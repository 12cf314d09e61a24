"""The limit of threads: an error names the system's refusal, and a check finds out whether there is room."""

import errno
import os
import threading
from collections.abc import Callable

import pytest

from identity_service.domain.errors import ConfigurationError
from identity_service.process import thread_limit

Give = Callable[[int], None]


@pytest.fixture
def give(monkeypatch: pytest.MonkeyPatch) -> Give:
    """Return a function with which the system gives this number of further threads."""
    start = threading.Thread.start

    def give(count: int) -> None:
        left = iter(range(count))

        def start_some(thread: threading.Thread) -> None:
            if next(left, None) is None:
                raise RuntimeError("can't start new thread")
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", start_some)

    return give


def room_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "identity-room"]


def test_with_room_there_is_no_error_and_no_thread_is_left(give: Give) -> None:
    give(3)

    thread_limit.require(3)

    assert room_threads() == []


def test_without_room_the_error_names_the_room_and_the_limit_to_raise(give: Give) -> None:
    give(2)

    with pytest.raises(ConfigurationError, match=r"for 3 threads, .* gives it 2; .*pids\.max.*LimitNPROC="):
        thread_limit.require(3)

    assert room_threads() == []


def test_a_thread_that_is_refused_later_is_named_as_well(give: Give) -> None:
    give(0)

    with pytest.raises(ConfigurationError, match="ulimit -u"), thread_limit.named():
        threading.Thread(target=print).start()


def test_a_process_that_is_refused_is_named_as_well() -> None:
    with pytest.raises(ConfigurationError, match="ulimit -u"), thread_limit.named():
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("something else"),
        BlockingIOError(errno.EAGAIN, "write could not complete without blocking", 0),
    ],
)
def test_any_other_error_is_raised_unchanged(error: Exception) -> None:
    with pytest.raises(type(error)) as raised, thread_limit.named():
        raise error

    assert raised.value is error
