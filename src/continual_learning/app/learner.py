"""Learner: a base model, a strategy, a state, a store and one lock. The main class for users."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, overload

from continual_learning.app.feedback import Feedback, FeedbackMemory, FeedbackSteer
from continual_learning.documents import JSON_LINES, Document, is_url, names_source, read_documents, without_repeats
from continual_learning.errors import InputError, StorageError
from continual_learning.memory.state import DocumentRecord, State
from continual_learning.memory.store import Store, Version, check_compatible
from continual_learning.memory.store.last_answer import read_last_answer, write_last_answer
from continual_learning.model.base_model import BaseModel, Message
from continual_learning.model.cpu_linear import Precision
from continual_learning.options import current_options
from continual_learning.reading.plain import plain_answers
from continual_learning.strategies.base import Strategy, make_strategy, strategy_class
from continual_learning.strategies.gate import perplexity
from continual_learning.text.words import several
from continual_learning.types import Answer, LearnReport, ProgressCallback, QuestionAnswer, TokenCallback

logger = logging.getLogger(__name__)

Source = str | Path | Document
QA = QuestionAnswer | Mapping[str, Any]


class Learner:
    """Learns documents, answers from them, keeps them. Safe for use by several threads, one at a time.

    Without a ``memory`` name, what is learned lasts as long as this object; named checkpoints and history need one.
    """

    def __init__(self, base: BaseModel, strategy: Strategy[Any], store: Store | None = None):
        self.base = base
        self.strategy = strategy
        self.store = store
        self._lock = threading.RLock()
        self._earlier: list[State] = []  # for rollback without a store
        self._state = strategy.init(base)
        self._version: str | None = None
        self._last_answer: tuple[str, str] | None = None
        self._refresh()

    @classmethod
    def open(
        cls,
        model: str | BaseModel | None = None,
        strategy: str = "ttt",
        memory: str | None = None,
        home: Path | None = None,
        device: str = "auto",
        dtype: str = "auto",
        precision: Precision = "full",
        **options: Any,
    ) -> Learner:
        """Open a model with a strategy, and a memory of this name on disk if one is given.

        Without ``model``, the strategy's option ``base_model`` is used if it is set, else smollm2-135m.
        ``options`` are fields of the strategy's Config; for an existing memory they override the ones that it was
        made with. Raises ConfigError for an unknown one, UnknownNameError for an unknown strategy,
        ModelNotFoundError, UnsafeNameError, MismatchError (also for a retired option: `options.current_options`) and
        CorruptMemoryError.
        """
        make_strategy(strategy, options)  # a wrong name or option is reported before seconds of loading
        store = Store.open(memory, home) if memory is not None else None
        if store is not None and store.head is not None:
            kept = store.meta()  # the tensors are read once, below
            if kept["strategy"] == strategy:
                known = current_options(strategy_class(strategy).Config, kept["config"], f"memory {memory!r}")
                options = {**known, **options}
        if model is None:
            model = str(options.get("base_model") or "smollm2-135m")
        base = model if isinstance(model, BaseModel) else BaseModel.load(model, device, dtype, precision)
        return cls(base, make_strategy(strategy, options), store)

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
        many = isinstance(source, Sequence) and not isinstance(source, str)
        sources: Sequence[Source] = source if many else [source]  # type: ignore[list-item, assignment]
        documents: list[Document] = []
        for one in sources:
            found, listed = _documents(one, title)
            documents += found
            many = many or listed
        asked = [_question_answer(q) for q in qa or ()]
        if many and (title is not None or asked):
            given = f"title {title!r}" if title is not None else several(len(asked), "question")
            raise InputError(
                f"{given} with {several(len(documents), 'document')}; expected one document, learn them one by one"
            )
        if not many:
            with self._writing():
                results = [self.strategy.learn(self.base, self._state, documents[0], asked, progress)]
                return self._keep_learned(documents, results)[0]
        reports: list[LearnReport] = []
        size = self.documents_together
        for first in range(0, len(documents), size):
            reports += self._learn_together(documents[first : first + size], progress)
        return reports

    @property
    def documents_together(self) -> int:
        """Number of documents of a list that are learned at a time; an interruption loses all of these."""
        return self.strategy.documents_together

    def _learn_together(self, documents: Sequence[Document], progress: ProgressCallback | None) -> list[LearnReport]:
        with self._writing():
            results = self.strategy.learn_together(self.base, self._state, documents, progress)
            return self._keep_learned(documents, results)

    def _keep_learned(
        self, documents: Sequence[Document], results: Sequence[tuple[State, LearnReport]]
    ) -> list[LearnReport]:
        reports: list[LearnReport] = []
        for document, (state, report) in zip(documents, results, strict=True):
            reports.append(report)
            if report.accepted:
                # Each state was made from the one before it, which had no figures yet.
                for one in reports:
                    state = _with_figures(state, one)
                self._keep(state, "learn", document.title or document.source)
        return reports

    @overload
    def ask(  # type: ignore[overload-overlap]
        self, question: str, max_new_tokens: int = 64, on_token: TokenCallback | None = None
    ) -> Answer: ...
    @overload
    def ask(
        self, question: Sequence[str], max_new_tokens: int = 64, on_token: TokenCallback | None = None
    ) -> list[Answer]: ...
    def ask(
        self, question: str | Sequence[str], max_new_tokens: int = 64, on_token: TokenCallback | None = None
    ) -> Answer | list[Answer]:
        """Answer a question, or a list of them in a batch, in the same order. ``on_token`` streams a single one."""
        questions = [question] if isinstance(question, str) else list(question)
        for text in questions:
            if not text.strip():
                raise InputError(f"the question {text!r} is empty; expected some words")
        if max_new_tokens < 1:
            raise InputError(f"max_new_tokens = {max_new_tokens}; expected at least 1")
        if on_token is not None and len(questions) != 1:
            raise InputError(f"on_token with {len(questions)} questions; expected one to stream")
        with self._lock:
            answers = self._answer(questions, max_new_tokens, on_token)
        return answers[0] if isinstance(question, str) else answers

    def chat(self, max_new_tokens: int = 256) -> Chat:
        """A conversation that keeps its history."""
        return Chat(self, max_new_tokens)

    def perplexity(self, texts: Sequence[str]) -> float:
        """Perplexity of the model with its memory in place: exp of the mean over all tokens of all texts."""
        if isinstance(texts, str):
            texts = [texts]
        with self._lock:
            return perplexity(self.base, self.strategy, self._state, texts)

    # -- feedback ----------------------------------------------------------------------------------

    def feedback(
        self, answer: Answer | None = None, reward: float | None = None, correction: str | None = None
    ) -> Feedback:
        """Say how good an answer was, from -1 to 1, or what it should have been. The default is the last answer.

        For the same or a similar question, the model then prefers what was rewarded and avoids what was punished,
        with any strategy. Without a reward, a correction gives 2 F1 - 1, at most 0. Raises InputError for a reward
        out of range, for neither reward nor correction, and if nothing was answered yet.
        """
        given = self.last_answer if answer is None else (answer.question, answer.text)
        if given is None:
            raise InputError("no answer to give feedback on: this memory has answered nothing yet; ask it first")
        with self._writing():
            memory = FeedbackMemory.of(self._state).add(*given, reward, correction)
            self._keep(memory.in_state(self._state), "feedback", memory.items[-1].id)
            return memory.items[-1]

    @property
    def feedbacks(self) -> tuple[Feedback, ...]:
        """All feedback in the memory, in the order in which it was given."""
        return FeedbackMemory.of(self._state).items

    def undo_feedback(self, feedback_id: str | None = None) -> Feedback:
        """Take back the last feedback, or the one with this id. Raises UnknownNameError if it is not there."""
        with self._writing():
            memory = FeedbackMemory.of(self._state)
            left = memory.without(feedback_id)
            [gone] = [item for item in memory.items if item not in left.items]
            self._keep(left.in_state(self._state), "feedback", f"without {gone.id}")
            return gone

    def fade_feedback(self, half_life_days: float | None) -> None:
        """Let feedback count half after this many days, a quarter after twice as many; None: it does not fade."""
        with self._writing():
            memory = FeedbackMemory.of(self._state).fading(half_life_days)
            self._keep(memory.in_state(self._state), "feedback", f"half-life {half_life_days} days")

    @property
    def last_answer(self) -> tuple[str, str] | None:
        """Question and text of the last answer, in a named memory even by another process; None before the first."""
        if self._last_answer is None and self.store is not None:
            return read_last_answer(self.store.root)
        return self._last_answer

    # -- memory ------------------------------------------------------------------------------------

    @property
    def state(self) -> State:
        """The current state: everything that is learned."""
        return self._state

    @property
    def documents(self) -> tuple[DocumentRecord, ...]:
        """The documents in the memory, in the order in which they were learned."""
        return self._state.meta.documents

    @property
    def history(self) -> list[Version]:
        """The versions on disk, newest first; empty without a named memory."""
        return self.store.history() if self.store else []

    def save(self, name: str, overwrite: bool = False) -> Version:
        """Name the current version as a checkpoint."""
        store = self._needs_store(f"save {name!r}")
        with self._writing():
            if store.head is None:
                self._keep(self._state, "init", "nothing learned yet")
            return store.checkpoint(name, overwrite)

    def load(self, name: str) -> None:
        """Make a checkpoint or version the current one. `rollback` undoes that; nothing leaves the history."""
        store = self._needs_store(f"load {name!r}")
        with self._writing():
            state = store.load(name)
            self._check(state)
            self._keep(state, "load", name)

    def rollback(self, ref: str | None = None) -> None:
        """Undo the last change, or go back to a version. Repeated, it goes further back."""
        with self._writing():
            if self.store is not None:
                self.store.rollback(ref)
                self._refresh()
            elif ref is not None:
                self._needs_store(f"rollback to {ref!r}")
            elif not self._earlier:
                raise InputError("nothing to roll back: this memory has no earlier version")
            else:
                self._state = self._earlier.pop()

    def forget(self, document_id: str) -> None:
        """Remove a document as if it had never been learned. Raises UnknownNameError if it is not there."""
        with self._writing():
            state = self.strategy.forget(self.base, self._state, document_id)
            self._keep(state, "forget", document_id)

    def revise(self, change: Callable[[State], State], action: str, note: str = "") -> None:
        """Replace the current state by what ``change`` returns for it, as a new version.

        ``change`` has the memory to itself; if it returns the same state object that it received, nothing is written.
        """
        with self._writing():
            state = change(self._state)
            if state is not self._state:
                self._keep(state, action, note)

    def clear(self) -> None:
        """Remove everything that was learned. Earlier versions stay in the history."""
        with self._writing():
            self._keep(self.strategy.init(self.base), "clear", "")

    def info(self) -> dict[str, Any]:
        """Facts about the model, the strategy and the memory: JSON values only."""
        with self._lock:
            return {
                "model": self.base.name,
                "family": self.base.family.name,
                "device": str(self.base.device),
                "window": self.base.window,
                "fingerprint": self.base.fingerprint,
                "strategy": self.strategy.name,
                "config": self.strategy.config.model_dump(mode="json"),
                "documents": len(self.documents),
                "bytes": self._state.bytes,
                "memory": str(self.store.root) if self.store else None,
                **self.strategy.describe(self.base, self._state),
            }

    def close(self) -> None:
        """Close the learner. Nothing is left to write: every change is on disk when its call returns."""

    def __enter__(self) -> Learner:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # -- inside ------------------------------------------------------------------------------------

    def _answer(
        self,
        questions: Sequence[str],
        max_new_tokens: int,
        on_token: TokenCallback | None = None,
        history: Sequence[Message] = (),
    ) -> list[Answer]:
        """The strategy's answers, changed by feedback on some of the questions; the caller holds the lock."""
        memory = FeedbackMemory.of(self._state)
        about = [memory.about(question) if memory.items else [] for question in questions]
        plain = [question for question, items in zip(questions, about, strict=True) if not items]
        given = (max_new_tokens, on_token, history)
        unmoved = iter(self.strategy.answer(self.base, self._state, plain, *given) if plain else ())
        answers = [
            self._answer_with(items, question, *given) if items else next(unmoved)
            for question, items in zip(questions, about, strict=True)
        ]
        if answers:
            self._remember(answers[-1])
        return answers

    def _answer_with(
        self,
        feedback: Sequence[tuple[Feedback, float]],
        question: str,
        max_new_tokens: int,
        on_token: TokenCallback | None,
        history: Sequence[Message],
    ) -> Answer:
        """An answer to a question that feedback is about. Streamed as one piece: it may be written twice."""
        steer = FeedbackSteer(self.base, feedback)
        with self.base.steered(steer):  # alone: the steering is for this question only
            [answer] = self.strategy.answer(self.base, self._state, [question], max_new_tokens, None, history)
            # The base did not write it in one piece: it is quoted, joined from several generations, or from a server.
            apart = steer.begun != 1
            if apart and any(item.positive for item, _ in feedback):
                [answer] = plain_answers(self.base, [question], max_new_tokens, None, history)
                apart = False
        if on_token is not None:
            on_token(answer.text)
        ids = ", ".join(item.id for item, _ in feedback)
        said = "was taken into account"
        if apart and not steer.begun:
            said = "could not be taken into account: the base model did not write this answer"
        return replace(answer, notes=(*answer.notes, f"feedback {ids} {said}"))

    def _remember(self, answer: Answer) -> None:
        self._last_answer = (answer.question, answer.text)
        if self.store is not None and self.store.exists:
            try:
                write_last_answer(self.store.root, *self._last_answer)
            except StorageError as error:  # a memory that cannot be written to can still be asked
                logger.warning("feedback on this answer is not possible from elsewhere: %s", error)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Hold the memory exclusively, among threads and processes, at its newest version."""
        with self._lock:
            if self.store is None:
                yield
            else:
                with self.store.lock():
                    self._refresh()
                    yield

    def _keep(self, state: State, action: str, note: str) -> None:
        if self.store is not None:
            if self.store.head is None and action != "init":
                # So that the first change can be undone like any other.
                self.store.save(self._state, "init", "nothing learned yet")
            # On disk first: if that fails, memory and disk still agree.
            self._version = self.store.save(state, action, note).id
        else:
            self._earlier.append(self._state)
        self._state = state

    def _refresh(self) -> None:
        """Adopt the current version if another process or a rollback has changed it."""
        if self.store is None:
            return
        head = self.store.head
        if head is None or head.id == self._version:
            return
        state = self.store.load()
        self._check(state)
        self._state, self._version = state, head.id

    def _check(self, state: State) -> None:
        check_compatible(state, self.strategy.name, self.base.fingerprint, self.base.name)

    def _needs_store(self, what: str) -> Store:
        if self.store is None:
            raise InputError(f"cannot {what}: this memory has no name; open it with Learner.open(memory='work')")
        return self.store


class Chat:
    """A conversation: the strategy answers each turn with the history before it."""

    def __init__(self, learner: Learner, max_new_tokens: int = 256):
        self._learner = learner
        self._max_new_tokens = max_new_tokens
        self.history: list[Message] = []

    def say(self, text: str, on_token: Callable[[str], None] | None = None) -> Answer:
        """One turn. Interrupted or failed, it leaves the history as it was."""
        if not text.strip():
            raise InputError(f"the message {text!r} is empty; expected some words")
        learner = self._learner
        with learner._lock:
            [answer] = learner._answer([text], self._max_new_tokens, on_token, self.history)
        self.history += [{"role": "user", "content": text}, {"role": "assistant", "content": answer.text}]
        return answer

    def clear_history(self) -> None:
        """Forget the conversation; the memory stays."""
        self.history.clear()


def _with_figures(state: State, report: LearnReport) -> State:
    """The state, its record of the document completed with the figures of learning that the strategy left out."""
    figures = {key: getattr(report, key) for key in ("loss", "seconds", "recall_before", "recall_after")}
    documents = tuple(
        replace(d, details={**figures, **d.details}) if d.id == report.document_id else d for d in state.meta.documents
    )
    return state.with_documents(documents, state.tensors)


def _documents(source: Source, title: str | None) -> tuple[list[Document], bool]:
    """The documents of a source, and whether it can hold several."""
    if isinstance(source, Document):
        return [source if title is None else Document(source.text, title, source.source)], False
    if isinstance(source, Path) or names_source(source):
        found, skipped = read_documents(source, title)
        found, repeats = without_repeats(found)
        for item in (*skipped, *repeats):
            logger.warning("skipped %s: %s", item.source, item.reason)
        if isinstance(source, str) and is_url(source):
            return found, len(found) > 1
        path = Path(source).expanduser()
        return found, len(found) > 1 or path.is_dir() or path.suffix.lower() in JSON_LINES
    return [Document(source, title or "")], False


def _question_answer(given: QA) -> QuestionAnswer:
    if isinstance(given, QuestionAnswer):
        return given
    try:
        answer = given["answer"]
        answers = (answer,) if isinstance(answer, str) else tuple(answer)
        return QuestionAnswer(str(given["question"]), answers)
    except (KeyError, TypeError):
        raise InputError(f"qa item {given!r}; expected 'question' and 'answer' (a string or a list)") from None
