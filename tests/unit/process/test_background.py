"""A background thread reports an unexpected exception and continues; it ends when it is closed."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from structlog.testing import capture_logs

from identity_service.domain.errors import ConfigurationError
from identity_service.process import background
from identity_service.process.background import BackgroundThread, Run, every
from tests.patience import PATIENCE

Start = Callable[..., BackgroundThread]


@pytest.fixture
def start() -> Iterator[Start]:
    """Yield a function that starts background threads; all are closed after the test."""

    def start(run: Run, wake: Callable[[], None] = lambda: None) -> BackgroundThread:
        thread = BackgroundThread("identity-some-work", run, wake)
        ending.callback(thread.join, PATIENCE)
        ending.callback(thread.close)
        thread.start()
        return thread

    with ExitStack() as ending:
        yield start


def is_alive(name: str = "identity-some-work") -> bool:
    return name in {thread.name for thread in threading.enumerate()}


def test_it_ends_when_it_is_closed(start: Start) -> None:
    thread = start(every(2 * PATIENCE, print))
    assert is_alive()

    thread.close()
    thread.join(PATIENCE)

    assert not is_alive()


def test_a_step_is_done_again_and_again_until_then(start: Start) -> None:
    steps = threading.Semaphore(0)
    thread = start(every(0.001, steps.release))

    for _ in range(3):
        assert steps.acquire(timeout=PATIENCE)
    thread.close()
    thread.join(PATIENCE)

    assert not is_alive()


def test_a_wait_for_something_else_is_ended_as_well(start: Start) -> None:
    woken = threading.Event()

    def wait(_: threading.Event) -> None:
        woken.wait(2 * PATIENCE)

    thread = start(wait, woken.set)

    thread.close()
    thread.join(PATIENCE)

    assert not is_alive()


def test_an_unexpected_exception_is_reported_with_the_name_of_the_thread_and_the_work_continues(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "_PAUSE", 0.001)
    errors, went_on = iter([KeyError("a value that no log may show")]), threading.Event()

    def step() -> None:
        for error in errors:
            raise error
        went_on.set()

    with capture_logs() as said:
        start(every(0.001, step))
        assert went_on.wait(PATIENCE)

    (event,) = said
    assert (event["event"], event["log_level"]) == ("background_bug", "error")
    assert (event["thread"], event["error"]) == ("identity-some-work", "KeyError")
    assert "no log may show" not in str(said)


def test_one_that_has_failed_need_not_begin_again_to_end(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "_PAUSE", 2 * PATIENCE)
    failed = threading.Event()

    def fail(_: threading.Event) -> None:
        failed.set()
        raise KeyError

    thread = start(fail)
    assert failed.wait(PATIENCE)

    thread.close()
    thread.join(PATIENCE)

    assert not is_alive()


def test_without_room_for_a_thread_the_error_names_the_limit_to_raise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    thread = BackgroundThread("identity-some-work", every(1, lambda: None))

    with pytest.raises(ConfigurationError, match="ulimit -u"):
        thread.start()

    thread.close()
    thread.join(PATIENCE)  # returns at once: it never ran
