"""Learning rates in proportion to a base's weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from finetuned import FOX, QUICK
from tiny_models import make_tiny

from continual_learning.model.base_model import BaseModel
from continual_learning.strategies.base import make_strategy
from continual_learning.training.weight_size import weight_share

ONE_LEVEL = {"steps": (2,), "periods": (0,), "optimizers": ("adamw",), "replay": (0.0,)}


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_smaller_weights_have_a_smaller_share_and_larger_ones_no_larger(family: str, tmp_path: Path) -> None:
    base, third = (BaseModel.load(str(make_tiny(family, tmp_path)), device="cpu") for _ in range(2))
    for parameter in third.model.parameters():
        parameter.data *= 1 / 3
    assert weight_share(base) == 1.0, "a root mean square of 0.3"
    assert weight_share(third) == pytest.approx(0.1 / 0.19, rel=0.05)


@pytest.mark.parametrize(
    ("name", "options", "rate", "half"),
    [
        ("lora", QUICK, "learning_rate", 2.5e-3),
        ("full_finetune", QUICK, "learning_rate", 5e-5),
        ("nested", {**ONE_LEVEL, "learning_rates": (2e-3,)}, "learning_rates", (1e-3,)),
    ],
)
def test_weights_half_as_large_are_learned_at_half_the_rate(
    name: str, options: dict[str, Any], rate: str, half: Any, tiny_llama_dir: Path, tiny_base: BaseModel
) -> None:
    smaller = BaseModel.load(str(tiny_llama_dir), device="cpu")
    assert smaller.remember("weight share", lambda: 0.5) == 0.5
    strategy = make_strategy(name, options)
    found, _ = strategy.learn(smaller, strategy.init(smaller), FOX)
    expected, _ = make_strategy(name, {**options, rate: half}).learn(tiny_base, strategy.init(tiny_base), FOX)
    assert found.tensors.keys() == expected.tensors.keys() and found.tensors
    assert all(torch.equal(tensor, expected.tensors[key]) for key, tensor in found.tensors.items())
