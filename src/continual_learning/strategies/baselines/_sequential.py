"""Baselines that train one set of weights on document after document, each continuing where the last one ended.

The weights depend on all documents and their order. So the texts are kept, and forgetting a document means learning
all other documents again, which is exact but slow.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

from torch import Tensor

from continual_learning.documents import Document
from continual_learning.memory.state import DocumentRecord, State
from continual_learning.model.base_model import BaseModel, Message
from continual_learning.reading.plain import plain_answers
from continual_learning.strategies.baselines._finetuning import ConfigT, FinetuningStrategy, trained_answers
from continual_learning.types import Answer, TokenCallback

_PART = "weights/"


class SequentialFinetuning(FinetuningStrategy[ConfigT]):
    """One set of weights for all documents; every question is answered with it."""

    def start(self, state: State) -> Mapping[str, Tensor]:
        """The weights that the earlier documents left."""
        return {name.removeprefix(_PART): tensor for name, tensor in state.tensors.items()}

    def with_document(
        self,
        base: BaseModel,
        state: State,
        document: Document,
        text: str,
        kept: Mapping[str, Tensor],
        record: DocumentRecord,
    ) -> State:
        """The new weights replace the old; the whole text is kept so that it can be learned again."""
        texts = {**kept_texts(state), document.id: document.text}
        meta = replace(
            state.meta, documents=(*state.meta.documents, record), extra={**state.meta.extra, "texts": texts}
        )
        return State({_PART + name: tensor for name, tensor in kept.items()}, meta)

    def answer(
        self,
        base: BaseModel,
        state: State,
        questions: Sequence[str],
        max_new_tokens: int = 64,
        on_token: TokenCallback | None = None,
        history: Sequence[Message] = (),
    ) -> list[Answer]:
        """Answer every question with the trained weights, or with the base's own until something is learned."""
        if not state.meta.documents:
            return plain_answers(base, questions, max_new_tokens, on_token, history)
        with self.adapted(base, state):
            return trained_answers(base, questions, max_new_tokens, on_token, history)

    @contextmanager
    def adapted(self, base: BaseModel, state: State, text: str = "") -> Iterator[None]:
        """The base with the trained weights, whatever the text is."""
        if not state.meta.documents:
            yield
            return
        self.check_settings(state)
        with self.trainable.installed(base, self.start(state), ""):
            yield

    def forget(self, base: BaseModel, state: State, document_id: str) -> State:
        """Learn the other documents again from their texts, in order. Exact, unless ``max_seconds`` ends it."""
        left = super().forget(base, state, document_id).meta.documents
        texts = kept_texts(state)
        again = type(self)(self.config.model_copy(update={"guard": False}))
        extra = {name: value for name, value in state.meta.extra.items() if name != "texts"}
        new = State({}, replace(state.meta, documents=(), extra=extra))
        for record in left:
            new, _ = again.learn(base, new, Document(texts[record.id], record.title, record.source))
        dated = [replace(n, learned_at=o.learned_at) for n, o in zip(new.meta.documents, left, strict=True)]
        return new.with_documents(tuple(dated), new.tensors)


def kept_texts(state: State) -> dict[str, str]:
    """The texts of a memory's documents, by id."""
    texts: dict[str, str] = state.meta.extra.get("texts", {})
    return texts
