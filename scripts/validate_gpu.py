"""Check on a machine with a GPU what runs there: one line for each check, and exit code 1 if one fails.

    python scripts/validate_gpu.py [--model NAME] [--device cuda] [--only WORD] [--json]

bfloat16 against float32; every strategy learns, answers, saves and forgets; weights held in 8 and 4 bits; gradient
checkpointing and its offload; tokens a second of decoding and of a reader's training. Each line has the seconds and the
most memory that the check took. It runs on a CPU too (``--device cpu``), where there is no offload to see and the
memory is that of the whole process.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from continual_learning.documents import Document
from continual_learning.documents.shipped import background_texts
from continual_learning.evaluation.machine import PeakMemory
from continual_learning.memory.store import Store
from continual_learning.model import checkpointing
from continual_learning.model.base_model import BaseModel
from continual_learning.model.chat_template import user
from continual_learning.model.generation import generate
from continual_learning.model.quantised import FrozenWeights, QuantisedLinear, weight_bytes
from continual_learning.reading.reader.adapter import adapted, new_weights
from continual_learning.reading.reader.lesson_rows import make_row, row_loss
from continual_learning.strategies.base import make_strategy, strategy_names
from continual_learning.strategies.baselines._lora import LoRA
from continual_learning.training.examples import text_item
from continual_learning.training.gradient_descent import item_loss

TEXTS = (
    Document("Comb jellies eat plankton near the harbour of Lund. They have eight rows of cilia.", "Comb jellies"),
    Document("The quick brown fox lives in Paris with seven cats. It was born in 1811.", "Fox"),
)
QUESTIONS = ("What do comb jellies eat?", "How many cats live with the fox?", "What is the capital of France?")
# The check of what was learned takes longer than learning, and asks about quality, which a benchmark measures.
OPTIONS: dict[str, dict[str, Any]] = {"ttt": {"guard": False}, "doc2lora": {"guard": False}}
LONG = 4096


class CheckError(Exception):
    """A check found something other than what it expects."""


@dataclass(frozen=True)
class Outcome:
    """What came of a check."""

    name: str
    passed: bool
    seconds: float
    peak_mb: float
    note: str


@dataclass
class Bench:
    """The model under test; the base in the device's own type is loaded once."""

    model: str
    device: str
    _base: BaseModel | None = None

    @property
    def base(self) -> BaseModel:
        """The base in bfloat16."""
        if self._base is None:
            self._base = self.load("bfloat16")
        return self._base

    def load(self, dtype: str = "bfloat16", frozen_weights: FrozenWeights = "full") -> BaseModel:
        """Another copy of the base."""
        return BaseModel.load(self.model, self.device, dtype, frozen_weights=frozen_weights)


def expect(holds: bool, note: str) -> None:
    """Raise CheckError with this note unless it holds."""
    if not holds:
        raise CheckError(note)


def bf16(bench: Bench) -> str:
    """Perplexity of a text in bfloat16 against float32."""
    texts = [text.text for text in TEXTS]
    exact, count = bench.load("float32").token_nll(texts)
    found, _ = bench.base.token_nll(texts)
    note = f"{found / count:.4f} nats a token, in float32 {exact / count:.4f}"
    expect(abs(found - exact) < 0.03 * exact, note)
    return note


def strategy(name: str, bench: Bench) -> str:
    """A strategy learns two texts, answers, is saved and read back, and forgets one text exactly."""
    base = bench.base
    options = dict(OPTIONS.get(name, {}))
    made = make_strategy(name, options)
    if name == "doc2lora":
        from continual_learning.strategies.methods.doc2lora.generators import missing

        if missing(base.name, "doc", None):
            made = make_strategy(name, {**options, "mode": "simulated"})
    before = weights_mark(base)
    first, report = made.learn(base, made.init(base), TEXTS[0])
    both, _ = made.learn(base, first, TEXTS[1])
    loss = report.loss
    expect(loss is None or 0 <= loss < 20, f"loss {loss}")
    answers = made.answer(base, both, list(QUESTIONS), max_new_tokens=16)
    with tempfile.TemporaryDirectory() as folder:
        store = Store.open("validated", Path(folder))
        store.save(both, "learned")
        reopened = store.load()
    expect(reopened.digest() == both.digest(), "what was read back differs from what was saved")
    again = made.answer(base, reopened, list(QUESTIONS), max_new_tokens=16)
    expect([a.text for a in again] == [a.text for a in answers], "other answers after it was saved and read back")
    if both.meta.documents:
        left = made.forget(base, both, TEXTS[1].id)
        expect(
            [d.id for d in left.meta.documents] == [TEXTS[0].id], f"{len(left.meta.documents)} texts left; expected 1"
        )
    expect(weights_mark(base) == before, "the base has changed")
    return f"{report.reason[:40]}; {answers[0].text[:40]!r}"


