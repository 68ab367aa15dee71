"""Files of hypernetworks: read whole at any size, or refused in one line, and never executed."""

from __future__ import annotations

import io
import json
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypernetworks import FIXTURE, random_hypernetwork, write_published
from safetensors.torch import load_file, save_file

from continual_learning.doc2lora import (
    Hypernetwork,
    HypernetworkConfig,
    load_hypernetwork,
    load_text_hypernetwork,
    save_hypernetwork,
)
from continual_learning.errors import ModelError, ModelNotFoundError
from continual_learning.strategies.methods.doc2lora.config import TextToLoRAConfig
from continual_learning.strategies.methods.doc2lora.hub import PUBLISHED
from continual_learning.strategies.methods.doc2lora.perceiver import Heads
from continual_learning.strategies.methods.doc2lora.text_to_lora import TextToLoRA

CONFIG = HypernetworkConfig(
    base_name="tiny",
    context_width=6,
    modules={"q_proj": (5, 4), "v_proj": (5, 3)},
    layers=(0, 1, 2),
    rank=2,
    multiplier=2.5,
    latent_width=8,
    latents=3,
    encoder=(True, True),
    heads=Heads(4, 2, 128),
    head_blocks=2,
)
VARIANTS: dict[str, dict[str, Any]] = {
    "as published": {},
    "one module": {"modules": {"down_proj": (7, 5)}},
    "another rank, more blocks": {"rank": 5, "encoder": (True,) * 4, "head_blocks": 4},
    "no blocks before the head": {"head_blocks": 0},
    "self-attention among the latents": {"encoder": (True, False, True, False)},
    "shared blocks": {"head_blocks_per_layer": False},
    "an early exit": {"context_encoder": "early_exit", "context_blocks": 2},
    "not every layer of the base": {"layers": (1, 2)},
    "no learned ranks": {"use_bias": False},
    "sixteen heads": {"heads": Heads(16, 4, 128)},
}


def network(**changes: Any) -> Hypernetwork:
    return random_hypernetwork(HypernetworkConfig(**{**CONFIG.__dict__, **changes}))


def same(one: Hypernetwork, other: Hypernetwork) -> bool:
    first, second = one.state_dict(), other.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def refused(path: Path, error: type[Exception] = ModelError) -> str:
    with pytest.raises(error) as caught:
        load_hypernetwork(path)
    message = str(caught.value)
    assert "\n" not in message and "expected" in message
    return message


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_a_published_file_is_read_whole(changes: dict[str, Any], tmp_path: Path) -> None:
    made = network(**changes)
    loaded = load_hypernetwork(write_published(made, tmp_path / "pytorch_model.bin"))
    assert loaded.config == made.config and same(loaded, made)
    assert not loaded.training


def test_names_of_a_compiled_model_and_of_the_older_class(tmp_path: Path) -> None:
    made = network()
    path = write_published(made, tmp_path / "x.bin", "ctx_to_lora.modeling_utils", prefix="_orig_mod.")
    assert same(load_hypernetwork(path), made)


def test_half_precision_is_read_as_fp32(tmp_path: Path) -> None:
    loaded = load_hypernetwork(write_published(network().half(), tmp_path / "x.bin"))
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}


def test_the_published_one_brings_the_affixes_that_it_was_trained_with(tmp_path: Path) -> None:
    path = write_published(network(base_name="google/gemma-2-2b-it"), tmp_path / "x.bin")
    assert load_hypernetwork(path).config.affixes == PUBLISHED["google/gemma-2-2b-it"].affixes


def test_a_folder_with_one_file_anywhere_in_it(tmp_path: Path) -> None:
    made, deep = network(), tmp_path / "demo" / "checkpoint-80000"
    deep.mkdir(parents=True)
    write_published(made, deep / "pytorch_model.bin")
    assert same(load_hypernetwork(tmp_path), made) and same(load_hypernetwork(str(tmp_path)), made)
    (tmp_path / "other").mkdir()
    write_published(made, tmp_path / "other" / "pytorch_model.bin")
    assert "several (demo/checkpoint-80000/pytorch_model.bin, other" in refused(tmp_path, ModelNotFoundError)


def test_nothing_there(tmp_path: Path) -> None:
    assert "holds none" in refused(tmp_path, ModelNotFoundError)
    assert "was not found" in refused(tmp_path / "absent.bin", ModelNotFoundError)


