"""Checkpoints of training: whole or not at all, and optimizers that go on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from continual_learning.errors import CorruptMemoryError
from continual_learning.io import checkpointing
from continual_learning.io.checkpointing import (
    CHECKPOINT_FILE,
    load_checkpoint,
    optimizer_tensors,
    restore_optimizer,
    save_checkpoint,
)
from continual_learning.training.schedule import warm_up_cosine


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path) is None
    save_checkpoint(tmp_path / "run", {"a": torch.arange(3)}, {"step": 4, "curve": [{"x": 0.5}]})
    found = load_checkpoint(tmp_path / "run")
    assert found is not None and found.facts == {"step": 4, "curve": [{"x": 0.5}]}
    assert found.tensors["a"].tolist() == [0, 1, 2]


def test_a_write_that_fails_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_checkpoint(tmp_path, {"a": torch.zeros(2)}, {"step": 1})

    def broken(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("continual_learning.io.files.os.replace", broken)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(tmp_path, {"a": torch.ones(2)}, {"step": 2})
    monkeypatch.undo()
    found = load_checkpoint(tmp_path)
    assert found is not None and found.facts["step"] == 1
    assert [p.name for p in tmp_path.iterdir()] == [CHECKPOINT_FILE]


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"\x08\0\0\0\0\0\0\0{}      "])
def test_a_damaged_one_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / CHECKPOINT_FILE).write_bytes(content)
    with pytest.raises(CorruptMemoryError, match="delete it to start again"):
        checkpointing.load_checkpoint(tmp_path)


def test_an_optimizer_goes_on_as_if_it_had_never_stopped() -> None:
    def made() -> tuple[torch.nn.Parameter, torch.optim.AdamW]:
        parameter = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
        return parameter, torch.optim.AdamW([parameter], lr=0.1)

    def step(parameter: torch.nn.Parameter, optimizer: torch.optim.AdamW, target: float) -> None:
        optimizer.zero_grad()
        (parameter - target).square().sum().backward()
        optimizer.step()

    whole, first = made()
    for target in (1.0, 5.0, -3.0):
        step(whole, first, target)
    part, second = made()
    step(part, second, 1.0)
    again, third = made()
    again.data.copy_(part.data)
    restore_optimizer(third, optimizer_tensors(second))
    for target in (5.0, -3.0):
        step(again, third, target)
    assert torch.equal(again, whole)


def test_the_rate_rises_and_falls() -> None:
    factors = [warm_up_cosine(step, 20, 4) for step in range(20)]
    assert factors[:4] == [0.25, 0.5, 0.75, 1.0] and max(factors) == 1.0
    assert factors[4:] == sorted(factors[4:], reverse=True) and 0 < factors[-1] < 0.02
