"""The thread pools that run handlers: their size, the order of the calls, and a call that fails."""

import threading
from collections.abc import Callable, Iterator

import pytest

from identity_service.domain.errors import ConfigurationError, NotReadyError
from identity_service.grpc_api.threads import Threads
from tests.patience import PATIENCE


@pytest.fixture
def threads() -> Iterator[Threads]:
    threads = Threads(2, "test")
    yield threads
    threads.shutdown()


def test_no_more_run_at_once_than_there_are_threads_and_the_rest_waits_in_line(threads: Threads) -> None:
    full, go_on = threading.Barrier(3), threading.Event()

    def hold() -> None:
        full.wait(PATIENCE)
        go_on.wait(PATIENCE)

    held = [threads.submit(hold) for _ in range(2)]
    full.wait(PATIENCE)
    waiting = [threads.submit(pow, number, 2) for number in range(3)]
    assert not any(future.running() or future.done() for future in waiting)

    go_on.set()

    assert [future.result(PATIENCE) for future in waiting] == [0, 1, 4]
    assert [future.result(PATIENCE) for future in held] == [None, None]


def test_an_idle_thread_is_used_again(threads: Threads) -> None:
    seen = {threads.submit(threading.get_ident).result(PATIENCE) for _ in range(20)}

    # A result is there before its thread is idle, so that a second one may be made, never a third.
    assert len(seen) <= 2


def test_a_call_that_fails_ends_no_thread_and_its_future_has_the_error(threads: Threads) -> None:
    def fail() -> None:
        raise KeyError("a bug")

    failed = [threads.submit(fail) for _ in range(4)]

    assert threads.submit(lambda: 7).result(PATIENCE) == 7
    for future in failed:
        with pytest.raises(KeyError):
            future.result(PATIENCE)


def test_after_the_end_nothing_is_taken_and_idle_threads_are_gone() -> None:
    threads = Threads(1, "ending")
    thread = threads.submit(threading.current_thread).result(PATIENCE)

    threads.shutdown()

    thread.join(PATIENCE)
    assert not thread.is_alive()
    with pytest.raises(RuntimeError):
        threads.submit(lambda: None)


def test_queued_jobs_are_dropped_if_shutdown_cancels_futures() -> None:
    threads = Threads(1, "ending")
    begun, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        begun.set()
        go_on.wait(PATIENCE)

    held = threads.submit(hold)
    assert begun.wait(PATIENCE)
    waits = threads.submit(lambda: None)

    threads.shutdown(cancel_futures=True)
    assert (threads.busy, threads.waiting) == (1, 0)
    go_on.set()

    held.result(PATIENCE)
    assert waits.cancelled()


def test_a_job_that_was_about_to_be_queued_when_the_pool_ended_is_cancelled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A call that waited for the job's result would wait for ever, since the threads have ended."""
    threads = Threads(1, "ending")
    thread = threads.submit(threading.current_thread).result(PATIENCE)
    put = threads.put
    threads.shutdown()
    thread.join(PATIENCE)

    monkeypatch.setattr(threads, "put", put)

    assert threads.submit(lambda: None).cancelled()


@pytest.fixture
def no_more_threads(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Have the operating system refuse this process every further thread, from the call on."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    return lambda: monkeypatch.setattr(threading.Thread, "start", refuse)


@pytest.mark.parametrize("how", ["submit", "start"])
def test_without_a_thread_each_job_is_refused_at_once(
    threads: Threads, no_more_threads: Callable[[], None], how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_more_threads()
    for _ in range(5):  # more than there may be threads: none was counted
        with pytest.raises(NotReadyError, match="limits of processes and memory"):
            getattr(threads, how)(pow, 2, 3)
    assert (threads.busy, threads.waiting) == (0, 0)

    monkeypatch.undo()
    assert threads.submit(pow, 2, 3).result(PATIENCE) == 8


def test_if_the_system_gives_no_further_thread_the_existing_ones_do_the_work(
    threads: Threads, no_more_threads: Callable[[], None]
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        begun.set()
        go_on.wait(PATIENCE)

    threads.start_first()
    no_more_threads()
    threads.submit(hold)
    assert begun.wait(PATIENCE)
    waiting = [threads.submit(pow, number, 2) for number in range(3)]
    assert (threads.busy, threads.waiting) == (1, 3)

    go_on.set()
    assert [future.result(PATIENCE) for future in waiting] == [0, 1, 4]


def test_a_pool_whose_first_thread_was_started_early_refuses_no_job_later(
    threads: Threads, no_more_threads: Callable[[], None]
) -> None:
    threads.start_first()
    no_more_threads()

    results = [threads.submit(pow, number, 2) for number in range(3)]

    assert [future.result(PATIENCE) for future in results] == [0, 1, 4]


def test_a_pool_without_its_first_thread_names_the_limit_to_raise_at_start(
    threads: Threads, no_more_threads: Callable[[], None]
) -> None:
    no_more_threads()

    with pytest.raises(ConfigurationError, match="ulimit -u"):
        threads.start_first()


def test_a_job_that_is_put_before_there_is_a_thread_is_run(threads: Threads) -> None:
    ran = threading.Event()

    threads.put((ran.set, ()))

    assert ran.wait(PATIENCE)
