"""The same questions in memories of several sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from continual_learning.datasets.base import Dataset, QADocument, load_dataset
from continual_learning.documents import Document
from continual_learning.errors import InputError
from continual_learning.evaluation.protocols import Settings
from continual_learning.evaluation.report.columns import entries, visible
from continual_learning.evaluation.scale import benchmark_scale, scale_data
from continual_learning.model.base_model import BaseModel
from continual_learning.strategies.baselines.in_context import InContext
from continual_learning.types import Answer, QuestionAnswer, Source

pytestmark = pytest.mark.slow

TOWNS = ("Lund", "Oslo", "Turin", "Ghent")
QUICK = Settings(max_new_tokens=4, resume=False)


def town(name: str) -> QADocument:
    asked = QuestionAnswer(f"Who built {name}?", (f"{name} Brand",))
    return QADocument(Document(f"{name} Brand built the tower of {name}.", name), (asked,), name)


DATA = Dataset("towns", "towns.jsonl", tuple(map(town, TOWNS)))


def test_what_more_documents_cost_is_counted_question_by_question(
    tiny_base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[int] = []

    def answer(self: Any, base: Any, state: Any, questions: Sequence[str], *_: Any) -> list[Answer]:
        """Lund is right beside one other document at most; Lisbon is read in Oslo, Porto left to the base."""
        held.append(len(state.meta.documents))
        found = []
        for question in questions:
            name = question.split()[-1].rstrip("?")
            read = name if name in TOWNS and not (name == "Lund" and held[-1] > 2) else "Oslo"
            source = Source(town(read).document.id, "the same title", 1.0)
            read_of = (question, f"{read} Brand", (source,))
            found.append(Answer(question, "Nobody.") if name == "Porto" else Answer(*read_of, origin="memory"))
        return found

    monkeypatch.setattr(InContext, "answer", answer)
    others = replace(DATA, documents=(town("Lisbon"), town("Porto")))
    result = benchmark_scale(DATA, ["in_context"], tiny_base, (1, 2, 4), others, QUICK)
    [row] = result["results"]
    assert [size["documents"] for size in row["sizes"]] == [1, 2, 4] and set(held) == {1, 2, 4}
    assert [size["f1"] for size in row["sizes"]] == [1.0, 1.0, 0.875]  # "Brand" is one word of two
    assert [size["opened"] for size in row["sizes"]] == [1.0, 1.0, 0.75]
    assert row["sizes"][2]["f1_change"] == -0.125 and row["sizes"][1]["f1_change_interval"] == [0.0, 0.0]
    assert (row["f1_alone"], row["opened"], row["left_alone"], row["others"]) == (1.0, 0.75, 0.5, 2)
    assert row["documents"] == row["questions"] == 4 and row["perplexity_change"] is not None
    assert {"f1_alone", "opened", "left_alone"} <= {column.name for column in visible(entries(result))}


def test_questions_are_counted_once_whatever_the_seeds_and_memories(tiny_base: BaseModel) -> None:
    others = replace(DATA, documents=(town("Lisbon"),))
    how = replace(QUICK, seeds=(0, 1))
    [row] = benchmark_scale(DATA, ["in_context"], tiny_base, (1, 2), others, how)["results"]
    assert row["others"] == 1 and row["questions"] == 4 and row["left_alone"] == 0.0
    assert row["sizes"][0]["opened"] == 1.0  # in_context has all it holds in its prompt


@pytest.mark.parametrize("sizes", [(), (0, 2), (-1, 2), (2, 2), (4, 2), (2, 3)])
def test_sizes_that_are_not_multiples_of_the_one_before_are_refused(
    tiny_base: BaseModel, sizes: tuple[int, ...]
) -> None:
    with pytest.raises(InputError, match="such as 1,4,20"):
        benchmark_scale(DATA, ["frozen"], tiny_base, sizes)
    with pytest.raises(InputError, match="4 documents for memories of 3; expected a multiple"):
        benchmark_scale(DATA, ["frozen"], tiny_base, (1, 3))


def test_what_is_asked_is_cut_from_the_data() -> None:
    chosen, others = scale_data(load_dataset("squad_sample"), (1, 4, 20), 2, 40, "first", 0)
    assert len(chosen.documents) == 20 and all(1 <= len(d.questions) <= 2 for d in chosen.documents)
    assert others is not None and not {d.article for d in chosen.documents} & {d.article for d in others.documents}
