"""A contender learns documents one after another and is asked questions: the building block of every protocol.

Step 0 is before the first document, step i after the i-th. Each step is stored separately in the cache, so an
interrupted sequence resumes with the step that it was at.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from continual_learning.documents import Document
from continual_learning.documents.shipped import general_questions, unrelated_texts
from continual_learning.errors import LearningError, MemoryStoreError
from continual_learning.evaluation.cache import ResultCache, digest
from continual_learning.evaluation.code_digest import code_digest
from continual_learning.evaluation.contender import Contender, base_key
from continual_learning.evaluation.machine import PeakMemory, count_gflop
from continual_learning.memory.state import State
from continual_learning.memory.store import Store
from continual_learning.model.base_model import BaseModel
from continual_learning.model.machine import machine_key
from continual_learning.model.tokenizer import Tokenizer
from continual_learning.reading.plain import plain_answers
from continual_learning.strategies.base import Strategy, strategy_class
from continual_learning.strategies.gate import retention
from continual_learning.types import UNAFFECTED, Answer, LearnReport, ProgressCallback

COUNTED_ALTERNATIVES = 2
"""Alternatives that count for hit@3, in addition to the answer itself."""


@dataclass(frozen=True)
class LearningSequence:
    """What one contender does, from a clean base."""

    contender: Contender
    seed: int
    documents: tuple[Document, ...]
    questions: tuple[str, ...]
    ask_after: frozenset[int]
    """Steps after which all questions are asked."""
    retention_after: frozenset[int]
    """Steps after which retention is measured: how much of what the base knew is left."""
    ask_own: tuple[tuple[int, ...], ...] = ()
    """The indices of the questions asked right after each document, if not all are asked."""
    holdout: tuple[str, ...] = ()
    """Questions about documents that are never learned, asked before the first step and with retention."""
    max_new_tokens: int = 24
    count_flops: bool = False
    """Learn the first document once more, to count its operations."""

    def step_key(self, base: BaseModel, step: int) -> dict[str, Any]:
        """What the result of a step depends on."""
        return {
            "what": "step",
            **self.contender.key(base, self.seed),
            "source": measured_code(self.contender.strategy),
            "machine": machine_key(base),
            "documents": [d.sha256 for d in self.documents[:step]],
            "questions": digest([self.questions[i] for i in self.asked_after(step)]),
            "retention": step in self.retention_after,
            "holdout": digest(self.holdout) if self.asks_holdout(step) else None,
            "max_new_tokens": self.max_new_tokens,
            "count_flops": self.count_flops and step == 1,
        }

    def asked_after(self, step: int) -> tuple[int, ...]:
        """Indices of the questions that are asked after a step."""
        if step in self.ask_after:
            return tuple(range(len(self.questions)))
        return self.ask_own[step - 1] if step and self.ask_own else ()

    def asks_holdout(self, step: int) -> bool:
        """Whether the holdout questions are asked after a step."""
        return bool(self.holdout) and (step == 0 or step in self.retention_after)


class SequenceRunner:
    """Runs sequences on one base, with one cache."""

    def __init__(self, base: BaseModel, cache: ResultCache):
        self.base = base
        self.cache = cache
        self.base_answers_key = {
            "what": "base answers",
            "base": base_key(base),
            "source": measured_code(),
            "machine": machine_key(base),
        }
        self._base_answers: dict[str, dict[str, Any]] = cache.get(self.base_answers_key) or {}

    def cached(self, plan: LearningSequence) -> list[dict[str, Any]]:
        """The results of the first steps, as far as they need not be run again."""
        found = []
        for step in range(len(plan.documents) + 1):
            result = self.cache.get(plan.step_key(self.base, step))
            if result is None:
                break
            found.append(result)
        return found

    def run(
        self,
        plan: LearningSequence,
        on_step: Callable[[int, dict[str, Any]], None],
        progress: ProgressCallback | None = None,
    ) -> list[dict[str, Any]]:
        """The result of every step, cached or new; ``on_step`` is called with each new one."""
        results = self.cached(plan)
        if len(results) == len(plan.documents) + 1:
            return results
        strategy = plan.contender.make(plan.seed)
        scratch = _Scratch(self.base, plan, self.cache)
        learned, state = scratch.load(strategy, len(results) - 1)
        memo: dict[tuple[Hashable, str], dict[str, Any]] = {}
        for step in range(learned, len(plan.documents) + 1):
            result: dict[str, Any] = {}
            if step > learned:
                state, result["learn"] = self._learn(strategy, state, plan, step, progress)
            if step < len(results):  # already known: only the state was missing
                continue
            self._measure(strategy, state, plan, step, result, memo)
            if step:
                scratch.save(state, step)
            self.cache.put(plan.step_key(self.base, step), result)
            results.append(result)
            on_step(step, result)
        scratch.delete()
        return results

    def _learn(
        self,
        strategy: Strategy[Any],
        state: State,
        plan: LearningSequence,
        step: int,
        progress: ProgressCallback | None,
    ) -> tuple[State, dict[str, Any]]:
        document = plan.documents[step - 1]
        before = state
        started = time.perf_counter()
        with PeakMemory(self.base.device) as peak:
            try:
                state, report = strategy.learn(self.base, state, document, progress=progress)
            except LearningError as error:  # only this document fails; the next one may be learned
                seconds = time.perf_counter() - started
                report = LearnReport(False, str(error), document.id, document.title, 0, seconds, 0)
        record = {
            **_plain(dataclasses.asdict(report)),
            "peak_memory_bytes": peak.bytes,
            "kept_bytes": kept_bytes(state),
        }
        if plan.count_flops and step == 1 and report.accepted:
            record["gflop"] = count_gflop(lambda: strategy.learn(self.base, before, document))
        return state, record

    def _measure(
        self,
        strategy: Strategy[Any],
        state: State,
        plan: LearningSequence,
        step: int,
        result: dict[str, Any],
        memo: dict[tuple[Hashable, str], dict[str, Any]],
    ) -> None:
        def ask(questions: Sequence[str]) -> list[dict[str, Any]]:
            return self._ask(strategy, state, questions, plan.max_new_tokens, memo)

        if places := plan.asked_after(step):
            result["answers"] = ask([plan.questions[i] for i in places])
        if plan.asks_holdout(step):
            result["holdout"] = ask(plan.holdout)
        if step in plan.retention_after:
            kept = retention(self.base, strategy, state, general_questions(), unrelated_texts())
            result["retention"] = dataclasses.asdict(kept)

    def _ask(
        self,
        strategy: Strategy[Any],
        state: State,
        questions: Sequence[str],
        max_new_tokens: int,
        memo: dict[tuple[Hashable, str], dict[str, Any]],
    ) -> list[dict[str, Any]]:
        """An answer to each question. If it cannot have changed since the last time, it is not generated again."""
        keys = [(strategy.answer_key(self.base, state, question), question) for question in questions]
        self._ask_base([question for key, question in keys if key == UNAFFECTED], max_new_tokens)
        open_ = [
            question for key, question in keys if key is None or (key != UNAFFECTED and (key, question) not in memo)
        ]
        asked = list(dict.fromkeys(open_))
        started = time.perf_counter()
        answers = strategy.answer(self.base, state, asked, max_new_tokens) if asked else []
        share = (time.perf_counter() - started) / max(1, len(asked))
        new = {answer.question: _answer_record(answer, share) for answer in answers}
        records = []
        for key, question in keys:
            if key == UNAFFECTED:
                records.append(self._base_answers[f"{max_new_tokens}:{question}"])
                continue
            if question in new:
                memo[key, question] = new[question]
            records.append(memo[key, question])
        return records

    def _ask_base(self, questions: Sequence[str], max_new_tokens: int) -> None:
        """Fill in the base's own answers to questions that it has not been asked before."""
        asked = [q for q in dict.fromkeys(questions) if f"{max_new_tokens}:{q}" not in self._base_answers]
        if not asked:
            return
        started = time.perf_counter()
        answers = plain_answers(self.base, asked, max_new_tokens)
        share = (time.perf_counter() - started) / len(asked)
        self._base_answers.update({f"{max_new_tokens}:{a.question}": _answer_record(a, share) for a in answers})
        self.cache.put(self.base_answers_key, self._base_answers)


