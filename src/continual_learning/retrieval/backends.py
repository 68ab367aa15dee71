"""The indexes by name."""

from __future__ import annotations

from typing import Literal

from continual_learning.model.base_model import BaseModel
from continual_learning.retrieval.bm25 import BM25Index
from continual_learning.retrieval.dense import DenseIndex, HiddenStates, SentenceEncoder
from continual_learning.retrieval.index import Index
from continual_learning.retrieval.tfidf import TfidfIndex

Retriever = Literal["bm25", "tfidf", "dense", "encoder"]


def make_index(retriever: Retriever, base: BaseModel, encoder: str) -> Index:
    """An empty index. ``encoder`` names that retriever's model. Raises MissingExtraError if its extra is missing."""
    if retriever == "bm25":
        return BM25Index()
    if retriever == "tfidf":
        return TfidfIndex()
    return DenseIndex(HiddenStates(base) if retriever == "dense" else SentenceEncoder(encoder))
