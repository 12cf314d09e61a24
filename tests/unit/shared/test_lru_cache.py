"""The cache that server and client share: it is bounded, and keeps the entries used last."""

import json
import sys
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from identity_shared.lru_cache import LruCache, weight_of_json

LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False)
    | st.text(max_size=8)
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=8) | st.dictionaries(st.text(max_size=4), inner, max_size=8),
)


def test_only_a_cached_entry_is_found() -> None:
    cache: LruCache[str, int] = LruCache(10)
    cache.put("a", 1, 1)

    assert (cache.get("a"), cache.get("b")) == (1, None)


@given(st.lists(st.integers(0, 50), max_size=300), st.integers(2, 20))
def test_it_never_outgrows_its_bound_and_never_answers_wrongly(keys: list[int], bound: int) -> None:
    cache: LruCache[int, int] = LruCache(bound)
    for key in keys:
        assert cache.get(key) in (None, key * 2)
        cache.put(key, key * 2, 1)
    assert sum(cache.get(key) is not None for key in range(51)) <= bound


def test_a_recently_used_entry_survives_unused_ones() -> None:
    cache: LruCache[int, str] = LruCache(10)
    cache.put(-1, "hot", 1)
    for key in range(1000):
        cache.put(key, "cold", 1)
        assert cache.get(-1) == "hot"
    assert cache.get(0) is None


def test_an_entry_that_its_finder_marks_as_used_survives_the_others() -> None:
    cache: LruCache[str, str] = LruCache(4)
    for key in "abcd":
        cache.put(key, key, 1)
    found = cache.find("a")
    assert found is not None
    found.used = True

    cache.put("e", "e", 1)

    assert [key for key in "abcde" if cache.find(key) is not None] == ["a", "c", "d", "e"]


@pytest.mark.parametrize("entries", [2, 10, 500])
def test_if_every_entry_is_in_use_an_older_one_gives_way_to_the_new_one(entries: int) -> None:
    cache: LruCache[int, int] = LruCache(entries)
    for key in range(entries):
        cache.put(key, key, 1)
        cache.get(key)

    cache.put(entries, entries, 1)

    assert cache.get(entries) == entries
    assert sum(cache.find(key) is not None for key in range(entries)) == entries - 1


def test_a_large_entry_evicts_several_and_one_that_is_too_large_is_not_kept() -> None:
    cache: LruCache[str, str] = LruCache(20)
    for key in "abc":
        cache.put(key, key, 3)
    assert all(cache.get(key) for key in "abc")
    cache.put("heavy", "heavy", 10)
    cache.put("too heavy", "", 11)

    assert cache.get("heavy") == "heavy"
    assert cache.get("too heavy") is None


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 40)), max_size=200))
def test_all_entries_together_never_weigh_more_than_the_bound(puts: list[tuple[int, int]]) -> None:
    cache: LruCache[int, int] = LruCache(50)
    for key, weight in puts:
        cache.put(key, weight, weight)

    assert sum(cache.get(key) or 0 for key in range(31)) <= 50


def memory_of(value: Any) -> int:
    """Return the bytes of memory that parsed JSON takes, without objects that all values share."""
    if value is None or isinstance(value, bool) or (isinstance(value, str) and len(value) < 2):
        return 0
    inner = [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else ()
    return sys.getsizeof(value) + sum(map(memory_of, inner))


@given(VALUES)
@example([[[[[[[]]]]]]])
@example([{"": {"": {}}}] * 9)
@example([{"ab": 0.5}] * 9)
@example({f"{number:02}": "" for number in range(99)})
def test_parsed_json_takes_no_more_memory_than_its_weight(value: Any) -> None:
    parsed = orjson.loads(orjson.dumps(value)), json.loads(json.dumps(value))

    assert max(map(memory_of, parsed)) <= weight_of_json(value) + 100
