"""A bounded cache that approximates least-recently-used eviction, and whose readers take no lock."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")

_CHANCES: Final = 100
"""The largest number of entries in use that one `put` keeps, so that it does not go through all entries."""


class Entry(Generic[V]):
    """A value in a cache, with its weight and whether it was used."""

    __slots__ = ("used", "value", "weight")

    def __init__(self, value: V, weight: int) -> None:
        self.value = value
        self.weight = weight
        self.used = False
        """True if the entry was used since it was put at the end of the queue; a reader sets it."""


class LruCache(Generic[K, V]):
    """A bounded cache that evicts its oldest entry, but gives an entry in use another turn (CLOCK).

    Code that runs on every request reads by `find`, which is a C function, and not by `get`.
    """

    __slots__ = ("_entries", "_lock", "_most", "_weight", "find")

    def __init__(self, max_weight: int) -> None:
        """Bound the weight of all entries together to `max_weight`, in the unit of `put`'s `weight`."""
        self._entries: OrderedDict[K, Entry[V]] = OrderedDict()
        self._lock = threading.Lock()
        self._most = max_weight
        self._weight = 0
        self.find: Callable[[K], Entry[V] | None] = self._entries.get
        """Return the entry of a key, or None if it is not in the cache. The caller sets its `used`."""

    def get(self, key: K) -> V | None:
        """Return the value of the key, or None if it is not in the cache."""
        entry = self.find(key)
        if entry is None:
            return None
        entry.used = True
        return entry.value

    def put(self, key: K, value: V, weight: int) -> None:
        """Store a value. A value that weighs more than half of `max_weight` is not stored."""
        if weight > self._most // 2:
            return
        entries = self._entries
        with self._lock:
            replaced = entries.pop(key, None)
            self._weight += weight - (replaced.weight if replaced is not None else 0)
            chances = _CHANCES
            # Before the entry is there: otherwise it would be evicted itself if all others are in use.
            while self._weight > self._most:
                oldest, entry = entries.popitem(last=False)
                if entry.used and chances:
                    entry.used, chances = False, chances - 1
                    entries[oldest] = entry
                else:
                    self._weight -= entry.weight
            entries[key] = Entry(value, weight)


def weight_of_json(value: object) -> int:
    """Return the memory, in bytes, that a value of parsed JSON takes at most; 0 for an empty object.

    `[]` takes 2 characters and 56 bytes, an object with one member 240 bytes.
    """
    text = str(value) if value else ""
    return 250 * text.count("{") + 100 * text.count("[") + 60 * text.count(",") + 4 * len(text)
