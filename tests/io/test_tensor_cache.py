"""What is computed once: in memory, on disk, and not beyond its limit."""

from __future__ import annotations

from pathlib import Path

import torch

from continual_learning.io.tensor_cache import Kept


class Counted:
    """A computation that counts how often it is asked for."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> dict[str, torch.Tensor]:
        self.calls += 1
        return {"x": torch.arange(4.0)}


def test_it_is_computed_once_also_for_who_comes_later(tmp_path: Path) -> None:
    compute = Counted()
    kept = Kept(tmp_path / "kept")
    assert kept.get("a", compute)["x"].tolist() == kept.get("a", compute)["x"].tolist() == [0, 1, 2, 3]
    assert Kept(tmp_path / "kept").get("a", compute)["x"].tolist() == [0, 1, 2, 3] and compute.calls == 1
    kept.get("b", compute)
    assert compute.calls == 2
    kept.clear()
    assert not (tmp_path / "kept").exists()


def test_a_damaged_file_is_computed_anew(tmp_path: Path) -> None:
    compute = Counted()
    Kept(tmp_path).get("a", compute)
    [file] = tmp_path.iterdir()
    file.write_bytes(b"damaged")
    assert Kept(tmp_path).get("a", compute)["x"].tolist() == [0, 1, 2, 3] and compute.calls == 2


def test_beyond_the_limit_nothing_is_kept(tmp_path: Path) -> None:
    compute = Counted()
    kept = Kept(tmp_path, limit_bytes=20)
    for key in ("a", "b", "b", "a"):
        kept.get(key, compute)
    assert compute.calls == 3 and len(list(tmp_path.iterdir())) == 1
