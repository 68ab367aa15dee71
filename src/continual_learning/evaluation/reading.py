"""What a reader makes of a passage's own questions, and of as many that the passage does not answer.

The passage is known: nothing is retrieved, and all questions are read in the same text. Beside the reader's decision
stands the free gate of CDLM (arXiv 2605.28889, Self-Gating): the entropy of the first token of the base's own answer,
with the text in its prompt; an answer is kept below 4.0 nats.
"""

from __future__ import annotations

import copy
import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from statistics import fmean, median
from typing import Any

import torch

from continual_learning.datasets.base import Dataset, QADocument
from continual_learning.evaluation.bootstrap import clustered_interval
from continual_learning.evaluation.cache import ResultCache, digest
from continual_learning.evaluation.code_digest import code_digest
from continual_learning.evaluation.confidence import auroc, best_threshold, calibration_error, refusals, reliability
from continual_learning.evaluation.contender import base_key
from continual_learning.model.base_model import BaseModel
from continual_learning.model.tokenizer import Tokenizer
from continual_learning.reading.answering import answer_of
from continual_learning.reading.in_prompt import Excerpt, ReadingConfig, reading_prompt
from continual_learning.reading.reader.reader import Reader
from continual_learning.strategies.base import Strategy
from continual_learning.text.scoring import contains_answer
from continual_learning.text.words import content_stems
from continual_learning.types import Source

Record = dict[str, Any]
PUBLISHED_GATE = 4.0
"""Nats below which the published gate keeps an answer."""
_SPANS = 3


def unanswered_questions(document: QADocument, others: Sequence[QADocument], count: int) -> tuple[str, ...]:
    """The ``count`` questions of ``others`` that share most words with a passage and that it does not answer.

    ``others``: passages of the same article. A question whose accepted answer occurs in the passage is passed over; of
    ties, the one with the larger share of its words in the passage comes first, then the order given.
    """
    text = document.document.text
    words = content_stems(f"{document.document.title} {text}")
    own = {q.question for q in document.questions}
    ranked: dict[str, tuple[int, float]] = {}
    for other in others:
        for question in other.questions:
            if other.document.id == document.document.id or question.question in own | ranked.keys():
                continue
            asked = content_stems(question.question)
            shared = len(asked & words)
            if shared and not contains_answer(text, question.answers):
                ranked[question.question] = (shared, shared / len(asked))
    return tuple(sorted(ranked, key=lambda question: ranked[question], reverse=True)[:count])


@torch.no_grad()
def first_token_entropies(base: BaseModel, title: str, text: str, questions: Sequence[str]) -> list[float]:
    """Entropy, in nats, of the first token of the base's answer to each question with the text in its prompt.

    The prompt is that of `in_context`; what the questions' prompts begin with in common is read once.
    """
    excerpts = [Excerpt(text, title)]
    prompts = [reading_prompt(base, ReadingConfig(), excerpts, question, 1)[0] for question in questions]
    if not prompts:
        return []
    shared = 0
    while all(len(p) > shared + 1 and p[shared] == prompts[0][shared] for p in prompts):
        shared += 1
    start = base.new_cache()
    if shared:
        base.backbone(input_ids=_row(base, prompts[0][:shared]), past_key_values=start, use_cache=True)
    entropies = []
    for prompt in prompts:
        kept = copy.deepcopy(start)
        rest = _row(base, prompt[shared:])
        hidden_1TD = base.backbone(input_ids=rest, past_key_values=kept, use_cache=True).last_hidden_state
        log_likely_V = base.logits(hidden_1TD[0, -1:]).float().log_softmax(-1)[0]
        entropies.append(float(-(log_likely_V.exp() * log_likely_V).sum()))
    return entropies


def _row(base: BaseModel, ids: Sequence[int]) -> torch.Tensor:
    return torch.tensor([list(ids)], device=base.device)


