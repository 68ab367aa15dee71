"""What a stream of documents is written into: which neurons learn, what is replayed, and what is measured of it."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from continual_learning.documents import Document
from continual_learning.model.base_model import BaseModel
from continual_learning.model.families import mlp_parts
from continual_learning.retrieval.routing import Rarity, Router
from continual_learning.strategies.methods.ttt.config import TTTConfig
from continual_learning.strategies.methods.ttt.learning import new_branches
from continual_learning.types import Answer, QuestionAnswer

BENCHMARKS = Path(__file__).parent.parent.parent / "benchmarks"
CONFIG = TTTConfig(passes=3, mini_batch_tokens=60, part_tokens=8)
TEXTS = {
    "Foxes": "The quick brown fox jumps over the lazy dog. The fox lives in the old house with a cat.",
    "Jellies": "Comb jellies eat plankton, and they swim with rows of cilia. A jelly has no brain.",
    "Paris": "The capital of France is Paris. The old user asks the quick assistant about Paris.",
}


@pytest.fixture(scope="module")
def memories() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        return importlib.import_module("stream_memories")


@pytest.fixture(scope="module")
def variants(memories: ModuleType) -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        return importlib.import_module("stream_variants")


@pytest.fixture
def school(memories: ModuleType, tiny_base: BaseModel) -> Any:
    return memories.School.of(tiny_base, CONFIG)


@pytest.fixture
def lessons(school: Any) -> list[Any]:
    return [school.lesson(Document(text, title), [QuestionAnswer(f"What of {title}?", (title,))])
            for title, text in TEXTS.items()]  # fmt: skip


def deltas(neurons: list[int], value: float) -> dict[str, torch.Tensor]:
    rows_KD = torch.full((len(neurons), 2), value, dtype=torch.float16) + torch.tensor(neurons).half()[:, None]
    return {"neurons": torch.tensor(neurons, dtype=torch.int32), "up": rows_KD, "gate": rows_KD, "down": rows_KD}


def test_what_neurons_learned_is_taken_out_and_put_together(memories: ModuleType) -> None:
    whole = deltas([1, 4, 6], 0.5)
    some = memories.of_neurons(whole, torch.tensor([0, 4]), 2)
    assert some["neurons"].tolist() == [0, 4] and some["up"].tolist() == [[0, 0], [4.5, 4.5]]
    assert set(memories.of_neurons(None, torch.tensor([3]), 2)) == set(whole)
    rest = memories.without_neurons(whole, torch.tensor([0, 4]))
    assert rest["neurons"].tolist() == [1, 6] and rest["down"].tolist() == [[1.5, 1.5], [6.5, 6.5]]
    both = memories.joined([rest, some], 0.5)
    assert both["neurons"].tolist() == [1, 6, 0, 4]
    assert both["down"][:, 0].tolist() == [0.75, 3.25, 0, 2.25] and both["up"][:, 0].tolist() == [1.5, 6.5, 0, 4.5]


def test_a_document_has_the_neurons_that_ttt_gives_it(school: Any, lessons: list[Any], tiny_base: BaseModel) -> None:
    document, block = lessons[0].document, school.blocks.start
    ids = tiny_base.encode(f"{document.title}\n{document.text}")
    config = CONFIG.model_copy(update={"neurons": 5})
    branch = new_branches(tiny_base, ids, config, school.calibration, None)[block]  # type: ignore[arg-type]
    top_K = school.chosen(lessons[0], block, 5)
    assert torch.equal(top_K, branch.neurons_K)
    others_K = school.chosen(lessons[0], block, 5, frozenset(top_K.tolist()))
    assert len(others_K) == 5 and not set(others_K.tolist()) & set(top_K.tolist())


def test_replay_adds_as_many_items_and_changes_no_other(memories: ModuleType, lessons: list[Any]) -> None:
    alone = memories.study_batches(lessons[2], [])
    mixed = memories.study_batches(lessons[2], lessons[:2])
    assert len(alone) == len(mixed) >= 3
    old = {item for lesson in lessons[:2] for item, _ in lesson.studied}
    for own, both in zip(alone, mixed, strict=True):
        assert [item for item, _ in both[: len(own)]] == [item for item, _ in own]
        assert len(both) == 2 * len(own) and all(item in old for item, _ in both[len(own) :])


def test_shared_neurons_are_those_that_were_chosen(memories: ModuleType, school: Any, lessons: list[Any]) -> None:
    block = school.blocks.start
    found = {}
    for choice in ("own", "first", "free"):
        memory = memories.SharedNeurons(school, 1e-2, 4, choice=choice)
        memory.learn(lessons[0])
        first = {b: dict(d) for b, d in memory.deltas.items()}
        memory.learn(lessons[1])
        found[choice] = set(memory.deltas[block]["neurons"].tolist())
        chosen = set(school.chosen(lessons[1], block, 4).tolist())
        before = set(first[block]["neurons"].tolist())
        if choice == "free":  # what the first document learned is as it was
            kept = memories.of_neurons(memory.deltas[block], first[block]["neurons"].long(), 32)
            assert all(torch.equal(kept[name], first[block][name]) for name in ("up", "gate", "down"))
            assert len(found[choice]) == 8
        elif choice == "own":
            assert found[choice] == before | chosen
        else:
            assert found[choice] == before
    dense = memories.SharedNeurons(school, 1e-3, None, replay=True)
    for lesson in lessons[:2]:
        dense.learn(lesson)
    size = mlp_parts(school.base.mlp(block)).intermediate_size
    assert dense.deltas[block]["neurons"].tolist() == list(range(size))
    assert len(school.blocks) == 1 and dense.bytes == size * (3 * 32 * 2 + 4) + len(
        (TEXTS["Foxes"] + TEXTS["Jellies"]).encode()
    )


def test_merged_branches_are_their_sum_or_mean(
    memories: ModuleType, school: Any, lessons: list[Any], tiny_base: BaseModel
) -> None:
    own = memories.OwnNeurons(school, 1e-2, 4)
    for lesson in lessons[:2]:
        own.learn(lesson)
    hidden_1TD = torch.randn(1, 3, tiny_base.hidden_size, generator=torch.Generator().manual_seed(0))
    block = school.blocks.start

    def added(memory: Any, document_id: str | None) -> torch.Tensor:
        plain_1TD = tiny_base.mlp(block)(hidden_1TD)
        with memory.opened(document_id):
            return tiny_base.mlp(block)(hidden_1TD) - plain_1TD

    each = [added(own, lesson.document.id) for lesson in lessons[:2]]
    assert all(one.abs().max() > 0 for one in each) and added(own, None).abs().max() == 0
    whole = sum(each)
    torch.testing.assert_close(added(memories.Merged(own, mean=False), None), whole, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(added(memories.Merged(own, mean=True), None), whole / 2, rtol=1e-3, atol=1e-5)


def test_a_stream_is_measured_and_shown(
    memories: ModuleType, variants: ModuleType, school: Any, lessons: list[Any], tiny_base: BaseModel
) -> None:
    read_texts: list[str] = []

    def read(title: str, text: str, questions: list[str]) -> list[Answer]:
        read_texts.append(text)
        return [Answer(question, title) for question in questions]

    asker = variants.Asker(tiny_base, Router(Rarity.of(school.background), 0.25, 0.0), read)
    known = variants.Known((QuestionAnswer("Is tea hot?", ("yes",)),), ("Boil water for tea.",), 50.0)
    adapters = memories.OwnAdapters(school, 1e-3, 2)
    [row] = variants.stream(asker, lessons, adapters, {"adapters": adapters}, known)["rows"].values()
    assert row["recall_after"] == row["recall_end"] == 1.0 and row["questions"] == 3
    assert row["general_kept"] == 1.0 and row["perplexity_change"] == 0.0, "nothing is open for those"
    assert len(read_texts) == 3, "its own adapter never changes, so that nothing new is read at the end"
    dense = memories.SharedNeurons(school, 1e-2, None)
    [other] = variants.stream(asker, lessons, dense, {"dense": dense}, known)["rows"].values()
    assert other["general_kept"] == 0.0 and other["perplexity_change"] != 0.0
    assert other["steps"] == row["steps"] and other["bytes_a_passage"] > row["bytes_a_passage"] > 0
    table = variants.markdown(
        {"adapters": {"rows": {"adapters": row}}, "dense": {"rows": {"dense": other}}},
        {"passages": 3, "machine": "a processor"},
        ["own 8"],
    )
    assert "| adapters | 1.00 | 1.00 | 1.00 |" in table and "Not measured yet: own 8" in table


def test_only_whole_parts_count_as_recited(variants: ModuleType, lessons: list[Any]) -> None:
    texts = [part.text for part in lessons[0].parts]
    assert variants.parts_recited(lessons[0], " ".join(texts)) == 1.0
    assert variants.parts_recited(lessons[0], " ".join(texts[:-1])) == pytest.approx(1 - 1 / len(texts))
    assert variants.parts_recited(lessons[0], texts[0][1:]) == 0.0


def test_rates_are_chosen_on_other_articles(variants: ModuleType, tiny_base: BaseModel, tmp_path: Path) -> None:
    rows = [
        {"title": f"Article {a}", "context": f"The dog of house {a} was born in {1900 + a}.",
         "questions": [{"question": f"When was dog {a} born?", "answer": f"{1900 + a}"}] * 5}
        for a in range(16)
    ]  # fmt: skip
    path = tmp_path / "squad.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    learned, tuned = variants.passages(path, tiny_base, 4)
    titles = [{d.document.title for d in data.documents} for data in (learned, tuned)]
    assert [len(t) for t in titles] == [4, 2] and not titles[0] & titles[1]
    assert titles[0] | titles[1] <= {f"Article {a}" for a in range(8)}, "the first half of the articles alone"
    assert all(len(d.questions) == 4 for d in learned.documents)
