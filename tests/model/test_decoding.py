"""The fast decoder: where it is used, where it is not, and that it gives what the model gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import FAMILIES, make_tiny
from torch import nn

from continual_learning.model import decoding
from continual_learning.model.base_model import BaseModel
from continual_learning.model.decoding import FastDecoder, TransformersDecoder, decodes_fast, make_decoder
from continual_learning.model.families import mlp_parts
from continual_learning.model.generation import generate
from continual_learning.strategies.methods.ttt.dual_mlp import DualMLP, NeuronBranch

FAST = {"llama", "qwen2", "qwen3"}
START = list(range(20, 40))


def both(base: BaseModel, prompts: list[list[int]], steps: int = 3) -> list[torch.Tensor]:
    """Logits of each step by the decoder that is used, and by Transformers'."""
    found = []
    with torch.no_grad():
        for decoder in (make_decoder(base, steps), TransformersDecoder(base)):
            rows = [decoder.logits(decoder.read(prompts))]
            for step in range(steps):
                ids_B = torch.arange(len(prompts)) + 7 * step
                rows.append(decoder.logits(decoder.step(ids_B)))
            found.append(torch.stack(rows))
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_it_is_used_where_it_gives_the_same(family: str, tmp_path: Path) -> None:
    base = BaseModel.load(str(make_tiny(family, tmp_path)), device="cpu")
    assert decodes_fast(base) == (family in FAST)
    fast, slow = both(base, [START, [*START[:12], 5, 6], [*START[:9], 3]])
    torch.testing.assert_close(fast, slow, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "prompts",
    [
        [START],
        [START, START],
        [START, START[::-1]],
        [[*START, 1, 2, 3], [*START, 4], [*START, 5, 6]],
        [[9], [*START, 4]],
    ],
    ids=["alone", "twice the same", "nothing shared", "a shared start", "one token"],
)
def test_prompts_of_all_kinds(tiny_base: BaseModel, prompts: list[list[int]]) -> None:
    assert isinstance(make_decoder(tiny_base, 1), FastDecoder)
    fast, slow = both(tiny_base, prompts)
    torch.testing.assert_close(fast, slow, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("piece", [3, 5, 19])
def test_a_long_prompt_is_read_piece_by_piece(
    tiny_base: BaseModel, monkeypatch: pytest.MonkeyPatch, piece: int
) -> None:
    assert decodes_fast(tiny_base)
    monkeypatch.setattr(decoding, "_PIECE", piece)
    for prompts in ([START], [START, START[:7]], [[*START, 1, 2, 3], [*START, 4]], [[*START, 1], [*START, 2]]):
        fast, slow = both(tiny_base, prompts)
        torch.testing.assert_close(fast, slow, rtol=1e-3, atol=1e-4)


def test_rows_that_are_left_go_on_alike(tiny_base: BaseModel) -> None:
    prompts, keep = [[*START, 1, 2, 3], [*START, 4], [*START, 5, 6]], torch.tensor([0, 2])
    with torch.no_grad():
        found = []
        for decoder in (make_decoder(tiny_base, 2), TransformersDecoder(tiny_base)):
            decoder.read(prompts)
            decoder.select(keep)
            found.append(decoder.logits(decoder.step(torch.tensor([3, 4]))))
    torch.testing.assert_close(found[0], found[1], rtol=1e-3, atol=1e-4)


def test_whatever_is_patched_in_takes_part(tiny_base: BaseModel) -> None:
    branch = NeuronBranch(mlp_parts(tiny_base.mlp(2)), torch.arange(5))
    nn.init.normal_(branch.down_KD)
    block = tiny_base.block_path(1)
    patches: list[dict[str, nn.Module]] = [
        {tiny_base.mlp_path(2): DualMLP(tiny_base.mlp(2), branch, 0.5)},
        {tiny_base.mlp_path(1): nn.Identity()},
        {f"{block}.self_attn.q_proj": nn.Linear(32, 32)},
        {f"{block}.self_attn.o_proj": nn.Linear(32, 32)},
    ]
    plain, _ = both(tiny_base, [START])
    for patch in patches:
        with tiny_base.patched(patch):
            assert isinstance(make_decoder(tiny_base, 1), FastDecoder)
            fast, slow = both(tiny_base, [START, [*START, 4]])
        torch.testing.assert_close(fast, slow, rtol=1e-3, atol=1e-4)
        assert not torch.allclose(fast[:, :1], plain, atol=1e-4)


def test_a_module_that_someone_listens_to_is_called(tiny_base: BaseModel) -> None:
    heard: list[Any] = []
    handle = tiny_base.blocks[1].register_forward_hook(lambda *_: heard.append(1))
    try:
        assert isinstance(make_decoder(tiny_base, 1), TransformersDecoder)
        generate(tiny_base, [START], 2)
    finally:
        handle.remove()
    assert heard and isinstance(make_decoder(tiny_base, 1), FastDecoder)


def test_a_block_of_another_kind_is_called(tiny_base: BaseModel) -> None:
    class Other(nn.Module):
        def __init__(self, block: nn.Module):
            super().__init__()
            self.block = block

        def forward(self, hidden: torch.Tensor, **kwargs: Any) -> Any:
            return self.block(hidden, **kwargs)

    with tiny_base.patched({tiny_base.block_path(1): Other(tiny_base.blocks[1])}):
        assert isinstance(make_decoder(tiny_base, 1), TransformersDecoder)


def test_a_model_that_the_fast_decoder_gets_wrong_is_left_alone(
    tiny_llama_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "_norm", lambda module: lambda x: x)
    base = BaseModel.load(str(tiny_llama_dir), device="cpu")
    assert not decodes_fast(base) and isinstance(make_decoder(base, 1), TransformersDecoder)


def test_eight_bits_answer_nearly_alike(tiny_llama_dir: Path, tiny_base: BaseModel) -> None:
    base = BaseModel.load(str(tiny_llama_dir), device="cpu", precision="int8")
    assert decodes_fast(base) and base.fingerprint == tiny_base.fingerprint
    with torch.no_grad():
        exact = tiny_base.logits(make_decoder(tiny_base, 1).read([START]))
        decoder = make_decoder(base, 1)
        rounded = decoder.logits(decoder.read([START]))
    assert 0 < (rounded - exact).norm() / exact.norm() < 0.2