class ReadingProbe:
    """Asks about passages, and keeps what was found out about each in a cache.

    Args:
        reader: Reads the passages; None measures the gate alone.
        strategy: Decides which questions open a passage at all, from a memory that holds this one.
    """

    def __init__(
        self,
        base: BaseModel,
        reader: Reader | None,
        strategy: Strategy[Any] | None = None,
        max_new_tokens: int = 24,
        cache: ResultCache | None = None,
    ):
        self._base, self._reader, self._strategy = base, reader, strategy
        self._max_new_tokens = max_new_tokens
        self._cache = cache or ResultCache(None)
        self._key = {
            "what": "reading",
            "base": base_key(base),
            "reader": reader and _identity(reader),
            "strategy": strategy and [type(strategy).__name__, strategy.config.model_dump(mode="json")],
            "max_new_tokens": max_new_tokens,
            "code": code_digest(ReadingProbe, Tokenizer, *([type(strategy)] if strategy else [])),
        }

    def ask(self, document: QADocument, dataset: Dataset) -> list[Record]:
        """The passage's own questions and as many others of its article in ``dataset``, each with what was found."""
        others = [item for item in dataset.documents if item.article == document.article]
        foreign = unanswered_questions(document, others, len(document.questions))
        asked = [*((q.question, list(q.answers)) for q in document.questions), *((q, []) for q in foreign)]
        key = {**self._key, "document": document.document.sha256, "title": document.document.title, "asked": asked}
        found: list[Record] | None = self._cache.get(key)
        if found is None:
            found = self._observe(document, asked)
            self._cache.put(key, found)
        return found

    def _observe(self, document: QADocument, asked: Sequence[tuple[str, list[str]]]) -> list[Record]:
        base, doc = self._base, document.document
        questions = [question for question, _ in asked]
        entropies = first_token_entropies(base, doc.title, doc.text, questions)
        records: list[Record] = [
            {"document": doc.id, "question": question, "answers": answers, "answerable": bool(answers), "entropy": e}
            for (question, answers), e in zip(asked, entropies, strict=True)
        ]
        if self._reader is not None:
            passages = [Source(doc.id, doc.title, 1.0, chunk=0, text=doc.text)]
            for record, reading in zip(
                records, self._reader.read(base, doc.title, doc.text, questions, _SPANS), strict=True
            ):
                answer = answer_of(base, record["question"], reading, passages, self._max_new_tokens)
                refused = answer.origin == "unknown"
                right = contains_answer(answer.text, record["answers"]) and not refused
                record |= {
                    "text": answer.text,
                    "refused": refused,
                    "confidence": answer.confidence,
                    "unknown": reading.unknown,
                    "right": right if record["answerable"] else refused,
                }
        if self._strategy is not None:
            state, _ = self._strategy.learn(base, self._strategy.init(base), doc)
            for record in records:
                record["routed"] = self._strategy.affects(base, state, record["question"])
        return records


def _identity(reader: Reader) -> str:
    h = hashlib.sha256(digest(asdict(reader.calibration)).encode())
    for name, tensor in sorted(reader.weights.items()):
        h.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return h.hexdigest()


def calibration(records: Sequence[Mapping[str, Any]]) -> Record:
    """Reliability of the confidence: of all answers, and of those to questions that the passage answers."""

    def of(some: Sequence[Mapping[str, Any]]) -> Record:
        confidences, right = [r["confidence"] for r in some], [r["right"] for r in some]
        table = reliability(confidences, right)
        return {
            "questions": len(some),
            "right": fmean(right) if some else None,
            "confidence": fmean(confidences) if some else None,
            "error": calibration_error(table),
            "auroc": auroc(confidences, right),
            "table": table,
        }

    return {"all": of(records), "answerable": of([r for r in records if r["answerable"]])}


def told_apart(records: Sequence[Mapping[str, Any]], tuning: Sequence[Mapping[str, Any]]) -> Record:
    """How well each rule tells questions without an answer from the others; thresholds are chosen on ``tuning``."""
    silent = [not r["answerable"] for r in records]
    entropies = [r["entropy"] for r in records]
    tuned = best_threshold([r["entropy"] for r in tuning], [not r["answerable"] for r in tuning])

    def rule(refused: Sequence[bool], **more: Any) -> Record:
        by_document: dict[str, list[float]] = {}
        for record, was, wanted in zip(records, refused, silent, strict=True):
            by_document.setdefault(record["document"], []).append(float(was == wanted))
        return {
            **refusals(refused, silent),
            # of the share of right decisions, which is the balanced accuracy where both kinds are as many
            "interval": clustered_interval(list(by_document.values())),
            **more,
        }

    spread = auroc(entropies, silent)
    gates = {"gate_published": PUBLISHED_GATE, "gate_tuned": tuned}
    found = {
        "reader": rule([r["refused"] for r in records], auroc=auroc([r["unknown"] for r in records], silent)),
        **{name: rule([e >= t for e in entropies], threshold=t, auroc=spread) for name, t in gates.items()},
        "always_answer": rule([False] * len(records)),
        "never_answer": rule([True] * len(records)),
    }
    routed = {
        "answerable": fmean(r["routed"] for r in records if r["answerable"]),
        "unanswerable": fmean(r["routed"] for r in records if not r["answerable"]),
    }
    return {"rules": found, "routed": routed, "tuning_questions": len(tuning)}


def seconds_one_by_one(
    base: BaseModel, strategy: Strategy[Any], documents: Sequence[QADocument], max_new_tokens: int
) -> dict[str, float | None]:
    """Median seconds of an answer when questions come one at a time, each document in a memory of its own.

    ``first``: of the first question about a document, when its text has not been read yet; the first of all is left
    out. ``warm``: of the later ones.
    """
    first: list[float] = []
    warm: list[float] = []
    for item in documents:
        state, _ = strategy.learn(base, strategy.init(base), item.document)
        for number, question in enumerate(item.questions):
            started = time.perf_counter()
            strategy.answer(base, state, [question.question], max_new_tokens)
            (warm if number else first).append(time.perf_counter() - started)
    return {"first": median(first[1:]) if first[1:] else None, "warm": median(warm) if warm else None}
