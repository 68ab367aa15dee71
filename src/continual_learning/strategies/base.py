"""The strategy interface: a pair of functions, learn and answer, over an explicit state.

To add one, add one file (or folder) to ``strategies/`` that defines a subclass of `Strategy`; its
file name is its name everywhere: command line, compare, benchmarks, server, conformance suite.
"""

from __future__ import annotations

import difflib
import functools
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal

from continual_learning.errors import InputError, UnknownNameError
from continual_learning.memory.state import State, StateMeta
from continual_learning.options import ConfigT, StrategyConfig, parse_config
from continual_learning.retrieval.routing import look_ups
from continual_learning.strategies import registry
from continual_learning.strategies.registry import strategy_names as strategy_names  # noqa: PLC0414
from continual_learning.text.words import content_stems
from continual_learning.types import UNAFFECTED, Answer, LearnReport, ProgressCallback, QuestionAnswer, TokenCallback

if TYPE_CHECKING:
    from continual_learning.chat_models.servers import Finding
    from continual_learning.documents import Document
    from continual_learning.model.base_model import BaseModel, Message


_NO_WORDS = "no question can find this text: it has no words that say what it is about"
ALREADY_HELD = "this memory holds the document already"


def plain_report(
    document: Document,
    accepted: bool,
    reason: str,
    tokens: int = 0,
    size: int = 0,
    warnings: tuple[str, ...] = (),
) -> LearnReport:
    """The report for learning without training or checks, or for a refusal; ``size`` in bytes."""
    return LearnReport(accepted, reason, document.id, document.title, tokens, 0.0, size, warnings=warnings)


@dataclass(frozen=True)
class Cost:
    """Seconds that a strategy takes on the reference machine (60 GFLOP/s, one thread) with the embedded model.

    Used for strategies not yet run on this machine. Measured on passages of about 160 tokens and answers of at most
    24 tokens. The other figures are what `strategies.choosing` goes by, as benchmarks/results/squad has them.
    """

    learn_token: float = 0.0
    """Seconds per token learned."""
    answer: float = 0.6
    """Seconds per question answered."""
    answer_token: float = 0.0
    """Additional seconds per question for each token of the documents in the memory."""
    token_bytes: float = 0.0
    """Bytes that a memory grows by per token learned."""
    document_bytes: float = 0.0
    """Bytes that it grows by per document, however long."""
    memory_bytes: float = 0.0
    """Bytes that it takes once, however many documents it holds."""
    keeps_text: bool = True
    """Whether the text of a document can be read from the memory."""
    prompt_tokens: int | None = 0
    """Maximum tokens of the documents that are read for a question. None: all documents, which must fit into the
    window."""
    f1: Mapping[str, float] = field(default_factory=dict)
    """Token F1 by the base it was measured on; empty if it was not."""
    f1_without_reader: Mapping[str, float] = field(default_factory=dict)
    """The same of a strategy that reads, where the base has no reader."""
    general_kept: float = 1.0
    """Share of the general questions that are still answered after a document."""


@dataclass(frozen=True)
class Workload:
    """What there is to learn of some documents, without those that the memory holds already."""

    documents: int
    tokens: int
    bytes: int
    """Estimated growth of the memory."""
    passages: int | None = None
    """Passages that are learned one by one; None if that is not how the strategy learns."""
    passages_kept: int = 0
    """Those of them that were learned before an interruption, and are not learned again."""


@dataclass(frozen=True)
class Variant:
    """A strategy with some settings, as a row of a benchmark."""

    label: str
    options: Mapping[str, Any]
    takes_options: bool = False
    """Whether options that the user gives are added."""


