"""Does a start help? Inner steps and seconds until a passage is recited, and what is right after a few of them.

    python benchmarks/lab/start.py --data squad_dev_open.jsonl --start FOLDER/start.safetensors

The passages are held-out ones of the first half of the articles, as in `continual-learning train start --half first`
with the same seed. Three beginnings: the passage's neurons by TF-IDF with values of zero (what ttt does), the start's
neurons with values of zero, and the start.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from dataclasses import replace
from pathlib import Path

import torch

from continual_learning.datasets.base import halves, load_dataset
from continual_learning.documents.shipped import background_texts
from continual_learning.io.paths import data_home
from continual_learning.model.base_model import BaseModel
from continual_learning.settings.schema import from_text, parse_assignments
from continual_learning.strategies.methods.ttt.calibration import calibrate
from continual_learning.strategies.methods.ttt.config import TTTConfig
from continual_learning.strategies.methods.ttt.dual_mlp import NeuronBranch
from continual_learning.strategies.methods.ttt.inner_loop import Course, descend
from continual_learning.strategies.methods.ttt.learning import blocks_with_branches, inner_loop, new_branches
from continual_learning.strategies.methods.ttt.outer_loop.config import StartConfig
from continual_learning.strategies.methods.ttt.outer_loop.gradient import after_steps
from continual_learning.strategies.methods.ttt.outer_loop.passages import StudyPassage, split_passages, study_passage
from continual_learning.strategies.methods.ttt.start import load_start, packaged_start, prepared_start

STEPS = (0, 1, 2, 3, 5, 8)


def measured(base: BaseModel, study: StudyPassage, branches: dict[int, NeuronBranch], ttt: TTTConfig) -> list[float]:
    """Tokens, parts; tokens right and parts recited after each of STEPS; parts, steps and seconds at the end."""
    job = replace(study.job, branches=branches)
    course = Course(base, branches, job.alpha, study.batch, job.stop_ids)
    values = {block: branch.down_KD.detach() for block, branch in branches.items()}
    tokens, parts = len(study.batch.targets_M), len(job.items)
    row, at = [float(tokens), float(parts)], 0
    for steps in STEPS:
        values, at = after_steps(course, values, ttt.learning_rate, steps - at), steps
        wrong = course.look_up(values)  # what the whole vocabulary prefers also becomes a candidate, as in `descend`
        row += [tokens - sum(map(len, wrong)), sum(not own for own in wrong)]
    began = time.perf_counter()
    written = descend(base, job, inner_loop(ttt), random.Random(0))
    return [*row, sum(not own for own in written.wrong), written.steps, time.perf_counter() - began]


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="SQuAD's JSON, or JSON lines: title, context, questions")
    parser.add_argument("--start", type=Path, help="a start's file; default: the one that ships or was prepared")
    parser.add_argument("--passages", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="an option of ttt")
    arguments = parser.parse_args()
    given = {k: from_text(TTTConfig, k, v) for k, v in parse_assignments(arguments.set).items()}
    ttt = TTTConfig(start=None, **given)
    outer = StartConfig(validation_passages=arguments.passages, seed=arguments.seed)
    base = BaseModel.load(arguments.model)
    held = split_passages(base, halves(load_dataset(arguments.data))[0], ttt, outer)[1]
    blocks = blocks_with_branches(base, ttt)
    calibration = calibrate(base, background_texts(), blocks, data_home() / "calibration")
    start = load_start(arguments.start, base) if arguments.start else packaged_start(base) or prepared_start(base)
    if start is None:
        parser.error(f"no start ships for {arguments.model}; give --start FILE")
    rows: dict[str, list[list[float]]] = {"zero, own neurons": [], "zero, the start's neurons": [], "start": []}
    for passage in held:
        study = study_passage(base, passage, ttt, blocks.start)
        zero = start.branches(base)
        for branch in zero.values():
            branch.down_KD.data.zero_()
        own = new_branches(base, study.job.items, study.job.prefix, ttt, calibration, random.Random(0))
        for name, branches in zip(rows, (own, zero, start.branches(base)), strict=True):
            rows[name].append(measured(base, study, branches, ttt))
    print(f"{len(held)} passages, {torch.get_num_threads()} threads; tokens right, parts recited, after N inner steps")
    print("| begins at | " + " | ".join(map(str, STEPS)) + " | recited | steps | s |")
    print("|---" * (len(STEPS) + 4) + "|")
    for name, found in rows.items():
        tokens, parts, *counts = map(sum, zip(*found, strict=True))
        shares = [f"{counts[2 * i] / tokens:.1%}, {counts[2 * i + 1] / parts:.0%}" for i in range(len(STEPS))]
        steps, seconds = ([row[place] for row in found] for place in (-2, -1))
        print(f"| {name} | " + " | ".join(shares) + f" | {counts[-3] / parts:.1%} | {statistics.fmean(steps):.1f} | "
              f"{statistics.fmean(seconds):.2f} |")  # fmt: skip
    print(json.dumps(dict(start.facts)))


if __name__ == "__main__":
    main()
