"""One long document in the weights: seconds and memory as it grows, and what is answered by where in it a fact stands.

    python benchmarks/long_document.py --data squad_dev_open.jsonl --tokens 50000 --out benchmarks

Passages of the second half of the articles, one after another, are one document; ttt learns it in one call, then
questions spread over it are asked with the text gone. `quote`, which keeps the text, answers them beside it. The same
command goes on after an interruption (passages that are learned are kept). Writes long_document.json, and the block
`long_document` of README.md.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
from blocks import write_block

from continual_learning.datasets.base import Dataset, halves, load_dataset
from continual_learning.documents import Document
from continual_learning.evaluation.machine import machine_facts
from continual_learning.model.base_model import BaseModel
from continual_learning.strategies.base import make_strategy
from continual_learning.text.scoring import contains_answer, token_f1
from continual_learning.types import Progress, QuestionAnswer

ANSWER_TOKENS, BINS, NOTE_SECONDS = 24, 4, 60.0


@dataclass(frozen=True)
class Asked:
    """A question, and how many tokens of the document come after the passage that answers it."""

    question: QuestionAnswer
    distance: int


@dataclass(frozen=True)
class Sample:
    """How far learning had come: seconds include those of earlier sessions, memory is this process's."""

    share: float
    seconds: float
    resident_bytes: int


def long_document(base: BaseModel, data: Dataset, tokens: int, questions: int) -> tuple[Document, list[Asked]]:
    """Passages up to so many tokens as one document, and questions about passages that are spread evenly over it."""
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
    """Samples of learning, kept in a file as they come."""

    def __init__(self, path: Path):
        self._path = path
        self.samples = [Sample(**s) for s in json.loads(path.read_text("utf-8"))] if path.exists() else []
        self._before = self.samples[-1].seconds if self.samples else 0.0
        self._started = time.perf_counter()
        self._noted = 0.0

    def note(self, step: Progress) -> None:
        """A progress callback."""
        now = time.perf_counter() - self._started
        if step.stage != "learn" or now - self._noted < NOTE_SECONDS:
            return
        self._noted = now
        self.add(step.done / step.total)
        print(f"{step.done / step.total:.0%} {step.message}", file=sys.stderr, flush=True)

    def add(self, share: float) -> None:
        """A sample of now."""
        self.samples.append(Sample(share, self.seconds, psutil.Process().memory_info().rss))
        self._path.write_text(json.dumps([asdict(s) for s in self.samples]), encoding="utf-8")

    @property
    def seconds(self) -> float:
        """Of all sessions."""
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
    """ttt and quote on the document."""
    found = {}
    for name in ("ttt", "quote"):
        ours = name == "ttt"
        strategy = make_strategy(name, {"max_tokens": tokens + 1, "guard": False} if ours else {})
        state, report = strategy.learn(base, strategy.init(base), document, progress=timeline.note if ours else None)
        if not report.accepted:
            raise SystemExit(f"{name} refused the document: {report.reason}")
        if ours:
            timeline.add(1.0)
        began = time.perf_counter()
        answers = [a.text for a in strategy.answer(base, state, [a.question.question for a in asked], ANSWER_TOKENS)]
        pairs = list(zip(asked, answers, strict=True))
        found[name] = {
            "learn_seconds": timeline.samples[-1].seconds if ours else report.seconds,
            "answer_seconds": (time.perf_counter() - began) / len(asked),
            "bytes_kept": report.bytes,
            "warnings": report.warnings,
            "recall": statistics.fmean(contains_answer(s, a.question.answers) for a, s in pairs),
            "by_distance": by_distance(asked, answers, tokens),
            "answers": [
                {"question": a.question.question, "answers": a.question.answers, "said": s, "distance": a.distance}
                for a, s in pairs
            ],
        }  # fmt: skip
    return found


def markdown(found: dict[str, Any]) -> str:
    """The tables."""
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
    ttt, machine, minutes = rows["ttt"], found["machine"], rows["ttt"]["learn_seconds"] / 60
    lines += [
        "",
        f"{tokens:,} tokens in {minutes:.0f} min ({60 * 140 * minutes / tokens:.1f} s for 140), "
        f"{ttt['bytes_kept'] / 1e6:.0f} MB kept; {ttt['answer_seconds']:.1f} s a question "
        f"(quote {rows['quote']['answer_seconds']:.1f}). {machine['threads']} thread(s), "
        f"{machine['matmul_gflops']:.0f} GFLOP/s.",
    ]
    return "\n".join(lines)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder for long_document.json, with README.md")
    parser.add_argument("--tokens", type=int, default=50_000)
    parser.add_argument("--questions", type=int, default=100)
    parser.add_argument("--model", default="smollm2-135m")
    arguments = parser.parse_args()
    base = BaseModel.load(arguments.model)
    document, asked = long_document(
        base, halves(load_dataset(arguments.data))[1], arguments.tokens, arguments.questions
    )
    tokens = len(base.encode(document.text))
    print(f"{tokens} tokens, about {tokens / 140 * 10 / 60:.0f} min", file=sys.stderr, flush=True)
    unfinished = arguments.out / f"long_document.{document.id}.timeline"
    timeline = Timeline(unfinished)
    rows = rows_of(base, document, asked, timeline, tokens)
    found = {
        "command": f"python benchmarks/long_document.py --data {arguments.data.name} --tokens {arguments.tokens} "
        f"--questions {arguments.questions}",
        "tokens": tokens,
        "machine": machine_facts(base),
        "rows": rows,
        "timeline": [asdict(s) for s in timeline.samples],
    }
    path = arguments.out / "long_document.json"
    path.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    unfinished.unlink(missing_ok=True)
    write_block(arguments.out / "README.md", "long_document", markdown(found))


if __name__ == "__main__":
    main()