MEASURING: tuple[type, ...] = (SequenceRunner, Tokenizer)
"""The roots of `code_digest` that are part of every measurement."""


class _Scratch:
    """The state of a running sequence on disk, so that it can resume after an interruption."""

    def __init__(self, base: BaseModel, plan: LearningSequence, cache: ResultCache):
        self._base = base
        self._store: Store | None = None
        if cache.folder is not None and len(plan.documents) > 1:
            key = {**plan.step_key(base, len(plan.documents)), "what": "state"}
            self._store = Store(cache.folder / "states" / digest(key)[:32])

    def load(self, strategy: Strategy[Any], at_most: int) -> tuple[int, State]:
        """The latest state at or before step ``at_most``, and its step; step 0 if there is none."""
        if self._store is not None and at_most > 0:
            try:
                head = self._store.head
                if head is not None and int(head.note) <= at_most:
                    return int(head.note), self._store.load()
            except MemoryStoreError:  # a damaged scratch copy is recreated
                self.delete()
        return 0, strategy.init(self._base)

    def save(self, state: State, step: int) -> None:
        if self._store is not None:
            self._store.save(state, "learn", str(step))
            self._store.cleanup(keep=1, dry_run=False)

    def delete(self) -> None:
        if self._store is not None and self._store.root.exists():
            shutil.rmtree(self._store.root)
            Path(self._store.root.parent, f".{self._store.name}.lock").unlink(missing_ok=True)


def measured_code(strategy: str = "") -> str:
    """Digest of the code that a measurement runs: the named strategy, if any, the base model and the measuring."""
    return code_digest(*MEASURING, *([strategy_class(strategy)] if strategy else []))


def kept_bytes(state: State) -> int:
    """Size of what a memory keeps: its tensors, texts and other data."""
    extra = json.dumps(state.meta.extra, ensure_ascii=False).encode() if state.meta.extra else b""
    return state.bytes + len(extra)


def _answer_record(answer: Answer, seconds: float) -> dict[str, Any]:
    return {
        "text": answer.text,
        "tokens": answer.tokens,
        "seconds": seconds,
        "sources": [
            {"document": s.document_id, "title": s.title, "score": s.score, "quote": s.quote} for s in answer.sources
        ],
        "notes": list(answer.notes),
        "origin": answer.origin,
        "confidence": answer.confidence,
        "alternatives": [
            {"text": a.text, "probability": a.probability} for a in answer.alternatives[:COUNTED_ALTERNATIVES]
        ],
    }


def _plain(data: dict[str, Any]) -> dict[str, Any]:
    """The same value after a round trip through JSON, so that new and cached results are alike."""
    plain: dict[str, Any] = json.loads(json.dumps(data))
    return plain