# -- nothing is executed -----------------------------------------------------------------------------


class Attack:
    """Pickles as a call."""

    def __init__(self, call: Callable[..., Any], *arguments: Any):
        self.call, self.arguments = call, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call, self.arguments


def attacks(marker: Path) -> dict[str, Attack]:
    import os
    import subprocess

    return {
        "shell": Attack(os.system, f"echo ran > '{marker}'"),
        "builtin": Attack(eval, f"open({str(marker)!r}, 'w').write('ran')"),
        "process": Attack(subprocess.call, ["touch", str(marker)]),
        "file": Attack(Path.touch, marker),
        "numpy": Attack(__import__("numpy").save, str(marker), 1),
    }


@pytest.mark.parametrize("kind", ["shell", "builtin", "process", "file", "numpy"])
@pytest.mark.parametrize("where", ["alone", "among the tensors", "in the settings", "in the first format"])
def test_a_hostile_pickle_is_refused_and_executes_nothing(kind: str, where: str, tmp_path: Path) -> None:
    marker, path = tmp_path / "marker", tmp_path / "pytorch_model.bin"
    attack = attacks(marker)[kind]
    if where == "alone":
        torch.save(attack, path)
    elif where == "in the settings":
        write_published(network(), path, settings={"use_bias": attack})
    elif where == "among the tensors":
        write_published(network(), path, tensors={"extra": attack})  # type: ignore[dict-item]
    else:
        torch.save({"head.weight": attack}, path, _use_new_zipfile_serialization=False)
    assert "refused, it names" in refused(path)
    assert not list(tmp_path.glob("marker*"))


def test_the_attacks_are_real(tmp_path: Path) -> None:
    for kind, attack in attacks(tmp_path / "marker").items():
        pickle.loads(pickle.dumps(attack))
        [made] = tmp_path.glob("marker*")
        made.unlink()
        assert kind


