"""The one file format for tensors with facts: what was written before is read, and nothing half-written is left."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from continual_learning.errors import CorruptMemoryError, MismatchError
from continual_learning.io import artifacts
from continual_learning.io.artifacts import check_base, damage_reported, read_artifact, write_artifact
from continual_learning.reading.reader.reader import load_reader
from continual_learning.strategies.methods.doc2lora.checkpoint import load_hypernetwork
from continual_learning.strategies.methods.ttt.outer_loop import run_folder

DATA = Path(artifacts.__file__).parents[1] / "data"


def test_what_is_written_is_read(tmp_path: Path) -> None:
    tensors = {"010.up": torch.eye(3)[:, 1:], "002.up": torch.tensor([1, 2]), "002.down": torch.zeros(0)}
    header = {"format": "a kind 1", "base": "0" * 64, "facts": {"steps": 3, "é": None}, "step": 7}
    write_artifact(tmp_path / "new" / "a.safetensors", tensors, header)
    found = read_artifact(tmp_path / "new" / "a.safetensors", kind="a kind 1")
    assert found.header == header
    assert found.tensors.keys() == tensors.keys()
    assert all(torch.equal(found.tensors[name], tensors[name]) for name in tensors)
    assert {b: sorted(names) for b, names in found.by_block().items()} == {2: ["down", "up"], 10: ["up"]}


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.safetensors"
    write_artifact(path, {"x": torch.ones(2)}, {"step": 1})

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="No space left"):
        write_artifact(path, {"x": torch.ones(2)}, {"step": 2})
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]
    assert read_artifact(path).header == {"step": 1}


@pytest.mark.parametrize("content", [b"", b"no tensors", None])
def test_damage_is_one_line(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "a.safetensors"
    if content is None:
        write_artifact(path, {}, {"format": "another 1"})
    else:
        path.write_bytes(content)
    with (
        pytest.raises(CorruptMemoryError, match=r"^the start: cannot be read \(.+\); train it again$") as caught,
        damage_reported("the start", "train it again"),
    ):
        read_artifact(path, kind="a kind 1")
    assert "\n" not in str(caught.value)


def test_another_base_is_refused() -> None:
    check_base("start", "aa", "aa", "tiny", "train")
    with pytest.raises(
        MismatchError, match="start: trained for the base aa, and tiny is bb; train one for it with `t`"
    ):
        check_base("start", "aa", "bb", "tiny", "t")


def test_what_ships_with_the_package_is_read() -> None:
    assert load_reader(DATA / "readers" / "smollm2-135m.safetensors").facts
    assert load_hypernetwork(DATA / "hypernetworks" / "smollm2-135m").config


def test_a_checkpoint_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    tensors = {"weights.000": torch.ones(2), "best.000": torch.zeros(2), "moments.000.exp_avg": torch.ones(2)}
    metadata = {"identity": json.dumps({"seed": 1}), "step": "12", "seconds": "1.5", "curve": "[]"}
    save_file(tensors, tmp_path / run_folder.CHECKPOINT, metadata)
    found = run_folder.load_checkpoint(tmp_path, {"seed": 1})
    assert found and (found.step, found.seconds, found.curve) == (12, 1.5, [])
    assert torch.equal(found.moments[0]["exp_avg"], torch.ones(2))