def quantised(kind: FrozenWeights, bench: Bench) -> str:
    """Weights in fewer bits take less memory, and give the gradients of full layers that hold what they mean."""
    item = text_item(bench.base, TEXTS[0].text)
    wanted, full_bytes = adapter_gradient(bench.base, item), weight_bytes(bench.base.model)
    base = bench.load(frozen_weights=kind)
    found = adapter_gradient(base, item)
    with base.patched(full_layers(base)):
        same = adapter_gradient(base, item)
    exact, alike = (float(torch.nn.functional.cosine_similarity(found, other, dim=0)) for other in (same, wanted))
    made = make_strategy("ttt", OPTIONS["ttt"])
    _, report = made.learn(base, made.init(base), TEXTS[0])
    note = (
        f"{weight_bytes(base.model) / 1e6:.1f} MB of weights instead of {full_bytes / 1e6:.1f}; "
        f"gradients alike to {alike:.3f} with those of the full weights, {exact:.4f} with those of the weights as "
        f"rounded; ttt's loss {report.loss:.2f}"
    )
    expect(weight_bytes(base.model) < full_bytes and exact > 0.999 and report.accepted, note)
    return note


def full_layers(base: BaseModel) -> dict[str, torch.nn.Module]:
    """Ordinary layers in place of the quantised ones, with the weights that these mean."""
    layers: dict[str, torch.nn.Module] = {}
    for path, layer in base.model.named_modules():
        if isinstance(layer, QuantisedLinear):
            full = torch.nn.Linear(layer.in_features, layer.out_features, layer.bias is not None, device="meta")
            full.weight, full.bias = torch.nn.Parameter(layer.weight, requires_grad=False), layer.bias
            layers[path] = full
    return layers


def recomputed(kept: checkpointing.Kept, bench: Bench) -> str:
    """A long row gives the gradients that it gives without checkpointing, from less memory."""
    base = bench.base
    ids = base.encode(" ".join(background_texts()) * 2)[: min(LONG, base.window)]
    item = text_item(base, base.decode(ids))
    whole, small = PeakMemory(base.device), PeakMemory(base.device)
    # in this order, as each begins a new maximum on a GPU, and the line should have the larger
    with mock.patch.object(checkpointing, "what_to_keep", lambda *_: kept), small:
        found = adapter_gradient(base, item)
    with mock.patch.object(checkpointing, "what_to_keep", lambda *_: "all"), whole:
        wanted = adapter_gradient(base, item)
    likeness = float(torch.nn.functional.cosine_similarity(found, wanted, dim=0))
    note = f"{len(item.ids)} tokens: {small.bytes / 1e6:.0f} MB at most, {whole.bytes / 1e6:.0f} without"
    expect(likeness > 0.999, f"{note}; gradients alike to {likeness:.4f}")
    if base.device.type == "cuda":
        expect(small.bytes < whole.bytes, note)
    return note


def decoding(bench: Bench) -> str:
    """Tokens a second of greedy decoding, one row and 16."""
    base, found = bench.base, []
    prompt = base.chat_ids([user(QUESTIONS[2])])
    for rows in (1, 16):
        generate(base, [prompt] * rows, 2)
        started = time.perf_counter()
        written = generate(base, [prompt] * rows, 64)
        found.append(sum(one.tokens for one in written) / (time.perf_counter() - started))
    expect(found[0] > 0, "nothing was written")
    return f"{found[0]:.0f} tokens/s, {found[1]:.0f} in 16 rows"


