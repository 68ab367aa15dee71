"""ACE: no weights change; a playbook of strategies in words grows by generating, reflecting and curating.

Agentic Context Engineering (Zhang et al. 2025, arXiv 2510.04618). Documents are kept in chunks and looked up for a
question. From questions with known answers a playbook is learned: what the model got wrong is reflected on, a curator
turns that into operations on single entries, and the playbook is kept only if held-out questions are answered better
with it. The entries and chunks that are relevant to a question are put before it.

    config.py     the settings
    playbook.py   entries with ids, counts and origins; JSON and Markdown
    patch.py      ADD, UPDATE, MERGE, REMOVE, TAG: validated, applied, logged, undone
    refine.py     duplicates and budgets
    selection.py  which entries are put before a question
    prompts.py    the prompts and JSON schemas of the roles
    roles.py      generator, reflector and curator over any `chat_models`
    loops.py      offline, online, evaluation
    memory.py     what ACE stores in a state
"""

from __future__ import annotations

import random
from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import Any

from continual_learning.chat_models import ChatModel, InProcessModel, OllamaModel, OpenAIModel, ServerSettings
from continual_learning.chat_models.servers import Finding
from continual_learning.documents import Document
from continual_learning.errors import InputError
from continual_learning.memory.state import State
from continual_learning.model.base_model import BaseModel, Message
from continual_learning.reading.generated import generated_confidence
from continual_learning.reading.in_prompt import Excerpt
from continual_learning.reading.plain import plain_answers
from continual_learning.retrieval import Relevance
from continual_learning.retrieval.chunk_store import (
    CHUNK_TOKENS,
    OVERLAP_TOKENS,
    TOP_K,
    ChunkFinder,
    RelevantChunk,
    chunk_count,
    keep_document,
    kept_chunks,
)
from continual_learning.strategies.base import Cost, Strategy
from continual_learning.strategies.methods.ace.config import ACEConfig
from continual_learning.strategies.methods.ace.loops import LearnResult, offline, online
from continual_learning.strategies.methods.ace.memory import (
    Task,
    held_out_of,
    playbook_of,
    split,
    with_held_out,
    with_playbook,
    without_document,
)
from continual_learning.strategies.methods.ace.playbook import Entry
from continual_learning.strategies.methods.ace.refine import playbook_tokens
from continual_learning.strategies.methods.ace.roles import Roles
from continual_learning.strategies.methods.ace.selection import select
from continual_learning.training.questions import make_fragments, study_questions
from continual_learning.types import (
    UNAFFECTED,
    Answer,
    LearnReport,
    Progress,
    ProgressCallback,
    QuestionAnswer,
    Source,
    TokenCallback,
)

__all__ = ["ACE", "ACEConfig"]

_FRAGMENT_TOKENS = 20
_MOST_PROBES = 16
_RETRIES = 2  # after a failure that may be temporary, with growing pauses
_EARLIER_QUESTIONS = 8  # held-out ones of earlier documents that are asked again: one batch


