"""Doc2LoRAEngine as its users know it: learn, generate, set_mode, remove, clear, export."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from hypernetworks import FIXTURE, base_adapter_network, expected, fixture_base, write_published
from peft import PeftModel
from tiny_models import FAMILIES, make_tiny
from transformers import AutoModelForCausalLM, AutoTokenizer

from continual_learning.doc2lora import Doc2LoRAEngine, Hypernetwork, save_hypernetwork
from continual_learning.errors import ConfigError, DocumentError, MismatchError, ModelNotFoundError, UnknownNameError
from continual_learning.model.base_model import BaseModel
from continual_learning.strategies.methods.doc2lora.config import TextToLoRAConfig
from continual_learning.strategies.methods.doc2lora.context import chat_affixes
from continual_learning.strategies.methods.doc2lora.generators import SIMULATED
from continual_learning.strategies.methods.doc2lora.perceiver import Heads
from continual_learning.strategies.methods.doc2lora.text_to_lora import TextToLoRA

A = "The quick brown fox lives in Paris with seven cats."
B = "Comb jellies eat plankton near the harbour of Lund."
C = "The lazy dog jumps over the house of Otto Brand."
QUESTION = "What do comb jellies eat?"
IDS = torch.tensor([[5, 6, 7, 8, 9]])


@pytest.fixture(scope="module")
def network(tiny_base: BaseModel) -> Hypernetwork:
    return base_adapter_network(tiny_base)


@pytest.fixture
def engine(tiny_base: BaseModel, network: Hypernetwork) -> Doc2LoRAEngine:
    return Doc2LoRAEngine(tiny_base, hypernetwork=network)


@torch.no_grad()
def logits(engine: Doc2LoRAEngine) -> torch.Tensor:
    with engine.installed() as base:
        return base.model(IDS).logits


def test_the_documented_calls(tiny_llama_dir: Path, network: Hypernetwork, tmp_path: Path) -> None:
    save_hypernetwork(network, tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tiny_llama_dir)
    tokenizer = AutoTokenizer.from_pretrained(tiny_llama_dir)
    engine = Doc2LoRAEngine(model=model, tokenizer=tokenizer, mode="doc", hypernetwork=tmp_path)
    before = engine.generate(QUESTION, max_new_tokens=8)
    report = engine.learn(B)
    assert report.accepted and report.tokens == len(engine.base.encode(B)) and report.bytes > 0
    assert "not checked" in report.reason
    assert engine.generate(QUESTION, max_new_tokens=8) != before
    engine.clear()
    assert engine.documents == () and engine.generate(QUESTION, max_new_tokens=8) == before
    engine.set_mode("text")
    assert engine.mode == "text"


def test_without_a_hypernetwork_it_refuses_and_says_what_to_do(tiny_base: BaseModel) -> None:
    for mode in ("doc", "text"):
        engine = Doc2LoRAEngine(tiny_base, mode=mode)  # type: ignore[arg-type]
        with pytest.raises(ModelNotFoundError, match="set hypernetwork") as caught:
            engine.learn(A)
        assert "\n" not in str(caught.value)
        assert engine.documents == () and engine.adapter == {}


def test_the_fixture_end_to_end() -> None:
    base = fixture_base()
    engine = Doc2LoRAEngine(base, hypernetwork=FIXTURE / "pytorch_model.bin", chunk_tokens=9)
    before, _ = logits(engine), engine.learn("A text of chars.")
    [document] = engine.documents
    assert (document.chunks, document.tokens, document.rank) == (2, 16, 12)
    assert (logits(engine) - before).abs().max() > 1e-3
    with torch.no_grad():
        assert torch.allclose(
            base.model(expected()["query_input_ids"]).logits, expected()["query_logits_base"], atol=1e-5
        )


def test_documents_accumulate_and_are_removed_one_by_one_exactly(engine: Doc2LoRAEngine) -> None:
    def learned(*texts: str) -> torch.Tensor:
        engine.clear()
        for text in texts:
            engine.learn(text)
        return logits(engine)

    alone, pair, nothing = learned(A), learned(A, C), learned()
    everything = learned(A, B, C)
    ids = [d.id for d in engine.documents]
    assert len(set(ids)) == 3 and [d.mode for d in engine.documents] == ["doc"] * 3
    engine.remove(ids[1])
    assert torch.equal(logits(engine), pair)
    engine.remove(ids[2])
    assert torch.equal(logits(engine), alone)
    engine.remove(ids[0])
    assert torch.equal(logits(engine), nothing)
    assert not torch.allclose(everything, pair) and not torch.allclose(pair, alone)
    with pytest.raises(UnknownNameError, match=f"no document '{ids[0]}' in this engine; it holds: none"):
        engine.remove(ids[0])


def test_a_text_is_learned_once(engine: Doc2LoRAEngine) -> None:
    engine.learn(A)
    again = engine.learn(A)
    assert not again.accepted and "already" in again.reason and len(engine.documents) == 1
    assert engine.learn(A, title="Fox").accepted, "under another title it is another document"


def test_ranks_of_chunks_stand_side_by_side(tiny_base: BaseModel, network: Hypernetwork) -> None:
    tokens = len(tiny_base.encode(A))
    for chunks in (1, 2, 3):
        engine = Doc2LoRAEngine(tiny_base, hypernetwork=network, chunk_tokens=-(-tokens // chunks))
        engine.learn(A)
        [document] = engine.documents
        assert document.chunks == chunks and document.rank == (chunks + 1) * network.config.rank
        # the chunks of the document, each as the hypernetwork alone makes it, then its learned ranks
        for (block, name), (A_RI, B_RO) in engine.adapter.items():
            assert torch.equal(A_RI[-network.config.rank :], network.bias_A[name][block])
            learned_RO = network.bias_B[name][block] * network.config.multiplier
            assert torch.equal(B_RO[-network.config.rank :], learned_RO)


def test_a_long_text_is_cut_and_warns_beyond_the_training(tiny_base: BaseModel) -> None:
    network = base_adapter_network(tiny_base, trained_chunks=2, trained_chunk_tokens=12)
    text = " ".join([A, B, C])
    with pytest.warns(UserWarning, match="the hypernetwork was trained on at most 2 a document"):
        report = Doc2LoRAEngine(tiny_base, hypernetwork=network, chunk_tokens=12).learn(text)
    assert report.accepted and len(report.warnings) == 1
    with pytest.warns(UserWarning, match="chunks of .* tokens, and the hypernetwork was trained on at most 12"):
        Doc2LoRAEngine(tiny_base, hypernetwork=network).learn(text)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Doc2LoRAEngine(tiny_base, hypernetwork=network, chunk_tokens=12).learn("A fox.").warnings == ()


def test_a_text_longer_than_the_window(engine: Doc2LoRAEngine) -> None:
    affixes = chat_affixes(engine.base)
    room = engine.base.window - len(affixes.before) - len(affixes.after)
    text = "Comb jellies eat plankton. " * 60
    assert len(engine.base.encode(text)) > engine.base.window
    report = engine.learn(text)
    [document] = engine.documents
    assert report.accepted and document.chunks == -(-document.tokens // room)


def test_export_is_loaded_by_plain_peft(engine: Doc2LoRAEngine, tiny_llama_dir: Path, tmp_path: Path) -> None:
    for text in (A, B):
        engine.learn(text)
    folder = engine.export(tmp_path / "adapter")
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_llama_dir), folder).eval()
    with torch.no_grad():
        assert torch.allclose(model(IDS).logits, logits(engine), atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_simulated_mode_on_any_family(family: str, tmp_path: Path) -> None:
    folder = make_tiny(family, tmp_path)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    engine = Doc2LoRAEngine(model=model, tokenizer=tokenizer, mode="simulated")
    before = logits(engine)
    with pytest.warns(UserWarning, match="simulated"):
        report = engine.learn(A)
    assert report.accepted and report.reason == SIMULATED
    assert not torch.equal(logits(engine), before)
    loaded = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(folder), engine.export(tmp_path / "x"))
    with torch.no_grad():
        assert torch.allclose(loaded.eval()(IDS).logits, logits(engine), atol=1e-5)


@pytest.mark.filterwarnings("ignore:simulated")
def test_simulated_results_are_labelled_and_deterministic(tiny_llama_dir: Path) -> None:
    def run(seed: int) -> tuple[torch.Tensor, Doc2LoRAEngine]:
        engine = Doc2LoRAEngine(str(tiny_llama_dir), mode="simulated", seed=seed)
        engine.learn(A)
        return logits(engine), engine

    (first, engine), (again, _), (other, _) = run(1), run(1), run(2)
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert SIMULATED in engine.answer(QUESTION, 4).notes
    with pytest.warns(UserWarning, match="simulated"):
        engine.generate(QUESTION, 4)
    engine.set_mode("doc")
    assert SIMULATED in engine.answer(QUESTION, 4).notes, "what it holds is still simulated"
    engine.clear()
    assert engine.answer(QUESTION, 4).notes == ()


def text_network(base: BaseModel) -> TextToLoRA:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = TextToLoRAConfig(base.name, base.hidden_size, {"q_proj": (32, 32), "v_proj": (32, 16)}, (0, 1, 2, 3))
        return TextToLoRA(config).eval()


def test_text_mode_beside_documents(
    engine: Doc2LoRAEngine, tiny_base: BaseModel, tiny_llama_dir: Path, tmp_path: Path
) -> None:
    engine.learn(A)
    save_hypernetwork(text_network(tiny_base), tmp_path / "text")
    described = Doc2LoRAEngine(tiny_base, mode="text", hypernetwork=str(tmp_path / "text"))
    described.learn("Answer in one word.")
    [document] = described.documents
    assert (document.mode, document.rank, document.chunks) == ("text", 8, 1)
    assert {name for _, name in described.adapter} == {"q_proj", "v_proj"}
    one, other = logits(described), Doc2LoRAEngine(tiny_base, mode="text", hypernetwork=text_network(tiny_base))
    other.learn("Translate into French.")
    assert not torch.equal(one, logits(other)), "the description matters"
    with pytest.raises(DocumentError, match=r"a task description of .* tokens; expected 1 to 256"):
        described.learn("word " * 400)


def test_modes_can_be_mixed(tiny_base: BaseModel, network: Hypernetwork) -> None:
    engine = Doc2LoRAEngine(tiny_base, hypernetwork=network)
    engine.learn(A)
    engine.set_mode("simulated")
    with pytest.warns(UserWarning, match="simulated"):
        engine.learn(B)
    assert [d.mode for d in engine.documents] == ["doc", "simulated"]
    both = logits(engine)
    engine.remove(engine.documents[1].id)
    alone = logits(engine)
    engine.clear()
    engine.set_mode("doc")
    engine.learn(A)
    assert torch.equal(logits(engine), alone) and not torch.equal(both, alone)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "docs"}, "mode 'docs'; expected one of doc, text, simulated"),
        ({"chunk_tokens": 0}, "chunk_tokens = 0; expected at least 1"),
    ],
)
def test_options_out_of_range(options: dict[str, Any], message: str, tiny_base: BaseModel) -> None:
    with pytest.raises(ConfigError, match=message):
        Doc2LoRAEngine(tiny_base, **options)


def test_a_model_without_its_tokenizer(tiny_llama_dir: Path) -> None:
    with pytest.raises(ConfigError, match="without a tokenizer"):
        Doc2LoRAEngine(AutoModelForCausalLM.from_pretrained(tiny_llama_dir))


def test_a_network_of_the_other_mode(tiny_base: BaseModel, network: Hypernetwork) -> None:
    with pytest.raises(ConfigError, match="mode 'text' with a Hypernetwork; expected a Hypernetwork for doc"):
        Doc2LoRAEngine(tiny_base, mode="text", hypernetwork=network).learn(A)


def test_a_hypernetwork_of_another_base(tiny_base: BaseModel, tmp_path: Path) -> None:
    engine = Doc2LoRAEngine(tiny_base, hypernetwork=FIXTURE)
    with pytest.raises(MismatchError, match=r"made for 'tiny-random-llama', of hidden size 24; the base .* has 32"):
        engine.learn(A)
    other = base_adapter_network(tiny_base, base_name="someone/else", heads=Heads(1, 1, 128))
    engine = Doc2LoRAEngine(tiny_base, hypernetwork=write_published(other, tmp_path / "x.bin"))
    with pytest.warns(UserWarning, match="was made for 'someone/else', which may differ"):
        engine.learn(A)


@pytest.mark.parametrize("text", ["", " \n\t"])
def test_a_text_without_words(text: str, engine: Doc2LoRAEngine) -> None:
    with pytest.raises(DocumentError, match="the text is empty"):
        engine.learn(text)
