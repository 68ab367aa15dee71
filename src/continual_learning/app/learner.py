"""Learner: a base model, a strategy, a memory. The main class for users."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any, overload

from continual_learning.app.answering import Asked, answers_with_feedback
from continual_learning.app.automatic import Automatic
from continual_learning.app.current_state import CurrentState
from continual_learning.app.feedback import Feedback, FeedbackMemory
from continual_learning.app.learning_estimate import LearningEstimate, estimate_learning
from continual_learning.app.sources import QA, Source, documents_and_questions, text_sha256
from continual_learning.app.speaking import Speaker
from continual_learning.chat_models import ChatModel
from continual_learning.documents import Document
from continual_learning.errors import InputError, StorageError
from continual_learning.memory.state import DocumentRecord, State
from continual_learning.memory.store import Store, Version, check_compatible
from continual_learning.memory.store.last_answer import (
    LastAnswer,
    forget_last_answer,
    read_last_answer,
    write_last_answer,
)
from continual_learning.model.base_model import BaseModel, Message
from continual_learning.model.cpu_linear import Precision
from continual_learning.model.quantised import FrozenWeights
from continual_learning.options import current_options, parse_config
from continual_learning.strategies.base import Strategy, make_strategy, plain_report, strategy_class
from continual_learning.strategies.choosing import AutoConfig, Chosen
from continual_learning.strategies.gate import perplexity
from continual_learning.strategies.registry import AUTO
from continual_learning.text.characters import normalised
from continual_learning.text.checks import check_text
from continual_learning.text.words import several
from continual_learning.types import Answer, LearnReport, ProgressCallback, QuestionAnswer, TokenCallback

logger = logging.getLogger(__name__)


class Learner:
    """Learns documents, answers from them, keeps them. Safe for use by several threads, one at a time.

    Without a ``memory`` name, what is learned lasts as long as this object; named checkpoints and history need one.
    """

    def __init__(
        self, base: BaseModel, strategy: Strategy[Any], store: Store | None = None, speaker: Speaker | None = None
    ):
        self.base = base
        self.strategy = strategy
        self.store = store
        self.speaker = speaker
        """Words the answers in place of the base; see `app.speaking`."""
        self.chosen: Chosen | None = None
        """With strategy `auto`: the choice, and what the other strategies would cost."""
        self._automatic: Automatic | None = None
        self._current = _nothing_learned(base, strategy, store)
        self._last_answer: LastAnswer | None = None

    @classmethod
    def open(
        cls,
        model: str | BaseModel | None = None,
        strategy: str | Automatic = "ttt",
        memory: str | None = None,
        home: Path | None = None,
        device: str = "auto",
        dtype: str = "auto",
        precision: Precision = "full",
        speaker: str | ChatModel | Speaker | None = None,
        frozen_weights: FrozenWeights = "full",
        **options: Any,
    ) -> Learner:
        """Open a model with a strategy, and a memory of this name on disk if one is given.

        Strategy ``auto`` chooses one for a new memory by the first documents that it learns (`choose`), and until then
        only answers as the base does; an existing memory keeps its own. Its options are `choosing.AutoConfig`.
        Without ``model``, the strategy's option ``base_model`` is used if it is set, else smollm2-135m.
        ``options`` are fields of the strategy's Config; for an existing memory they override the ones that it was
        made with. ``speaker``, as ``ollama:NAME``, ``openai:URL#NAME`` or ``llamacpp:FILE.gguf``, is another model
        that words the answers from what the memory finds (`app.speaking`); the memory does not depend on it. Raises
        ConfigError for an unknown option, UnknownNameError for an unknown strategy, ModelNotFoundError,
        UnsafeNameError, MismatchError (also for a retired option: `options.current_options`), CorruptMemoryError, and
        what `Speaker.open` does.
        """
        automatic = None
        if isinstance(strategy, Automatic):
            automatic, strategy = strategy, AUTO
        elif strategy == AUTO:
            automatic, options = Automatic(parse_config(AutoConfig, options, f"strategy {AUTO!r}")), {}
        else:
            make_strategy(strategy, options)  # a wrong name or option is reported before seconds of loading
        words = _speaker(speaker)
        store = Store.open(memory, home) if memory is not None else None
        if store is not None and store.head is not None:
            kept = store.meta()  # the tensors are read once, below
            if automatic is not None:
                automatic, strategy = None, str(kept["strategy"])
            if kept["strategy"] == strategy:
                known = current_options(strategy_class(strategy).Config, kept["config"], f"memory {memory!r}")
                options = {**known, **options}
        if model is None:
            model = str(options.get("base_model") or "smollm2-135m")
        base = (
            model if isinstance(model, BaseModel) else BaseModel.load(model, device, dtype, precision, frozen_weights)
        )
        if automatic is None:
            return cls(base, make_strategy(strategy, options), store, words)
        learner = cls(base, automatic.undecided(), store, words)
        learner._automatic = automatic
        return learner

    def choose(self, documents: Sequence[Document] = ()) -> Chosen | None:
        """With strategy ``auto``, choose the strategy of a new memory for these documents; without any, a typical one.

        `learn` does so by itself for the first documents, and whatever else writes to the memory for a typical one.
        Returns the choice; None without ``auto``. Raises InputError if no strategy fits; other documents may then.
        """
        with self._current.lock:
            if self._automatic is not None:
                tokens = [len(self.base.encode(document.text)) for document in documents]
                chosen = self._automatic.choose(self.base, tokens)
                strategy = self._automatic.make(chosen.strategy)
                self._current = _nothing_learned(self.base, strategy, self.store)
                self.strategy, self.chosen, self._automatic = strategy, chosen, None
                what = f"{several(len(tokens), 'document')} of {sum(tokens)} tokens" if tokens else "a typical document"
                logger.info("strategy %s: %s for %s: %s", AUTO, chosen.strategy, what, chosen.reason)
            return self.chosen

    def _writing(self) -> AbstractContextManager[State]:
        """`CurrentState.writing`, of a memory whose strategy is chosen."""
        self.choose()
        return self._current.writing()

    # -- learning and answering --------------------------------------------------------------------

    @overload
    def learn(  # type: ignore[overload-overlap]
        self,
        source: Source,
        title: str | None = None,
        qa: Sequence[QA] | None = None,
        progress: ProgressCallback | None = None,
    ) -> LearnReport: ...
    @overload
    def learn(
        self,
        source: Sequence[Source],
        title: str | None = None,
        qa: Sequence[QA] | None = None,
        progress: ProgressCallback | None = None,
    ) -> list[LearnReport]: ...
    def learn(
        self,
        source: Source | Sequence[Source],
        title: str | None = None,
        qa: Sequence[QA] | None = None,
        progress: ProgressCallback | None = None,
    ) -> LearnReport | list[LearnReport]:
        """Learn a text, a path, a URL, a Document, or a list of them.

        A list, a folder, a .jsonl or a sitemap gives a list of reports. A `str` that is a URL or names an existing file
        or folder is read as a source, any other is the text itself. Files of a folder and pages of a sitemap that
        cannot be read or repeat another are skipped, with a warning in the log. ``qa`` are questions known
        beforehand, for strategies and checks that use them: mappings with ``question`` and ``answer`` (a string or a
        list of accepted ones). A document that is refused, or an exception (Ctrl-C included), leaves the memory as it
        was before that document (for a list: before the group of `documents_together` documents).
        """
        documents, asked, many = documents_and_questions(source, title, qa)
        if many and (title is not None or asked):
            given = f"title {title!r}" if title is not None else several(len(asked), "question")
            raise InputError(
                f"{given} with {several(len(documents), 'document')}; expected one document, learn them one by one"
            )
        self.choose(documents)
        if not many:
            return self._learn(documents, asked, progress)[0]
        reports: list[LearnReport] = []
        size = self.documents_together
        for first in range(0, len(documents), size):
            reports += self._learn(documents[first : first + size], (), progress)
        return reports

    def estimate(self, source: Source | Sequence[Source], title: str | None = None) -> LearningEstimate:
        """What `learn` of the same would take: tokens, passages, seconds on this machine, bytes. Nothing is learned."""
        documents, _, _ = documents_and_questions(source, title, None)
        state = self.state
        first = _first_of_each_text(documents, state)
        new = [document for document, one in zip(documents, first, strict=True) if one.id == document.id]
        return estimate_learning(self.base, self.strategy, state, new)

    @property
    def documents_together(self) -> int:
        """Number of documents of a list that are learned at a time; an interruption loses all of these."""
        return self.strategy.documents_together

    def _learn(
        self, documents: Sequence[Document], asked: Sequence[QuestionAnswer], progress: ProgressCallback | None
    ) -> list[LearnReport]:
        """Learn documents together, in one piece; a text that the memory holds under another title is refused."""
        with self._writing() as before:
            first = _first_of_each_text(documents, before)
            new = [document for document, one in zip(documents, first, strict=True) if one.id == document.id]
            if len(documents) == 1 and new:
                results = [self.strategy.learn(self.base, before, new[0], asked, progress)]
            else:
                results = list(self.strategy.learn_together(self.base, before, new, progress)) if new else []
            learned: list[LearnReport] = []
            for document, (state, report) in zip(new, results, strict=True):
                learned.append(_warned(report, document, before.meta.documents))
                if report.accepted:
                    # Each state was made from the one before it, which had no figures yet.
                    for one, its in zip(learned, new, strict=False):
                        state = _with_figures(state, one, its)
                    self._current.keep(state, "learn", document.title or document.source)
        rest = iter(learned)
        return [
            next(rest)
            if one.id == document.id
            else plain_report(document, False, f"the same text as {one.title!r} ({one.id})")
            for document, one in zip(documents, first, strict=True)
        ]

    @overload
    def ask(  # type: ignore[overload-overlap]
        self,
        question: str,
        max_new_tokens: int = 64,
        on_token: TokenCallback | None = None,
        *,
        sentence: bool = False,
    ) -> Answer: ...
    @overload
    def ask(
        self,
        question: Sequence[str],
        max_new_tokens: int = 64,
        on_token: TokenCallback | None = None,
        *,
        sentence: bool = False,
    ) -> list[Answer]: ...
    def ask(
        self,
        question: str | Sequence[str],
        max_new_tokens: int = 64,
        on_token: TokenCallback | None = None,
        *,
        sentence: bool = False,
    ) -> Answer | list[Answer]:
        """Answer a question, or a list of them in a batch, in the same order. ``on_token`` streams a single one.

        With ``sentence``, an answer that is a few words of a document is a sentence that holds them.
        Raises InputError for what is no question, and StorageError if another process has deleted the memory.
        """
        several_given = not isinstance(question, str | bytes) and hasattr(question, "__iter__")
        questions: list[str] = list(question) if several_given else [question]  # type: ignore[list-item]
        for text in questions:
            if not normalised(check_text(text, "the question")).strip():
                raise InputError(f"the question {text!r} is empty; expected some words")
        if max_new_tokens < 1:
            raise InputError(f"max_new_tokens = {max_new_tokens}; expected at least 1")
        if on_token is not None and len(questions) != 1:
            raise InputError(f"on_token with {len(questions)} questions; expected one to stream")
        answers = self.answer(questions, Asked(max_new_tokens, on_token), sentence)
        return answers if several_given else answers[0]

    def chat(self, max_new_tokens: int = 256) -> Chat:
        """A conversation that keeps its history."""
        return Chat(self, max_new_tokens)

    def perplexity(self, texts: Sequence[str]) -> float:
        """Perplexity of the model with its memory in place: exp of the mean over all tokens of all texts."""
        if isinstance(texts, str):
            texts = [texts]
        with self._current.lock:
            return perplexity(self.base, self.strategy, self.state, texts)

    def answer(self, questions: Sequence[str], asked: Asked, sentence: bool = False) -> list[Answer]:
        """Answers, with a conversation before the questions if there is one; the last can be given feedback on.

        With ``sentence``, they are sentences: the speaker's, if there is one.
        """
        with self._current.lock:
            answers = answers_with_feedback(
                self.base, self.strategy, self.state, questions, asked, self.speaker, sentence
            )
            if answers:
                ids = tuple(dict.fromkeys(source.document_id for source in answers[-1].sources))
                self._remember(LastAnswer(answers[-1].question, answers[-1].text, ids))
        return answers

    def _remember(self, answer: LastAnswer) -> None:
        self._last_answer = answer
        if self.store is not None and self.store.exists:
            try:
                write_last_answer(self.store.root, answer)
            except StorageError as error:  # a memory that cannot be written to can still be asked
                logger.warning("feedback on this answer is not possible from elsewhere: %s", error)

    # -- feedback ----------------------------------------------------------------------------------

    def feedback(
        self, answer: Answer | None = None, reward: float | None = None, correction: str | None = None
    ) -> Feedback:
        """Say how good an answer was, from -1 to 1, or what it should have been. The default is the last answer.

        For the same or a similar question, the model then prefers what was rewarded and avoids what was punished,
        with any strategy. Without a reward, a correction gives 2 F1 - 1, at most 0. Raises InputError for a reward
        out of range, for neither reward nor correction, and if nothing was answered yet.
        """
        if answer is None:
            given = self.last_answer
        else:
            ids = tuple(dict.fromkeys(source.document_id for source in answer.sources))
            given = LastAnswer(answer.question, answer.text, ids)
        if given is None:
            raise InputError("no answer to give feedback on: this memory has answered nothing yet; ask it first")
        kept = self._revise_feedback(
            lambda memory: memory.add(given.question, given.text, reward, correction, given.documents), ""
        )
        return kept.items[-1]

    @property
    def feedbacks(self) -> tuple[Feedback, ...]:
        """All feedback in the memory, in the order in which it was given."""
        return FeedbackMemory.of(self.state).items

    def undo_feedback(self, feedback_id: str | None = None) -> Feedback:
        """Take back the last feedback, or the one with this id. Raises UnknownNameError if it is not there."""
        with self._current.lock:
            before = self.feedbacks
            left = self._revise_feedback(lambda memory: memory.without(feedback_id), "undo").items
        [gone] = [item for item in before if item not in left]
        return gone

    def fade_feedback(self, half_life_days: float | None) -> None:
        """Let feedback count half after this many days, a quarter after twice as many; None: it does not fade."""
        self._revise_feedback(lambda memory: memory.fading(half_life_days), f"half-life {half_life_days} days")

    def _revise_feedback(self, change: Callable[[FeedbackMemory], FeedbackMemory], note: str) -> FeedbackMemory:
        with self._writing() as state:
            memory = change(FeedbackMemory.of(state))
            self._current.keep(memory.in_state(state), "feedback", note or memory.items[-1].id)
            return memory

    @property
    def last_answer(self) -> LastAnswer | None:
        """The last answer, in a named memory even by another process; None before the first."""
        if self._last_answer is None and self.store is not None:
            return read_last_answer(self.store.root)
        return self._last_answer

    # -- memory ------------------------------------------------------------------------------------

    @property
    def state(self) -> State:
        """The newest state: everything that is learned. Raises StorageError if the memory was deleted meanwhile."""
        return self._current.read()

    @property
    def documents(self) -> tuple[DocumentRecord, ...]:
        """The documents in the memory, in the order in which they were learned."""
        return self.state.meta.documents

    @property
    def history(self) -> list[Version]:
        """The versions on disk, newest first; empty without a named memory."""
        return self.store.history() if self.store else []

    def save(self, name: str, overwrite: bool = False) -> Version:
        """Name the current version as a checkpoint."""
        store = self._current.needs_store(f"save {name!r}")
        with self._writing() as state:
            if store.head is None:
                self._current.keep(state, "init", "nothing learned yet")
            return store.checkpoint(name, overwrite)

    def load(self, name: str) -> None:
        """Make a checkpoint or version the current one. `rollback` undoes that; nothing leaves the history."""
        self._current.load(name)

    def rollback(self, ref: str | None = None) -> None:
        """Undo the last change, or go back to a version. Repeated, it goes further back."""
        self._current.rollback(ref)

    def forget(self, document_id: str) -> tuple[Feedback, ...]:
        """Remove a document as if it had never been learned. Raises UnknownNameError if it is not there.

        Feedback on answers that came from it goes, too, or may have come from it where that is not known: it could
        repeat them. It is returned. Earlier versions stay in the history until `Store.cleanup`.
        """
        with self._writing() as before:
            record = before.meta.document(document_id)
            state = self.strategy.forget(self.base, before, document_id)
            memory = FeedbackMemory.of(before)
            left = memory if record is None else memory.forgetting(record)
            self._current.keep(left.in_state(state), "forget", document_id)
            self._forget_last_answer()
            return tuple(item for item in memory.items if item not in left.items)

    def revise(self, change: Callable[[State], State], action: str, note: str = "") -> None:
        """Replace the current state by what ``change`` returns for it, as a new version.

        ``change`` has the memory to itself; if it returns the same state object that it received, nothing is written.
        """
        with self._writing() as before:
            state = change(before)
            if state is not before:
                self._current.keep(state, action, note)

    def clear(self) -> None:
        """Remove everything that was learned. Earlier versions stay in the history."""
        with self._writing():
            self._current.keep(self.strategy.init(self.base), "clear")
            self._forget_last_answer()

    def _forget_last_answer(self) -> None:
        self._last_answer = None
        if self.store is not None:
            forget_last_answer(self.store.root)

    def info(self) -> dict[str, Any]:
        """Facts about the model, the strategy and the memory: JSON values only."""
        with self._current.lock:
            state = self.state
            return {
                "model": self.base.name,
                "family": self.base.family.name,
                "device": str(self.base.device),
                "window": self.base.window,
                "fingerprint": self.base.fingerprint,
                "strategy": self.strategy.name,
                "config": self.strategy.config.model_dump(mode="json"),
                "documents": len(state.meta.documents),
                "bytes": state.bytes,
                "memory": str(self.store.root) if self.store else None,
                "speaker": self.speaker.model.name if self.speaker else None,
                **self.strategy.describe(self.base, state),
            }


class Chat:
    """A conversation: the strategy answers each turn with the history before it."""

    def __init__(self, learner: Learner, max_new_tokens: int = 256):
        self._learner = learner
        self._max_new_tokens = max_new_tokens
        self.history: list[Message] = []

    def say(self, text: str, on_token: Callable[[str], None] | None = None) -> Answer:
        """One turn. Interrupted or failed, it leaves the history as it was.

        A memory that learns what is said (`Strategy.learns_what_is_said`) learns the message first.
        """
        text = normalised(check_text(text, "the message"))
        if not text.strip():
            raise InputError(f"the message {text!r} is empty; expected some words")
        learner = self._learner
        notes: tuple[str, ...] = ()
        if learner.strategy.learns_what_is_said:
            report = learner.learn(Document(text, source="chat"))
            notes = () if report.accepted else (f"what you said was not learned: {report.reason}",)
        [answer] = learner.answer([text], Asked(self._max_new_tokens, on_token, self.history), sentence=True)
        self.history += [{"role": "user", "content": text}, {"role": "assistant", "content": answer.text}]
        return replace(answer, notes=(*answer.notes, *notes))

    def clear_history(self) -> None:
        """Forget the conversation; the memory stays."""
        self.history.clear()


_TEXT = "text_sha256"


def _nothing_learned(base: BaseModel, strategy: Strategy[Any], store: Store | None) -> CurrentState:
    return CurrentState(
        strategy.init(base), store, lambda state: check_compatible(state, strategy.name, base.fingerprint, base.name)
    )


def _speaker(given: str | ChatModel | Speaker | None) -> Speaker | None:
    if given is None or isinstance(given, Speaker):
        return given
    return Speaker.open(given) if isinstance(given, str) else Speaker(given)


def _first_of_each_text(documents: Sequence[Document], state: State) -> list[Document | DocumentRecord]:
    """For each document, the first one with its text: in the memory, or else among the documents."""
    held: dict[Any, Document | DocumentRecord] = {r.details.get(_TEXT): r for r in state.meta.documents}
    return [held.setdefault(text_sha256(document.text), document) for document in documents]


def _with_figures(state: State, report: LearnReport, document: Document) -> State:
    """The state, its record of the document completed with the figures of learning that the strategy left out."""
    figures = {key: getattr(report, key) for key in ("loss", "seconds", "recall_before", "recall_after")}
    figures[_TEXT] = text_sha256(document.text)
    documents = tuple(
        replace(d, details={**figures, **d.details}) if d.id == report.document_id else d for d in state.meta.documents
    )
    return state.with_documents(documents, state.tensors)


def _warned(report: LearnReport, document: Document, before: Sequence[DocumentRecord]) -> LearnReport:
    """The report, with a warning if the memory also holds an earlier text of the same file or page."""
    if not report.accepted or document.source in ("text", "-", "chat"):
        return report
    found = [record for record in before if record.source == document.source and record.id != document.id]
    warnings = tuple(
        f"this memory also holds an earlier text of {document.source}, learned on {record.learned_at[:10]}, and "
        f"answers from both; `continual-learning memory forget {record.id}` removes the earlier one"
        for record in found
    )
    return replace(report, warnings=(*report.warnings, *warnings))
