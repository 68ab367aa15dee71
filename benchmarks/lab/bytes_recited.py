"""How many bytes a passage needs in the weights until it is recited word for word.

    python benchmarks/lab/bytes_recited.py squad_dev_open.jsonl

Passages of the first half of the articles, each learned by ttt alone, with more and more neurons and by each way to
choose them. Writes bytes_recited.json and docs/bytes-recited.svg, and prints the table. Every row is stored as soon as
it is measured: the same command resumes after an interruption.
"""

from __future__ import annotations

import argparse
import json
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
from blocks import keep_rows, known_rows
from matplotlib import pyplot as plt

from continual_learning.datasets.base import Dataset, halves, load_dataset
from continual_learning.evaluation.machine import machine_facts
from continual_learning.model.base_model import BaseModel
from continual_learning.strategies.base import make_strategy

ROOT = Path(__file__).resolve().parents[2]
FOUND, PICTURE = ROOT / "benchmarks" / "lab" / "bytes_recited.json", ROOT / "docs" / "bytes-recited.svg"
PASSAGES, TOKENS = 6, range(100, 200)
NEURONS = (16, 32, 64, 96, 128, 160, 192)
SELECTIONS = {"tfidf": "TF-IDF", "tf": "most active", "random": "by chance"}


def chosen(base: BaseModel, data: Path) -> Dataset:
    """One passage of each article, as far as they go round."""
    first, _ = halves(load_dataset(data))
    fitting = [d for d in first.documents if len(base.encode(d.document.text)) in TOKENS]
    by_article: dict[str, list[Any]] = {}
    for item in fitting:
        by_article.setdefault(item.document.title, []).append(item)
    rounds = [item for n in range(PASSAGES) for items in by_article.values() for item in items[n : n + 1]]
    return replace(first, documents=tuple(rounds[:PASSAGES]))


def measured(base: BaseModel, data: Dataset, options: dict[str, Any]) -> dict[str, Any]:
    """Shares of tokens and parts recited, bytes, seconds, over all passages."""
    strategy = make_strategy("ttt", {"guard": False, **options})
    parts = recited = tokens = 0
    bytes_each, seconds = [], []
    for item in data.documents:
        state, report = strategy.learn(base, strategy.init(base), item.document)
        details = state.meta.documents[-1].details
        parts, recited, tokens = parts + details["parts"], recited + details["parts_recited"], tokens + report.tokens
        weights = [t for n, t in state.tensors.items() if n.endswith((".down", ".scale", ".neurons"))]
        bytes_each.append(sum(t.numel() * t.element_size() for t in weights))
        seconds.append(report.seconds)
    return {"parts": parts, "recited": recited, "tokens": tokens / len(data.documents),
            "bytes": statistics.fmean(bytes_each), "seconds": statistics.fmean(seconds)}  # fmt: skip


def draw(rows: dict[str, dict[str, Any]], tokens: float) -> None:
    """Bytes for a token against the share of parts that are recited."""
    plt.rcParams["svg.hashsalt"] = "bytes recited"  # the same picture has the same bytes
    figure, axis = plt.subplots(figsize=(6, 3.6))
    for selection, label in SELECTIONS.items():
        own = [row for name, row in rows.items() if name.startswith(f"{selection} ")]
        axis.plot([r["bytes"] / r["tokens"] for r in own], [r["recited"] / r["parts"] for r in own], "o-", label=label)
    axis.axhline(0.99, color="gray", linewidth=0.8, linestyle=":")
    axis.set(xlabel="bytes of weights for a token of text", ylabel="parts recited word for word", ylim=(0, 1.03))
    axis.legend(title="neurons chosen", loc="lower right")
    figure.tight_layout()
    figure.savefig(PICTURE, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="smollm2-135m")
    args = parser.parse_args()
    base = BaseModel.load(args.model)
    data = chosen(base, args.data)
    rows = known_rows(FOUND, data.sha256())
    for selection in SELECTIONS:
        for neurons in NEURONS:
            name = f"{selection} {neurons}"
            if name not in rows:
                rows[name] = measured(base, data, {"selection": selection, "neurons": neurons, "start": None})
                keep_rows(FOUND, data.sha256(), machine_facts(base), rows)
                print(name, json.dumps(rows[name]), flush=True)
    tokens = next(iter(rows.values()))["tokens"]
    draw(rows, tokens)
    print("| neurons | kB | " + " | ".join(f"{label}: parts recited" for label in SELECTIONS.values()) + " |")
    print("|---|---|" + "---|" * len(SELECTIONS))
    for neurons in NEURONS:
        shares = [rows[f"{s} {neurons}"]["recited"] / rows[f"{s} {neurons}"]["parts"] for s in SELECTIONS]
        kilobytes = rows[f"tfidf {neurons}"]["bytes"] / 1e3
        print(f"| {neurons} | {kilobytes:.0f} | " + " | ".join(f"{share:.1%}" for share in shares) + " |")


if __name__ == "__main__":
    main()
