"""network.py and tokenizer.py: our network and tokenizer against Transformers' own, bit for bit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache

from continual_learning.errors import ModelError
from continual_learning.model.base_model import BaseModel
from continual_learning.model.decoding import FastDecoder, TransformersDecoder
from continual_learning.model.network import KeyValueCache, Network
from continual_learning.model.tokenizer import Tokenizer

TEXTS = ["The quick brown fox lives in Paris.", "a <|im_end|> b \u65e5\u672c \U0001f642\n\n  c", ""]
IDS_BT = torch.tensor([[5, 9, 17, 40, 8, 23, 31, 2], [7, 3, 3, 50, 12, 44, 6, 10]])


@pytest.fixture(scope="module")
def theirs(tiny_llama_dir: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(tiny_llama_dir).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def folder(tiny_llama_dir: Path, theirs: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny Llama as it is written by the version of Transformers that is installed, with shared embeddings."""
    found = tmp_path_factory.mktemp("llama")
    theirs.save_pretrained(found)
    AutoTokenizer.from_pretrained(tiny_llama_dir).save_pretrained(found)
    return found


@pytest.fixture(scope="module")
def ours(folder: Path) -> Network:
    return Network.from_folder(folder).eval().requires_grad_(False)


def test_names_and_weights(ours: Network, theirs: Any) -> None:
    expected, found = theirs.state_dict(), ours.state_dict()
    assert list(found) == list(expected)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert [name for name, _ in ours.named_parameters()] == [name for name, _ in theirs.named_parameters()]
    assert ours.lm_head.weight is ours.model.embed_tokens.weight


def test_logits_and_gradients(ours: Network, theirs: Any) -> None:
    found = []
    for model in (ours, theirs):
        weight = model.model.layers[1].mlp.up_proj.weight.requires_grad_(True)
        logits = model(input_ids=IDS_BT, use_cache=False).logits
        (gradient,) = torch.autograd.grad(logits.logsumexp(-1).sum(), weight)
        weight.requires_grad_(False)
        found.append((logits.detach(), gradient))
    assert torch.equal(found[0][0], found[1][0]) and torch.equal(found[0][1], found[1][1])


def test_masks(ours: Network, theirs: Any) -> None:
    def hidden(model: Any, **given: Any) -> torch.Tensor:
        found: torch.Tensor = model.base_model(input_ids=IDS_BT, use_cache=False, **given).last_hidden_state
        return found

    allowed = torch.ones(8, 8, dtype=torch.bool).tril() & (torch.arange(8) != 2) | torch.eye(8, dtype=torch.bool)
    added = torch.zeros(2, 1, 8, 8).masked_fill_(~allowed, torch.finfo(torch.float32).min)
    assert torch.equal(hidden(ours, attention_mask=added), hidden(theirs, attention_mask=added))

    padding = torch.tensor([[0, 0, 0, 1, 1, 1, 1, 1], [1] * 8])
    places = (padding.cumsum(1) - 1).clamp(min=0)
    found, expected = (hidden(m, attention_mask=padding, position_ids=places) for m in (ours, theirs))
    assert torch.equal(found[padding.bool()], expected[padding.bool()])
    assert found.isfinite().all()


def test_caches(ours: Network, theirs: Any) -> None:
    mine, other = KeyValueCache(), DynamicCache(config=theirs.config)

    def same(ids_BT: torch.Tensor) -> None:
        found = ours.model(ids_BT, past_key_values=mine, use_cache=True).last_hidden_state
        expected = theirs.model(ids_BT, past_key_values=other, use_cache=True).last_hidden_state
        assert torch.equal(found, expected)

    same(IDS_BT[:1, :3])
    for cache in (mine, other):
        cache.batch_repeat_interleave(2)
    same(IDS_BT[:, 3:6])
    for cache in (mine, other):
        cache.batch_select_indices(torch.tensor([1]))
    same(IDS_BT[1:, 6:7])
    assert mine.get_seq_length() == 7


def test_the_fast_decoder_agrees(ours: Network, folder: Path) -> None:
    """It is not checked when the model is loaded, as it is for networks of others."""
    base = BaseModel("ours", ours, Tokenizer.from_folder(folder))
    layout = base.family.block_layout
    assert base.own_network and layout is not None
    prompts = [base.encode("The quick brown fox lives in"), base.encode("The quick brown dog")]
    found = []
    for decoder in (TransformersDecoder(base), FastDecoder(base, layout, 2)):
        first = decoder.logits(decoder.read(prompts))
        found.append(torch.stack([first, decoder.logits(decoder.step(torch.tensor([1, 2])))]))
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5)
    middle = base.block_count // 2
    staged = base.run_from(base.hidden_before(IDS_BT, middle), IDS_BT, middle)
    assert torch.equal(base.logits(staged), ours(IDS_BT).logits)


@pytest.mark.parametrize(
    ("field", "value"),
    [("model_type", "qwen2"), ("hidden_act", "gelu"), ("attention_bias", True), ("tie_word_embeddings", False)],
)
def test_refuses_what_it_does_not_compute(folder: Path, tmp_path: Path, field: str, value: object) -> None:
    copy = shutil.copytree(folder, tmp_path / "other")
    fields = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**fields, field: value}))
    with pytest.raises(ModelError, match=f"{field} = {value!r}"):
        Network.from_folder(copy)


def test_refuses_missing_weights(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "more")
    fields = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**fields, "num_hidden_layers": fields["num_hidden_layers"] + 1}))
    with pytest.raises(ModelError, match="does not fit its config"):
        Network.from_folder(copy)


@pytest.mark.parametrize("text", TEXTS)
def test_the_tokenizer_equals_transformers(folder: Path, text: str) -> None:
    ours, theirs = Tokenizer.from_folder(folder), AutoTokenizer.from_pretrained(folder)
    for special in (False, True):
        for split in (False, True):
            given = {"add_special_tokens": special, "split_special_tokens": split, "return_offsets_mapping": True}
            found, expected = ours(text, **given), theirs(text, **given)
            assert found["input_ids"] == expected["input_ids"]
            assert [tuple(pair) for pair in found["offset_mapping"]] == [tuple(p) for p in expected["offset_mapping"]]
            for skip in (False, True):
                words = (tokenizer.decode(found["input_ids"], skip_special_tokens=skip) for tokenizer in (ours, theirs))
                assert len(set(words)) == 1
    for name in ("bos_token", "bos_token_id", "eos_token_id", "pad_token_id", "model_max_length", "is_fast"):
        assert getattr(ours, name) == getattr(theirs, name), name
    assert set(ours.all_special_tokens) == set(theirs.all_special_tokens)
    assert set(ours.all_special_ids) == set(theirs.all_special_ids)
    assert len(ours) == len(theirs)
    turns = [{"role": "user", "content": text}, {"role": "assistant", "content": "{{ 7 }}"}]
    rendered = {t.apply_chat_template(turns, tokenize=False, add_generation_prompt=True) for t in (ours, theirs)}
    assert len(rendered) == 1
