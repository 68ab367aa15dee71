"""Settings of the jitrl_full strategy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field

from continual_learning.options import StrategyConfig
from continual_learning.retrieval.backends import Retriever

PASSAGE_TOKENS = 160
"""Maximum tokens of a passage that is ranked: as many whole sentences as fit."""
NEIGHBOURS = 32
"""Maximum number of neighbours that count at a step."""
TEMPERATURE = 0.1
"""tau in w = exp(-d / tau), with d the squared distance of the unit vectors, 0 to 4, minus that of the nearest."""
CONTINUATION = 0.3
"""c: how much each of the last tokens written (up to 4) that also precedes a position reduces its distance."""
OPENING_TEMPERATURE = 1.0
"""tau for the first token, about which hidden states say little and the route much."""
MIN_SIMILARITY = 0.3
"""Once something is written, there is no bias if the best cosine is below this."""
KAPPA = 0.3
"""Shrinkage of Q: the weight of never having tried."""


class JitRLFullConfig(StrategyConfig):
    """What is stored, which sentences are relevant, and how far they move the logits."""

    retriever: Retriever = "bm25"
    """What ranks the passages: bm25, tfidf, dense (the base's hidden states) or encoder (an extra)."""
    encoder: str = "sentence-transformers/all-MiniLM-L6-v2"
    """The model of the retriever ``encoder``: a hub name or a folder. The extra brings the default."""
    top_k: int = Field(3, ge=1)
    """Maximum number of passages that are considered."""
    sentences: int = Field(3, ge=1)
    """Maximum number of sentences whose positions can be neighbours."""
    min_coverage: float = Field(0.4, ge=0, le=1)
    """Minimum share of a question's content in a relevant sentence together with its title and the sentence before."""
    min_evidence: float = Field(10.0, ge=0)
    """Minimum evidence for that, in nats: the rarity of the shared words."""
    beta: float = Field(30.0, gt=0)
    """Maximum change of the logit of a token with an advantage of 1."""
    max_kl: float = Field(12.0, gt=0)
    """Maximum KL(pi' || pi) of a step, in nats."""
    max_positions: int = Field(100_000, ge=1)
    """Maximum number of positions in the memory; the oldest documents are dropped for new ones."""

    RETIRED: ClassVar[Mapping[str, object]] = {
        "route": "sentences",
        "passage_tokens": PASSAGE_TOKENS,
        "neighbours": NEIGHBOURS,
        "temperature": TEMPERATURE,
        "continuation": CONTINUATION,
        "opening": "prompt",
        "opening_temperature": OPENING_TEMPERATURE,
        "min_similarity": MIN_SIMILARITY,
        "search": "exact",
        "policy": "closed_form",
        "kappa": KAPPA,
        "share": 0.5,
    }
    """Retired options that older memories may carry, each with the value that matches what the strategy does now."""
