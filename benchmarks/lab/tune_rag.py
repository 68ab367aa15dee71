"""Choose how rag cuts documents and how much it puts into the prompt, on passages that no reported figure uses.

    python benchmarks/lab/tune_rag.py --data squad_dev_open.jsonl --out benchmarks              a minute or two
    python benchmarks/lab/tune_rag.py --data squad_dev_open.jsonl --out benchmarks --answers    about ten minutes more

First, without the model: the share of questions whose gold answer is in what is retrieved, on passages of the first
half of the articles, with one passage and with twenty in the memory, and how many tokens that puts into the prompt.
With ``--answers`` the model then answers with a short list of settings. Answers are kept: the same command resumes
after an interruption. Writes tuning_rag.json, and the block ``tuning_rag`` of README.md.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import statistics
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from blocks import write_block

from continual_learning.datasets.base import Dataset, QADocument, halves, load_dataset, sample
from continual_learning.evaluation.contender import Contender
from continual_learning.evaluation.machine import machine_facts
from continual_learning.evaluation.protocols import Settings, compare
from continual_learning.model.base_model import BaseModel
from continual_learning.retrieval.chunk_store import ChunkFinder
from continual_learning.strategies.base import make_strategy
from continual_learning.text.scoring import contains_answer

PASSAGES, TOGETHER = 240, 20
CHUNK_TOKENS, TOP_K = (40, 80, 160, 320), (1, 2, 3, 4)
# Overlaps of neighbouring chunks, as a share of a chunk.
OVERLAPS = (0.0, 0.2)
DEFAULT = {"chunk_tokens": 160, "overlap_tokens": 32, "top_k": 2, "min_score": 0.5}
# For answering: the number of documents, and of questions about each.
ANSWERED, QUESTIONS = 20, 3


def grid() -> list[dict[str, Any]]:
    """All settings to retrieve with; the gate (min_score) is only varied for the default's chunks."""
    found = [
        {"chunk_tokens": size, "overlap_tokens": round(size * overlap), "top_k": k, "min_score": 0.5}
        for size, overlap, k in itertools.product(CHUNK_TOKENS, OVERLAPS, TOP_K)
    ]
    return [*found, {**DEFAULT, "min_score": 0.0}]


def retrieved(base: BaseModel, options: dict[str, Any], memories: Sequence[Sequence[QADocument]]) -> dict[str, float]:
    """Share of questions whose answer was found, and tokens found per question, over all memories."""
    strategy = make_strategy("rag", options)
    hits: list[bool] = []
    tokens: list[int] = []
    for documents in memories:
        state = strategy.init(base)
        finder = ChunkFinder(strategy.config.top_k, strategy.config.min_score)
        for item in documents:
            state, _ = strategy.learn(base, state, item.document)
        for question in (q for item in documents for q in item.questions):
            text = "\n".join(chunk.text for chunk in finder.find(state, question.question))
            hits.append(contains_answer(text, question.answers))
            tokens.append(len(base.encode(text)))
    return {"hit_rate": statistics.fmean(hits), "tokens": statistics.fmean(tokens), "questions": len(hits)}


def short_list(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The default, and for each of four prompt lengths the setting within it that finds most among twenty passages."""
    chosen = [DEFAULT]
    for most in (60, 120, 200, 400):
        within = [row for row in rows if row["together"]["tokens"] <= most]
        if within:
            options = max(within, key=lambda row: row["together"]["hit_rate"])["options"]
            chosen += [options] if options not in chosen else []
    return chosen


def answered(base: BaseModel, data: Dataset, options: dict[str, Any]) -> dict[str, Any]:
    """The model's answers, with all documents in one memory."""
    documents = tuple(replace(d, questions=d.questions[:QUESTIONS]) for d in data.documents[:ANSWERED])
    contender = Contender("rag", options)
    settings = Settings(retention_documents=0, count_flops=False)
    result = compare(replace(data, documents=documents), [contender], base, settings=settings)
    [row] = result["results"]
    return {k: row[k] for k in ("recall", "recall_interval", "f1", "answer_seconds", "questions")}


def shown(options: dict[str, Any]) -> str:
    """Settings on one line; the gate and BM25's parameters if they are not the defaults."""
    text = f"{options['top_k']} chunks of {options['chunk_tokens']}, overlap {options['overlap_tokens']}"
    more = [f"{k}={options[k]}" for k in ("min_score", "k1", "b") if k in options and options[k] != DEFAULT.get(k)]
    return ", ".join([text, *more])


def markdown(result: dict[str, Any]) -> str:
    """The retrieval results of every setting, and the answers of the short list."""
    one, many = (result["rows"][0][name]["questions"] for name in ("alone", "together"))
    lines = [
        f"Retrieval, without the model: {one} and {many} questions on {PASSAGES} passages of the first half of the "
        f"articles; the memory holds one passage, or {TOGETHER}.",
        "",
        "| rag | found, of one | tokens | found, of twenty | tokens |",
        "|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        bold = "**" if row["options"] == DEFAULT else ""
        a, t = row["alone"], row["together"]
        lines.append(
            f"| {bold}{shown(row['options'])}{bold} | {a['hit_rate']:.2f} | {a['tokens']:.0f} "
            f"| {t['hit_rate']:.2f} | {t['tokens']:.0f} |"
        )
    if result["answers"]:
        lines += ["", "Answers of the model from the short list:", "", "| rag | recall | F1 | answer, s |",
                  "|---|---|---|---|"]  # fmt: skip
        for row in result["answers"]:
            low, high = row["recall_interval"]
            lines.append(
                f"| {shown(row['options'])} | {row['recall']:.2f} [{low:.2f}, {high:.2f}] | {row['f1']:.2f} "
                f"| {row['answer_seconds']:.2f} |"
            )
        lines += ["", f"{result['answers'][0]['questions']} questions on {ANSWERED} passages in one memory, "
                  f"{result['machine']['threads']} threads."]  # fmt: skip
    return "\n".join(lines)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="SQuAD, or JSON lines: title, context, questions")
    parser.add_argument("--out", type=Path, help="folder for tuning_rag.json, with the README.md that has the block")
    parser.add_argument("--answers", action="store_true", help="let the model answer with the short list of settings")
    parser.add_argument("--model", default="smollm2-135m")
    arguments = parser.parse_args()
    base = BaseModel.load(arguments.model)
    first, _ = halves(load_dataset(arguments.data))
    data = sample(first, PASSAGES, one_per_article=False)
    memories = [data.documents[i : i + TOGETHER] for i in range(0, PASSAGES, TOGETHER)]
    picked = random.Random(0).sample(data.documents, PASSAGES // 4)
    result: dict[str, Any] = {"machine": machine_facts(base), "rows": [], "answers": []}
    for number, options in enumerate(grid(), 1):
        alone, together = (retrieved(base, options, m) for m in ([[d] for d in picked], memories))
        result["rows"].append({"options": options, "alone": alone, "together": together})
        print(f"{number}/{len(grid())} {shown(options)}: {alone['hit_rate']:.3f} of one, "
              f"{together['hit_rate']:.3f} of twenty", file=sys.stderr, flush=True)  # fmt: skip
    if arguments.answers:
        spread = sample(first, ANSWERED, one_per_article=False, seed=1)
        for options in short_list(result["rows"]):
            result["answers"].append({"options": options, **answered(base, spread, options)})
            print(f"{shown(options)}: recall {result['answers'][-1]['recall']:.2f}", file=sys.stderr, flush=True)
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / "tuning_rag.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        write_block(arguments.out / "README.md", "tuning_rag", markdown(result))
    print(markdown(result))


if __name__ == "__main__":
    main()
