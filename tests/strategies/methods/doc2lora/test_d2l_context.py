"""Chunks and activations: what the hypernetwork is given to read."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypernetworks import fixture_base
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import FAMILIES, WINDOW, make_tiny

from continual_learning.errors import DocumentError, UnsupportedModelError
from continual_learning.model.base_model import BaseModel
from continual_learning.model.chat_template import user
from continual_learning.strategies.methods.doc2lora.context import (
    Affixes,
    chat_affixes,
    context_activations,
    document_chunks,
    named_affixes,
)

TEXT = "Comb jellies eat plankton near the harbour of Lund. They have eight rows of cilia. " * 6


def test_affixes_are_what_the_chat_template_writes(tiny_base: BaseModel) -> None:
    affixes = chat_affixes(tiny_base)
    for text in ("Comb jellies eat plankton.", "x", "7 rows", "日本語"):
        assert [*affixes.before, *tiny_base.encode(text), *affixes.after] == tiny_base.chat_ids([user(text)])
    written = tiny_base.tokenizer.decode([*affixes.before, *affixes.after])
    assert written.startswith("<|im_start|>system\n") and written.endswith("<|im_end|>\n<|im_start|>assistant\n")


def test_affixes_of_a_model_without_a_template(tmp_path: Path) -> None:
    base = BaseModel.load(str(make_tiny("llama", tmp_path, chat=False)), device="cpu")
    cut = document_chunks(base, "Comb jellies eat plankton.", 1024, chat_affixes(base))
    assert [base.decode(c) for c in cut.ids] == ["Question: Comb jellies eat plankton.\nAnswer:"]
    assert all(base.decode(c).startswith("Question:") for c in document_chunks(base, TEXT, 9, chat_affixes(base)).ids)


def test_affixes_by_name_hold_special_tokens(tiny_base: BaseModel) -> None:
    affixes = named_affixes(tiny_base, "<|im_start|>user\n", "<|im_end|>")
    special = tiny_base.tokenizer.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>"])
    assert affixes.before[0] == special[0] and affixes.after == (special[1],)


def test_a_tokenizer_that_tells_no_letters_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    base = fixture_base()
    monkeypatch.setattr(base, "chat_ids", lambda messages: [1, 0, 2])
    with pytest.raises(UnsupportedModelError, match="tells letters apart"):
        chat_affixes(base)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(limit=st.integers(1, 300), words=st.integers(1, 120))
def test_tokens_decide_chunks(tiny_base: BaseModel, limit: int, words: int) -> None:
    text, affixes = " ".join(TEXT.split()[:words]), chat_affixes(tiny_base)
    ids = tiny_base.encode(text)
    room = min(limit, WINDOW - len(affixes.before) - len(affixes.after))
    cut = document_chunks(tiny_base, f"\n {text} ", limit, affixes)
    inner = [chunk[len(affixes.before) : len(chunk) - len(affixes.after)] for chunk in cut.ids]
    assert [i for part in inner for i in part] == ids and cut.tokens == len(ids)
    assert max(map(len, inner)) == cut.size <= room
    assert len(inner) == 1 if len(ids) <= room else len(inner) >= -(-len(ids) // room)
    assert all(
        c[: len(affixes.before)] == affixes.before and c[-len(affixes.after) :] == affixes.after for c in cut.ids
    )


def test_one_chunk_is_the_chat_prompt_of_the_document(tiny_base: BaseModel) -> None:
    cut = document_chunks(tiny_base, "Comb jellies eat plankton.", 1024, chat_affixes(tiny_base))
    assert [list(c) for c in cut.ids] == [tiny_base.chat_ids([user("Comb jellies eat plankton.")])]


def test_chunks_are_of_even_length(tiny_base: BaseModel) -> None:
    none = Affixes((), ())
    tokens = len(tiny_base.encode(TEXT.strip()))
    cut = document_chunks(tiny_base, TEXT, tokens - 1, none)
    assert sorted(len(c) for c in cut.ids) == [tokens // 2, tokens - tokens // 2]


def test_no_words_and_no_room(tiny_base: BaseModel) -> None:
    with pytest.raises(DocumentError, match="the text is empty"):
        document_chunks(tiny_base, " \n", 8, chat_affixes(tiny_base))
    with pytest.raises(UnsupportedModelError, match="takes 300 tokens of its window of 256"):
        document_chunks(tiny_base, TEXT, 8, Affixes((1,) * 300, ()))


# -- activations -------------------------------------------------------------------------------------


def tiny(family: str, folder: Path) -> BaseModel:
    return BaseModel.load(str(make_tiny(family, folder)), device="cpu")


CHUNKS = [list(range(5, 25)), list(range(30, 41))]


@pytest.mark.parametrize("family", FAMILIES)
def test_activations_of_every_layer(family: str, tmp_path: Path) -> None:
    base = tiny(family, tmp_path)
    found, mask_CS = context_activations(base, CHUNKS)
    assert found.shape == (2, base.block_count, 20, base.hidden_size)
    assert mask_CS.sum(1).tolist() == [20, 11]
    for row, ids in enumerate(CHUNKS):
        ids_1S = torch.tensor([ids])
        for layer in range(base.block_count - 1):
            wanted = base.hidden_before(ids_1S, layer)[0]
            assert torch.allclose(found[row, layer, : len(ids)], wanted, atol=1e-5), (row, layer)
        # The last one: what goes into the last block, through the final norm.
        with base.patched({base.block_path(-1): Through(base.blocks[-1])}):
            wanted = base.backbone(input_ids=ids_1S, use_cache=False).last_hidden_state[0]
        assert torch.allclose(found[row, -1, : len(ids)], wanted, atol=1e-5)


class Through(torch.nn.Module):
    """Hands on what a block is given."""

    def __init__(self, block: torch.nn.Module):
        super().__init__()
        self._of = [block]

    def __getattr__(self, name: str) -> object:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.__dict__["_of"][0], name)

    def forward(self, hidden_states: torch.Tensor, *args: object, **kwargs: object) -> torch.Tensor:
        return hidden_states


def test_activations_agree_with_transformers(tiny_base: BaseModel) -> None:
    found, _ = context_activations(tiny_base, CHUNKS[:1])
    with torch.no_grad():
        states = tiny_base.backbone(torch.tensor(CHUNKS[:1]), output_hidden_states=True).hidden_states
    assert torch.allclose(found[:, :-1], torch.stack(states[: tiny_base.block_count - 1], 1), atol=1e-5)


def test_an_early_exit_is_the_model_cut_short(tiny_base: BaseModel, tiny_llama_dir: Path) -> None:
    short = BaseModel.load(str(tiny_llama_dir), device="cpu")
    for depth in (None, 1, 2, 3):
        short.model.model.layers = tiny_base.blocks[: depth or 1]
        wanted = short.backbone(torch.tensor(CHUNKS[:1]), use_cache=False).last_hidden_state
        found, _ = context_activations(tiny_base, CHUNKS[:1], "early_exit", depth)
        assert torch.allclose(found, wanted, atol=1e-6)


def test_embeddings_alone(tiny_base: BaseModel) -> None:
    found, _ = context_activations(tiny_base, CHUNKS[:1], "embed_only")
    assert torch.equal(found, tiny_base.model.get_input_embeddings()(torch.tensor(CHUNKS[:1])))


def test_fewer_activations_than_blocks(tiny_base: BaseModel) -> None:
    two, _ = context_activations(tiny_base, CHUNKS[:1], "per_layer_activations", 2)
    all_of_them, _ = context_activations(tiny_base, CHUNKS[:1])
    assert two.shape[1] == 2 and torch.equal(two[:, 0], all_of_them[:, 0])
    assert not torch.allclose(two[:, 1], all_of_them[:, 1]), "the last one has gone through the final norm"


def test_the_base_is_as_it_was_after_reading_and_after_a_failure(tiny_base: BaseModel) -> None:
    before = list(tiny_base.model.modules())
    context_activations(tiny_base, CHUNKS)
    with pytest.raises(IndexError):
        context_activations(tiny_base, [[10**6]])
    assert list(tiny_base.model.modules()) == before
    assert not any(m._forward_pre_hooks for m in tiny_base.model.modules())
