"""A bounded cache that approximates least-recently-used eviction without locks."""

from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class LruCache(Generic[K, V]):
    """A bounded cache of two halves: when the young half is full, it replaces the old one, which is dropped.

    A hit in the old half is copied to the young one, so entries in use are kept. Each step is one dict
    operation: threads that race may lose an entry or count its weight twice, but never get a wrong value.
    """

    __slots__ = ("_half", "_old", "_weight", "_young")

    def __init__(self, max_weight: int) -> None:
        """Bound the weight of all entries together to `max_weight`, in the unit of `put`'s `weight`."""
        self._half = max_weight // 2
        self._weight = 0
        self._young: dict[K, tuple[V, int]] = {}
        self._old: dict[K, tuple[V, int]] = {}

    def get(self, key: K) -> V | None:
        """Return the value of the key, or None if it is not in the cache."""
        entry = self._young.get(key)
        if entry is None:
            entry = self._old.get(key)
            if entry is None:
                return None
            self.put(key, *entry)
        return entry[0]

    def put(self, key: K, value: V, weight: int) -> None:
        """Store a value. A value that weighs more than half of `max_weight` is not stored."""
        if weight > self._half:
            return
        if self._weight + weight > self._half:
            self._old, self._young, self._weight = self._young, {}, 0
        self._young[key] = (value, weight)
        self._weight += weight
