"""Doc-to-LoRA: a hypernetwork reads a document and writes a LoRA adapter, in one pass and without training.

    h = activations of the frozen base on a chunk of the document
    (A, B) = hypernetwork(h)      W' = W + multiplier * sum over chunks and documents of B^T A

Charakorn et al. 2026, arXiv 2602.15902; see `continual_learning.doc2lora`. Each document keeps matrices of its own,
which add up, so that forgetting is deleting. In mode text the document is the description of a task
(Text-to-LoRA, arXiv 2506.06105), and a result comes with controls. Mode simulated is there to try the steps with
random weights: it runs when it is asked for, and every report and answer says so.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from pydantic import Field
from torch import Tensor

from continual_learning.answering import plain_answers
from continual_learning.base import BaseModel, Message
from continual_learning.doc2lora.adapter import Adapter, adapter_bytes, installed, merged
from continual_learning.doc2lora.controls import Control, controlled, description_controls
from continual_learning.doc2lora.generators import (
    SIMULATED,
    AdapterGenerator,
    Internalised,
    Mode,
    make_generator,
    missing,
)
from continual_learning.documents import Document
from continual_learning.nn.generated_lora import LowRank
from continual_learning.retention import Limits, check
from continual_learning.state import DocumentRecord, State
from continual_learning.strategy import (
    ALREADY_HELD,
    Answer,
    LearnReport,
    Progress,
    ProgressCallback,
    QuestionAnswer,
    Source,
    Strategy,
    StrategyConfig,
    TokenCallback,
    plain_report,
)


class Doc2LoRAConfig(StrategyConfig):
    """Settings of the doc2lora strategy."""

    mode: Mode = "doc"
    """doc: documents; text: descriptions of tasks; simulated: random weights, to see the steps and nothing more."""
    hypernetwork: str | None = None
    """File, folder or hub name of the hypernetwork; none: the one that ships for the base, or its published one."""
    chunk_tokens: int = Field(1024, ge=1)
    """The most tokens of a document that are read at a time; longer ones are cut into equal chunks."""
    seed: int = 0
    """Of the random weights of mode simulated, and of the random description that mode text is compared with."""
    control: Control = "none"
    """Learn something else in the text's place, to compare with: random words, or the description of another task."""
    guard: bool = True
    """Check after learning, and keep the previous memory if a limit is passed."""
    min_recall_gain: float = 0.0
    """Recall of the questions given with a document must rise by more than this."""
    max_perplexity_rise: float = 0.03
    """Largest relative rise of the perplexity of unrelated text."""
    min_general_kept: float = Field(0.95, ge=0, le=1)
    """Smallest share of general questions that must stay right."""


