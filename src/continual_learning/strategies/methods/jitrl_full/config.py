"""Settings of the jitrl_full strategy."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from continual_learning.options import StrategyConfig
from continual_learning.retrieval.backends import Retriever
from continual_learning.retrieval.datastore import Search


class JitRLFullConfig(StrategyConfig):
    """What is stored, which neighbours count, and how far they move the logits."""

    route: Literal["sentences", "passages", "none"] = "sentences"
    """What restricts the neighbours before hidden states are compared: the sentences that retrieval finds for the
    question and the places in them where an answer is likely to begin, the passages it finds, or nothing."""
    retriever: Retriever = "bm25"
    """What ranks the passages: bm25, tfidf, dense (the base's hidden states) or encoder (an extra)."""
    encoder: str = "sentence-transformers/all-MiniLM-L6-v2"
    """The model of the retriever ``encoder``: a name on the Hugging Face hub, or a folder."""
    passage_tokens: int = Field(160, ge=8)
    """Longest passage that is ranked: whole sentences, as many as fit."""
    top_k: int = Field(3, ge=1)
    """Most passages that are looked at."""
    sentences: int = Field(3, ge=1)
    """Most sentences whose positions can be neighbours, with route = sentences."""
    min_coverage: float = Field(0.4, ge=0, le=1)
    """Least share of the question's content in a sentence, its title and the sentence before; less is not relevant."""
    min_evidence: float = Field(10.0, ge=0)
    """Least evidence for that, in nats: the rarity of the words shared."""
    neighbours: int = Field(32, ge=1)
    """Most neighbours that count at a step."""
    temperature: float = Field(0.1, gt=0)
    """tau in w = exp(-d / tau), with d the squared distance of the unit vectors, 0 to 4, from the nearest's on."""
    continuation: float = Field(0.3, ge=0)
    """What each of the last tokens written (up to 4) that also stands before a position takes off its distance."""
    opening: Literal["prompt", "restatement"] = "prompt"
    """The hidden state that the first token's neighbours are compared with: at the end of the prompt, or, with a
    forward pass more, of the question put as the beginning of a statement: that helps where the route says little."""
    opening_temperature: float = Field(1.0, gt=0)
    """tau for the first token, where hidden states say little and the route much; d counts from the nearest on."""
    min_similarity: float = Field(0.3, ge=-1, le=1)
    """No bias where the best cosine is below, once something was written."""
    search: Search = "exact"
    """How neighbours are found where all positions are searched (route = none): exact, or faiss (an extra)."""
    policy: Literal["closed_form", "interpolation"] = "closed_form"
    """z + beta A within the trust region, or kNN-LM's lambda p_kNN + (1 - lambda) p_LM."""
    beta: float = Field(30.0, gt=0)
    """Closed form: logits for an advantage of 1, at most."""
    kappa: float = Field(0.3, gt=0)
    """Closed form: shrinkage of Q, the weight of never having tried."""
    max_kl: float = Field(12.0, gt=0)
    """Closed form: largest KL(pi' || pi) of a step, in nats."""
    share: float = Field(0.5, gt=0, lt=1)
    """Interpolation: lambda."""
    max_positions: int = Field(100_000, ge=1)
    """Most positions in the memory; the oldest documents are dropped for new ones."""
