"""docs/sizes.md: memory and seconds of larger bases, counted from their shapes, beside what was measured on two.

python benchmarks/sizes.py --measure NAME     learn and ask a passage with ttt on this machine; add it to sizes.json
python benchmarks/sizes.py --count NAME       count its operations; add them to sizes.json
python benchmarks/sizes.py                    write the tables of docs/sizes.md from the shapes and sizes.json
python benchmarks/sizes.py --check            exit with 1 if they do not match

Counted: a multiply-add is two operations. Memory is that of weights, branches with their optimizer, and activations.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
DOCUMENT = ROOT / "docs" / "sizes.md"
MEASURED = ROOT / "benchmarks" / "sizes.json"
LEARNING_TIME = ROOT / "benchmarks" / "results" / "learning_time" / "ttt--default.json"
SAMPLE = ROOT / "src" / "continual_learning" / "data" / "squad_sample" / "squad_sample.jsonl"
MARK = "<!-- tables -->"

# What ttt does by default: strategies/methods/ttt/config.py.
NEURONS = 96
PASSAGE_TOKENS = 140
# Candidate tokens of a passage: its own, and those that the base prefers at their places.
CANDIDATES = 900
# Without the check of the result.
PLAIN = {"guard": False}
WRITTEN = 32  # tokens written to time one
# Effective operations and bytes a second. The CPU: two cores with AVX2, as matmul_gflops and a copy measure them.
CPU_FLOPS, CPU_BYTES = 130e9, 20e9
# The GPU: an A100 with 40 GB, by its data sheet; how much of its peak small batches reach is an assumption.
GPU_FLOPS, GPU_BYTES, GPU_SHARE = 312e12, 1555e9, 0.3


@dataclass(frozen=True)
class Shape:
    """A Llama-like model, by its config.json."""

    hidden: int
    inner: int
    blocks: int
    heads: int
    key_heads: int
    head_size: int
    vocabulary: int
    tied: bool = True

    @property
    def block(self) -> int:
        """Weights of a block's linear layers."""
        across = self.heads * self.head_size
        return self.hidden * (2 * across + 2 * self.key_heads * self.head_size + 3 * self.inner)

    @property
    def vocabulary_weights(self) -> int:
        """Weights of the embedding, and of the head if it has its own."""
        return self.vocabulary * self.hidden * (1 if self.tied else 2)

    @property
    def weights(self) -> int:
        """All weights but norms and biases, a thousandth of them."""
        return self.blocks * self.block + self.vocabulary_weights

    def bytes_in(self, kind: str) -> float:
        """Bytes of all weights; in int8 and nf4 embeddings and head stay in bf16."""
        whole = {"fp32": 4, "bf16": 2}
        if kind in whole:
            return self.weights * whole[kind]
        return self.blocks * self.block * {"int8": 1, "nf4": 4.25 / 8}[kind] + 2 * self.vocabulary_weights

    @property
    def attention(self) -> int:
        """Weights of a block's attention."""
        return self.block - 3 * self.hidden * self.inner

    def learning_flops(self, work: Work) -> float:
        """To learn a passage: the blocks before the last, choosing neurons, steps, looking up the whole vocabulary."""
        prefix = 2 * work.item_tokens * (self.blocks - 1) * self.block
        choosing = 2 * work.batch_tokens * self.block
        # The MLP beside the branch computes once; candidates' logits go forward and backward.
        branch = 2 * self.hidden * NEURONS * 4 + 2 * NEURONS**2
        step = 2 * self.attention + branch + 4 * self.hidden * CANDIDATES * work.learned_share
        looking_up = 2 * (self.attention + self.hidden * self.vocabulary * work.learned_share)
        return prefix + choosing + work.batch_tokens * (work.steps * step + work.look_ups * looking_up)

    def learning_bytes(self, kind: str) -> float:
        """Memory while it learns a passage."""
        across, shared = self.heads * self.head_size, self.key_heads * self.head_size
        # as model/checkpointing.py counts what a block keeps of a token
        kept = 5 * self.hidden + 2 * across + 2 * shared + 3 * self.inner + self.hidden
        wide = 4 if kind == "fp32" else 2
        activations = WORK.batch_tokens * kept * wide
        logits = 4 * WORK.batch_tokens * WORK.learned_share * max(3 * CANDIDATES, self.vocabulary)
        return self.bytes_in(kind) + activations + logits


@dataclass(frozen=True)
class Work:
    """Tokens of the learning of one passage, padding included."""

    item_tokens: int
    """Of the training examples, cues included."""
    batch_tokens: int
    """The same with padding: all of them are one mini-batch."""
    steps: int
    look_ups: int
    """Of what the whole vocabulary prefers."""
    learned_share: float = 0.6
    """Share of the mini-batch's tokens that are learned: cues and padding are not."""