class Strategy(ABC, Generic[ConfigT]):
    """One way of learning. Instances hold their configuration and nothing else.

    Only ``summary``, `learn` and `answer` are required. Commands and menu entries of a strategy are in the file
    ``commands.py`` of its folder: see `continual_learning.strategies.commands`.
    """

    name: ClassVar[str]
    """The file's name; set by the registry."""
    summary: ClassVar[str]
    """One line for lists."""
    Config: ClassVar[type[StrategyConfig]] = StrategyConfig
    role: ClassVar[Literal["baseline", "control", "method"]] = "method"
    """Its role in a comparison: a baseline, a control experiment for a method, or a method."""
    learns: ClassVar[bool] = True
    """Whether it ever learns anything; if not, a refusal says nothing about the document."""
    variants: ClassVar[Mapping[str, Variant]] = {}
    """Settings of it that the benchmarks of chats compare, by the names that their ``--rows`` takes."""
    learns_what_is_said: ClassVar[bool] = False
    """Whether a chat with this memory learns every message before it answers it."""
    cost: ClassVar[Cost] = Cost()
    """What it costs and gives: for estimates of time, and for strategy `auto` (`strategies.choosing`)."""

    def __init__(self, config: ConfigT):
        self.config = config

    def __init_subclass__(cls, **options: Any):
        super().__init_subclass__(**options)
        if "learn" in vars(cls):
            cls.learn = _new_and_timed(cls.learn)  # type: ignore[method-assign]
        if "answer" in vars(cls):
            cls.answer = _with_origin(cls.answer)  # type: ignore[method-assign]

    def init(self, base: BaseModel) -> State:
        """The state that has learned nothing."""
        return State({}, StateMeta(self.name, self.config.model_dump(mode="json"), base.name, base.fingerprint))

    @abstractmethod
    def learn(
        self,
        base: BaseModel,
        state: State,
        document: Document,
        qa: Sequence[QuestionAnswer] = (),
        progress: ProgressCallback | None = None,
    ) -> tuple[State, LearnReport]:
        """Learn one document. A refusal returns ``state`` itself and a report that is not accepted.

        A strategy implements learning a new document only: a wrapper around every strategy's ``learn`` refuses a
        document that ``state`` already holds, and measures `LearnReport.seconds`.

        Raises LearningError if learning cannot continue. KeyboardInterrupt passes through. In every
        case ``state`` and ``base`` are left unchanged.
        """

    @property
    def documents_together(self) -> int:
        """How many documents `learn_together` can learn faster than `learn` does one by one."""
        return 1

    def learn_together(
        self, base: BaseModel, state: State, documents: Sequence[Document], progress: ProgressCallback | None = None
    ) -> list[tuple[State, LearnReport]]:
        """Learn several documents. Returns the state and the report after each one. Raises what `learn` raises."""
        results = []
        for document in documents:
            state, report = self.learn(base, state, document, progress=progress)
            results.append((state, report))
        return results

    @property
    def token_limit(self) -> int | None:
        """Maximum tokens of a document that are learned; the rest is left out, with a warning. None: no limit."""
        return None

    def workload(self, base: BaseModel, state: State, documents: Sequence[Document]) -> Workload:
        """What there is to learn of these documents, with its size by `cost`; nothing is learned."""
        new = {document.id: document for document in documents if state.meta.document(document.id) is None}
        limit = math.inf if self.token_limit is None else self.token_limit
        tokens = int(sum(min(limit, len(base.encode(document.text))) for document in new.values()))
        once = 0.0 if state.meta.documents else self.cost.memory_bytes
        size = (once + len(new) * self.cost.document_bytes + tokens * self.cost.token_bytes) if new else 0
        return Workload(len(new), tokens, round(size))

    @abstractmethod
    def answer(
        self,
        base: BaseModel,
        state: State,
        questions: Sequence[str],
        max_new_tokens: int = 64,
        on_token: TokenCallback | None = None,
        history: Sequence[Message] = (),
    ) -> list[Answer]:
        """Answer every question, in order. ``on_token`` streams and needs a single question.

        ``history`` is an earlier conversation: ``{"role": "user" | "assistant", "content": …}``.

        A wrapper around every strategy's ``answer`` gives the origin ``memory`` to an answer that has sources, or, of a
        strategy that does not read, whose question `involves` the memory; one that sets another origin than ``model``
        itself is believed.
        """

    @property
    def keeps_text(self) -> bool:
        """Whether the text of a document can be read from a memory with these settings."""
        return self.cost.keeps_text

    def measured_f1(self, base: BaseModel) -> Mapping[str, float]:
        """Token F1 by the base it was measured on, for what the strategy does on ``base``; empty if not measured."""
        return self.cost.f1

    def lacks(self, base: BaseModel) -> str:
        """What the strategy needs with these settings and ``base`` lacks, so that it refuses documents; else empty."""
        return ""

    def involves(self, base: BaseModel, state: State, question: str, history: Sequence[Message] = ()) -> bool:
        """Whether the memory has a part in the answer to ``question``: it or the turn before it affects the output."""
        return any(self.affects(base, state, text) for text in look_ups(question, history))

    def adapted(self, base: BaseModel, state: State, text: str) -> AbstractContextManager[object]:
        """A context in which ``base`` carries what this memory holds for ``text``."""
        return nullcontext()

    def affects(self, base: BaseModel, state: State, text: str) -> bool:
        """Whether the memory changes the base's output for ``text``. True unless it is known not to.

        If False, `answer` gives exactly the base's own answer.
        """
        return bool(state.meta.documents)

    def answer_key(self, base: BaseModel, state: State, question: str) -> Hashable | None:
        """What the answer to ``question`` depends on besides base and configuration: equal keys, equal answers.

        UNAFFECTED if the answer is the base's own; None if nothing is known. A benchmark that asks after
        every document asks again only what may have changed.
        """
        return None if self.affects(base, state, question) else UNAFFECTED

    def context(self, base: BaseModel, state: State, text: str) -> str:
        """Text that this memory puts before ``text`` in the model's window; empty for most."""
        return ""

    @property
    def reads(self) -> bool:
        """Whether answers about the memory are read from a text, and not generated (`strategies.reading`)."""
        return False

    def forget(self, base: BaseModel, state: State, document_id: str) -> State:
        """The state without that document, as if it had never been learned.

        This default is right for strategies whose documents are independent, each with its own
        tensors. Raises UnknownNameError for a document that is not in the memory.
        """
        if state.meta.document(document_id) is None:
            known = ", ".join(d.id for d in state.meta.documents) or "none"
            raise UnknownNameError(f"no document {document_id!r} in this memory; it holds: {known}")
        documents = tuple(d for d in state.meta.documents if d.id != document_id)
        tensors = {n: t for n, t in state.tensors.items() if n.partition("/")[0] != document_id}
        return State(tensors, replace(state.meta, documents=documents))

    def compare(self, a: State, b: State) -> list[dict[str, Any]]:
        """The differences between two states in the strategy's own terms, one row each. JSON values only."""
        return []

    def write_peft(self, state: State, folder: Path) -> Path:
        """Write what was learned as a PEFT adapter with exactly the same effect on the base. Returns the folder.

        Raises InputError if there is no such adapter.
        """
        raise InputError(
            f"strategy {self.name!r} keeps no PEFT adapter; expected a memory whose strategy trains adapters, "
            "or leave --peft out"
        )

    def check_settings(self, state: State) -> None:
        """Raise MismatchError if the memory was created with settings that are incompatible with these."""

    def changes(self, state: State) -> list[dict[str, Any]]:
        """How much each document changed the weights, in the order learned: for strategies that record it.

        A row has ``text``, ``levels`` (numbers of those that changed), ``distance`` (Euclidean), ``loss_before`` and
        ``loss_after``.
        """
        return []

    def checks(self) -> Sequence[Finding]:
        """What this strategy needs with these settings, such as a server, and whether it is available: for `doctor`."""
        return ()

    def describe(self, base: BaseModel, state: State) -> dict[str, Any]:
        """Facts about this strategy on this base, for `model info` and the menu. JSON values only.

        `model info` knows ``modified_blocks`` (numbers of the blocks that carry what is learned),
        ``trainable_parameters``, ``alpha`` and ``gates_calibrated``, and shows any others unchanged.
        """
        return {}


