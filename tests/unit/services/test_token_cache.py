"""The cache of verified tokens: bounded, and what is in use survives."""

from hypothesis import given
from hypothesis import strategies as st

from identity_service.services.token_cache import RecentCache


def test_what_was_put_is_found_and_nothing_else() -> None:
    cache: RecentCache[str, int] = RecentCache(10)
    cache.put("a", 1)

    assert (cache.get("a"), cache.get("b")) == (1, None)
    assert len(cache) == 1


@given(st.lists(st.integers(0, 50), max_size=300), st.integers(2, 20))
def test_it_never_outgrows_its_bound_and_never_answers_wrongly(keys: list[int], bound: int) -> None:
    cache: RecentCache[int, int] = RecentCache(bound)
    for key in keys:
        assert cache.get(key) in (None, key * 2)
        cache.put(key, key * 2)
        assert len(cache) <= bound + 1


def test_what_is_in_use_survives_what_is_not() -> None:
    cache: RecentCache[int, str] = RecentCache(10)
    cache.put(-1, "hot")
    for key in range(1000):
        cache.put(key, "cold")
        assert cache.get(-1) == "hot"
    assert cache.get(0) is None
