"""One LoRA adapter for each document, and a router that opens the adapter a question is about.

Documents are independent of one another, a question about none of them gets the base's own answer, and forgetting
means deleting. Hu et al. 2021 (arXiv 2106.09685) by PEFT; the router is `routing`.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import ClassVar

from pydantic import Field
from torch import Tensor

from continual_learning.documents import Document
from continual_learning.memory.state import DocumentRecord, State
from continual_learning.model.base_model import BaseModel, Message
from continual_learning.reading.plain import plain_answers
from continual_learning.retrieval.routing import (
    ROUTE_EVIDENCE,
    ROUTE_THRESHOLD,
    Passage,
    Router,
    answer_by_route,
    default_rarity,
    key_tensors,
    passage_keys,
    routed_sources,
)
from continual_learning.strategies.base import Cost
from continual_learning.strategies.baselines._finetuning import (
    PASSAGE_TOKENS,
    AdapterConfig,
    FinetuningStrategy,
    trained_answers,
)
from continual_learning.strategies.baselines._lora import LoRA
from continual_learning.text.chunking import passages
from continual_learning.types import UNAFFECTED, Answer, TokenCallback


class LoRAPerDocumentConfig(AdapterConfig):
    """Settings of the lora_per_document strategy.

    Learning rate, questions and passes were chosen by benchmarks/lab/tune_baselines.py; the rest was not tuned.
    """

    learning_rate: float = Field(5e-3, ge=0)
    """AdamW's peak learning rate; it rises during the warm-up and then falls to a tenth. It is for weights as large as
    SmolLM2-135M's: where a base's are smaller, the rate is smaller in proportion."""

    RETIRED: ClassVar[Mapping[str, object]] = {
        **AdapterConfig.RETIRED,
        "route_threshold": ROUTE_THRESHOLD,
        "route_evidence": ROUTE_EVIDENCE,
    }


class LoRAPerDocument(FinetuningStrategy[LoRAPerDocumentConfig]):
    """One adapter for each document, in fp16, opened by the words of a question."""

    summary = "a LoRA adapter (PEFT) for each document, opened by a router"
    Config = LoRAPerDocumentConfig
    role = "baseline"
    cost = Cost(
        learn_token=0.35,
        document_bytes=9.8e6,
        keeps_text=False,
        f1={"smollm2-135m": 0.058},
    )
    fixed = ("rank", "alpha")

    def __init__(self, config: LoRAPerDocumentConfig):
        super().__init__(config)
        self._router = Router(default_rarity())

    @property
    def trainable(self) -> LoRA:
        """The adapter."""
        return LoRA(self.config.rank, self.config.alpha)

    def start(self, state: State) -> Mapping[str, Tensor]:
        """Empty: every document starts from the base."""
        return {}

    def with_document(
        self,
        base: BaseModel,
        state: State,
        document: Document,
        text: str,
        kept: Mapping[str, Tensor],
        record: DocumentRecord,
    ) -> State:
        """Add the adapter, and a key for each passage of the document by which questions find it."""
        parts = passages(text, lambda t: len(base.encode(t)), PASSAGE_TOKENS)
        own = {f"{document.id}/{name}": tensor for name, tensor in kept.items()}
        tensors = {**state.tensors, **own, **key_tensors(document.id, document.title, parts)}
        return state.with_documents((*state.meta.documents, record), tensors)

    def answer(
        self,
        base: BaseModel,
        state: State,
        questions: Sequence[str],
        max_new_tokens: int = 64,
        on_token: TokenCallback | None = None,
        history: Sequence[Message] = (),
    ) -> list[Answer]:
        """Answer each question with the adapter of the document it is about, or with the base."""
        routes = [self._route(state, question, history) for question in questions]

        def answered(document_id: str | None, asked: list[str]) -> list[Answer]:
            if document_id is None:
                return plain_answers(base, asked, max_new_tokens, on_token, history)
            with self._opened(base, state, document_id):
                return trained_answers(base, asked, max_new_tokens, on_token, history)

        answers = answer_by_route(questions, [route and route[0][0] for route in routes], answered)
        return [
            replace(answer, sources=routed_sources(state, [route])) if route else answer
            for answer, route in zip(answers, routes, strict=True)
        ]

    @contextmanager
    def adapted(self, base: BaseModel, state: State, text: str) -> Iterator[None]:
        """The base with the adapter that ``text`` opens, if there is one."""
        route = self._route(state, text)
        if route is None:
            yield
            return
        with self._opened(base, state, route[0][0]):
            yield

    def affects(self, base: BaseModel, state: State, text: str) -> bool:
        """Whether ``text`` opens an adapter."""
        return self._route(state, text) is not None

    def answer_key(self, base: BaseModel, state: State, question: str) -> Hashable | None:
        """The document whose adapter the question opens; the adapter never changes."""
        route = self._route(state, question)
        return UNAFFECTED if route is None else route[0][0]

    def _route(self, state: State, text: str, history: Sequence[Message] = ()) -> tuple[Passage, float] | None:
        return self._router.route(passage_keys(state), text, history)

    @contextmanager
    def _opened(self, base: BaseModel, state: State, document_id: str) -> Iterator[None]:
        self.check_settings(state)
        prefix = f"{document_id}/"
        names = [name for name in state.tensors if name.startswith(prefix)]
        kept = {name.removeprefix(prefix): state.tensors[name] for name in names}
        with self.trainable.installed(base, kept, ""):
            yield
