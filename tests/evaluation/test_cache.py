"""Results that are found again, and those that are not."""

from __future__ import annotations

from pathlib import Path

from continual_learning.evaluation.cache import ResultCache, digest


def test_a_value_comes_back_for_its_key_alone(tmp_path: Path) -> None:
    cache = ResultCache(tmp_path)
    cache.put({"a": 1, "b": [2]}, {"x": 1.5})
    assert cache.get({"b": [2], "a": 1}) == {"x": 1.5}
    assert cache.get({"a": 1, "b": [3]}) is None


def test_a_damaged_file_is_as_good_as_none(tmp_path: Path) -> None:
    cache = ResultCache(tmp_path)
    cache.put({"a": 1}, 5)
    [file] = tmp_path.rglob("*.json")
    file.write_text(file.read_text()[:-3])
    assert cache.get({"a": 1}) is None
    cache.put({"a": 1}, 6)
    assert cache.get({"a": 1}) == 6


def test_without_a_folder_nothing_is_kept() -> None:
    cache = ResultCache(None)
    cache.put({"a": 1}, 5)
    assert cache.get({"a": 1}) is None


def test_the_digest_knows_values_not_order() -> None:
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1}) != digest({"a": 1, "b": 3})
