"""The documents in the prompt, again at every question: no learning, and the window is the limit."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from continual_learning.answering import generate_answers, user
from continual_learning.base import BaseModel, Message
from continual_learning.documents import Document
from continual_learning.errors import InputError
from continual_learning.state import DocumentRecord, State
from continual_learning.strategy import (
    Answer,
    LearnReport,
    ProgressCallback,
    QuestionAnswer,
    Source,
    Strategy,
    StrategyConfig,
    TokenCallback,
)


class InContextConfig(StrategyConfig):
    """Settings of the in_context strategy."""

    prompt: str = "{documents}\n\n{question}"
    """The user's turn; ``{documents}`` and ``{question}`` are filled in."""


class InContext(Strategy[InContextConfig]):
    """Keeps the texts and puts them before the question, the newest first to be kept when they do not fit."""

    summary = "the documents in the prompt; no learning, bounded by the window"
    Config = InContextConfig

    def learn(
        self,
        base: BaseModel,
        state: State,
        document: Document,
        qa: Sequence[QuestionAnswer] = (),
        progress: ProgressCallback | None = None,
    ) -> tuple[State, LearnReport]:
        """Keep the text."""
        started = time.perf_counter()
        tokens = len(base.encode(document.text))
        if state.meta.document(document.id):
            return state, _report(document, tokens, started, False, "this memory holds the document already", 0)
        record = DocumentRecord(
            document.id,
            document.title,
            document.source,
            document.sha256,
            tokens,
            datetime.now(UTC).isoformat(timespec="seconds"),
        )
        texts = {**state.meta.extra.get("texts", {}), document.id: document.text}
        meta = replace(
            state.meta, documents=(*state.meta.documents, record), extra={**state.meta.extra, "texts": texts}
        )
        size = len(document.text.encode())
        return State(state.tensors, meta), _report(document, tokens, started, True, "the text is kept", size)

    def answer(
        self,
        base: BaseModel,
        state: State,
        questions: Sequence[str],
        max_new_tokens: int = 64,
        on_token: TokenCallback | None = None,
        history: Sequence[Message] = (),
    ) -> list[Answer]:
        """Answers with as much of the documents as fits in the prompt; a note says what was cut."""
        prompts, notes = [], []
        for question in questions:
            prompt, note = self._prompt(base, state, question, max_new_tokens, history)
            prompts.append(prompt)
            notes.append(note)
        sources = tuple(Source(d.id, d.title, 1.0) for d in state.meta.documents)
        return generate_answers(base, questions, prompts, max_new_tokens, on_token, notes, [sources for _ in questions])

    def context(self, base: BaseModel, state: State, text: str) -> str:
        """All documents, newest last."""
        return _joined(state)

    def forget(self, base: BaseModel, state: State, document_id: str) -> State:
        """Drop the text."""
        left = super().forget(base, state, document_id)
        texts = {k: v for k, v in left.meta.extra["texts"].items() if k != document_id}
        return State(left.tensors, replace(left.meta, extra={**left.meta.extra, "texts": texts}))

    def _prompt(
        self, base: BaseModel, state: State, question: str, max_new_tokens: int, history: Sequence[Message]
    ) -> tuple[list[int], tuple[str, ...]]:
        def built(documents: str) -> list[int]:
            content = self.config.prompt.format(documents=documents, question=question) if documents else question
            return base.chat_ids([*history, user(content)])

        documents = _joined(state)
        ids = built(documents)
        room = base.window - max_new_tokens
        if len(ids) <= room:
            return ids, ()
        document_ids = base.encode(documents)
        if len(built("")) > room:
            raise InputError(
                f"the question and its conversation take {len(built(''))} tokens; expected at most {room}, the window "
                f"of {base.window} less {max_new_tokens} for the answer; shorten the question or clear the history"
            )
        # The newest text stands last and is kept. Re-encoding a decoded tail may change its length, so look again.
        kept = max(0, len(document_ids) - (len(ids) - room))
        while len(ids := built(base.decode(document_ids[len(document_ids) - kept :]) if kept else "")) > room:
            kept = max(0, kept - (len(ids) - room))
        total = len(document_ids)
        return ids, (f"only the last {kept} of {total} tokens of the documents fit into the window",)


def _joined(state: State) -> str:
    texts = state.meta.extra.get("texts", {})
    parts = [f"{d.title}\n{texts[d.id]}" if d.title else texts[d.id] for d in state.meta.documents]
    return "\n\n".join(parts)


def _report(document: Document, tokens: int, started: float, accepted: bool, reason: str, size: int) -> LearnReport:
    return LearnReport(
        accepted=accepted,
        reason=reason,
        document_id=document.id,
        title=document.title,
        tokens=tokens if accepted else 0,
        seconds=time.perf_counter() - started,
        bytes=size,
    )