# 140 tokens in 10 parts, each after a cue of some 8 tokens.
WORK = Work(item_tokens=220, batch_tokens=240, steps=12, look_ups=4)

SHAPES = {
    "smollm2-135m": Shape(576, 1536, 30, 9, 3, 64, 49152),
    "gemma3-270m": Shape(640, 2048, 18, 4, 1, 256, 262144),
    "Qwen2.5-0.5B": Shape(896, 4864, 24, 14, 2, 64, 151936),
    "Qwen2.5-1.5B": Shape(1536, 8960, 28, 12, 2, 128, 151936),
    "Qwen2.5-3B": Shape(2048, 11008, 36, 16, 2, 128, 151936),
    "Qwen2.5-7B": Shape(3584, 18944, 28, 28, 4, 128, 152064, tied=False),
}


def table(rows: list[list[str]]) -> str:
    head, *body = rows
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *body))


def gb(count: float) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e8 else f"{count / 1e6:.0f} MB"


def seconds(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}" if value >= 1 else f"{value:.2g}"


def memory_table() -> str:
    kinds = ("fp32", "bf16", "int8", "nf4")
    rows = [["base", "weights", *kinds, *(f"learning, {kind}" for kind in ("fp32", "bf16", "nf4"))]]
    for name, shape in SHAPES.items():
        held = [gb(shape.bytes_in(kind)) for kind in kinds]
        learning = [gb(shape.learning_bytes(kind)) for kind in ("fp32", "bf16", "nf4")]
        rows.append([name, f"{shape.weights / 1e6:,.0f} M", *held, *learning])
    return table(rows)


def time_table(slower: float) -> str:
    on_cpu = ["learn, s, CPU: counted", f"× {slower:.1f}", "an answer's token, s, CPU"]
    rows = [["base", "GFLOP a passage", *on_cpu, "learn, s, GPU", "an answer's token, ms, GPU"]]
    for name, shape in SHAPES.items():
        flops = shape.learning_flops(WORK)
        cpu = flops / CPU_FLOPS
        reads = 2 * (shape.blocks * shape.block + WORK.look_ups * shape.vocabulary * shape.hidden)
        gpu = max(flops / (GPU_FLOPS * GPU_SHARE), reads / GPU_BYTES)
        token = shape.bytes_in("fp32") - (0 if shape.tied else 4 * shape.vocabulary * shape.hidden)
        of_cpu = [seconds(cpu), seconds(cpu * slower), seconds(token / CPU_BYTES)]
        rows.append([name, f"{flops / 1e9:,.0f}", *of_cpu, seconds(gpu), seconds(1e3 * token / 2 / GPU_BYTES)])
    return table(rows)


def earlier() -> tuple[str, float]:
    """The comparison with the learning times in benchmarks/results, and how much slower than counted that was."""
    result = json.loads(LEARNING_TIME.read_text("utf-8"))
    alone = next(row for row in result["figures"]["rows"] if row["together"] == 1)
    passages = len(alone["seconds"])
    taken = sum(value for part, value in alone["by_part"].items() if part != "retention") / passages
    flops = SHAPES[result["model"]].learning_flops(WORK)
    speed = result["machine"]["matmul_gflops"]
    threads, day = result["machine"]["threads"], result["date"][:10]
    text = (
        f"`{result['model']}`, {passages} passages of {alone['tokens'] / passages:.0f} tokens, {threads} threads at "
        f"{speed:.0f} GFLOP/s, {day} (benchmarks/README.md, learning time): {taken:.1f} s a passage without "
        f"retention, counted {flops / 1e9 / speed:.1f} s."
    )
    return text, taken * speed * 1e9 / flops


def counted_seconds(name: str, one: dict[str, Any]) -> float:
    """Of a base that was measured, by the speed that the machine had then."""
    return SHAPES[name].learning_flops(Work(**one["work"])) / (one["matmul_gflops"] * 1e9)


def measured_table(measured: dict[str, Any]) -> str:
    rows = [["base", "", "counted", "measured", "ratio"]]
    for name, one in measured.items():
        shape, memory = SHAPES[name], SHAPES[name].learning_bytes("fp32")
        flops = shape.learning_flops(Work(**one["work"])) / 1e9
        counted, token = counted_seconds(name, one), shape.bytes_in("fp32") / CPU_BYTES
        taken = one["token_seconds"]
        speed = f"seconds to learn {one['tokens']} tokens, at {one['matmul_gflops']:.0f} GFLOP/s"
        if "gflop" in one:
            rows.append(
                [name, "GFLOP to learn them", f"{flops:,.0f}", f"{one['gflop']:,.0f}", ratio(one["gflop"], flops)]
            )
        rows += [
            [name, speed, seconds(counted), seconds(one["learn_seconds"]), ratio(one["learn_seconds"], counted)],
            [name, "memory", gb(memory), gb(one["peak_bytes"]), ratio(one["peak_bytes"], memory)],
            [name, "seconds a token of an answer", seconds(token), seconds(taken), ratio(taken, token)],
        ]
    return table(rows)


