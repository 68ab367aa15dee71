"""One long document in the weights: seconds and memory as it grows, and recall by where in it a fact is.

Passages of the second half of the articles, one after another, form one document; ttt learns it in one call, then
questions spread over it are asked without the text. `quote`, which keeps the text, answers them
too. Learned passages are stored, so that the same command resumes after an interruption.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from continual_learning.datasets.base import Dataset, halves, load_dataset
from continual_learning.documents import Document
from continual_learning.io.paths import data_home
from continual_learning.model.base_model import BaseModel
from continual_learning.strategies.base import make_strategy
from continual_learning.text.scoring import contains_answer, token_f1
from continual_learning.types import Progress, QuestionAnswer
from protocols import Bench

ANSWER_TOKENS, BINS, NOTE_SECONDS = 24, 5, 60.0


@dataclass(frozen=True)
class Asked:
    """A question, and how many tokens of the document come after the passage that answers it."""

    question: QuestionAnswer
    distance: int


@dataclass(frozen=True)
class Sample:
    """A point in learning: seconds include those of earlier sessions, memory is this process's."""

    share: float
    seconds: float
    resident_bytes: int


def long_document(base: BaseModel, data: Dataset, tokens: int, questions: int) -> tuple[Document, list[Asked]]:
    """Passages of up to ``tokens`` tokens as one document, and questions about passages spread evenly over it."""
    texts: list[str] = []
    ends: list[int] = []
    asked: list[tuple[QuestionAnswer, ...]] = []
    total = 0
    for item in data.documents:
        length = len(base.encode(item.document.text))
        if total + length > tokens:
            break
        total += length
        texts.append(item.document.text)
        ends.append(total)
        asked.append(item.questions)
    spread = [round(i * (len(texts) - 1) / max(1, questions - 1)) for i in range(questions)]
    found = [Asked(asked[n][spread[:i].count(n) % len(asked[n])], total - ends[n]) for i, n in enumerate(spread)]
    return Document("\n\n".join(texts), "Collected articles"), found


class Timeline:
    """Samples of learning, stored in a file as they come."""

    def __init__(self, path: Path):
        self._path = path
        self.samples = [Sample(**s) for s in json.loads(path.read_text("utf-8"))] if path.exists() else []
        self._before = self.samples[-1].seconds if self.samples else 0.0
        self._started = time.perf_counter()
        self._noted = 0.0

    def note(self, step: Progress) -> None:
        """The progress callback."""
        now = time.perf_counter() - self._started
        if step.stage != "learn" or now - self._noted < NOTE_SECONDS:
            return
        self._noted = now
        self.add(step.done / step.total)
        print(f"{step.done / step.total:.0%} {step.message}", file=sys.stderr, flush=True)

    def add(self, share: float) -> None:
        """Add a sample of the present moment. An earlier session whose passages were not kept does not count."""
        if self.samples and share < self.samples[-1].share:
            self.samples.clear()
            self._before = 0.0
        self.samples.append(Sample(share, self.seconds, psutil.Process().memory_info().rss))
        self._path.write_text(json.dumps([asdict(s) for s in self.samples]), encoding="utf-8")

    @property
    def seconds(self) -> float:
        """Seconds over all sessions."""
        return self._before + time.perf_counter() - self._started


def by_distance(asked: list[Asked], answers: list[str], tokens: int) -> list[dict[str, Any]]:
    """Recall and F1 in equal ranges of distance to the end, nearest first."""
    rows = []
    for n in range(BINS):
        low, high = n * tokens / BINS, (n + 1) * tokens / BINS
        chosen = [(a, s) for a, s in zip(asked, answers, strict=True) if low <= a.distance < high]
        if chosen:
            right = [contains_answer(s, a.question.answers) for a, s in chosen]
            f1 = [token_f1(s, a.question.answers) for a, s in chosen]
            rows.append({"from": round(low), "to": round(high), "questions": len(chosen),
                         "recall": statistics.fmean(right), "f1": statistics.fmean(f1)})  # fmt: skip
    return rows


