"""The videos that a sampler keeps: bounded by their bytes."""

from __future__ import annotations

import pytest

from vng.training.video_cache import ByteCache


def test_the_least_recently_used_go_first() -> None:
    cache: ByteCache[str] = ByteCache(100)
    made: list[str] = []

    def get(key: str, size: int) -> str:
        return cache.get(key, lambda: (made.append(key) or key.upper(), size))  # type: ignore[func-returns-value]

    assert [get("a", 40), get("b", 40), get("a", 40)] == ["A", "B", "A"] and made == ["a", "b"]
    get("c", 40)  # b goes
    assert len(cache) == 2 and cache.nbytes == 80
    get("a", 40)
    assert made == ["a", "b", "c"]
    get("b", 40)
    assert made == ["a", "b", "c", "b"]


def test_one_value_larger_than_the_bound_is_kept_alone() -> None:
    cache: ByteCache[int] = ByteCache(100)
    for key in range(3):
        assert cache.get(key, lambda key=key: (key, 500)) == key
        assert len(cache) == 1 and cache.nbytes == 500


def test_what_fails_leaves_nothing() -> None:
    cache: ByteCache[int] = ByteCache(100)
    with pytest.raises(KeyError):
        cache.get("a", lambda: {}["b"])
    assert len(cache) == 0 and cache.nbytes == 0
