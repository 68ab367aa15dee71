"""Which adapter generator learns most from the same compute? Linear fast weights against the Perceiver.

    python benchmarks/lab/generators.py --out benchmarks

Each generator is trained from its own initialisation on made-up facts, for as many steps as take about four minutes on
one slow core, including one-time computations: about twenty minutes in all. It is measured on eight documents of eight
facts of the validation split, whose names and values occur in no training facts. Each row is written to
generators.json when it is done, and is not measured again if it is there. The table goes into the block `generators` of
README.md in the same folder.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from blocks import write_block
from resumable import Parts

from continual_learning.evaluation.machine import machine_facts
from continual_learning.model.base_model import BaseModel
from continual_learning.strategies.methods.doc2lora.training.data import facts
from continual_learning.strategies.methods.doc2lora.training.networks import initial_network
from continual_learning.strategies.methods.doc2lora.training.probe import context_sensitivity
from continual_learning.strategies.methods.doc2lora.training.run import train_hypernetwork
from continual_learning.strategies.methods.doc2lora.training.settings import HypernetworkTraining

Json = dict[str, Any]
FACTS = 8
SHARED: Json = {
    "irrelevant_questions": 0, "teacher_weight": 0.0, "max_chunks": 1, "warm_up": 3, "documents_per_step": 2,
    "validation_documents": 2, "checkpoint_every": 1000, "validate_every": 1000,
}  # fmt: skip
# The Perceiver at 4e-5, as published for a hundred million examples, hardly moves in so few steps.
ROWS: dict[str, Json] = {
    "linear": {"generator": "linear", "facts_documents": 60, "retrieval_steps": 14, "steps": 14, "rate": 0.005},
    "linear, without the reader": {
        "generator": "linear", "facts_documents": 60, "retrieval_steps": 60, "steps": 60, "rate": 0.005,
        "reader_rank": 0,
    },
    "linear, without reader and keys' stage": {
        "generator": "linear", "facts_documents": 60, "retrieval_steps": 0, "steps": 70, "rate": 0.005,
        "reader_rank": 0,
    },
    "Perceiver, all blocks": {"generator": "perceiver", "facts_documents": 60, "steps": 26, "rate": 1e-3},
}  # fmt: skip


def row(base: BaseModel, options: Json, folder: Path, documents: int = 8) -> Json:
    """Train one generator, and measure it before and after."""
    settings = HypernetworkTraining(**{**SHARED, **options})
    held = facts("validation", documents, FACTS, 1)
    before = context_sensitivity(base, initial_network(base, settings), held)
    started = time.perf_counter()
    network = train_hypernetwork(base, settings, folder).network
    seconds = time.perf_counter() - started
    after = context_sensitivity(base, network, held, recall=True, in_prompt=True)
    return {
        "options": options,
        "parameters": sum(p.numel() for p in network.parameters()),
        "train_s": seconds,
        "start_matched": before.matched,
        **after.to_json(),
    }


def table(parts: Mapping[str, Json], machine: Json) -> str:
    """The table as Markdown."""
    lines = [
        "| generator | parameters | steps | trained, s | own adapter, nats a token (untrained) | another's | recall |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in ROWS:
        if found := parts.get(name):
            options = found["options"]
            steps = "+".join(str(n) for n in (options.get("retrieval_steps"), options["steps"]) if n)
            lines.append(
                f"| {name} | {found['parameters'] / 1e6:.1f} M | {steps} | {found['train_s']:.0f} | "
                f"{found['matched']:.2f} ({found['start_matched']:.2f}) | {found['mismatched']:.2f} | "
                f"{found['recall_matched']:.0%} |"
            )
    some = next(iter(parts.values()))
    return (
        "\n".join(lines)
        + f"\n\n{some['questions']} questions on {some['documents']} documents of {FACTS} facts; without an "
        f"adapter {some['none']:.2f} nats and {some['recall_none']:.0%}, in the prompt {some['prompt']:.2f} and "
        f"{some['recall_prompt']:.0%}. {machine['cpu']}, {machine['threads']} thread(s), torch {machine['torch']}. "
        "[generators.json](generators.json)"
    )


def main() -> None:
    """Measure the missing rows, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of generators.json and README.md")
    parser.add_argument("--only", help="rows to measure, separated by semicolons [all]")
    given = parser.parse_args()
    chosen = [name.strip() for name in given.only.split(";")] if given.only else list(ROWS)
    if strange := [name for name in chosen if name not in ROWS]:
        raise SystemExit(f"--only {'; '.join(strange)}: expected some of {'; '.join(ROWS)}")
    base = BaseModel.load("smollm2-135m")
    parts = Parts(given.out / "generators.json", {"threads": torch.get_num_threads()})
    for name in chosen:
        with tempfile.TemporaryDirectory() as folder:
            parts.measure(name, lambda name=name, folder=folder: row(base, ROWS[name], Path(folder)))
        write_block(given.out / "README.md", "generators", table(parts.measured, machine_facts(base)))


if __name__ == "__main__":
    main()