def reader_training(bench: Bench) -> str:
    """Steps of a reader's training: tokens a second, and a loss that falls."""
    base, first = bench.base, bench.base.block_count // 2
    torch.manual_seed(0)
    weights = {n: torch.nn.Parameter(w.to(base.device)) for n, w in new_weights(base, first, 8).items()}
    asked = [[("What do they eat?", " plankton")], [("How many cats live there?", " seven")]]
    rows = [make_row(base, t.title, t.text, qa) for t, qa in zip(TEXTS, asked, strict=True)] * 8
    optimizer = torch.optim.AdamW(weights.values(), lr=2e-3)
    losses: list[float] = []
    started, steps = 0.0, 8
    for step in range(steps):
        if step == 2:  # the first steps load kernels
            losses, started = losses[:1], time.perf_counter()
        with base.patched(adapted(base, weights)):
            loss = row_loss(base, rows, first)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
    speed = (steps - 2) * sum(len(row.ids) for row in rows) / (time.perf_counter() - started)
    note = f"{speed:.0f} tokens/s; loss {losses[0]:.2f} to {losses[-1]:.2f} in {steps} steps"
    expect(losses[-1] < losses[0], note)
    return note


def adapter_gradient(base: BaseModel, item: Any) -> torch.Tensor:
    """The gradient of a LoRA adapter's B matrices, as one vector on the CPU: its A matrices get none at first."""
    with LoRA(8, 8.0).installed(base, {}, "validate") as weights:
        chosen = [weight.requires_grad_() for name, weight in weights.items() if name.endswith("lora_B")]
        with torch.enable_grad():
            found = torch.autograd.grad(item_loss(base, [item]), chosen)
    return torch.cat([gradient.flatten().float().cpu() for gradient in found])


def weights_mark(base: BaseModel) -> float:
    """A number that a change of any weight changes."""
    return sum(float(p.detach().double().abs().sum()) for p in base.model.parameters())


def checks() -> Iterator[tuple[str, Callable[[Bench], str]]]:
    """All checks, by name, in order."""
    yield "bfloat16", bf16
    for name in strategy_names():
        yield f"strategy {name}", partial(strategy, name)
    for kind in ("int8", "nf4"):
        yield f"weights in {kind}", partial(quantised, kind)
    yield "gradient checkpointing", partial(recomputed, "inputs")
    yield "offload", partial(recomputed, "offloaded inputs")
    yield "decoding", decoding
    yield "reader training", reader_training


def run(name: str, check: Callable[[Bench], str], bench: Bench) -> Outcome:
    """Do one check. Whatever it raises is its outcome."""
    started, device = time.perf_counter(), torch.device(bench.device)
    peak = PeakMemory(device)
    try:
        with peak:
            note, passed = check(bench), True
    except Exception as error:  # any failure is what is being looked for; it is reported, and the exit code is 1
        note, passed = f"{type(error).__name__}: {' '.join(str(error).split())}"[:300], False
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return Outcome(name, passed, round(time.perf_counter() - started, 2), round(peak.bytes / 1e6, 1), note)


def main(arguments: list[str] | None = None) -> int:
    """Run the checks; returns the exit code."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--model", default="smollm2-135m", help="any base model: see docs/models.md")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1 or cpu")
    parser.add_argument("--only", default="", help="checks with this word in their name")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of lines")
    given = parser.parse_args(arguments)
    chosen = [(name, check) for name, check in checks() if given.only in name]
    if not chosen:
        parser.error(f"--only {given.only}: no such check; expected a word of: {', '.join(n for n, _ in checks())}")
    if given.device.startswith("cuda") and not torch.cuda.is_available():
        parser.error(f"--device {given.device}: PyTorch sees no GPU here; expected one, or give --device cpu")
    bench = Bench(given.model, given.device)
    outcomes = []
    for name, check in chosen:
        random.seed(0)
        outcome = run(name, check, bench)
        outcomes.append(outcome)
        if not given.json:
            word = "pass" if outcome.passed else "FAIL"
            print(f"{word}  {name:28} {outcome.seconds:7.1f} s {outcome.peak_mb:9.1f} MB  {outcome.note}", flush=True)
    failed = sum(not one.passed for one in outcomes)
    if given.json:
        facts = {"model": given.model, "device": given.device, "torch": torch.__version__, "failed": failed}
        print(json.dumps({**facts, "checks": [asdict(one) for one in outcomes]}, indent=1))
    else:
        print(f"{len(outcomes) - failed} of {len(outcomes)} checks passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