class Doc2LoRA(Strategy[Doc2LoRAConfig]):
    """Keeps one adapter a document; all of them are in place for every question."""

    summary = "a hypernetwork writes documents into LoRA adapters in one pass (Doc-to-LoRA)"
    Config = Doc2LoRAConfig

    def learn(
        self,
        base: BaseModel,
        state: State,
        document: Document,
        qa: Sequence[QuestionAnswer] = (),
        progress: ProgressCallback | None = None,
    ) -> tuple[State, LearnReport]:
        """Internalise the document, check what came of it, and keep it or not.

        Without a hypernetwork for this base the document is refused. Raises ModelNotFoundError, ModelError and
        MismatchError for one that is set and cannot be fetched, read or used with this base.
        """
        started = time.perf_counter()
        config = self.config
        if state.meta.document(document.id):
            return state, plain_report(document, started, False, ALREADY_HELD)
        if reason := missing(base.name, config.mode, config.hypernetwork):
            return state, plain_report(document, started, False, reason)
        generator = make_generator(base, config.mode, config.hypernetwork, config.chunk_tokens, config.seed)

        def on_chunk(done: int, total: int) -> None:
            if progress:
                progress(Progress("internalise", done, total, f"chunk {done}/{total}"))

        text = f"{document.title}\n{document.text}" if document.title and config.mode != "text" else document.text
        made = generator.internalise(base, controlled(base, text, config.control, config.seed), on_chunk)
        warnings, details = self._findings(base, generator, document, made, qa)
        report = LearnReport(
            accepted=True,
            reason="learned; not checked, since guard is off",
            document_id=document.id,
            title=document.title,
            tokens=len(base.encode(document.text)),
            seconds=time.perf_counter() - started,
            bytes=adapter_bytes(made.adapter),
            timings={"internalise": time.perf_counter() - started},
            warnings=warnings,
        )
        candidate = _with_document(state, document, made.adapter, report.tokens, details)
        if config.guard:
            report = self._guarded(base, state, candidate, report, qa, progress)
        if config.mode == "simulated":
            report = replace(report, reason=f"{SIMULATED}; {report.reason}")
        report = replace(report, seconds=time.perf_counter() - started)
        return (candidate if report.accepted else state), report

    def answer(
        self,
        base: BaseModel,
        state: State,
        questions: Sequence[str],
        max_new_tokens: int = 64,
        on_token: TokenCallback | None = None,
        history: Sequence[Message] = (),
    ) -> list[Answer]:
        """Answers with all documents' adapters in place; the sources are all of them."""
        with installed(base, state_adapter(state)):
            answers = plain_answers(base, questions, max_new_tokens, on_token, history)
        sources = tuple(Source(d.id, d.title, 1.0) for d in state.meta.documents)
        notes = (SIMULATED,) if _simulated(state) else ()
        return [replace(a, sources=sources, notes=(*a.notes, *notes)) for a in answers]

    @contextmanager
    def adapted(self, base: BaseModel, state: State, text: str) -> Iterator[None]:
        """The base with all documents' adapters in place."""
        with installed(base, state_adapter(state)):
            yield

    def describe(self, base: BaseModel, state: State) -> dict[str, Any]:
        """Mode, hypernetwork and the size of what is learned. Loads nothing."""
        adapter = state_adapter(state)
        ranks = [low_rank.rank for low_rank in adapter.values()]
        return {
            "modified_blocks": sorted({block for block, _ in adapter}),
            "mode": self.config.mode,
            "hypernetwork": self.config.hypernetwork,
            "missing": missing(base.name, self.config.mode, self.config.hypernetwork),
            "simulated": _simulated(state) or self.config.mode == "simulated",
            "rank": max(ranks, default=0),
            "adapted_matrices": len(ranks),
        }

    def _findings(
        self,
        base: BaseModel,
        generator: AdapterGenerator,
        document: Document,
        made: Internalised,
        qa: Sequence[QuestionAnswer],
    ) -> tuple[tuple[str, ...], dict[str, Any]]:
        """Warnings, and what the memory remembers of the document."""
        details: dict[str, Any] = {
            "mode": self.config.mode,
            "hypernetwork": self.config.hypernetwork,
            "chunks": made.chunks,
            "rank": max(low_rank.rank for low_rank in made.adapter.values()),
        }
        if self.config.control != "none":
            note = f"control: {self.config.control} words were learned in the place of the text"
            return (*made.warnings, note), {**details, "control": self.config.control}
        if self.config.mode != "text":
            return made.warnings, details
        if not qa:
            unknown = "no questions were given: whether the description matters more than random words is not known"
            return (*made.warnings, unknown), details
        controls = description_controls(base, generator, document.text, qa, self.config.seed)
        return (*made.warnings, controls.summary()), {**details, "controls": controls.to_json()}

    def _guarded(
        self,
        base: BaseModel,
        before: State,
        after: State,
        report: LearnReport,
        qa: Sequence[QuestionAnswer],
        progress: ProgressCallback | None,
    ) -> LearnReport:
        """The report with what the check found, and its verdict."""
        if progress:
            progress(Progress("check", 0, 1, "what the model knew before"))
        config = self.config
        limits = Limits(config.min_recall_gain, config.max_perplexity_rise, config.min_general_kept)
        return check(base, self, before, after, report, qa, limits)


def state_adapter(state: State) -> Adapter:
    """The sum of all documents' adapters in a state, in the order in which they were learned."""
    parts = state.parts
    return merged([_adapter(parts[document.id]) for document in state.meta.documents])


def _adapter(tensors: dict[str, Tensor]) -> Adapter:
    adapter: Adapter = {}
    for name, A_RI in tensors.items():
        place, _, half = name.rpartition(".")
        if half == "A":
            block, _, module = place.partition(".")
            adapter[int(block), module] = LowRank(A_RI, tensors[f"{place}.B"])
    return adapter


def _with_document(state: State, document: Document, adapter: Adapter, tokens: int, details: dict[str, Any]) -> State:
    record = DocumentRecord.of(document, tokens, details)
    new: dict[str, Tensor] = {}
    for (block, module), (A_RI, B_RO) in adapter.items():
        new[f"{document.id}/{block:03d}.{module}.A"] = A_RI.detach().cpu().contiguous()
        new[f"{document.id}/{block:03d}.{module}.B"] = B_RO.detach().cpu().contiguous()
    return state.with_documents((*state.meta.documents, record), {**state.tensors, **new})


def _simulated(state: State) -> bool:
    return any(d.details.get("mode") == "simulated" for d in state.meta.documents)
