"""TTT-E2E: a document is written into trainable MLP neurons by gradient descent at test time.

The last block gets a Dual MLP (`dual_mlp`): the frozen MLP plus a branch that learns, after End-to-End Test-Time
Training (arXiv 2512.23675), where the last quarter of the blocks get one: to recite, one is enough (benchmarks/LOG.md).
A branch holds a few neurons, of which the output weights learn, after Sparse Memory Finetuning (arXiv 2510.15103):
those that TF-IDF ranks first for the passage (`neuron_gate`) or, where a start was meta-learned for the base, the
start's. Each passage has its own branches, and a question opens those of the passage that it is about (`routing`). So
passages do not overwrite one another, anything else is answered by the untouched base, and forgetting a document means
deleting its branches.

    config.py       the settings
    calibration.py  how often ordinary text uses each neuron
    inner_loop.py   gradient descent on the branches, with the frozen prefix computed once
    learning.py     passages from text to weights
    documents.py    documents cut into passages, which are learned several at a time
    start.py        meta-learned initial branches, if there are any
    memory.py       layout of learned passages in a state
    cues.py         the token ids after which a part is recited
    recite.py       a passage recited from weights: the recall step of answering (`reading.pipeline`)
    recitations.py  cached recitations
    unfinished.py   passages of a long document whose learning was interrupted

The training examples are the passage's parts (`retrieval.parts`); the loop is that of `gradient_descent`.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from continual_learning.documents import Document
from continual_learning.documents.shipped import background_texts
from continual_learning.errors import ConfigError
from continual_learning.io.paths import data_home
from continual_learning.memory.state import State
from continual_learning.model.base_model import BaseModel, Message
from continual_learning.model.families import mlp_parts
from continual_learning.model.quantised import parameter_count
from continual_learning.reading.answering import chosen_reader
from continual_learning.reading.pipeline import Opened, Pipeline
from continual_learning.reading.wholes.library import Library
from continual_learning.retrieval.routing import Router, default_rarity, passage_keys
from continual_learning.strategies.base import ALREADY_HELD, Cost, Workload, plain_report
from continual_learning.strategies.gate import Limits, check_all
from continual_learning.strategies.methods.ttt.calibration import Calibration, calibrate, calibration_file
from continual_learning.strategies.methods.ttt.config import TTTConfig
from continual_learning.strategies.methods.ttt.documents import Cut, Todo, learn_all
from continual_learning.strategies.methods.ttt.dual_mlp import branch_from_deltas, dual_mlps
from continual_learning.strategies.methods.ttt.learning import LearnedPassage, Lesson, blocks_with_branches
from continual_learning.strategies.methods.ttt.memory import (
    passage_deltas,
    passage_tensors,
    with_document,
    without_texts,
)
from continual_learning.strategies.methods.ttt.recite import Recitation
from continual_learning.strategies.methods.ttt.start import chosen_start
from continual_learning.strategies.methods.ttt.unfinished import Unfinished
from continual_learning.strategies.methods.ttt.weak_settings import weak_settings
from continual_learning.strategies.reading import ReadingStrategy
from continual_learning.text.lines import LINES, line_lengths
from continual_learning.training.stopwatch import Stopwatch
from continual_learning.types import (
    UNAFFECTED,
    Answer,
    LearnReport,
    Progress,
    ProgressCallback,
    QuestionAnswer,
    TokenCallback,
)

# If a document has more passages than this, each is saved as it is learned: an interruption would cost minutes.
_SHORT = 8


class TTT(ReadingStrategy[TTTConfig]):
    """Learns by gradient descent on a few trainable neurons added to the frozen ones."""

    summary = "writes documents into trainable neurons alongside the frozen ones (TTT-E2E)"
    Config = TTTConfig
    cost = Cost(
        learn_token=0.025,
        answer=1.1,
        token_bytes=400,
        keeps_text=False,
        prompt_tokens=200,
        f1={"smollm2-135m": 0.587, "gemma3-270m": 0.616},
    )

    def __init__(self, config: TTTConfig):
        super().__init__(config)
        self._background = background_texts()
        router = Router(default_rarity(), config.route_threshold, config.route_evidence)
        self._pipeline = Pipeline(router, config, Recitation(_patched))

    @property
    def keeps_text(self) -> bool:
        """Whether forgetting needs the texts, to learn later documents again."""
        return self.config.alpha_varies

    @property
    def documents_together(self) -> int:
        """Number of documents that are learned together; 1 if alpha depends on which documents were kept before."""
        return 1 if self.config.alpha_varies else self.config.passages_together

    @property
    def token_limit(self) -> int | None:
        """Maximum tokens of a document that are learned."""
        return self.config.max_tokens

    def workload(self, base: BaseModel, state: State, documents: Sequence[Document]) -> Workload:
        """Passages to learn, and which of them an interrupted call left."""
        passages = Todo.of(base, state, documents, self.config).passages
        unfinished = self._unfinished(base, len(passages))
        kept = sum(map(unfinished.has, passages)) if unfinished else 0
        return replace(super().workload(base, state, documents), passages=len(passages), passages_kept=kept)

    def learn(
        self,
        base: BaseModel,
        state: State,
        document: Document,
        qa: Sequence[QuestionAnswer] = (),
        progress: ProgressCallback | None = None,
    ) -> tuple[State, LearnReport]:
        """Write the document into branches of its own, check the result, and keep it or reject it.

        ``qa`` is used in the check and never trained on.
        """
        [result] = self._learn(base, state, [document], qa, progress)
        return result

    def learn_together(
        self, base: BaseModel, state: State, documents: Sequence[Document], progress: ProgressCallback | None = None
    ) -> list[tuple[State, LearnReport]]:
        """As `learn`, for several: their passages go through the frozen blocks together.

        Then they are checked together, or each on its own if that finds harm, and kept or not one by one.
        """
        return self._learn(base, state, documents, (), progress)

    def _learn(
        self,
        base: BaseModel,
        state: State,
        documents: Sequence[Document],
        qa: Sequence[QuestionAnswer],
        progress: ProgressCallback | None,
    ) -> list[tuple[State, LearnReport]]:
        started = time.perf_counter()
        watch = Stopwatch()
        todo = Todo.of(base, state, documents, self.config)
        unfinished = self._unfinished(base, len(todo.passages))
        with watch("calibrate"):
            calibration = self._calibration(base, progress) if todo.passages else None
        lesson = Lesson(base, self.config, calibration, self._pipeline.router.rarity, watch)
        learned = learn_all(lesson, todo, unfinished, progress)
        seconds = time.perf_counter() - started
        new: list[_Learned] = []
        for document in documents:
            if (cut := todo.texts.pop(document.id, None)) is not None:
                own, learned = learned[: len(cut.parts)], learned[len(cut.parts) :]
                share = len(own) / len(todo.passages)
                timings = {name: share * s for name, s in watch.seconds.items()}
                new.append(_Learned(document, cut, own, share * seconds, timings))
        checked = self._checked(base, state, new, qa, progress)
        by_id = {one.document.id: result for one, result in zip(new, checked, strict=True)}
        results: list[tuple[State, LearnReport]] = []
        for document in documents:
            state, report = by_id.pop(document.id, (state, plain_report(document, False, ALREADY_HELD)))
            results.append((state, report))
        if unfinished:
            unfinished.drop(todo.passages)
        return results

    def _checked(
        self,
        base: BaseModel,
        state: State,
        new: Sequence[_Learned],
        qa: Sequence[QuestionAnswer],
        progress: ProgressCallback | None,
    ) -> list[tuple[State, LearnReport]]:
        """For each document that was learned the state after it, and its report with a verdict."""
        additions = [partial(self._candidate, one=one) for one in new]
        if self.config.guard and new:
            if progress:
                progress(Progress("check", 0, 1, "what the model knew before"))
            limits = Limits(self.config.min_recall_gain, self.config.max_perplexity_rise, self.config.min_general_kept)
            return check_all(base, self, state, additions, qa, limits)
        results = []
        for add in additions:
            state, report = add(state)
            results.append((state, report))
        return results

    def _unfinished(self, base: BaseModel, passages: int) -> Unfinished | None:
        # The next call must not take for learned what a time limit cut short.
        if self.config.max_seconds is not None or passages <= max(self.config.passages_together, _SHORT):
            return None
        return Unfinished(data_home() / "unfinished", base, self.config, self._background)

    def _candidate(self, state: State, one: _Learned) -> tuple[State, LearnReport]:
        """Return the state with the document, before it is checked, and the report."""
        document, cut, learned = one.document, one.cut, one.learned
        details = {
            "passages": len(learned),
            "alpha": cut.alpha,
            "loss": learned[-1].loss,
            "parts": sum(len(passage.parts) for passage in learned),
            "parts_recited": sum(passage.recited for passage in learned),
            LINES: line_lengths(document.text),
        }
        new = passage_tensors(document, cut.parts, learned)
        candidate = with_document(state, document, new, cut.tokens, details, keep_text=self.config.alpha_varies)
        size = sum(t.numel() * t.element_size() for t in new.values())
        report = self._report(document, learned, cut.tokens, cut.left_out, size)
        warnings = (*weak_settings(self.config), *report.warnings)
        return candidate, replace(report, seconds=one.seconds, warnings=warnings, timings=one.timings)

    def answer_spans(
        self,
        base: BaseModel,
        state: State,
        questions: Sequence[str],
        max_new_tokens: int,
        on_token: TokenCallback | None = None,
        history: Sequence[Message] = (),
    ) -> list[Answer]:
        """Answer each question from what the branches of its passage recite, if it is about one."""
        return self._pipeline.answer(base, state, questions, max_new_tokens, on_token, history)

    @contextmanager
    def adapted(self, base: BaseModel, state: State, text: str) -> Iterator[None]:
        """The base with the branches that ``text`` opens."""
        route = self._pipeline.route(state, text)
        with _patched(Opened(base, state, route[0])) if route else nullcontext():
            yield

    def library(self, base: BaseModel, state: State) -> Library | None:
        """The texts as the branches recite them."""
        return self._pipeline.library(base, state)

    def finds(self, base: BaseModel, state: State, text: str) -> bool:
        """Whether ``text`` opens a branch."""
        return self._pipeline.found(base, state, text) is not None

    def span_key(self, base: BaseModel, state: State, question: str) -> Hashable | None:
        """The passage that the question opens, with its alpha: its branches never change."""
        found = self._pipeline.found(base, state, question)
        if found is None:
            return UNAFFECTED
        return (*found.passage, found.doubtful, Opened(base, state, found.passage).record.details["alpha"])

    def forget(self, base: BaseModel, state: State, document_id: str) -> State:
        """Delete the document's branches.

        If alpha depends on how many documents came before, the later ones are learned again from
        their texts, which such a memory keeps for this.
        """
        left = super().forget(base, state, document_id)
        if not self.config.alpha_varies:
            return left
        ids = [d.id for d in state.meta.documents]
        later = state.meta.documents[ids.index(document_id) + 1 :]
        for record in later:
            left = super().forget(base, left, record.id)
        texts = {d.id: state.meta.extra["texts"][d.id] for d in later}
        left = State(left.tensors, replace(left.meta, extra=without_texts(left, [document_id, *texts])))
        for record in later:
            document = Document(texts[record.id], record.title, record.source)
            left, _ = TTT(self.config.model_copy(update={"guard": False})).learn(base, left, document)
        kept = {d.id: d for d in later}
        records = tuple(kept.get(d.id, d) for d in left.meta.documents)
        return State(left.tensors, replace(left.meta, documents=records))

    def describe(self, base: BaseModel, state: State) -> dict[str, Any]:
        """Blocks, alpha and parameters, for `info`."""
        start = chosen_start(self.config, base)
        blocks = start.blocks if start else self._blocks(base)
        parts = mlp_parts(base.mlp(blocks.start))
        neurons = min(self.config.neurons or parts.intermediate_size, parts.intermediate_size)
        if start:
            neurons = len(start.deltas[blocks.start]["neurons"])
        trainable = len(blocks) * neurons * parts.hidden_size
        return {
            "blocks": base.block_count,
            "dual_mlp_blocks": list(blocks),
            "modified_blocks": list(blocks),
            "neurons_per_block": neurons,
            "parameters": parameter_count(base.model),
            "trainable_parameters": trainable,
            "trainable_parameters_per_passage": trainable,
            "start": self.config.start if start else None,
            "reader": self.config.reader if chosen_reader(base, self.config) else None,
            "alpha": self.config.alpha(max(1, len(state.meta.documents))),
            "passages": len(passage_keys(state)),
            "gates_calibrated": self._calibrated(base),
        }

    # -- learning --------------------------------------------------------------------------------

    def _blocks(self, base: BaseModel) -> range:
        try:
            return blocks_with_branches(base, self.config)
        except ValueError as error:
            raise ConfigError(f"strategy 'ttt': {error}") from None

    def _calibration(self, base: BaseModel, progress: ProgressCallback | None) -> Calibration | None:
        if not self._calibrates(base):
            return None
        blocks = self._blocks(base)

        def report(done: int, total: int) -> None:
            if progress:
                progress(Progress("calibrate", done, total, "counting how often ordinary text uses each neuron"))

        folder = data_home() / "calibration"
        background = self._background[: self.config.calibration_samples]
        return calibrate(base, background, blocks, folder, report)

    def _calibrates(self, base: BaseModel) -> bool:
        by_rarity = self.config.selection == "tfidf" and self.config.neurons is not None
        return by_rarity and chosen_start(self.config, base) is None

    def _calibrated(self, base: BaseModel) -> bool | None:
        """Whether the neuron gates' frequencies have been counted; None if the gates need none."""
        if not self._calibrates(base):
            return None
        return calibration_file(base, self._background, self._blocks(base), data_home() / "calibration").exists()

    def _report(
        self,
        document: Document,
        learned: Sequence[LearnedPassage],
        tokens: int,
        left_out: int,
        size: int,
    ) -> LearnReport:
        probe_tokens = sum(p.probe_tokens for p in learned)
        warnings = []
        if left_out:
            warnings.append(
                f"the last {left_out} of {tokens + left_out} tokens were left out; raise max_tokens "
                f"(now {self.config.max_tokens}) or set it to null to learn them"
            )
        if any(p.late for p in learned):
            warnings.append(f"max_seconds ended learning after {sum(p.steps for p in learned)} steps")
        parts, recited = sum(len(p.parts) for p in learned), sum(p.recited for p in learned)
        if recited < parts:
            warnings.append(f"{parts - recited} of {parts} parts are not recited word for word; more passes may help")
        losses = [p.loss for p in learned]
        return LearnReport(
            accepted=True,
            reason="learned; not checked, since guard is off",
            document_id=document.id,
            title=document.title,
            tokens=tokens,
            seconds=0.0,
            bytes=size,
            tokens_left_out=left_out,
            recall_before=sum(p.right_before for p in learned) / probe_tokens if probe_tokens else None,
            recall_after=sum(p.right_after for p in learned) / probe_tokens if probe_tokens else None,
            loss=sum(losses) / len(losses),
            warnings=tuple(warnings),
        )


@dataclass(frozen=True)
class _Learned:
    """A document that was learned, and not yet checked."""

    document: Document
    cut: Cut
    learned: Sequence[LearnedPassage]
    seconds: float
    timings: Mapping[str, float]


@contextmanager
def _patched(opened: Opened) -> Iterator[None]:
    """Put the branches of a passage into the base."""
    base, alpha = opened.base, opened.record.details["alpha"]
    deltas = passage_deltas(opened.state, *opened.passage)
    branches = {block: branch_from_deltas(mlp_parts(base.mlp(block)), d) for block, d in deltas.items()}
    with base.patched(dual_mlps(base, branches, alpha)):
        yield