def rows_of(base: BaseModel, document: Document, asked: list[Asked], timeline: Timeline, tokens: int) -> dict[str, Any]:
    """Rows of ttt and quote on the document."""
    found = {}
    for name in ("ttt", "quote"):
        ours = name == "ttt"
        strategy = make_strategy(name, {})
        state, report = strategy.learn(base, strategy.init(base), document, progress=timeline.note if ours else None)
        if not report.accepted:
            raise SystemExit(f"{name} refused the document: {report.reason}")
        if ours:
            timeline.add(1.0)
        began = time.perf_counter()
        answers = [a.claim for a in strategy.answer(base, state, [a.question.question for a in asked], ANSWER_TOKENS)]
        pairs = list(zip(asked, answers, strict=True))
        found[name] = {
            "learn_seconds": timeline.samples[-1].seconds if ours else report.seconds,
            "answer_seconds": (time.perf_counter() - began) / len(asked),
            "bytes_kept": report.bytes,
            "warnings": report.warnings,
            "recall": statistics.fmean(contains_answer(s, a.question.answers) for a, s in pairs),
            "f1": statistics.fmean(token_f1(s, a.question.answers) for a, s in pairs),
            "parts": {key: n for key, n in state.meta.documents[0].details.items() if key.startswith("parts")},
            "by_distance": by_distance(asked, answers, tokens),
            "answers": [
                {"question": a.question.question, "answers": a.question.answers, "said": s, "distance": a.distance}
                for a, s in pairs
            ],
        }  # fmt: skip
    return found


def measure(experiment: Any, bench: Bench) -> tuple[dict[str, Any], dict[str, Any], Any]:
    """Measure ttt and quote on the same document."""
    base, given = bench.base, experiment.setting
    half = halves(load_dataset(bench.data))[1]
    document, asked = long_document(base, half, given["tokens"], given["questions"])
    tokens = len(base.encode(document.text))
    print(f"{tokens} tokens, about {tokens / 140 * 1.5 / 60:.0f} min", file=sys.stderr, flush=True)
    unfinished = data_home() / "results" / f"long_document.{document.id}.timeline"
    unfinished.parent.mkdir(parents=True, exist_ok=True)
    timeline = Timeline(unfinished)
    rows = rows_of(base, document, asked, timeline, tokens)
    unfinished.unlink(missing_ok=True)
    answers = {name: row.pop("answers") for name, row in rows.items()}
    return {"tokens": tokens, "rows": rows, "timeline": [asdict(s) for s in timeline.samples]}, {}, answers


def table(results: Mapping[str, Any]) -> str:
    """The tables of each result."""
    return "\n\n".join(_tables({**result["figures"], "machine": result["machine"]}) for result in results.values())


def _tables(found: dict[str, Any]) -> str:
    rows, tokens = found["rows"], found["tokens"]
    lines = ["| tokens after the fact | questions | ttt recall | F1 | quote recall | F1 |", "|---|---|---|---|---|---|"]
    for ours, theirs in zip(rows["ttt"]["by_distance"], rows["quote"]["by_distance"], strict=True):
        lines.append(
            f"| {ours['from']:,} to {ours['to']:,} | {ours['questions']} | {ours['recall']:.2f} | {ours['f1']:.2f} | "
            f"{theirs['recall']:.2f} | {theirs['f1']:.2f} |"
        )
    lines += ["", "| learned | seconds | resident, MB |", "|---|---|---|"]
    samples = found["timeline"]
    marks = [min(samples, key=lambda s, q=q: abs(s["share"] - q)) for q in (0.1, 0.25, 0.5, 0.75, 1.0)]
    lines += [f"| {s['share']:.0%} | {s['seconds']:.0f} | {s['resident_bytes'] / 1e6:.0f} |" for s in marks]
    ttt, quote, parts = rows["ttt"], rows["quote"], rows["ttt"]["parts"]
    machine, minutes = found["machine"], ttt["learn_seconds"] / 60
    lines += [
        "",
        f"{tokens:,} tokens in {minutes:.0f} min ({60 * 140 * minutes / tokens:.1f} s for 140), "
        f"{ttt['bytes_kept'] / 1e6:.0f} MB kept; {ttt['answer_seconds']:.1f} s a question "
        f"(quote {quote['answer_seconds']:.1f}); F1 {ttt['f1']:.3f} (quote {quote['f1']:.3f}); "
        f"{parts['parts_recited']:,} of {parts['parts']:,} parts recited word for word. "
        f"{machine['threads']} thread(s), {machine['matmul_gflops']:.0f} GFLOP/s.",
    ]
    return "\n".join(lines)
