"""The fast decoder: where it is used, where it is not, and that it gives what the model gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import FAMILIES, make_tiny
from torch import nn

from continual_learning.model import fast_decoder
from continual_learning.model.base_model import BaseModel
from continual_learning.model.cpu_linear import Precision
from continual_learning.model.decoding import TransformersDecoder, decodes_fast, make_decoder
from continual_learning.model.families import mlp_parts
from continual_learning.model.fast_decoder import FastDecoder
from continual_learning.model.generation import generate
from continual_learning.model.network import Network
from continual_learning.model.tokenizer import Tokenizer
from continual_learning.strategies.methods.ttt.dual_mlp import DualMLP, NeuronBranch

SLOW = {"phi3", "gpt2", "gpt_neox"}
START = list(range(20, 40))


def both(base: BaseModel, prompts: list[list[int]], steps: int = 3) -> list[torch.Tensor]:
    """Hidden states and logits of each step by the decoder that is used, and by Transformers'."""
    found = []
    with torch.no_grad():
        for decoder in (make_decoder(base, steps), TransformersDecoder(base)):
            last = [decoder.read(prompts)]
            for step in range(steps):
                last.append(decoder.step(torch.arange(len(prompts)) + 7 * step))
            found.append(torch.stack([torch.cat([hidden, decoder.logits(hidden)], dim=-1) for hidden in last]))
    return found


@pytest.fixture(scope="module", params=["llama", "gemma2", "gemma3", "gemma3 of our own"])
def each_base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    """Blocks of two norms and of four, without and with windows of 8 tokens."""
    folder = make_tiny(request.param.partition(" ")[0], tmp_path_factory.mktemp("decoded"))
    if "own" not in request.param:
        return BaseModel.load(str(folder), device="cpu")
    return BaseModel("own", Network.from_folder(folder), Tokenizer.from_folder(folder))


@pytest.mark.parametrize("family", FAMILIES)
def test_it_is_used_where_it_gives_the_same(family: str, tmp_path: Path) -> None:
    base = BaseModel.load(str(make_tiny(family, tmp_path)), device="cpu")
    assert decodes_fast(base) == (family not in SLOW)
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
        [START[:6]],
        [START[:6], START[:3]],
    ],
    ids=["alone", "twice the same", "nothing shared", "a shared start", "one token", "filling a window", "unequally"],
)
def test_prompts_of_all_kinds(each_base: BaseModel, prompts: list[list[int]]) -> None:
    assert isinstance(make_decoder(each_base, 1), FastDecoder)
    fast, slow = both(each_base, prompts, steps=6)
    torch.testing.assert_close(fast, slow, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("piece", [3, 5, 19])
def test_a_long_prompt_is_read_piece_by_piece(
    each_base: BaseModel, monkeypatch: pytest.MonkeyPatch, piece: int
) -> None:
    assert decodes_fast(each_base)
    monkeypatch.setattr(fast_decoder, "_PIECE", piece)
    for prompts in ([START], [START, START[:7]], [[*START, 1, 2, 3], [*START, 4]], [[*START, 1], [*START, 2]]):
        fast, slow = both(each_base, prompts)
        torch.testing.assert_close(fast, slow, rtol=1e-3, atol=1e-4)


def test_rows_that_are_left_go_on_alike(each_base: BaseModel) -> None:
    prompts, keep = [[*START, 1, 2, 3], [*START, 4], [*START, 5, 6]], torch.tensor([0, 2])
    with torch.no_grad():
        found = []
        for decoder in (make_decoder(each_base, 2), TransformersDecoder(each_base)):
            decoder.read(prompts)
            decoder.select(keep)
            found.append(decoder.logits(decoder.step(torch.tensor([3, 4]))))
    torch.testing.assert_close(found[0], found[1], rtol=1e-3, atol=1e-4)


def test_whatever_is_patched_in_takes_part(each_base: BaseModel) -> None:
    branch = NeuronBranch(mlp_parts(each_base.mlp(2)), torch.arange(5))
    nn.init.normal_(branch.down_KD)
    block = each_base.block_path(1)
    patches: list[dict[str, nn.Module]] = [
        {each_base.mlp_path(2): DualMLP(each_base.mlp(2), branch, 0.5)},
        {each_base.mlp_path(1): nn.Identity()},
        {f"{block}.self_attn.q_proj": nn.Linear(32, 32)},
        {f"{block}.self_attn.o_proj": nn.Linear(32, 32)},
    ]
    plain, _ = both(each_base, [START])
    for patch in patches:
        with each_base.patched(patch):
            assert isinstance(make_decoder(each_base, 1), FastDecoder)
            fast, slow = both(each_base, [START, [*START, 4]])
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
    monkeypatch.setattr(fast_decoder, "_norm", lambda *_: lambda x: x)
    base = BaseModel.load(str(tiny_llama_dir), device="cpu")
    assert not decodes_fast(base) and isinstance(make_decoder(base, 1), TransformersDecoder)


@pytest.mark.parametrize("family", ["llama", "gemma3"])
@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_rounded_weights_answer_nearly_alike(family: str, precision: Precision, tmp_path: Path) -> None:
    folder = str(make_tiny(family, tmp_path))
    whole, base = (BaseModel.load(folder, device="cpu", precision=used) for used in ("full", precision))
    assert decodes_fast(base) and base.fingerprint == whole.fingerprint
    with torch.no_grad():
        exact = whole.logits(make_decoder(whole, 1).read([START[:3]]))
        decoder = make_decoder(base, 1)
        rounded = decoder.logits(decoder.read([START[:3]]))
    # Random weights lose more in 4 bits than a model's own.
    assert 0 < (rounded - exact).norm() / exact.norm() < (0.2 if precision == "int8" else 0.6)
