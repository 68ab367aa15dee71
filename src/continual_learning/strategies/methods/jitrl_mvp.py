"""JitRL without hidden states: retrieved passages in the prompt, and logits that lean towards quoting them.

Just-in-time reinforcement learning (arXiv 2601.18510) looks up what followed in states like the present one and adds
its advantage to the logits, in closed form and without a gradient step. Here a state is the text written so far, and
the memory is the sentences found for the question: `retrieval.quoting` gives, for every step, the tokens that continue
a quotation, with their values, from which

    q(a) = value(a) / sum of values,    p'(a) = (1 - lambda) p_LM(a) + lambda q(a),

in logits a bias of log(1 - lambda + lambda q / p_LM): relative to what the model expects anyway, so that a token which
it would have written gains nothing. Values are weighted by inverse document frequency, and stop words never begin a
quotation (`retrieval.spans`). This is how the base answers from what is found if it has no reader, or the setting
``reader`` is None. Otherwise the reader answers from the chunks found (`reading.answering`). If nothing relevant is
found, nothing is read, no bias is applied, and the base answers as it would without a memory.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field

from continual_learning.documents import Document
from continual_learning.memory.state import State
from continual_learning.model.base_model import BaseModel, Message
from continual_learning.model.logits_processors import Steer, Step, interpolated
from continual_learning.reading.answering import ReaderConfig, answers_from_each, chosen_reader
from continual_learning.reading.in_prompt import Excerpt, ReadingConfig, completes, read_answers
from continual_learning.reading.plain import plain_answers
from continual_learning.reading.wholes.library import Library, library_of
from continual_learning.retrieval.backends import Retriever
from continual_learning.retrieval.chunk_store import (
    CHUNK_TOKENS,
    OVERLAP_TOKENS,
    chunk_count,
    keep_document,
    kept_chunks,
    whole_text,
    without_chunks,
)
from continual_learning.retrieval.passages import Found, QuestionFinder
from continual_learning.retrieval.quoting import Quotations
from continual_learning.retrieval.relevance import holds_much
from continual_learning.strategies.base import Cost, plain_report
from continual_learning.strategies.reading import ReadingStrategy
from continual_learning.types import UNAFFECTED, Answer, LearnReport, ProgressCallback, QuestionAnswer, TokenCallback


class JitRLMVPConfig(ReadingConfig, ReaderConfig):
    """Settings of the jitrl_mvp strategy: what is retrieved, what is read, and how far the logits move."""

    retriever: Retriever = "bm25"
    """What ranks the chunks: bm25, tfidf, dense (the base's hidden states) or encoder (an extra)."""
    encoder: str = "sentence-transformers/all-MiniLM-L6-v2"
    """The model of the retriever ``encoder``: a hub name or a folder. The extra brings the default."""
    top_k: int = Field(3, ge=1)
    """Maximum number of chunks that are considered."""
    sentences: int = Field(3, ge=1)
    """Without a reader: maximum number of sentences that are put into the prompt and favoured by the logits."""
    min_coverage: float = Field(0.4, ge=0, le=1)
    """Minimum share of a question's content in a relevant sentence together with its title and the sentence before."""
    min_evidence: float = Field(10.0, ge=0)
    """Minimum evidence for that, in nats: the rarity of the shared words."""
    share: float = Field(0.5, ge=0, lt=1)
    """Without a reader: lambda, the weight of the memory's distribution against the model's; 0 leaves the logits
    unchanged."""

    RETIRED: ClassVar[Mapping[str, object]] = {
        **ReadingConfig.RETIRED,
        **ReaderConfig.RETIRED,
        "chunk_tokens": CHUNK_TOKENS,
        "overlap_tokens": OVERLAP_TOKENS,
        "read": "sentences",
    }


class JitRLMVP(ReadingStrategy[JitRLMVPConfig]):
    """Keeps documents in chunks, reads what a question is about, and favours quoting it."""

    summary = "retrieves passages and moves the logits towards quoting them (JitRL, no hidden states)"
    Config = JitRLMVPConfig
    cost = Cost(
        answer=1.25,
        token_bytes=5.4,
        prompt_tokens=3 * CHUNK_TOKENS,
        f1={"smollm2-135m": 0.604, "gemma3-270m": 0.615},
        f1_without_reader={"smollm2-135m": 0.196, "gemma3-270m": 0.243},
    )

    def __init__(self, config: JitRLMVPConfig):
        super().__init__(config)
        limits = (config.top_k, config.min_coverage, config.min_evidence)
        self._finder = QuestionFinder(config.retriever, config.encoder, *limits)

    def learn(
        self,
        base: BaseModel,
        state: State,
        document: Document,
        qa: Sequence[QuestionAnswer] = (),
        progress: ProgressCallback | None = None,
    ) -> tuple[State, LearnReport]:
        """Cut the document into chunks and keep them. They are indexed at the first question."""
        kept, tokens, size = keep_document(base, state, document, CHUNK_TOKENS, OVERLAP_TOKENS)
        reason = f"kept in {len(kept_chunks(kept)[document.id])} chunks"
        return kept, plain_report(document, True, reason, tokens, size)

    def answer_spans(
        self,
        base: BaseModel,
        state: State,
        questions: Sequence[str],
        max_new_tokens: int,
        on_token: TokenCallback | None = None,
        history: Sequence[Message] = (),
    ) -> list[Answer]:
        """Answer each question from what is relevant to it; if nothing is, with the base alone."""
        found = [self._finder.find(base, state, question, history) for question in questions]
        about = [(i, one) for i, one in enumerate(found) if one is not None]
        others = [i for i, one in enumerate(found) if one is None]
        answers: dict[int, Answer] = {}
        if about:
            excerpts = [self._excerpts(one) for _, one in about]
            asked = [questions[i] for i, _ in about]
            sources = [one.sources() for _, one in about]
            reader = chosen_reader(base, self.config)
            if reader is not None:
                read = [source[::-1] for source in sources]  # the best last, as in a prompt
                made = answers_from_each(
                    base, reader, read, asked, max_new_tokens, on_token, history, holds_much(state)
                )
            else:
                how = (max_new_tokens, on_token, history, sources)
                steer = self._steer(base, [one for _, one in about], max_new_tokens)
                made = read_answers(base, self.config, excerpts, asked, *how, steer)
            answers.update(zip([i for i, _ in about], made, strict=True))
        if others:
            made = plain_answers(base, [questions[i] for i in others], max_new_tokens, on_token, history)
            answers.update(zip(others, made, strict=True))
        return [answers[i] for i in range(len(questions))]

    def library(self, base: BaseModel, state: State) -> Library | None:
        """The texts that the chunks are cut from; None without a reader."""
        reader = chosen_reader(base, self.config)
        if reader is None:
            return None

        def route(question: str, history: Sequence[Message]) -> str | None:
            found = self._finder.find(base, state, question, history)
            return found.chunks[0][0][0] if found else None

        return library_of(state, lambda document_id: whole_text(state, document_id), route)

    def finds(self, base: BaseModel, state: State, text: str) -> bool:
        """Whether anything relevant is found for ``text``."""
        return self._finder.find(base, state, text) is not None

    def span_key(self, base: BaseModel, state: State, question: str) -> Hashable | None:
        """The sentences that the question is answered from, and their scores."""
        found = self._finder.find(base, state, question)
        return (found.sentences, found.chunks) if found else UNAFFECTED

    def context(self, base: BaseModel, state: State, text: str) -> str:
        """Return what is put before ``text``, the best last."""
        found = self._finder.find(base, state, text)
        return "\n\n".join(map(str, self._excerpts(found))) if found else ""

    def forget(self, base: BaseModel, state: State, document_id: str) -> State:
        """Drop the document's chunks."""
        return without_chunks(super().forget(base, state, document_id), document_id)

    def describe(self, base: BaseModel, state: State) -> dict[str, Any]:
        """How much text there is to retrieve."""
        return {"chunks": chunk_count(state), "retriever": self.config.retriever}

    def _excerpts(self, found: Found) -> list[Excerpt]:
        """Return what is put into the prompt, the best next to the question."""
        return [Excerpt(s.text, s.title) for s in reversed(found.sentences[: self.config.sentences])]

    def _steer(self, base: BaseModel, found: Sequence[Found], room: int) -> Steer | None:
        if not self.config.share:
            return None
        after_space = completes(base, self.config)
        quotations = [Quotations(base, one, self.config.sentences, room, after_space) for one in found]

        def steer(step: Step) -> torch.Tensor:
            rows = []
            for prompt, written, logits_V in zip(step.prompts, step.written, step.logits_BV, strict=True):
                outcomes = quotations[prompt].outcomes(written)
                ids_S = torch.tensor(list(outcomes), device=logits_V.device)
                values_S = torch.tensor(list(outcomes.values()), device=logits_V.device)
                rows.append(interpolated(logits_V, ids_S, values_S / values_S.sum(), self.config.share))
            return torch.stack(rows)

        return steer
