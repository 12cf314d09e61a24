"""A bounded cache that forgets what has not been used lately. Reading takes no lock."""

from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class RecentCache(Generic[K, V]):
    """Two generations of entries: when the young one is full it becomes the old one, which is dropped.

    A hit in the old one moves to the young one, so what is in use survives. Each step is one dict
    operation; threads that race may lose an entry or count it twice, never see a wrong one.
    """

    __slots__ = ("_half", "_old", "_weight", "_young")

    def __init__(self, max_weight: int) -> None:
        """`max_weight` = of all entries together, in the unit that `put` is given."""
        self._half = max_weight // 2
        self._weight = 0
        self._young: dict[K, tuple[V, int]] = {}
        self._old: dict[K, tuple[V, int]] = {}

    def get(self, key: K) -> V | None:
        entry = self._young.get(key)
        if entry is None:
            entry = self._old.get(key)
            if entry is None:
                return None
            self.put(key, *entry)
        return entry[0]

    def put(self, key: K, value: V, weight: int = 1) -> None:
        """What weighs more than half of all that may be kept is not kept."""
        if weight > self._half:
            return
        if self._weight + weight > self._half:
            self._old, self._young, self._weight = self._young, {}, 0
        self._young[key] = (value, weight)
        self._weight += weight

    def __len__(self) -> int:
        return len(self._young.keys() | self._old.keys())
