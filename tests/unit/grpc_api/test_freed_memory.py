"""The process returns freed memory to the operating system at intervals."""

from typing import Any

import pytest

from identity_service.grpc_api.core.memory import FreedMemory


@pytest.fixture
def now() -> list[float]:
    return [100.0]


@pytest.fixture
def trimmed() -> list[int]:
    return []


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch, now: list[float], trimmed: list[int]) -> FreedMemory:
    class Library:
        def malloc_trim(self, pad: int) -> int:
            trimmed.append(pad)
            return 1

    monkeypatch.setattr("ctypes.CDLL", lambda _: Library())
    return FreedMemory(lambda: now[0])


def test_nothing_is_given_back_unless_something_was_freed(memory: FreedMemory, trimmed: list[int]) -> None:
    assert not memory.release()
    assert trimmed == []


def test_it_goes_on_for_a_while_since_the_core_frees_late(
    memory: FreedMemory, trimmed: list[int], now: list[float]
) -> None:
    memory.note()

    given = []
    for _ in range(20):
        given.append(memory.release())
        now[0] += 1.0

    assert [second for second, did in enumerate(given) if did] == [0, 5, 10]
    assert trimmed == [0, 0, 0]


def test_each_note_begins_the_while_anew(memory: FreedMemory, now: list[float]) -> None:
    memory.note()
    memory.release()
    now[0] += 11.0
    memory.note()

    now[0] += 11.0
    assert memory.release()
    now[0] += 5.0
    assert not memory.release()


def test_a_library_that_cannot_do_it_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    library: Any = object()
    monkeypatch.setattr("ctypes.CDLL", lambda _: library)
    memory = FreedMemory(lambda: 100.0)
    memory.note()

    assert not memory.release()