_Learn = Callable[..., tuple[State, LearnReport]]


def _new_and_timed(learn: _Learn) -> _Learn:
    """Wrap ``learn``: refuse a document that the memory already holds, and put the wall time into the report."""

    @functools.wraps(learn)
    def learn_new(
        strategy: Strategy[Any],
        base: BaseModel,
        state: State,
        document: Document,
        qa: Sequence[QuestionAnswer] = (),
        progress: ProgressCallback | None = None,
    ) -> tuple[State, LearnReport]:
        started = time.perf_counter()
        if state.meta.document(document.id):
            after, report = state, plain_report(document, False, ALREADY_HELD)
        else:
            after, report = learn(strategy, base, state, document, qa, progress)
            if report.accepted and not _can_be_found(document):
                report = replace(report, warnings=(*report.warnings, _NO_WORDS))
        return after, replace(report, seconds=time.perf_counter() - started)

    return learn_new


_Answering = Callable[..., list[Answer]]


def _with_origin(answer: _Answering) -> _Answering:
    """Wrap ``answer``: say of every answer whether the memory was involved."""

    @functools.wraps(answer)
    def answer_with_origin(
        strategy: Strategy[Any],
        base: BaseModel,
        state: State,
        questions: Sequence[str],
        max_new_tokens: int = 64,
        on_token: TokenCallback | None = None,
        history: Sequence[Message] = (),
    ) -> list[Answer]:
        def of_memory(found: Answer) -> bool:
            if found.sources:
                return True
            if strategy.reads:  # what was read has its source: all else is the base's own, whatever the words found
                return False
            return bool(state.meta.documents) and strategy.involves(base, state, found.question, history)

        answers = answer(strategy, base, state, questions, max_new_tokens, on_token, history)
        return [replace(one, origin="memory") if one.origin == "model" and of_memory(one) else one for one in answers]

    return answer_with_origin


def _can_be_found(document: Document) -> bool:
    lines = (document.title, *document.text.split("\n"))
    return any(content_stems(line) for line in lines)


def strategy_class(name: str) -> type[Strategy[Any]]:
    """The class of a strategy. Raises UnknownNameError naming the nearest, ConfigError for a package that is broken."""
    known = registry.places()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise UnknownNameError(f"no strategy {name!r}; expected one of {', '.join(known)}{hint}")
    place = known[name]
    module = registry.load(place)
    found = [
        v
        for k, v in vars(module).items()
        if isinstance(v, type)
        and issubclass(v, Strategy)
        and v is not Strategy
        and "summary" in vars(v)
        and place.attribute in ("", k)
    ]
    if len(found) != 1:
        problem = f"{place.module} must define exactly one Strategy with a summary, found {len(found)}"
        raise registry.broken(place, problem) if place.package else TypeError(problem)
    found[0].name = name
    return found[0]


def make_strategy(name: str, options: Mapping[str, Any] | None = None) -> Strategy[Any]:
    """A strategy with its configuration. Raises ConfigError for an unknown or invalid option."""
    cls = strategy_class(name)
    return cls(parse_config(cls.Config, options or {}, f"strategy {name!r}"))
