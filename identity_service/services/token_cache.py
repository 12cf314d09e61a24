"""A bounded cache that forgets what has not been used lately. Reading takes no lock."""

from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class RecentCache(Generic[K, V]):
    """Two generations of entries: when the young one is full it becomes the old one, which is dropped.

    A hit in the old one moves to the young one, so what is in use survives. Each step is one dict
    operation; threads that race may lose an entry, never see a wrong one.
    """

    __slots__ = ("_half", "_old", "_young")

    def __init__(self, entries: int) -> None:
        self._half = max(1, entries // 2)
        self._young: dict[K, V] = {}
        self._old: dict[K, V] = {}

    def get(self, key: K) -> V | None:
        value = self._young.get(key)
        if value is None:
            value = self._old.get(key)
            if value is not None:
                self.put(key, value)
        return value

    def put(self, key: K, value: V) -> None:
        young = self._young
        young[key] = value
        if len(young) > self._half:
            self._old, self._young = young, {}

    def __len__(self) -> int:
        return len(self._young.keys() | self._old.keys())
