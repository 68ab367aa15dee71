"""One passage at a time, closed book: what is learned, what is kept, what it costs.

    python benchmarks/lab/single_passage.py --data squad_dev_open.jsonl

For each of 16 passages, one per article, every method starts from the unchanged base, learns the passage and
is asked its questions without the passage (``in_context`` keeps it in the prompt, ``frozen`` has nothing). The
data are JSON lines with ``title``, ``context`` and ``questions`` (``question``, ``answer``), such as SQuAD 1.1.

Articles are split into two halves in file order: settings were chosen on the first, and by default the second
is reported.

In addition to the strategies there are two naive runs: 30 next-token steps on the passage's text with AdamW, in full
copies of the MLPs of the last quarter of the blocks at 1e-3, and in all weights at 5e-5.
"""

from __future__ import annotations

import argparse
import copy
import json
import platform
import random
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from continual_learning import Document, Learner
from continual_learning.documents.shipped import general_questions
from continual_learning.model.base_model import BaseModel
from continual_learning.model.families import mlp_layout
from continual_learning.reading.plain import plain_answers
from continual_learning.strategies.methods.ttt.dual_mlp import DualMLP
from continual_learning.text.scoring import contains_answer, token_f1
from continual_learning.types import Answer

ANSWER_TOKENS = 24
NAIVE_STEPS = 30
NAIVE_DUAL_RATE, NAIVE_FULL_RATE = 1e-3, 5e-5


@dataclass
class Row:
    """The results of one method over all passages."""

    method: str
    recall: list[bool] = field(default_factory=list)
    f1: list[float] = field(default_factory=list)
    learn_seconds: list[float] = field(default_factory=list)
    answer_seconds: list[float] = field(default_factory=list)
    general_kept: list[float] = field(default_factory=list)
    perplexity_change: list[float] = field(default_factory=list)
    bytes_kept: list[int] = field(default_factory=list)
    answers: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        """Means over questions or passages; None if nothing was measured."""

        def mean(values: Sequence[float]) -> float | None:
            return statistics.fmean(values) if values else None

        return {
            "method": self.method,
            "questions": len(self.recall),
            "recall": mean(self.recall),
            "f1": mean(self.f1),
            "learn_seconds": mean(self.learn_seconds),
            "answer_seconds": mean(self.answer_seconds),
            "general_kept": mean(self.general_kept),
            "general_kept_worst": min(self.general_kept, default=None),
            "perplexity_change": mean(self.perplexity_change),
            "perplexity_change_worst": max(self.perplexity_change, default=None),
            "bytes_kept": mean(self.bytes_kept),
        }


class Bench:
    """The base, what it knew before, and the passages."""

    def __init__(self, base: BaseModel, passages: list[dict[str, Any]], unrelated: list[str], general: int):
        self.base = base
        self.passages = passages
        self.unrelated = unrelated
        asked = general_questions()
        answers = plain_answers(base, [q.question for q in asked], ANSWER_TOKENS)
        self.base_right = [q for q, a in zip(asked, answers, strict=True) if contains_answer(a.claim, q.answers)]
        self.base_of = len(asked)
        self.known = self.base_right[:general] if general else self.base_right
        self.perplexity = _perplexity(base, unrelated)

    def record(self, row: Row, passage: dict[str, Any], answers: Sequence[Answer], seconds: float) -> None:
        """Score the answers to a passage's questions."""
        row.answer_seconds.append(seconds / len(answers))
        for asked, answer in zip(passage["questions"], answers, strict=True):
            right = contains_answer(answer.claim, [asked["answer"]])
            row.recall.append(right)
            row.f1.append(token_f1(answer.claim, [asked["answer"]]))
            row.answers.append({"title": passage["title"], **asked, "said": answer.text, "right": right})

    def strategy(self, row: Row, passage: dict[str, Any], options: dict[str, Any], name: str) -> None:
        """Learn and ask through the public interface."""
        learner = Learner.open(self.base, name, **options)
        report = learner.learn(Document(passage["context"], passage["title"]))
        if name != "frozen":
            row.learn_seconds.append(report.seconds)
            row.bytes_kept.append(report.bytes if report.accepted else 0)
            if not report.accepted:
                row.notes.append(f"{passage['title']}: {report.reason}")
        started = time.perf_counter()
        answers = learner.ask([q["question"] for q in passage["questions"]], max_new_tokens=ANSWER_TOKENS)
        self.record(row, passage, answers, time.perf_counter() - started)
        if name in ("frozen", "in_context"):  # neither changes a weight, nor any answer without the documents
            return
        kept = learner.ask([q.question for q in self.known], max_new_tokens=ANSWER_TOKENS)
        row.general_kept.append(_share(kept, self.known))
        row.perplexity_change.append(learner.perplexity(self.unrelated) / self.perplexity - 1)

    def naive(self, row: Row, passage: dict[str, Any], full: bool, retention: bool) -> None:
        """Take 30 next-token steps, then ask the same questions in the base's own chat format."""
        with _naive_full(self.base) if full else _naive_dual(self.base) as weights:
            started = time.perf_counter()
            _next_token_steps(self.base, passage, weights, NAIVE_FULL_RATE if full else NAIVE_DUAL_RATE)
            row.learn_seconds.append(time.perf_counter() - started)
            row.bytes_kept.append(sum(w.numel() * w.element_size() for w in weights))
            started = time.perf_counter()
            answers = plain_answers(self.base, [q["question"] for q in passage["questions"]], ANSWER_TOKENS)
            self.record(row, passage, answers, time.perf_counter() - started)
            if not retention:
                return
            kept = plain_answers(self.base, [q.question for q in self.known], ANSWER_TOKENS)
            row.general_kept.append(_share(kept, self.known))
            row.perplexity_change.append(_perplexity(self.base, self.unrelated) / self.perplexity - 1)


