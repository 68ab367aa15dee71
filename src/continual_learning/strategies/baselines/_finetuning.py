"""What the trained baselines share: their settings, and learning one document by gradient descent.

A baseline says what is trained (`finetuning.Trainable`), where it starts, how it stands in a state, and how questions
find it.
"""

from __future__ import annotations

import math
import random
import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal, TypeVar

from pydantic import Field
from torch import Tensor

from continual_learning.documents import Document
from continual_learning.errors import MismatchError
from continual_learning.memory.state import DocumentRecord, State
from continual_learning.model.base_model import BaseModel, Message
from continual_learning.options import StrategyConfig
from continual_learning.reading.plain import fitted_prompt, generate_answers
from continual_learning.strategies.base import ALREADY_HELD, Strategy, plain_report
from continual_learning.strategies.gate import Limits, check
from continual_learning.training.examples import Item, StudyMaterial, cut_to_tokens, document_items
from continual_learning.training.gradient_descent import Descent, Schedule, StepCallback, Trainable, Training, finetune
from continual_learning.training.stopwatch import Stopwatch
from continual_learning.types import Answer, LearnReport, Progress, ProgressCallback, QuestionAnswer, TokenCallback


class FinetuningConfig(StrategyConfig):
    """Settings of every trained baseline."""

    signal: Literal["study", "text"] = "study"
    """What is learned from: telegraphic questions on the text and the text itself, or the text alone."""
    questions_per_fragment: int = Field(3, ge=1)
    """Questions on each fragment of the text, in each pass."""
    passage_tokens: int = Field(200, ge=16)
    """Longest stretch of text that is read at once."""
    max_tokens: int = Field(4096, ge=1)
    """Longest document; what is beyond is left out, with a word about it."""

    learning_rate: float = Field(1e-3, ge=0)
    """AdamW's highest; it rises during the warm-up and falls to a tenth after."""
    passes: int = Field(2, ge=1)
    """Passes over the material; its questions are made anew for each."""
    mini_batch_tokens: int = Field(192, ge=1)
    """Tokens of a mini-batch, padding included."""
    clip_norm: float = Field(1.0, gt=0)
    """Global norm to which gradients are clipped."""
    warmup: float = Field(0.1, ge=0, le=1)
    """Share of the steps in which the learning rate rises."""
    max_seconds: float | None = Field(None, gt=0)
    """Wall-clock limit for a document; what is learned by then is kept. None: as long as it takes."""
    seed: int = 0
    """Of all that is drawn, together with the document."""

    guard: bool = False
    """Check after learning, and keep the previous memory if a limit is passed."""
    min_recall_gain: float = Field(0.0, ge=0, lt=1)
    """Recall of questions that are given with a document must rise by more than this."""
    max_perplexity_rise: float = Field(0.03, ge=0)
    """Largest relative rise of the perplexity of unrelated text."""
    min_general_kept: float = Field(0.95, ge=0, le=1)
    """Smallest share of general questions that must stay right."""

    @property
    def study_material(self) -> StudyMaterial:
        """What is made of a passage to learn it."""
        return StudyMaterial(questions_per_fragment=self.questions_per_fragment if self.signal == "study" else 0)

    @property
    def schedule(self) -> Schedule:
        """Learning rate and clipping."""
        return Schedule(self.learning_rate, self.clip_norm, self.warmup)


class AdapterConfig(FinetuningConfig):
    """Settings of the baselines that can train a LoRA adapter."""

    rank: int = Field(16, ge=1)
    """Rank of the adapter's matrices."""
    alpha: float = Field(32.0, gt=0)
    """Scale: the adapter's product counts alpha / rank."""
    target_modules: str | tuple[str, ...] = Field("all-linear", min_length=1)
    """Linear layers with an adapter, by the end of their path, such as q_proj; all-linear: all but the head."""


ConfigT = TypeVar("ConfigT", bound=FinetuningConfig)


