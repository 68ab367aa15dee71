"""`benchmark everyday`: questions of eight kinds about everyday documents, each scored by the rule of its kind.

A score is between 0 and 1 and looks at the one answer and its origin alone. Texts are compared as `text.scoring` does:
whole words; case, punctuation and articles aside.

fact, count       1 if an accepted wording is in the answer and the answer is short: at most twice the words of the
                  longest accepted wording, plus 3. With ``exact`` the wording must be there letter for letter.
yes_no            1 if the first word is the right one.
list, two_facts   The share of the parts that are named, less one part for each other item of the answer; items end at
                  commas, semicolons and line ends. 0 if the answer is far longer than the parts.
summary, about    The share of as many key points as are enough. 0 if the answer is longer than a third of the document.
unknown           1 if the origin is ``unknown``: the answer says that the document does not say.

An answer of origin ``unknown`` to any other question scores 0.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Any

from continual_learning.datasets.base import Dataset
from continual_learning.datasets.everyday import KINDS, EverydayQuestion, Half, everyday_dataset
from continual_learning.evaluation.bootstrap import clustered_interval
from continual_learning.evaluation.contender import Contender
from continual_learning.evaluation.protocols import Settings, benchmark_each
from continual_learning.evaluation.summary import Done, Record, summarise
from continual_learning.model.base_model import BaseModel
from continual_learning.text.scoring import answer_words, contains_answer
from continual_learning.types import Origin, ProgressCallback

_SPARE_WORDS = 3
_LIST_WORDS, _LIST_TIMES = 25, 3
_SUMMARY_WORDS = 40
_IN_BRACKETS = re.compile(r"\([^()]*\)")
_ITEM_END = re.compile(r"[;\n]|,(?!\d)")  # 6,000 is one item


def score(question: EverydayQuestion, text: str, origin: Origin, document: str) -> float:
    """How right an answer is, from 0 to 1. ``document`` is the text that the question is about."""
    if question.kind == "unknown":
        return float(origin == "unknown")
    if origin == "unknown":
        return 0.0
    rule: dict[str, Callable[[], float]] = {
        "fact": lambda: _names_one(question, text),
        "count": lambda: _names_one(question, text),
        "yes_no": lambda: float(answer_words(text)[:1] in [answer_words(answer) for answer in question.answers]),
        "list": lambda: _names_parts(question, text),
        "two_facts": lambda: _names_parts(question, text),
        "summary": lambda: _names_points(question, text, document),
        "about": lambda: _names_points(question, text, document),
    }
    return rule[question.kind]()


def benchmark_everyday(
    strategies: Sequence[str | Contender],
    model: str | BaseModel = "smollm2-135m",
    half: Half = "report",
    settings: Settings | None = None,
    progress: ProgressCallback | None = None,
) -> dict[str, Any]:
    """Every document of a half in a memory of its own, then its ten questions.

    Rows have ``score``, the mean over all questions, with ``score_interval``; ``score_KIND`` for each of `KINDS`; and
    ``answered``, the share of the questions the document answers whose answer does not have the origin ``unknown``.
    """
    dataset = everyday_dataset(half)
    settings = settings or Settings(max_new_tokens=64, retention_documents=0, count_flops=False)
    return benchmark_each(
        "everyday", dataset, strategies, model, settings, progress, lambda done: _summary(dataset, done)
    )


def _names_one(question: EverydayQuestion, text: str) -> float:
    longest = max(len(answer_words(answer)) for answer in question.answers)
    if len(answer_words(text)) > 2 * longest + _SPARE_WORDS:
        return 0.0
    if question.exact:
        return float(any(_stands_in(answer, text) for answer in question.answers))
    return float(contains_answer(text, question.answers))


def _stands_in(wording: str, text: str) -> bool:
    """Whether the wording is in the text letter for letter, and not as a piece of a longer word or number."""
    whole = rf"(?<!\w)(?<!\d[.,]){re.escape(' '.join(wording.split()))}(?!\w)(?![.,]\d)"
    return re.search(whole, " ".join(text.split())) is not None


def _names_parts(question: EverydayQuestion, text: str) -> float:
    words = sum(max(len(answer_words(wording)) for wording in part) for part in question.parts)
    if len(answer_words(text)) > max(_LIST_WORDS, _LIST_TIMES * words):
        return 0.0
    named = sum(contains_answer(text, part) for part in question.parts)
    items = [item.strip() for item in _ITEM_END.split(_IN_BRACKETS.sub("", text))]
    # A line such as "The stalls are:" is no item.
    items = [item for item in items if answer_words(item) and not item.endswith(":")]
    others = sum(not contains_answer(item, question.answers) for item in items)
    return max(0, named - others) / len(question.parts)


def _names_points(question: EverydayQuestion, text: str, document: str) -> float:
    if len(text.split()) > max(_SUMMARY_WORDS, len(document.split()) / 3):
        return 0.0
    return min(1.0, sum(contains_answer(text, part) for part in question.parts) / question.enough)


def _summary(dataset: Dataset, done: Sequence[Done]) -> Record:
    """`summarise` with the scores in place of recall, token F1 and exact match, which no list and no refusal fits."""
    texts = {item.document.id: item.document.text for item in dataset.documents}
    questions = {
        (item.document.id, q.question): q
        for item in dataset.documents
        for q in item.questions
        if isinstance(q, EverydayQuestion)
    }
    summary = summarise(done)
    for answer in summary["answers"]:
        question = questions[answer["document"], answer["question"]]
        answer["kind"] = question.kind
        answer["score"] = score(question, answer["text"], answer["origin"], texts[answer["document"]])
        answer["right"] = answer["score"] == 1.0
        answer["f1"] = answer["exact_match"] = None
    answers = summary["answers"]
    by_document = [[a["score"] for a in answers if a["document"] == document] for document in texts]
    nothing = dict.fromkeys(("recall", "recall_interval", "f1", "f1_interval", "exact_match"))
    interval = clustered_interval([scores for scores in by_document if scores])
    return {
        **summary,
        **nothing,
        "score": fmean(a["score"] for a in answers),
        "score_interval": None if interval is None else list(interval),
        **{f"score_{kind}": fmean(a["score"] for a in answers if a["kind"] == kind) for kind in KINDS},
        "answered": fmean(a["origin"] != "unknown" for a in answers if a["kind"] != "unknown"),
        "seeds": [
            {"seed": s["seed"], "score": fmean(a["score"] for a in answers if a["seed"] == s["seed"])}
            for s in summary["seeds"]
        ],
    }
