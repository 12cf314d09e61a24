"""Calls that wait occupy work threads: however many wait, a thread is left for other calls."""

from hypothesis import assume, given
from hypothesis import strategies as st

from identity_service.composition.waiting import waiting_calls
from identity_service.settings import Settings


@given(threads=st.integers(2, 256), processes=st.integers(1, 32), queue=st.integers(0, 200))
def test_calls_that_wait_leave_a_thread_for_others(threads: int, processes: int, queue: int) -> None:
    assume(processes + queue < threads)
    settings = Settings(work_threads=threads, password_processes=processes, password_queue=queue)

    waiting = waiting_calls(settings)

    assert min(waiting) >= 0
    assert processes + queue + sum(waiting) < threads


def test_by_default_both_kinds_of_calls_may_wait() -> None:
    assert waiting_calls(Settings()) == (16, 6)