class ACE(Strategy[ACEConfig]):
    """Learns a playbook of strategies, and keeps documents to look things up in."""

    summary = "a playbook of strategies that improves with use; no weights change (ACE)"
    Config = ACEConfig
    cost = Cost(
        learn_token=0.5,
        answer=1.25,
        token_bytes=5.4,
        prompt_tokens=TOP_K * CHUNK_TOKENS,
    )

    def __init__(self, config: ACEConfig):
        super().__init__(config)
        self._relevance = Relevance.default()
        self._finder = ChunkFinder()
        self._server: ChatModel | None = None  # a connection, made when it is first needed

    def learn(
        self,
        base: BaseModel,
        state: State,
        document: Document,
        qa: Sequence[QuestionAnswer] = (),
        progress: ProgressCallback | None = None,
    ) -> tuple[State, LearnReport]:
        """Keep the document, and learn a playbook from the questions given with it, if there are any.

        Half of the questions are held out, and the playbook changes only if they are answered better with the change.
        Raises ChatModelError if a server cannot be used; the state is then unchanged.
        """
        kept, tokens, size = keep_document(base, state, document, CHUNK_TOKENS, OVERLAP_TOKENS)
        if progress is not None:
            progress(Progress("chunks", 1, 1))
        reason = f"kept in {len(kept_chunks(kept)[document.id])} chunks"
        report = LearnReport(True, reason, document.id, document.title, tokens, 0.0, size)
        if qa and self.config.loops:
            kept, report = self._learn_labelled(base, kept, document, qa, report, progress)
        elif self.config.self_reflection and self.config.loops:
            kept, report = self._reflect_alone(base, kept, document, report, progress)
        return kept, report

    def answer(
        self,
        base: BaseModel,
        state: State,
        questions: Sequence[str],
        max_new_tokens: int = 64,
        on_token: TokenCallback | None = None,
        history: Sequence[Message] = (),
    ) -> list[Answer]:
        """Answer each question with the entries and chunks that are relevant to it, or as it is if there are none."""
        shown = [self._shown(base, state, question, history) for question in questions]
        answers: dict[int, Answer] = {}
        touched = [i for i, (_, found) in enumerate(shown) if found or self.config.on_server]
        if touched:
            roles = self.roles(base, state)
            attempts = roles.attempts(
                [Task(QuestionAnswer(questions[i], ())) for i in touched],
                [tuple(entry for entry, _ in shown[i][0]) for i in touched],
                [tuple(_excerpt(found) for found in shown[i][1]) for i in touched],
                max_new_tokens,
                history,
                on_token,
            )
            for i, attempt in zip(touched, attempts, strict=True):
                sources = tuple(found.source for found in reversed(shown[i][1])) + tuple(
                    _entry_source(entry, score) for entry, score in shown[i][0] if entry in attempt.shown
                )
                answers[i] = Answer(
                    questions[i],
                    attempt.answer,
                    sources,
                    attempt.tokens,
                    attempt.seconds,
                    attempt.notes,
                    confidence=generated_confidence(attempt.probability),
                )
        rest = [i for i in range(len(questions)) if i not in answers]
        if rest:
            made = plain_answers(base, [questions[i] for i in rest], max_new_tokens, on_token, history)
            answers.update(zip(rest, made, strict=True))
        return [answers[i] for i in range(len(questions))]

    def affects(self, base: BaseModel, state: State, text: str) -> bool:
        """Whether anything relevant is found for ``text``; always with a server's model, which is not the base."""
        return self.config.on_server or bool(self._finder.find(state, text))

    def involves(self, base: BaseModel, state: State, question: str, history: Sequence[Message] = ()) -> bool:
        """False: entries and chunks that were shown are sources, and without any a model answers on its own."""
        return False

    def answer_key(self, base: BaseModel, state: State, question: str) -> Hashable | None:
        """The chunks and entries that are put before the question."""
        entries, found = self._shown(base, state, question)
        if not found and not self.config.on_server:
            return UNAFFECTED
        return tuple(_excerpt(chunk) for chunk in found), tuple((entry.id, entry.text) for entry, _ in entries)

    def context(self, base: BaseModel, state: State, text: str) -> str:
        """Return the entries and chunks that are put before ``text``, the best last."""
        entries, found = self._shown(base, state, text)
        return "\n\n".join([*(entry.text for entry, _ in entries), *(str(_excerpt(chunk)) for chunk in found)])

    def forget(self, base: BaseModel, state: State, document_id: str) -> State:
        """Drop the document's chunks and held-out questions, and the entries that its questions had a part in.

        Exact with one exception: other entries may have been written while the curator saw one of those.
        """
        return without_document(super().forget(base, state, document_id), document_id)

    def describe(self, base: BaseModel, state: State) -> dict[str, Any]:
        """The size of the playbook against its budgets, and which model plays the roles."""
        playbook = playbook_of(state.meta.extra)
        return {
            "chunks": chunk_count(state),
            "playbook_entries": len(playbook),
            "playbook_tokens": playbook_tokens(playbook, lambda text: len(base.encode(text))),
            "held_out_questions": len(held_out_of(state)),
            "roles_played_by": base.name
            if not self.config.on_server
            else f"{self.config.server_model} ({self.config.backend})",
        }

    # -- for loops over a whole memory -----------------------------------------------------------

    def checks(self) -> Sequence[Finding]:
        """Check the chat server, if one plays the roles."""
        if not self.config.on_server:
            return [Finding("chat server", True, f"none is used: the base model plays the roles of {self.name}")]
        return _server(self.config).check()

    def roles(self, base: BaseModel, state: State) -> Roles:
        """The three roles over the documents of a state. Raises MissingExtraError and ConfigError for a server."""
        return Roles(
            self.chat_model(base),
            self.config,
            lambda question: [_excerpt(found) for found in self._finder.find(state, question)[::-1]],
            lambda text: len(base.encode(text)),
            self._relevance,
        )

    def chat_model(self, base: BaseModel | None = None) -> ChatModel:
        """The model that plays the roles; a server's needs no base."""
        if self.config.on_server:
            if self._server is None:
                self._server = _server(self.config)
            return self._server
        if base is None:
            raise InputError("backend 'base' plays the roles in process; expected a loaded base model")
        return InProcessModel(base)

    # -- inside ----------------------------------------------------------------------------------

    def _shown(
        self, base: BaseModel, state: State, question: str, history: Sequence[Message] = ()
    ) -> tuple[list[tuple[Entry, float]], list[RelevantChunk]]:
        """Return entries and chunks for a question. No chunk, no entries: the memory is not about the question."""
        found = self._finder.find(state, question, history)[::-1]  # the best next to the question
        if not found and not self.config.on_server:
            return [], []
        playbook = playbook_of(state.meta.extra)
        entries = select(playbook, question, self.config, self._relevance, lambda text: len(base.encode(text)))
        return entries, found

    def _learn_labelled(
        self,
        base: BaseModel,
        state: State,
        document: Document,
        qa: Sequence[QuestionAnswer],
        report: LearnReport,
        progress: ProgressCallback | None,
    ) -> tuple[State, LearnReport]:
        tasks = [Task(one, document.id) for one in qa]
        if len(tasks) < 2:
            warning = "1 question cannot be both learned from and held out; the playbook stays as it was; give 2"
            return state, replace(report, warnings=(warning,))
        train, held_out = split(tasks)
        earlier = _spread(held_out_of(state), _EARLIER_QUESTIONS)
        playbook = playbook_of(state.meta.extra)
        result = offline(self.roles(base, state), playbook, train, [*held_out, *earlier], progress)
        state = with_held_out(with_playbook(state, result.playbook), document.id, held_out)
        return state, _told(report, result, result.playbook is not playbook)

    def _reflect_alone(
        self,
        base: BaseModel,
        state: State,
        document: Document,
        report: LearnReport,
        progress: ProgressCallback | None,
    ) -> tuple[State, LearnReport]:
        """Learn from questions made by rule: half of them without showing the answers, judged by the other half."""
        fragments = make_fragments(document.text, lambda t: len(base.encode(t)), _FRAGMENT_TOKENS, _FRAGMENT_TOKENS)
        asked = study_questions(fragments, document.title, 1, random.Random(document.sha256))[:_MOST_PROBES]
        probes = [Task(QuestionAnswer(a.question, (a.asked_for,)), document.id) for a in asked]
        if len(probes) < 2:
            warning = f"{len(probes)} question could be made from this document; the playbook stays as it was"
            return state, replace(report, warnings=(warning,))
        train, held_out = split(probes)
        earlier = _spread(held_out_of(state), _EARLIER_QUESTIONS)
        unlabelled = [Task(QuestionAnswer(t.qa.question, ()), t.document) for t in train]
        playbook = playbook_of(state.meta.extra)
        result = online(self.roles(base, state), playbook, unlabelled, [*held_out, *earlier], progress)
        return with_playbook(state, result.playbook), _told(report, result, result.playbook is not playbook)


