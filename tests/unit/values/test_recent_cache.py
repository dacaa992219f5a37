"""A cache keeps what was used lately, up to a size."""

from __future__ import annotations

from musubito.values.recent_cache import RecentCache


def test_it_keeps_what_is_used_and_drops_the_rest() -> None:
    cache: RecentCache[int, str] = RecentCache(100)
    cache.keep(0, "used", 10)
    cache.keep(1, "unused", 10)
    for number in range(2, 200):
        cache.keep(number, str(number), 10)
        assert cache.get(0) == "used"
    assert cache.get(1) is None
    assert cache.get(199) == "199"
    assert 10 <= len([*cache]) <= 20


def test_what_is_larger_than_all_is_dropped_next() -> None:
    cache: RecentCache[str, int] = RecentCache(100)
    cache.keep("large", 1, 1_000)
    assert cache.get("large") == 1
    for number in range(25):
        cache.keep(str(number), number, 10)
    assert cache.get("large") is None
