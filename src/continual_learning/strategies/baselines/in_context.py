"""The documents are put into the prompt for every question: nothing is learned, and the window is the limit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from continual_learning.documents import Document
from continual_learning.memory.state import DocumentRecord, State
from continual_learning.model.base_model import BaseModel, Message
from continual_learning.reading.in_prompt import Excerpt, ReadingConfig, read_answers
from continual_learning.reading.plain import plain_answers
from continual_learning.strategies.base import Cost, Strategy, plain_report
from continual_learning.types import Answer, LearnReport, ProgressCallback, QuestionAnswer, Source, TokenCallback


class InContextConfig(ReadingConfig):
    """Settings of the in_context strategy: how the documents precede the question."""


class InContext(Strategy[InContextConfig]):
    """Keeps the texts and puts them before the question; if not all fit, the newest take precedence."""

    summary = "the documents in the prompt; no learning, bounded by the window"
    Config = InContextConfig
    role = "baseline"
    cost = Cost(answer=1.25)

    def learn(
        self,
        base: BaseModel,
        state: State,
        document: Document,
        qa: Sequence[QuestionAnswer] = (),
        progress: ProgressCallback | None = None,
    ) -> tuple[State, LearnReport]:
        """Keep the text."""
        tokens = len(base.encode(document.text))
        record = DocumentRecord.of(document, tokens)
        texts = {**state.meta.extra.get("texts", {}), document.id: document.text}
        meta = replace(
            state.meta, documents=(*state.meta.documents, record), extra={**state.meta.extra, "texts": texts}
        )
        size = len(document.text.encode())
        return State(state.tensors, meta), plain_report(document, True, "the text is kept", tokens, size)

    def answer(
        self,
        base: BaseModel,
        state: State,
        questions: Sequence[str],
        max_new_tokens: int = 64,
        on_token: TokenCallback | None = None,
        history: Sequence[Message] = (),
    ) -> list[Answer]:
        """Answer with as much of the documents as fits into the prompt; a note says what was cut."""
        excerpts = _excerpts(state)
        if not excerpts:
            return plain_answers(base, questions, max_new_tokens, on_token, history)
        sources = tuple(Source(d.id, d.title, 1.0) for d in state.meta.documents)
        every, same = [excerpts] * len(questions), [sources] * len(questions)
        return read_answers(base, self.config, every, questions, max_new_tokens, on_token, history, same)

    def context(self, base: BaseModel, state: State, text: str) -> str:
        """All documents, newest last."""
        return "\n\n".join(map(str, _excerpts(state)))

    def forget(self, base: BaseModel, state: State, document_id: str) -> State:
        """Drop the text."""
        left = super().forget(base, state, document_id)
        texts = {k: v for k, v in left.meta.extra["texts"].items() if k != document_id}
        return State(left.tensors, replace(left.meta, extra={**left.meta.extra, "texts": texts}))


def _excerpts(state: State) -> list[Excerpt]:
    texts = state.meta.extra.get("texts", {})
    return [Excerpt(texts[d.id], d.title) for d in state.meta.documents]
