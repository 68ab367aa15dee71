"""Linear fast weights: the equations, the mask, chunks, and files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from continual_learning.doc2lora import Doc2LoRAEngine, load_hypernetwork, save_hypernetwork
from continual_learning.documents import Document
from continual_learning.errors import InputError, MismatchError, ModelError
from continual_learning.model.base_model import BaseModel
from continual_learning.strategies.base import make_strategy
from continual_learning.strategies.methods.doc2lora import Doc2LoRA, state_adapter
from continual_learning.strategies.methods.doc2lora.adapter import installed
from continual_learning.strategies.methods.doc2lora.config import LinearHypernetworkConfig
from continual_learning.strategies.methods.doc2lora.linear import LinearHypernetwork

TEXTS = ["Comb jellies eat plankton, and they swim with rows of cilia.", "The cat lives in the house with a dog."]
INNER, WIDTH = 64, 32


def config(base: BaseModel, rank: int = 16) -> LinearHypernetworkConfig:
    return LinearHypernetworkConfig(base.name, WIDTH, {"mlp.down_proj": (INNER, WIDTH)}, (1, 3), rank)


@pytest.fixture(scope="module")
def network(tiny_base: BaseModel) -> LinearHypernetwork:
    return LinearHypernetwork.fitted(tiny_base, config(tiny_base), [tiny_base.encode(t) for t in TEXTS])


def test_the_memory_is_ridge_regression(tiny_base: BaseModel, network: LinearHypernetwork) -> None:
    ids = tiny_base.encode(TEXTS[0])
    activations, mask = network.read(tiny_base, [ids])
    made = network.generate(activations, mask)["mlp.down_proj"]
    for layer in range(2):
        key_SR = F.normalize(activations[0, layer, :-1, :INNER] @ network.key[layer].T, dim=-1)
        value_SO = (tiny_base.model.get_output_embeddings().weight[ids[1:]] - network.offset) @ network.value
        ridge = network.log_ridge[layer].exp()
        # the same regression in its other form, by tokens: K^T (K K^T + a I)^-1 V
        expected_RO = key_SR.T @ torch.linalg.solve(key_SR @ key_SR.T + ridge * torch.eye(len(ids) - 1), value_SO)
        torch.testing.assert_close(made["B"][0, layer], expected_RO * network.gain[layer], rtol=2e-3, atol=2e-4)
        assert torch.equal(made["A"][0, layer], network.query[layer])


def test_what_is_opened_is_what_the_matrices_add(tiny_base: BaseModel, network: LinearHypernetwork) -> None:
    ids = tiny_base.encode(TEXTS[0])
    activations, mask = network.read(tiny_base, [ids])
    made = network.generate(activations, mask)["mlp.down_proj"]
    x_LNI = torch.randn(2, 3, INNER, generator=torch.Generator().manual_seed(0))
    value_SO = (tiny_base.model.get_output_embeddings().weight[ids[1:]] - network.offset) @ network.value
    opened_LNS = network.openings(activations, mask, x_LNI[None])[0]
    assert opened_LNS.shape == (2, 3, len(ids)) and not bool(opened_LNS[:, :, -1].any())
    added_LNO = x_LNI @ made["A"][0].mT @ made["B"][0]
    torch.testing.assert_close(opened_LNS[:, :, :-1] @ value_SO, added_LNO, rtol=1e-3, atol=1e-4)


def test_what_it_reads_is_what_the_module_reads(tiny_base: BaseModel, network: LinearHypernetwork) -> None:
    ids = tiny_base.encode(TEXTS[0])
    seen: list[torch.Tensor] = []
    place = tiny_base.model.get_submodule("model.layers.3.mlp.down_proj")
    handle = place.register_forward_pre_hook(lambda _m, args: seen.append(args[0]))
    tiny_base.model(torch.tensor([ids]))
    handle.remove()
    activations, mask = network.read(tiny_base, [ids])
    torch.testing.assert_close(activations[0, 1, :, :INNER], seen[0][0])
    assert mask.tolist() == [[1] * (len(ids) - 1) + [0]]


def test_padding_and_batching_change_nothing(tiny_base: BaseModel, network: LinearHypernetwork) -> None:
    ids = [tiny_base.encode(t) for t in TEXTS]
    together = network.generate(*network.read(tiny_base, ids))["mlp.down_proj"]["B"]
    for row, alone in enumerate(ids):
        single = network.generate(*network.read(tiny_base, [alone]))["mlp.down_proj"]["B"]
        torch.testing.assert_close(together[row], single[0], rtol=1e-3, atol=1e-4)


def test_chunks_add_up(tiny_base: BaseModel, network: LinearHypernetwork) -> None:
    read = network.read(tiny_base, [tiny_base.encode(t) for t in TEXTS])
    made = network.generate(*read)["mlp.down_proj"]
    both = network(*read, [2])["mlp.down_proj"]
    each = network(*read, [1, 1])["mlp.down_proj"]

    def change(matrices: dict[str, torch.Tensor], row: int) -> torch.Tensor:
        return matrices["B"][row].mT @ matrices["A"][row]

    assert both["A"].shape == (1, 2, 2 * 16, INNER)
    torch.testing.assert_close(change(both, 0), change(made, 0) + change(made, 1))
    torch.testing.assert_close(change(each, 1), change(made, 1))
    with pytest.raises(InputError, match="adding up to 2"):
        network(*read, [1])


def test_it_raises_the_token_that_follows(tiny_base: BaseModel, network: LinearHypernetwork) -> None:
    """Read where it was written, the memory of the last block alone brings back the next token."""
    made = LinearHypernetwork.fitted(tiny_base, config(tiny_base), [tiny_base.encode(t) for t in TEXTS])
    made.gain.data = torch.tensor([0.0, 40.0])
    made.log_ridge.data.fill_(-3)
    ids = tiny_base.encode(TEXTS[0])
    engine = Doc2LoRAEngine(tiny_base, hypernetwork=made)
    engine.learn(TEXTS[0])

    def right() -> float:
        with torch.no_grad():
            logits = tiny_base.model(torch.tensor([ids])).logits[0, :-1]
        return float((logits.argmax(-1) == torch.tensor(ids[1:])).float().mean())

    before = right()
    with engine.installed():
        after = right()
    assert before < 0.2 and after > 0.6


ENDS = ("0000.key", "001.mlp.down_proj.B", "003.mlp.down_proj.B")
READER = {"self_attn.q_proj": (WIDTH, WIDTH), "self_attn.o_proj": (WIDTH, WIDTH)}


@pytest.fixture(scope="module")
def reading(tiny_base: BaseModel) -> LinearHypernetwork:
    """One with a reader, and nothing in it that is zero."""
    sizes = replace(config(tiny_base), reader_modules=READER, reader_layers=(0, 1), reader_rank=2)
    made = LinearHypernetwork.fitted(tiny_base, sizes, [tiny_base.encode(t) for t in TEXTS])
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for matrix in (*made.reader_B.values(), made.bias_B):
            matrix.copy_(0.3 * torch.randn(matrix.shape, generator=draw))
    return made


def test_the_reader_is_in_place_when_a_document_is_read(tiny_base: BaseModel, reading: LinearHypernetwork) -> None:
    ids = tiny_base.encode(TEXTS[0])
    activations, _ = reading.read(tiny_base, [ids])
    seen: list[torch.Tensor] = []
    place = tiny_base.model.get_submodule("model.layers.3.mlp.down_proj")
    handle = place.register_forward_pre_hook(lambda _m, args: seen.append(args[0]))
    with installed(tiny_base, reading.reader()):
        tiny_base.model(torch.tensor([ids]))
    tiny_base.model(torch.tensor([ids]))
    handle.remove()
    torch.testing.assert_close(activations[0, 1, :, :INNER], seen[0][0])
    assert not torch.allclose(seen[0], seen[1])


@pytest.mark.filterwarnings("ignore:the text takes")
@pytest.mark.parametrize("chunk_tokens", [1024, 12])
def test_what_documents_have_in_common_stands_once(
    tiny_base: BaseModel, reading: LinearHypernetwork, chunk_tokens: int, tmp_path: Path
) -> None:
    engine = Doc2LoRAEngine(tiny_base, hypernetwork=reading, chunk_tokens=chunk_tokens)
    engine.learn(TEXTS[0])
    one = engine.adapter
    engine.learn(TEXTS[1])
    both = engine.adapter
    assert both[0, "self_attn.q_proj"].rank == one[0, "self_attn.q_proj"].rank == 2
    chunks = [document.chunks for document in engine.documents]
    assert (chunks == [1, 1]) == (chunk_tokens == 1024)
    ranks = (one[3, "mlp.down_proj"].rank, both[3, "mlp.down_proj"].rank)
    assert ranks == (chunks[0] * 16 + 8, sum(chunks) * 16 + 8)
    engine.remove(engine.documents[1].id)
    assert engine.adapter.keys() == one.keys()
    assert all(torch.equal(a, b) for place in one for a, b in zip(one[place], engine.adapter[place], strict=True))

    save_hypernetwork(reading, tmp_path / "h")
    strategy = make_strategy(
        "doc2lora", {"hypernetwork": str(tmp_path / "h"), "guard": False, "chunk_tokens": chunk_tokens}
    )
    assert isinstance(strategy, Doc2LoRA)
    state = strategy.init(tiny_base)
    for text in TEXTS:
        state, report = strategy.learn(tiny_base, state, Document(text))
        assert report.accepted
    kept = state_adapter(state)
    for place, (A_RI, B_RO) in both.items():
        assert torch.equal(kept[place].A_RI, A_RI.half().float()) and torch.equal(kept[place].B_RO, B_RO.half().float())
    strategy.write_peft(state, tmp_path / "peft")
    exported = load_file(tmp_path / "peft" / "adapter_model.safetensors")
    assert exported["base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"].shape == (2, WIDTH)
    # Of the second document B alone is kept, and the words that open it: A is the network's own.
    halves = [name for name in state.tensors if name.startswith(state.meta.documents[1].id)]
    assert sorted(halves) == [f"{state.meta.documents[1].id}/{end}" for end in ENDS]
    assert report.bytes == sum(state.tensors[name].nbytes for name in halves)
    for document in state.meta.documents:
        assert state.tensors
        state = strategy.forget(tiny_base, state, document.id)
    assert not state.tensors


def test_a_reader_is_whole_or_not_there(tiny_base: BaseModel, network: LinearHypernetwork) -> None:
    with pytest.raises(ValueError, match="a reader of rank 2 for 0 modules of 2 blocks"):
        replace(config(tiny_base), reader_layers=(0, 1), reader_rank=2)
    older = {name: value for name, value in config(tiny_base).to_json().items() if not name.startswith("reader_")}
    assert LinearHypernetworkConfig.from_json(older) == network.config and network.reader() == {}


def test_files(tiny_base: BaseModel, network: LinearHypernetwork, tmp_path: Path) -> None:
    save_hypernetwork(network, tmp_path)
    loaded = load_hypernetwork(tmp_path)
    assert isinstance(loaded, LinearHypernetwork) and loaded.config == network.config
    for name, tensor in network.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)
    engine = Doc2LoRAEngine(tiny_base, hypernetwork=tmp_path)
    report = engine.learn(TEXTS[0])
    assert report.accepted and engine.documents[0].rank == 16
    (tmp_path / "hypernetwork.json").write_text(
        (tmp_path / "hypernetwork.json").read_text().replace('"rank": 16', '"rank": 12')
    )
    with pytest.raises(ModelError, match="shape"):
        load_hypernetwork(tmp_path)


def test_what_does_not_fit_is_refused(tiny_base: BaseModel, network: LinearHypernetwork) -> None:
    with pytest.raises(InputError, match="expected \\[chunks, 2, tokens, 96\\]"):
        network.generate(torch.zeros(1, 2, 5, 64))
    with pytest.raises(InputError, match="more tokens than entries"):
        LinearHypernetwork.fitted(tiny_base, config(tiny_base), [[1, 2, 3]])
    wide = LinearHypernetwork(LinearHypernetworkConfig("x", WIDTH, {"mlp.down_proj": (65, WIDTH)}, (1,), 4))
    with pytest.raises(MismatchError, match="made for"):
        Doc2LoRAEngine(tiny_base, hypernetwork=wide).learn(TEXTS[0])
    with pytest.raises(ValueError, match="exactly one target module"):
        LinearHypernetworkConfig("x", 4, {"a": (1, 1), "b": (1, 1)}, (0,), 1)