def _told(report: LearnReport, result: LearnResult, changed: bool) -> LearnReport:
    """Return the report with what the loops did to the playbook."""
    before, after = result.before, result.after
    assert before is not None and after is not None
    held = f"held-out recall {before.recall:.2f} to {after.recall:.2f}"
    said = f"the playbook has {len(result.playbook)} entries now" if changed else "the playbook stays as it was"
    warnings = []
    if result.failures:
        shown = "; ".join(result.failures[:3])
        warnings.append(f"{len(result.failures)} replies of the model could not be used and changed nothing: {shown}")
    return replace(
        report,
        reason=f"{report.reason}; {said}: {held}, {result.stopped}",
        recall_before=before.recall,
        recall_after=after.recall,
        warnings=(*report.warnings, *warnings),
    )


def _spread(tasks: Sequence[Task], count: int) -> list[Task]:
    """Return at most ``count`` of the tasks, spread over the whole list."""
    if len(tasks) <= count:
        return list(tasks)
    return [tasks[int((i + 0.5) * len(tasks) / count)] for i in range(count)]


def _entry_source(entry: Entry, score: float) -> Source:
    document = next((origin.document for origin in entry.origins if origin.document), "")
    return Source(document, f"playbook {entry.id}", score, entry.text)


def _server(config: ACEConfig) -> OllamaModel | OpenAIModel:
    url = config.host if config.backend == "ollama" else config.base_url
    section = f"strategies.{ACE.name}"
    settings = ServerSettings(config.server_model, url, config.num_ctx, config.timeout, _RETRIES, section)
    return OllamaModel(settings) if config.backend == "ollama" else OpenAIModel(settings, config.api_key_variable)


def _excerpt(chunk: RelevantChunk) -> Excerpt:
    return Excerpt(chunk.text, chunk.title)
