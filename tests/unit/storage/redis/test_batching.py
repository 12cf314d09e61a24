"""Batched calls: one thread sends for all that wait, and a failure fails the calls without an answer."""

import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from identity_service.storage.redis.client.batching import CallBatcher, PendingCall
from tests.patience import PATIENCE


class Server:
    """Answers each number with its double; holds the first conversation until it is let go."""

    def __init__(self) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.conversations: list[list[int]] = []
        self.fail_at: int | None = None
        self.most_at_once = 0
        self._now = 0

    def talk(self, batch: Sequence[PendingCall[int, int]]) -> None:
        self._now += 1
        self.most_at_once = max(self.most_at_once, self._now)
        self.conversations.append([pending.request for pending in batch])
        if len(self.conversations) == 1:
            self.begun.set()
            assert self.go_on.wait(PATIENCE)
        for pending in batch:
            if pending.request == self.fail_at:
                self._now -= 1
                raise ConnectionError
            pending.answers.append(2 * pending.request)
        self._now -= 1


class PooledConnection(deque[PendingCall[int, int]]):
    """A queue that signals when another call has joined it."""

    def __init__(self) -> None:
        super().__init__()
        self.joined = threading.Semaphore(0)

    def append(self, pending: PendingCall[int, int]) -> None:
        super().append(pending)
        self.joined.release()


def start(
    server: Server, batcher: CallBatcher[int, int], threads: ThreadPoolExecutor, count: int
) -> list[Future[int]]:
    """One call that is under way, and the others behind it."""
    batcher._waiting = pooled = PooledConnection()
    futures = []
    for number in range(count):
        futures.append(threads.submit(batcher.go, number))
        assert pooled.joined.acquire(timeout=PATIENCE)
        assert server.begun.wait(PATIENCE)
    return futures


def test_a_single_call_waits_for_no_other() -> None:
    server = Server()
    server.go_on.set()
    batcher = CallBatcher(server.talk)

    assert [batcher.go(1), batcher.go(2)] == [2, 4]
    assert server.conversations == [[1], [2]]


def test_calls_that_arrive_meanwhile_are_sent_together_and_each_gets_its_own_answer() -> None:
    server = Server()
    batcher = CallBatcher(server.talk)
    with ThreadPoolExecutor(8) as threads:
        futures = start(server, batcher, threads, 8)
        server.go_on.set()

        assert [future.result(PATIENCE) for future in futures] == [2 * number for number in range(8)]

    assert server.conversations == [[0], [1, 2, 3, 4, 5, 6, 7]]
    assert server.most_at_once == 1


def test_answers_before_a_failure_count_and_the_remaining_calls_fail() -> None:
    server = Server()
    batcher = CallBatcher(server.talk)
    server.fail_at = 2
    with ThreadPoolExecutor(4) as threads:
        futures = start(server, batcher, threads, 4)
        server.go_on.set()

        assert [futures[0].result(PATIENCE), futures[1].result(PATIENCE)] == [0, 2]
        for future in futures[2:]:
            with pytest.raises(ConnectionError):
                future.result(PATIENCE)


def test_a_failure_fails_the_waiting_calls_too_and_the_next_call_is_sent_anew() -> None:
    server = Server()
    batcher = CallBatcher(server.talk)
    server.fail_at = 0
    with ThreadPoolExecutor(4) as threads:
        futures = start(server, batcher, threads, 4)
        server.go_on.set()

        for future in futures:
            with pytest.raises(ConnectionError):
                future.result(PATIENCE)

    assert server.conversations == [[0]]
    assert batcher.go(5) == 10


def test_many_threads_all_get_their_own_answers() -> None:
    server = Server()
    server.go_on.set()
    batcher = CallBatcher(server.talk)
    with ThreadPoolExecutor(16) as threads:
        assert list(threads.map(batcher.go, range(5000))) == [2 * number for number in range(5000)]

    assert server.most_at_once == 1
