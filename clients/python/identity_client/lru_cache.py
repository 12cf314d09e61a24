"""A bounded cache that drops the entries that were not used lately. Reading takes no lock."""

from typing import Generic, TypeVar

V = TypeVar("V")


class LruCache(Generic[V]):
    """A cache of two generations, an approximation of LRU.

    When the young generation is full it becomes the old one, and the entries of the old one are dropped. An
    entry that is read moves to the young generation. Each generation holds half of `max_weight`.
    """

    __slots__ = ("_half", "_old", "_weight", "_young")

    def __init__(self, max_weight: int) -> None:
        self._half = max_weight // 2
        self._weight = 0
        self._young: dict[bytes, tuple[V, int]] = {}
        self._old: dict[bytes, tuple[V, int]] = {}

    def get(self, key: bytes) -> V | None:
        """Return the value, or None."""
        entry = self._young.get(key)
        if entry is None:
            entry = self._old.get(key)
            if entry is None:
                return None
            self.put(key, *entry)
        return entry[0]

    def put(self, key: bytes, value: V, weight: int) -> None:
        """Store a value, unless it weighs more than half of `max_weight`."""
        if weight > self._half:
            return
        if self._weight + weight > self._half:
            self._old, self._young, self._weight = self._young, {}, 0
        self._young[key] = (value, weight)
        self._weight += weight
