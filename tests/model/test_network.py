"""network/ and tokenizer.py: our networks and tokenizer against Transformers' own, bit for bit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_ggufs import make_gguf
from tiny_models import SENTENCES, make_tiny, tiny_model, tiny_tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache

from continual_learning.errors import ModelError
from continual_learning.model.base_model import BaseModel
from continual_learning.model.copies import USER_FILES, copies
from continual_learning.model.decoding import TransformersDecoder
from continual_learning.model.fast_decoder import FastDecoder
from continual_learning.model.loading import load_pretrained
from continual_learning.model.network import KeyValueCache, Network
from continual_learning.model.pretrained import fingerprint
from continual_learning.model.tokenizer import Tokenizer, shorten

TEXTS = ["The quick brown fox lives in Paris.", "a <|im_end|> b \u65e5\u672c \U0001f642\n\n  c", ""]
IDS_BT = torch.tensor([[5, 9, 17, 40, 8, 23, 31, 2, 11, 60, 13, 4], [7, 3, 3, 50, 12, 44, 6, 10, 71, 9, 33, 20]])
"""More tokens than the window of the tiny Gemma, 8."""


@pytest.fixture(scope="module", params=["llama", "gemma3"])
def theirs(request: pytest.FixtureRequest) -> Any:
    return tiny_model(request.param).requires_grad_(False)


@pytest.fixture(scope="module")
def folder(theirs: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model as it is written by the version of Transformers that is installed, with shared embeddings."""
    found = tmp_path_factory.mktemp("model")
    theirs.save_pretrained(found)
    tiny_tokenizer().save_pretrained(found)
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
    assert fingerprint(ours) == fingerprint(theirs)


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

    count = IDS_BT.shape[1]
    allowed = torch.ones(count, count, dtype=torch.bool).tril() & (torch.arange(count) != 2) | torch.eye(count).bool()
    added = torch.zeros(2, 1, count, count).masked_fill_(~allowed, torch.finfo(torch.float32).min)
    assert torch.equal(hidden(ours, attention_mask=added), hidden(theirs, attention_mask=added))
    if theirs.config.model_type == "gemma3_text":
        kinds = {"full_attention": added, "sliding_attention": added.flip(1).triu(-3)}
        assert torch.equal(hidden(ours, attention_mask=kinds), hidden(theirs, attention_mask=kinds))

    padding = torch.ones_like(IDS_BT)
    padding[0, :3] = 0
    places = (padding.cumsum(1) - 1).clamp(min=0)
    found, expected = (hidden(m, attention_mask=padding, position_ids=places) for m in (ours, theirs))
    assert torch.equal(found[padding.bool()], expected[padding.bool()])
    assert found.isfinite().all()


def test_late_positions_in_bf16(folder: Path, theirs: Any) -> None:
    ours = torch.nn.Module.to(Network.from_folder(folder), torch.bfloat16)
    auto: Any = AutoModelForCausalLM
    expected = auto.from_pretrained(folder, dtype=torch.bfloat16).model(IDS_BT, position_ids=IDS_BT.cumsum(1))
    found = ours.model(IDS_BT, position_ids=IDS_BT.cumsum(1))
    assert torch.equal(found.last_hidden_state, expected.last_hidden_state)


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
    same(IDS_BT[:, 6:10])
    for cache in (mine, other):
        cache.batch_select_indices(torch.tensor([1]))
    for at in (10, 11):
        same(IDS_BT[1:, at : at + 1])
    assert mine.get_seq_length() == 12


def test_the_fast_decoder_agrees(ours: Network, folder: Path) -> None:
    """It is not checked when the model is loaded, as it is for networks of others."""
    base = BaseModel("ours", ours, Tokenizer.from_folder(folder))
    layout = base.family.block_layout
    assert base.own_network and layout is not None
    prompts = [base.encode(f"{SENTENCES[0]} The quick"), base.encode(f"{SENTENCES[0]} A")]
    found = []
    for decoder in (TransformersDecoder(base), FastDecoder(base, layout, 2)):
        first = decoder.logits(decoder.read(prompts))
        found.append(torch.stack([first, decoder.logits(decoder.step(torch.tensor([1, 2])))]))
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5)
    middle = base.block_count // 2
    staged = base.run_from(base.hidden_before(IDS_BT, middle), IDS_BT, middle)
    assert torch.equal(base.logits(staged), ours(IDS_BT).logits)


@pytest.mark.parametrize(
    ("family", "field", "value"),
    [
        ("llama", "model_type", "qwen2"),
        ("llama", "hidden_act", "gelu"),
        ("llama", "attention_bias", True),
        ("llama", "tie_word_embeddings", False),
        ("gemma3", "final_logit_softcapping", 30.0),
        ("gemma3", "rope_type", "linear"),
    ],
)
def test_refuses_what_it_does_not_compute(family: str, tmp_path: Path, field: str, value: object) -> None:
    copy = make_tiny(family, tmp_path / "other")
    fields = json.loads((copy / "config.json").read_text())
    if field == "rope_type":  # as in the larger Gemmas
        fields["rope_parameters"]["full_attention"][field] = value
    (copy / "config.json").write_text(json.dumps({**fields, field: value}))
    with pytest.raises(ModelError, match=f"{field} = {value!r}"):
        Network.from_folder(copy)


def test_refuses_missing_weights(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "more")
    fields = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**fields, "num_hidden_layers": fields["num_hidden_layers"] + 1}))
    with pytest.raises(ModelError, match="does not fit its config"):
        Network.from_folder(copy)


@pytest.fixture(scope="module")
def gemma_copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dequantised copy of a tiny Gemma 3: its tokenizer begins texts with a token and writes words with ▁."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONTINUAL_LEARNING_HOME", str(home))
        load_pretrained(str(make_gguf("gemma3", home / "gemma.gguf")), torch.float32)
        return copies(USER_FILES)[0].folder


@pytest.mark.parametrize("family", ["llama", "gemma3"])
@pytest.mark.parametrize("text", TEXTS)
def test_the_tokenizer_equals_transformers(tmp_path: Path, gemma_copy: Path, text: str, family: str) -> None:
    folder = gemma_copy if family == "gemma3" else tmp_path
    if family == "llama":
        tiny_tokenizer().save_pretrained(folder)
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
    if family == "gemma3":  # it never saw a chat
        return
    turns = [{"role": "user", "content": text}, {"role": "assistant", "content": "{{ 7 }}"}]
    rendered = {t.apply_chat_template(turns, tokenize=False, add_generation_prompt=True) for t in (ours, theirs)}
    assert len(rendered) == 1


def test_a_shortened_tokenizer_is_the_same(tmp_path: Path) -> None:
    tiny_tokenizer().save_pretrained(tmp_path)
    before, size = Tokenizer.from_folder(tmp_path), (tmp_path / "tokenizer.json").stat().st_size
    shorten(tmp_path / "tokenizer.json")
    after = Tokenizer.from_folder(tmp_path)
    assert (tmp_path / "tokenizer.json").stat().st_size < size
    assert after.backend_tokenizer.to_str() == before.backend_tokenizer.to_str()