def test_a_bare_pickle_is_refused(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    (tmp_path / "x.bin").write_bytes(pickle.dumps(attacks(marker)["shell"], protocol=2))
    refused(tmp_path / "x.bin")
    assert not marker.exists()


def test_a_class_that_the_format_does_not_have_is_refused(tmp_path: Path) -> None:
    path = write_published(network(), tmp_path / "x.bin", settings={"extra": HypernetworkConfig(**CONFIG.__dict__)})
    assert "it names continual_learning.strategies.methods.doc2lora.config.HypernetworkConfig" in refused(path)


def test_reading_leaves_no_class_registered() -> None:
    before = torch.serialization.get_safe_globals()
    load_hypernetwork(FIXTURE)
    assert set(torch.serialization.get_safe_globals()) == set(before)


# -- damaged, incomplete, odd ------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_truncated_file(share: float, tmp_path: Path) -> None:
    whole = write_published(network(), tmp_path / "x.bin").read_bytes()
    (tmp_path / "x.bin").write_bytes(whole[: int(share * len(whole))])
    assert "damaged or no Doc-to-LoRA checkpoint" in refused(tmp_path / "x.bin")


@pytest.mark.parametrize("content", [b"not a checkpoint", b"\x80\x02}q\x00.", b"\x00" * 100])
def test_another_kind_of_file(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.bin").write_bytes(content)
    refused(tmp_path / "x.bin")


def test_an_empty_archive(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("x/readme", "nothing")
    (tmp_path / "x.bin").write_bytes(buffer.getvalue())
    refused(tmp_path / "x.bin")


@pytest.mark.parametrize("content", [[1, 2], {1: 2}, {}, {"head.weight": torch.zeros(2)}])
def test_data_that_is_no_checkpoint(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "x.bin")
    refused(tmp_path / "x.bin")


@pytest.mark.slow
def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    names = set(network().state_dict())
    named = set()
    for name in names:
        message = refused(write_published(network(), tmp_path / "x.bin", tensors={name: None}))
        part = name.rpartition(".")[0]
        if name in message or part.rpartition(".")[0] in message:
            named.add(name)
    assert named == names


@pytest.mark.slow
def test_a_tensor_of_another_shape_is_refused(tmp_path: Path) -> None:
    for tensor_name, tensor in network().state_dict().items():
        odd = torch.zeros([n + 1 for n in tensor.shape])
        refused(write_published(network(), tmp_path / "x.bin", tensors={tensor_name: odd}))
        refused(write_published(network(), tmp_path / "x.bin", tensors={tensor_name: torch.zeros(())}))


def test_an_unknown_tensor_is_named(tmp_path: Path) -> None:
    message = refused(write_published(network(), tmp_path / "x.bin", tensors={"extra_head.weight": torch.zeros(2)}))
    assert "'extra_head.weight'" in message


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layer_indices": torch.arange(2)}, "layer_indices names 2 layers; expected 3"),
        ({"layer_indices": "many"}, "settings cannot be used"),
        ({"lora_config": None}, "no 'lora_config'"),
        ({"per_rank_gen": False}, "per_rank_gen is False; expected True"),
        ({"extra_modules": ["layernorm"]}, r"extra_modules is \['layernorm'\]; expected None"),
    ],
)
def test_settings_that_cannot_be_used(settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=message):
        load_hypernetwork(write_published(network(), tmp_path / "x.bin", settings=settings))


def test_an_unknown_context_encoder(tmp_path: Path) -> None:
    path = write_published(network(context_encoder="mean"), tmp_path / "x.bin")
    assert "ctx_encoder_type is 'mean'" in refused(path)


# -- the folder of safetensors and JSON --------------------------------------------------------------


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_a_saved_folder_is_read_back(changes: dict[str, Any], tmp_path: Path) -> None:
    made = network(**changes)
    save_hypernetwork(made, tmp_path / "saved")
    loaded = load_hypernetwork(tmp_path / "saved")
    assert loaded.config == made.config and same(loaded, made)


def test_it_is_saved_in_its_own_dtype_and_read_as_fp32(tmp_path: Path) -> None:
    save_hypernetwork(network().half(), tmp_path)
    assert {t.dtype for t in load_file(tmp_path / "hypernetwork.safetensors").values()} == {torch.float16}
    assert {p.dtype for p in load_hypernetwork(tmp_path).parameters()} == {torch.float32}


def text_network() -> TextToLoRA:
    return TextToLoRA(TextToLoRAConfig("tiny", 6, {"q_proj": (5, 4), "v_proj": (5, 3)}, (0, 1), width=8))


def test_a_text_hypernetwork_is_read_back_and_not_taken_for_the_other(tmp_path: Path) -> None:
    made = text_network()
    save_hypernetwork(made, tmp_path / "text")
    loaded = load_text_hypernetwork(tmp_path / "text")
    descriptions_ND = torch.randn(3, 6)
    assert loaded.config == made.config
    for name, halves in made.generate(descriptions_ND).items():
        assert all(torch.equal(halves[h], loaded.generate(descriptions_ND)[name][h]) for h in "AB")
    assert "a TextToLoRA of format 1; expected a Hypernetwork" in refused(tmp_path / "text")
    with pytest.raises(ModelNotFoundError, match=r"expected a folder with hypernetwork.json"):
        load_text_hypernetwork(FIXTURE)


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "hypernetwork.json").write_text("{"),
        lambda folder: (folder / "hypernetwork.json").write_text("[]"),
        lambda folder: (folder / "hypernetwork.json").write_text(json.dumps({"format": 2, "kind": "x", "config": {}})),
        lambda folder: edit(folder, rank="two"),
        lambda folder: edit(folder, heads={"queries": 3, "keys": 2, "width": 4}),
        lambda folder: edit(folder, colour="red"),
        lambda folder: edit(folder, modules=None),
        lambda folder: (folder / "hypernetwork.safetensors").unlink(),
        lambda folder: (folder / "hypernetwork.safetensors").write_bytes(b"short"),
        lambda folder: save_file({"x": torch.zeros(1)}, folder / "hypernetwork.safetensors"),
    ],
)
def test_a_damaged_folder(damage: Callable[[Path], Any], tmp_path: Path) -> None:
    save_hypernetwork(network(), tmp_path)
    damage(tmp_path)
    refused(tmp_path)


def edit(folder: Path, **changes: Any) -> None:
    content = json.loads((folder / "hypernetwork.json").read_text(encoding="utf-8"))
    content["config"] |= changes
    (folder / "hypernetwork.json").write_text(json.dumps(content), encoding="utf-8")


def test_the_fixture_can_be_converted(tmp_path: Path) -> None:
    published = load_hypernetwork(shutil.copytree(FIXTURE, tmp_path / "fixture"))
    save_hypernetwork(published, tmp_path / "converted")
    assert same(load_hypernetwork(tmp_path / "converted"), published)