class FinetuningStrategy(Strategy[ConfigT]):
    """Learns a document by gradient descent on material that is made from it."""

    fixed: ClassVar[tuple[str, ...]] = ()
    """Settings without which what is learned cannot be read again: a memory keeps those it began with."""

    @property
    @abstractmethod
    def trainable(self) -> Trainable:
        """What is trained."""

    @abstractmethod
    def start(self, state: State) -> Mapping[str, Tensor]:
        """What training a new document starts from: `Trainable.kept`, or empty for the base."""

    @abstractmethod
    def with_document(
        self,
        base: BaseModel,
        state: State,
        document: Document,
        text: str,
        kept: Mapping[str, Tensor],
        record: DocumentRecord,
    ) -> State:
        """The state with one more document: its text as far as it was learned, and what training made of `start`."""

    def material(self, base: BaseModel, state: State, text: str, title: str, rng: random.Random) -> list[Item]:
        """What is studied in one pass."""
        return document_items(base, text, title, self.config.passage_tokens, self.config.study_material, rng)

    def learn(
        self,
        base: BaseModel,
        state: State,
        document: Document,
        qa: Sequence[QuestionAnswer] = (),
        progress: ProgressCallback | None = None,
    ) -> tuple[State, LearnReport]:
        """Train on the document; with ``guard``, check what came of it.

        ``qa`` takes part in the check and is never trained on. Raises DivergedError, and MismatchError for a
        memory that was begun with other settings.
        """
        started = time.perf_counter()
        if state.meta.document(document.id):
            return state, plain_report(document, started, False, ALREADY_HELD)
        self.check_settings(state)
        config, watch = self.config, Stopwatch()
        text, tokens, left_out = cut_to_tokens(base, document.text, config.max_tokens)
        seed = f"{config.seed}:{document.sha256}"
        rng = random.Random(seed)
        with watch("study material"):
            passes = [self.material(base, state, text, document.title, rng) for _ in range(config.passes)]
        with watch("gradient descent"):
            start = self.start(state)
            kept, descent = finetune(
                base,
                Training(self.trainable, start, passes, config.mini_batch_tokens, config.schedule, seed),
                rng,
                math.inf if config.max_seconds is None else started + config.max_seconds,
                _step_reporter(progress),
            )
        record = DocumentRecord.of(document, tokens, {"loss": descent.loss, "steps": descent.steps})
        candidate = self.with_document(base, state, document, text, kept, record)
        report = LearnReport(
            accepted=True,
            reason="learned; not checked, since guard is off",
            document_id=document.id,
            title=document.title,
            tokens=tokens,
            seconds=0.0,
            bytes=_size(candidate) - _size(state),
            tokens_left_out=left_out,
            loss=descent.loss,
            warnings=_warnings(config, tokens, left_out, descent),
        )
        if config.guard:
            if progress:
                progress(Progress("check", 0, 1, "what the model knew before"))
            limits = Limits(config.min_recall_gain, config.max_perplexity_rise, config.min_general_kept)
            with watch("retention"):
                report = check(base, self, state, candidate, report, qa, limits)
        report = replace(report, seconds=time.perf_counter() - started, timings=dict(watch.seconds))
        return (candidate if report.accepted else state), report

    def describe(self, base: BaseModel, state: State) -> dict[str, Any]:
        """Parameters, for `info`."""
        return {
            "parameters": sum(p.numel() for p in base.model.parameters()),
            "trainable_parameters": self.trainable.count(base),
            "modified_blocks": list(range(base.block_count)),  # adapters and all weights alike reach every block
        }

    def check_settings(self, state: State) -> None:
        """Raise MismatchError where the memory was begun with settings that do not fit these."""
        if not state.meta.documents:
            return
        now = self.config.model_dump(mode="json")
        for name in self.fixed:
            begun = state.meta.config.get(name, now[name])
            if begun != now[name]:
                raise MismatchError(
                    f"{name} = {now[name]!r}, but this memory was begun with {begun!r}; "
                    f"leave {name} as it was, or clear the memory"
                )


def trained_answers(
    base: BaseModel,
    questions: Sequence[str],
    max_new_tokens: int,
    on_token: TokenCallback | None = None,
    history: Sequence[Message] = (),
) -> list[Answer]:
    """Answers in the format that study questions have: the base's chat without its default system prompt."""
    fitted = [fitted_prompt(base, history, q, max_new_tokens, system=False) for q in questions]
    prompts, notes = [ids for ids, _ in fitted], [note for _, note in fitted]
    return generate_answers(base, questions, prompts, max_new_tokens, on_token, notes)


def _size(state: State) -> int:
    """Bytes of tensors and kept texts."""
    return state.bytes + sum(len(text.encode()) for text in state.meta.extra.get("texts", {}).values())


def _warnings(config: FinetuningConfig, tokens: int, left_out: int, descent: Descent) -> tuple[str, ...]:
    warnings = []
    if left_out:
        warnings.append(
            f"the last {left_out} of {tokens + left_out} tokens were left out; raise max_tokens "
            f"(now {config.max_tokens}) to learn them"
        )
    if descent.steps < descent.planned_steps:
        warnings.append(f"max_seconds ended learning after {descent.steps} of {descent.planned_steps} steps")
    return tuple(warnings)


def _step_reporter(progress: ProgressCallback | None) -> StepCallback | None:
    if progress is None:
        return None

    def report(step: int, steps: int, loss: float) -> None:
        progress(Progress("learn", step, steps, f"loss {loss:.2f}"))

    return report