def ratio(measured: float, counted: float) -> str:
    return f"{measured / counted:.1f}"


def document(text: str) -> str:
    """The document with its tables anew."""
    measured = json.loads(MEASURED.read_text("utf-8")) if MEASURED.is_file() else {}
    compared, slower = earlier()
    before, *_ = text.partition(MARK)
    parts = ["## Memory", memory_table(), "## Time", time_table(slower), "## Measured", compared]
    parts += [measured_table(measured)] if measured else []
    return before + MARK + "\n" + "\n\n".join(parts) + "\n"


def passage(base: Any) -> tuple[Any, list[str]]:
    """A passage of SQuAD of about 140 tokens, and two questions about it."""
    from continual_learning.documents import Document

    row = json.loads(SAMPLE.read_text("utf-8").split("\n")[0])
    ids = base.encode(row["context"])[:PASSAGE_TOKENS]
    return Document(base.decode(ids), row["title"]), [one["question"] for one in row["questions"]][:2]


def count(name: str) -> dict[str, Any]:
    """Operations of learning the passage, as PyTorch counts them."""
    from continual_learning.evaluation.machine import count_gflop
    from continual_learning.model.base_model import BaseModel
    from continual_learning.strategies.base import make_strategy

    base = BaseModel.load(name, "cpu")
    strategy = make_strategy("ttt", PLAIN)
    text, _ = passage(base)
    return {"gflop": round(count_gflop(lambda: strategy.learn(base, strategy.init(base), text)), 1)}


def timed(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def measure(name: str) -> dict[str, Any]:
    """Learn the passage with ttt, ask two questions, and write on, in this process. On a quiet machine."""
    import torch

    from continual_learning.evaluation.machine import PeakMemory
    from continual_learning.model.base_model import BaseModel
    from continual_learning.model.generation import generate
    from continual_learning.model.machine import cpu_name, matmul_gflops
    from continual_learning.strategies.base import make_strategy
    from continual_learning.strategies.methods.ttt import learning
    from continual_learning.strategies.methods.ttt.inner_loop import Course

    base = BaseModel.load(name, "cpu")
    text, questions = passage(base)
    strategy = make_strategy("ttt", PLAIN)
    work = {"item_tokens": 0, "batch_tokens": 0, "steps": 0, "look_ups": 0}
    step, look_up, prefix = Course.step, Course.look_up, learning.prefix_activations

    def stepped(self: Course, *given: Any, **more: Any) -> Any:
        work["steps"] += 1
        return step(self, *given, **more)

    def looked_up(self: Course, *given: Any) -> Any:
        work["look_ups"] += 1
        work["batch_tokens"] = self.batch.ids_BT.numel()
        return look_up(self, *given)

    def begun(base: BaseModel, items: Any, block: int) -> Any:
        work["item_tokens"] += sum(len(item.ids) for item in items)
        return prefix(base, items, block)

    Course.step, Course.look_up, learning.prefix_activations = stepped, looked_up, begun  # type: ignore[method-assign]
    speed = matmul_gflops(torch.device("cpu"))
    with PeakMemory(base.device) as peak:
        started = time.perf_counter()
        state, report = strategy.learn(base, strategy.init(base), text)
        learned = time.perf_counter() - started
        strategy.answer(base, state, questions)
    prompt = base.encode(text.text)
    generate(base, [prompt], 1)  # lays the weights out
    read, written = timed(lambda: generate(base, [prompt], 1)), timed(lambda: generate(base, [prompt], 1 + WRITTEN))
    return {
        "tokens": report.tokens,
        "learn_seconds": round(learned, 2),
        "timings": {part: round(value, 2) for part, value in report.timings.items()},
        "token_seconds": round((written - read) / WRITTEN, 4),
        "peak_bytes": peak.bytes,
        "work": work,
        "matmul_gflops": round(speed, 1),
        "threads": torch.get_num_threads(),
        "cpu": cpu_name(),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--measure", metavar="NAME")
    parser.add_argument("--count", metavar="NAME")
    parser.add_argument("--check", action="store_true")
    given = parser.parse_args()
    if name := given.measure or given.count:
        kept = json.loads(MEASURED.read_text("utf-8")) if MEASURED.is_file() else {}
        kept[name] = {**kept.get(name, {}), **(measure(name) if given.measure else count(name))}
        MEASURED.write_text(json.dumps(kept, indent=1) + "\n", "utf-8")
        print(json.dumps(kept[name], indent=1))
        return 0
    old = DOCUMENT.read_text("utf-8")
    new = document(old)
    if given.check:
        return int(old != new)
    DOCUMENT.write_text(new, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