def _share(answers: Sequence[Answer], asked: Sequence[Any]) -> float:
    return statistics.fmean(contains_answer(a.claim, q.answers) for a, q in zip(answers, asked, strict=True))


def _perplexity(base: BaseModel, texts: list[str]) -> float:
    nll, tokens = base.token_nll(texts)
    return float(torch.tensor(nll / tokens).exp())


@contextmanager
def _naive_dual(base: BaseModel) -> Iterator[list[torch.Tensor]]:
    blocks = range(base.block_count - -(-base.block_count // 4), base.block_count)
    copies = {block: copy.deepcopy(base.mlp(block)).requires_grad_(True) for block in blocks}
    for block, mlp in copies.items():
        getattr(mlp, mlp_layout(base.mlp(block)).down).weight.data.zero_()
    with base.patched({base.mlp_path(b): DualMLP(base.mlp(b), mlp) for b, mlp in copies.items()}):
        yield [weight for mlp in copies.values() for weight in mlp.parameters()]


@contextmanager
def _naive_full(base: BaseModel) -> Iterator[list[torch.Tensor]]:
    before = copy.deepcopy(base.model.state_dict())
    try:
        yield [p.requires_grad_(True) for p in base.model.parameters()]
    finally:
        base.model.requires_grad_(False)
        base.model.load_state_dict(before)


def _next_token_steps(base: BaseModel, passage: dict[str, Any], weights: list[torch.Tensor], rate: float) -> None:
    ids_1T = torch.tensor([base.encode(f"{passage['title']}\n{passage['context']}")])
    optimizer = torch.optim.AdamW(weights, lr=rate)
    for _ in range(NAIVE_STEPS):
        logits_TV = base.model(input_ids=ids_1T, use_cache=False).logits[0, :-1]
        loss = F.cross_entropy(logits_TV, ids_1T[0, 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def choose(rows: list[dict[str, Any]], count: int, half: str, seed: int) -> tuple[list[dict[str, Any]], list[str]]:
    """One passage with at least 3 questions from each of ``count`` articles, and 10 passages from other articles."""
    articles = list(dict.fromkeys(row["title"] for row in rows))
    middle = len(articles) // 2
    chosen = articles[:middle] if half == "first" else articles[middle:]
    rng = random.Random(seed)
    passages = []
    for article in chosen[:count]:
        row = rng.choice([r for r in rows if r["title"] == article and len(r["questions"]) >= 3])
        passages.append({**row, "title": row["title"].replace("_", " ")})
    others = [r for r in rows if r["title"] not in chosen]
    return passages, [r["context"] for r in rng.sample(others, 10)]


def matmul_peak(size: int = 2048) -> float:
    """GFLOP/s of an fp32 product of two square matrices: the best of ten runs."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    best = 0.0
    for _ in range(10):
        started = time.perf_counter()
        a @ b
        best = max(best, 2 * size**3 / (time.perf_counter() - started) / 1e9)
    return best


def throughput(base: BaseModel, passage: dict[str, Any]) -> dict[str, float]:
    """Training throughput of ttt on a passage: operations counted by PyTorch, per second of gradient descent."""
    from torch.utils.flop_counter import FlopCounterMode

    def descent_seconds() -> float:
        learner = Learner.open(base, "ttt", guard=False)
        report = learner.learn(Document(passage["context"], passage["title"]))
        return report.timings["gradient descent"] + report.timings["prefix activations"]

    seconds = descent_seconds()
    with FlopCounterMode(display=False) as counter:
        descent_seconds()
    # The counter includes the probes and the choice of neurons, about 5% of the total.
    gflop, peak = counter.get_total_flops() / 1e9, matmul_peak()
    return {"gflop": gflop, "seconds": seconds, "gflop_per_second": gflop / seconds, "matmul_peak": peak,
            "share_of_peak": gflop / seconds / peak}  # fmt: skip


def markdown(summaries: list[dict[str, Any]]) -> str:
    """The table as Markdown."""

    def show(value: float | None, form: str) -> str:
        return "" if value is None else format(value, form)

    lines = [
        "| method | recall | token F1 | learn, s | answer, s | general kept | unrelated perplexity | kept, MB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for s in summaries:
        size = None if s["bytes_kept"] is None else s["bytes_kept"] / 1e6
        cells = [s["method"], show(s["recall"], ".2f"), show(s["f1"], ".2f"), show(s["learn_seconds"], ".1f"),
                 show(s["answer_seconds"], ".2f"), show(s["general_kept"], ".1%"),
                 show(s["perplexity_change"], "+.1%"), show(size, ".2f")]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="JSON lines: title, context, questions")
    parser.add_argument("--out", type=Path, help="folder for single_passage.json and .md")
    parser.add_argument("--passages", type=int, default=16)
    parser.add_argument("--half", choices=("first", "second"), default="second", help="which half of the articles")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--general", type=int, default=24, help="known general questions asked again; 0: all")
    parser.add_argument(
        "--naive-retention-every", type=int, default=4, help="number of passages between retention checks"
    )
    parser.add_argument("--methods", default="frozen,in_context,ttt,naive_dual,naive_full")
    parser.add_argument("--model", default="smollm2-135m")
    arguments = parser.parse_args()
    rows = [json.loads(line) for line in arguments.data.read_text(encoding="utf-8").splitlines()]
    passages, unrelated = choose(rows, arguments.passages, arguments.half, arguments.seed)
    base = BaseModel.load(arguments.model)
    started = time.perf_counter()
    bench = Bench(base, passages, unrelated, arguments.general)
    table = {name: Row(name) for name in arguments.methods.split(",")}
    result: dict[str, Any] = {
        "command": " ".join(["python", "benchmarks/single_passage.py", "--data", arguments.data.name, *_given()]),
        "machine": f"{torch.get_num_threads()} threads, {platform.machine()}, torch {torch.__version__}",
        "passage_tokens_mean": statistics.fmean(len(base.encode(p["context"])) for p in passages),
        "general_base": f"{len(bench.base_right)} of {bench.base_of}; {len(bench.known)} of them asked again",
        "throughput": throughput(base, min(passages, key=lambda p: abs(len(base.encode(p["context"])) - 140))),
    }
    for name, row in table.items():
        for number, passage in enumerate(passages):
            if name.startswith("naive"):
                retention = number % arguments.naive_retention_every == 0
                bench.naive(row, passage, full=name == "naive_full", retention=retention)
            else:
                bench.strategy(row, passage, {}, name)
            refused = len(row.notes)
            elapsed, recall = time.perf_counter() - started, statistics.fmean(row.recall)
            print(
                f"{name} {number + 1}/{len(passages)} {elapsed:.0f} s  recall {recall:.2f}  refused {refused}",
                file=sys.stderr,
                flush=True,
            )
        summaries = [row.summary() for row in table.values() if row.recall]
        result.update(rows=summaries, seconds=time.perf_counter() - started)
        if arguments.out:  # after every method, so that an interrupted run keeps what it measured
            arguments.out.mkdir(parents=True, exist_ok=True)
            details = {**result, "details": [asdict(row) for row in table.values()]}
            (arguments.out / "single_passage.json").write_text(json.dumps(details, indent=1), encoding="utf-8")
            (arguments.out / "single_passage.md").write_text(markdown(summaries) + "\n", encoding="utf-8")
    print(markdown(summaries))
    print(json.dumps({k: v for k, v in result.items() if k != "rows"}, indent=1))


def _given() -> list[str]:
    """The flags of this run that determine what was measured."""
    flags = iter(sys.argv[1:])
    return [word for flag in flags for word in (flag, next(flags, "")) if flag not in ("--data", "--out")]


if __name__ == "__main__":
    main()
