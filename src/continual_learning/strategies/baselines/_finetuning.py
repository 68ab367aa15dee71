"""What the trained baselines share: their settings, and learning one document by gradient descent.

A baseline defines what is trained (`gradient_descent.Trainable`), where training starts, how the result is laid out in
a state, and how questions find it.
"""

from __future__ import annotations

import math
import random
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
from continual_learning.model.quantised import parameter_count
from continual_learning.options import StrategyConfig
from continual_learning.reading.plain import fitted_prompt, generate_answers
from continual_learning.strategies.base import Strategy
from continual_learning.strategies.gate import LIMITS, guarded
from continual_learning.training.examples import Item, StudyMaterial, cut_to_tokens, document_items
from continual_learning.training.gradient_descent import Schedule, StepCallback, Trainable, Training, finetune
from continual_learning.training.stopwatch import Stopwatch
from continual_learning.training.weight_size import weight_share
from continual_learning.types import Answer, LearnReport, Progress, ProgressCallback, QuestionAnswer, TokenCallback

# Not varied in any measurement of the trained baselines.
PASSAGE_TOKENS = 200
"""Longest stretch of text that is read at once, in tokens."""
_MINI_BATCH_TOKENS = 192  # padding included
_CLIP_NORM = 1.0  # global norm of the gradients
_WARMUP = 0.1  # share of the steps in which the learning rate rises


class FinetuningConfig(StrategyConfig):
    """Settings of every trained baseline."""

    signal: Literal["study", "text"] = "study"
    """Train on telegraphic questions about the text and the text itself, or on the text alone."""
    questions_per_fragment: int = Field(3, ge=1)
    """Questions per fragment of the text in each pass."""
    max_tokens: int = Field(4096, ge=1)
    """Documents longer than this are truncated, with a warning."""

    learning_rate: float = Field(1e-3, ge=0)
    """AdamW's peak learning rate; it rises during the warm-up and then falls to a tenth. It is for weights as large as
    SmolLM2-135M's: where a base's are smaller, the rate is smaller in proportion."""
    passes: int = Field(2, ge=1)
    """Passes over the training examples; the questions are generated anew for each pass."""
    seed: int = 0
    """Seeds all sampling, in combination with the document."""

    guard: bool = False
    """Check after learning, and keep the previous memory if a limit is exceeded."""

    RETIRED: ClassVar[Mapping[str, object]] = {
        "passage_tokens": PASSAGE_TOKENS,
        "mini_batch_tokens": _MINI_BATCH_TOKENS,
        "clip_norm": _CLIP_NORM,
        "warmup": _WARMUP,
        "max_seconds": None,
        "min_recall_gain": LIMITS.min_recall_gain,
        "max_perplexity_rise": LIMITS.max_perplexity_rise,
        "min_general_kept": LIMITS.min_general_kept,
    }
    """Options of earlier memories, each with the value that matches today's behaviour."""

    @property
    def study_material(self) -> StudyMaterial:
        """The training examples made from a passage."""
        return StudyMaterial(questions_per_fragment=self.questions_per_fragment if self.signal == "study" else 0)

    def schedule(self, base: BaseModel) -> Schedule:
        """Learning rate and clipping."""
        return Schedule(self.learning_rate, _CLIP_NORM, _WARMUP, scale=weight_share(base))


class AdapterConfig(FinetuningConfig):
    """Settings of the baselines that can train a LoRA adapter."""

    rank: int = Field(16, ge=1)
    """Rank of the adapter's matrices."""
    alpha: float = Field(32.0, gt=0)
    """Scale: the adapter's product is multiplied by alpha / rank."""

    RETIRED: ClassVar[Mapping[str, object]] = {**FinetuningConfig.RETIRED, "target_modules": "all-linear"}


ConfigT = TypeVar("ConfigT", bound=FinetuningConfig)


class FinetuningStrategy(Strategy[ConfigT]):
    """Learns a document by gradient descent on training examples made from it."""

    fixed: ClassVar[tuple[str, ...]] = ()
    """Settings needed to read back what was learned: a memory keeps the values it was created with."""

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
        """The state with one more document: ``text`` is the part that was learned, ``kept`` the result of training."""

    def material(self, base: BaseModel, state: State, text: str, title: str, rng: random.Random) -> list[Item]:
        """The training examples of one pass."""
        return document_items(base, text, title, PASSAGE_TOKENS, self.config.study_material, rng)

    @property
    def token_limit(self) -> int | None:
        """Maximum tokens of a document that are learned."""
        return self.config.max_tokens

    def learn(
        self,
        base: BaseModel,
        state: State,
        document: Document,
        qa: Sequence[QuestionAnswer] = (),
        progress: ProgressCallback | None = None,
    ) -> tuple[State, LearnReport]:
        """Train on the document; with ``guard``, check the result.

        ``qa`` is used in the check and never trained on. Raises DivergedError, and MismatchError for a
        memory that was created with other settings.
        """
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
                Training(self.trainable, start, passes, _MINI_BATCH_TOKENS, config.schedule(base), seed),
                rng,
                math.inf,
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
            warnings=_warnings(config, tokens, left_out),
        )
        if config.guard:
            with watch("retention"):
                report = guarded(base, self, state, candidate, report, qa, progress)
        report = replace(report, timings=dict(watch.seconds))
        return (candidate if report.accepted else state), report

    def describe(self, base: BaseModel, state: State) -> dict[str, Any]:
        """Parameters, for `info`."""
        return {
            "parameters": parameter_count(base.model),
            "trainable_parameters": self.trainable.count(base),
            "modified_blocks": list(range(base.block_count)),  # adapters and all weights alike reach every block
        }

    def check_settings(self, state: State) -> None:
        """Raise MismatchError if the memory was created with settings that are incompatible with these."""
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
    """Answers in the format of the training questions: the base's chat format without its default system prompt."""
    fitted = [fitted_prompt(base, history, q, max_new_tokens, system=False) for q in questions]
    prompts, notes = [ids for ids, _ in fitted], [note for _, note in fitted]
    return generate_answers(base, questions, prompts, max_new_tokens, on_token, notes)


def _size(state: State) -> int:
    """Bytes of the tensors and the kept texts."""
    return state.bytes + sum(len(text.encode()) for text in state.meta.extra.get("texts", {}).values())


def _warnings(config: FinetuningConfig, tokens: int, left_out: int) -> tuple[str, ...]:
    if not left_out:
        return ()
    return (
        f"the last {left_out} of {tokens + left_out} tokens were left out; raise max_tokens "
        f"(now {config.max_tokens}) to learn them",
    )


def _step_reporter(progress: ProgressCallback | None) -> StepCallback | None:
    if progress is None:
        return None

    def report(step: int, steps: int, loss: float) -> None:
        progress(Progress("learn", step, steps, f"loss {loss:.2f}"))

    return report
