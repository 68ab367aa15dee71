"""`train hypernetwork`: a run in a folder, gone on with, and its errors."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import Command

from continual_learning.doc2lora import load_hypernetwork
from continual_learning.model.base_model import BaseModel

pytestmark = pytest.mark.slow

SETTINGS = (
    "retrieval_steps=1 steps=2 facts_documents=2 facts_per_document=2 validation_documents=2 rank=8 "
    "irrelevant_questions=0 teacher_weight=0 max_chunks=1 blocks=1,3"
).split()


def arguments() -> list[str]:
    return [part for setting in SETTINGS for part in ("--set", setting)]


def test_a_run_and_how_it_goes_on(cli: Command, tiny: BaseModel) -> None:
    first = cli("train", "hypernetwork", "run", "--stop-after", 1, "--json", *arguments())
    assert first.code == 0, first.err
    assert first.json["steps"] == 1 and not first.json["finished"]
    second = cli("train", "hypernetwork", "run", *arguments())
    assert second.code == 0 and "3 of 3 steps" in second.out and "mismatched" in second.out


def test_errors(cli: Command, tiny: BaseModel) -> None:
    for extra, words in (
        (("--set", "step=3"), "did you mean 'steps'"),
        (("--ladder", "1"), "expected 0, or at least 2"),
        (("--data", "nowhere.jsonl"), "no such file"),
        (("--set", "generator=mamba"), "generator = 'mamba'"),
    ):
        result = cli("train", "hypernetwork", "run", *extra)
        assert result.code == 2 and words in result.err, result.err


def test_without_a_command_it_shows_its_help(cli: Command) -> None:
    result = cli("train")
    assert result.code == 0 and "hypernetwork" in result.out


@pytest.mark.slow
def test_two_processes_train_as_one_does(cli: Command, tiny: BaseModel, tiny_llama_dir: Path, tmp_path: Path) -> None:
    assert cli("train", "hypernetwork", tmp_path / "one", *arguments()).code == 0
    launch = "-m accelerate.commands.launch --cpu --num_processes 2 --num_machines 1 --mixed_precision no"
    launch += " --dynamo_backend no --main_process_port 0 -m continual_learning.cli.main train hypernetwork --model"
    environment = {**os.environ, "CONTINUAL_LEARNING_HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    call = [sys.executable, *launch.split(), str(tiny_llama_dir), str(tmp_path / "two"), *arguments()]
    done = subprocess.run(call, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    one, two = (load_hypernetwork(tmp_path / folder).state_dict() for folder in ("one", "two"))
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=1e-2, atol=1e-5)
