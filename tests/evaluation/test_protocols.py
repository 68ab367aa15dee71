"""Protocols on a tiny random model: what is run, what is counted, and what is found again."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from continual_learning.datasets.base import Dataset, QADocument
from continual_learning.documents import Document
from continual_learning.errors import ConfigError, DivergedError, InputError, MismatchError, UnknownNameError
from continual_learning.evaluation.cache import ResultCache
from continual_learning.evaluation.contender import Contender
from continual_learning.evaluation.protocols import (
    Settings,
    benchmark_forgetting,
    benchmark_needle,
    benchmark_squad,
    benchmark_stream,
    compare,
)
from continual_learning.evaluation.report.columns import entries
from continual_learning.evaluation.sequence import SequenceRunner
from continual_learning.evaluation.summary import Asked, scored
from continual_learning.model.base_model import BaseModel
from continual_learning.strategies.baselines.in_context import InContext
from continual_learning.strategies.methods.ttt import TTT
from continual_learning.types import Progress, QuestionAnswer

pytestmark = pytest.mark.slow

TTT_QUICK = Contender("ttt", {"neurons": 4, "passes": 1, "guard": False})
QUICK = Settings(max_new_tokens=4, retention_documents=1)
KEYS = (
    "strategy recall f1 exact_match learn_seconds answer_seconds tokens_learned bytes_kept general_kept "
    "stability perplexity_change recall_interval refused questions documents config answers peak_memory_bytes "
    "learn_gflop"
).split()


def data() -> Dataset:
    texts = {
        "Fox": ("The quick brown fox lives in Paris with seven cats.", "Who lives in Paris?", "fox"),
        "Jellies": ("Comb jellies eat plankton near the harbour of Lund.", "What do comb jellies eat?", "plankton"),
        "Dog": ("The lazy dog jumps over the house of Otto Brand.", "Whose house?", "Otto Brand"),
    }
    return Dataset(
        "three",
        "three.jsonl",
        tuple(
            QADocument(Document(text, title), (QuestionAnswer(question, (answer,)),), title)
            for title, (text, question, answer) in texts.items()
        ),
    )


@pytest.fixture(autouse=True)
def few_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    """The general questions and texts take most of the time of a tiny run."""
    questions = [QuestionAnswer("What is the capital of France?", ("Paris",))]
    for module in ("sequence", "protocols"):
        monkeypatch.setattr(f"continual_learning.evaluation.{module}.general_questions", lambda: questions)
        monkeypatch.setattr(f"continual_learning.evaluation.{module}.unrelated_texts", lambda: ["A cat sat there."])


def test_a_label_does_not_hide_the_strategy(tiny_base: BaseModel) -> None:
    entrants = [Contender("frozen", label="no adaptation"), Contender("in_context", label="history in the prompt")]
    rows = compare(data(), entrants, tiny_base, settings=QUICK)["results"]
    assert [(r["strategy"], r["label"]) for r in rows] == [(c.strategy, c.label) for c in entrants]
    found = {e.label: e for e in entries({"results": rows})}
    assert all(e.baseline for e in found.values()) and set(found) == {c.label for c in entrants}
    assert found["no adaptation"].data["refused"] is None and found["no adaptation"].data["notes"] == []


def test_compare_runs_every_strategy_on_the_same_questions(tiny_base: BaseModel) -> None:
    result = compare(data(), ["frozen", "in_context", TTT_QUICK], tiny_base, settings=QUICK)
    assert json.loads(json.dumps(result)) == result
    assert [r["strategy"] for r in result["results"]] == ["frozen", "in_context", "ttt"]
    for r in result["results"]:
        assert set(KEYS) <= set(r)
        assert [a["question"] for a in r["answers"]] == [q.question for q in data().questions]
        assert r["documents"] == r["questions"] == 3
    frozen, in_context, ttt = result["results"]
    tokens = sum(len(tiny_base.encode(d.document.text)) for d in data().documents)
    assert frozen["tokens_learned"] == frozen["bytes_kept"] == 0 and frozen["refused"] == 3
    assert in_context["tokens_learned"] == ttt["tokens_learned"] == tokens
    assert 0 < in_context["bytes_kept"] < ttt["bytes_kept"]
    assert ttt["learn_seconds"] > 0 and ttt["learn_gflop"] > 0 and ttt["peak_memory_bytes"] > 10**7
    assert frozen["general_kept"] == 1.0 and frozen["perplexity_change"] == frozen["stability"] == 0.0
    assert result["dataset"]["questions"] == 3 and result["dataset"]["sha256"] == data().sha256()


def test_recall_counts_answers_that_hold_the_gold_one(tiny_base: BaseModel, monkeypatch: pytest.MonkeyPatch) -> None:
    said = {"Who lives in Paris?": "A Fox!", "What do comb jellies eat?": "plankton.", "Whose house?": "nobody's"}

    def answers(self: Any, base: Any, state: Any, questions: list[str], *_: Any) -> Any:
        from continual_learning.types import Answer

        return [Answer(q, said.get(q, "")) for q in questions]

    monkeypatch.setattr(InContext, "answer", answers)
    [r] = compare(data(), ["in_context"], tiny_base, settings=QUICK)["results"]
    assert r["recall"] == pytest.approx(2 / 3) and r["exact_match"] == pytest.approx(2 / 3)
    assert [a["right"] for a in r["answers"]] == [True, True, False]
    low, high = r["recall_interval"]
    assert 0 <= low < 2 / 3 < high <= 1


def test_a_second_guess_counts_for_hit_at_3_alone(tiny_base: BaseModel, monkeypatch: pytest.MonkeyPatch) -> None:
    gold = {"Who lives in Paris?": "fox", "What do comb jellies eat?": "plankton", "Whose house?": "Otto Brand"}

    def answers(self: Any, base: Any, state: Any, questions: list[str], *_: Any) -> Any:
        from continual_learning.types import Alternative, Answer

        places = {question: place for place, question in enumerate(gold)}
        made = []
        for q in questions:
            others = [Alternative("krill", 0.2)] * 3
            if q in gold:  # the right one is first, second, fourth among the alternatives
                others.insert((0, 1, 3)[places[q]], Alternative(gold[q], 0.2))
            made.append(Answer(q, "nobody", alternatives=tuple(others)))
        return made

    monkeypatch.setattr(InContext, "answer", answers)
    [r] = compare(data(), ["in_context"], tiny_base, settings=QUICK)["results"]
    assert r["recall"] == r["f1"] == r["exact_match"] == 0.0 and r["hit_at_3"] == pytest.approx(2 / 3)


def test_saying_that_a_document_does_not_say_is_no_answer() -> None:
    asked = [Asked(QuestionAnswer("What do they eat?", ("plankton",)))]
    text = 'The document does not say. The nearest passage: "They eat plankton"'
    [unknown] = scored(asked, [{"text": text, "origin": "unknown"}], 0)
    assert (unknown["right"], unknown["f1"], unknown["exact_match"]) == (False, 0.0, False)
    [before] = scored(asked, [{"text": text}], 0)  # stored by an earlier version
    assert before["right"] and before["hit_at_3"]


def test_every_strategy_starts_from_a_clean_base(tiny_base: BaseModel) -> None:
    alone = compare(data(), ["in_context"], tiny_base, settings=Settings(4, resume=False))["results"][0]
    after = compare(data(), [TTT_QUICK, "in_context"], tiny_base, settings=Settings(4, resume=False))["results"][1]
    assert [a["text"] for a in after["answers"]] == [a["text"] for a in alone["answers"]]


def counted(monkeypatch: pytest.MonkeyPatch, fail_at: int | None = None) -> list[str]:
    """The titles that ttt learns from now on; the learning with number ``fail_at`` is interrupted."""
    learned: list[str] = []
    real = TTT.learn

    def learn(self: Any, base: Any, state: Any, document: Document, *args: Any, **kwargs: Any) -> Any:
        if len(learned) == fail_at:
            raise KeyboardInterrupt
        learned.append(document.title)
        return real(self, base, state, document, *args, **kwargs)

    monkeypatch.setattr(TTT, "learn", learn)
    return learned


@pytest.mark.parametrize("protocol", [compare, benchmark_stream])
def test_an_interrupted_run_goes_on_where_it_was(
    tiny_base: BaseModel, monkeypatch: pytest.MonkeyPatch, protocol: Any
) -> None:
    settings = Settings(4, count_flops=False)
    whole = protocol(data(), [TTT_QUICK], tiny_base, settings=Settings(4, count_flops=False, resume=False))
    with monkeypatch.context() as patch:
        learned = counted(patch, fail_at=2)
        with pytest.raises(KeyboardInterrupt):
            protocol(data(), [TTT_QUICK], tiny_base, settings=settings)
        assert learned == ["Fox", "Jellies"]
    learned = counted(monkeypatch)
    resumed = protocol(data(), [TTT_QUICK], tiny_base, settings=settings)
    assert learned == ["Dog"]
    again = protocol(data(), [TTT_QUICK], tiny_base, settings=settings)
    assert learned == ["Dog"]
    assert again["results"] == resumed["results"]
    texts = [[a["text"] for a in run["results"][0]["answers"]] for run in (whole, resumed)]
    assert texts[0] == texts[1]


def test_other_settings_are_measured_anew(tiny_base: BaseModel, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(4, count_flops=False)
    learned = counted(monkeypatch)
    compare(data(), [TTT_QUICK], tiny_base, settings=settings)
    compare(data(), [Contender("ttt", {**TTT_QUICK.options, "passes": 2})], tiny_base, settings=settings)
    assert len(learned) == 6
    compare(data(), [TTT_QUICK], tiny_base, settings=Settings(4, seeds=(1,), count_flops=False))
    assert len(learned) == 9


def test_the_precision_of_the_base_is_a_part_of_what_is_measured(tiny_base: BaseModel, tiny_llama_dir: Path) -> None:
    rounded = BaseModel.load(str(tiny_llama_dir), device="cpu", precision="int8")
    assert rounded.fingerprint == tiny_base.fingerprint
    for contender in (Contender("frozen"), TTT_QUICK):
        assert contender.key(rounded, 0) != contender.key(tiny_base, 0)
    runners = [SequenceRunner(base, ResultCache(None)) for base in (tiny_base, rounded)]
    assert runners[0].base_answers_key != runners[1].base_answers_key


def test_stream_asks_everything_after_every_document(tiny_base: BaseModel) -> None:
    result = benchmark_stream(data(), ["frozen", "in_context", TTT_QUICK], tiny_base, settings=QUICK)
    for r in result["results"]:
        assert len(r["matrix"]) == 4 and all(len(row) == 3 for row in r["matrix"])
        assert {"final_recall", "bwt", "fwt", "forgetting", "plasticity"} <= set(r)
        assert [p["distance"] for p in r["retention_curve"]] == [0, 1, 2]
    frozen = result["results"][0]
    assert frozen["bwt"] == frozen["forgetting"] == 0.0 and len({tuple(row) for row in frozen["matrix"]}) == 1


def test_the_ends_of_a_stream_are_those_of_the_whole(tiny_base: BaseModel) -> None:
    entrants = [TTT_QUICK, "in_context"]
    whole = benchmark_stream(data(), entrants, tiny_base, settings=QUICK)
    ends = benchmark_stream(data(), entrants, tiny_base, settings=replace(QUICK, matrix="ends"))
    assert (whole["settings"]["matrix"], ends["settings"]["matrix"]) == ("whole", "ends")
    for all_, some in zip(whole["results"], ends["results"], strict=True):
        for name in ("final_recall", "bwt", "plasticity", "general_kept", "questions"):
            assert some[name] == all_[name], name
        for i, row in enumerate(some["matrix"]):
            expected = [v if i in (0, 3) or j == i - 1 else None for j, v in enumerate(all_["matrix"][i])]
            assert row == expected
        assert some["fwt"] is None and some["forgetting"] is None
        assert [p["distance"] for p in some["retention_curve"]] == [0, 1, 2]
    with pytest.raises(InputError, match="matrix = 'some'"):
        Settings(matrix="some")  # type: ignore[arg-type]


def test_stream_needs_a_question_for_each_document(tiny_base: BaseModel) -> None:
    bare = Dataset("bare", "bare", (*data().documents, QADocument(Document("Nothing is asked.", "Bare"), ())))
    with pytest.raises(InputError, match="'Bare' has no question of its own"):
        benchmark_stream(bare, ["frozen"], tiny_base)


def test_seeds_change_the_order_of_the_documents(tiny_base: BaseModel) -> None:
    [r] = benchmark_stream(data(), ["in_context"], tiny_base, Settings(4, seeds=(0, 1), count_flops=False))["results"]
    orders = [[a["title"] for a in r["answers"] if a["seed"] == seed] for seed in (0, 1)]
    assert orders[0] != orders[1] and sorted(orders[0]) == sorted(orders[1])
    assert [s["seed"] for s in r["seeds"]] == [0, 1] and "bwt" in r["seeds"][1]
    assert r["questions"] == 3 and r["documents"] == 3


def test_answers_that_cannot_have_changed_are_not_generated_again(
    tiny_base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    real = TTT.answer

    def answer(self: Any, base: Any, state: Any, questions: list[str], *args: Any, **kwargs: Any) -> Any:
        asked.extend(questions)
        return real(self, base, state, questions, *args, **kwargs)

    monkeypatch.setattr(TTT, "answer", answer)
    benchmark_stream(data(), [TTT_QUICK], tiny_base, settings=Settings(4, count_flops=False, resume=False))
    assert len(asked) == len(set(asked))


def test_squad_asks_the_holdout_before_and_after(tiny_base: BaseModel) -> None:
    known = Dataset("known", "known", (QADocument(Document("X.", "X"), (QuestionAnswer("Why?", ("x",)),)),))
    [r] = benchmark_squad(data(), ["in_context"], tiny_base, known, QUICK)["results"]
    assert r["documents"] == 3 and r["holdout_before"] == 0.0
    assert r["forgetting_ratio"] is None  # the base had nothing right


def test_forgetting_is_measured_on_the_general_questions(tiny_base: BaseModel, monkeypatch: pytest.MonkeyPatch) -> None:
    from continual_learning.evaluation import sequence
    from continual_learning.types import Answer

    def base_knows(base: Any, questions: Any, *_: Any) -> list[Answer]:
        return [Answer(q, "Paris") for q in questions]

    def forgot(self: Any, base: Any, state: Any, questions: Any, *_: Any) -> list[Answer]:
        return [Answer(q, "Lund") for q in questions]

    monkeypatch.setattr(sequence, "plain_answers", base_knows)
    monkeypatch.setattr(InContext, "answer", forgot)
    [r] = benchmark_forgetting(data(), ["in_context"], tiny_base, QUICK)["results"]
    assert (r["holdout_before"], r["holdout_after"], r["forgetting_ratio"]) == (1.0, 0.0, 1.0)
    nll, tokens = tiny_base.token_nll(["A cat sat there."])
    assert r["perplexity_before"] == pytest.approx(math.exp(nll / tokens))
    assert r["perplexity_after"] == pytest.approx(r["perplexity_before"] * (1 + r["perplexity_change"]))
    assert r["perplexity_after"] != r["perplexity_before"]


def test_needle_says_recall_by_length_and_depth(tiny_base: BaseModel) -> None:
    result = benchmark_needle(["frozen"], tiny_base, tokens=(80, 120), count=2, settings=QUICK)
    [r] = result["results"]
    assert sorted({n["tokens"] for n in r["needles"]}) == [80, 120]
    assert sum(n["questions"] for n in r["needles"]) == r["questions"] == 4


def test_a_strategy_that_cannot_run_is_told_and_the_others_go_on(
    tiny_base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise MismatchError("no hypernetwork for this base; train one")

    monkeypatch.setattr(InContext, "learn", refuse)
    result = compare(data(), ["in_context", "frozen"], tiny_base, settings=QUICK)
    assert [r["strategy"] for r in result["results"]] == ["frozen"]
    assert result["notes"] == ["in_context was not run: no hypernetwork for this base; train one"]
    with pytest.raises(MismatchError):
        compare(data(), ["in_context"], tiny_base, settings=QUICK)


def test_a_document_that_cannot_be_learned_is_counted(tiny_base: BaseModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def diverge(*_: Any, **__: Any) -> Any:
        raise DivergedError("the loss became nan")

    monkeypatch.setattr(TTT, "learn", diverge)
    [r] = compare(data(), [TTT_QUICK], tiny_base, settings=QUICK)["results"]
    assert r["refused"] == 3 and r["notes"] == ["refused: the loss became nan (3 times)"]


def test_bad_input_is_told_before_anything_is_run(tiny_base: BaseModel) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'frozen'"):
        compare(data(), ["frozn"], tiny_base)
    with pytest.raises(ConfigError, match="no option 'passez'"):
        compare(data(), [Contender("ttt", {"passez": 1})], tiny_base)
    with pytest.raises(InputError, match="0 strategies"):
        compare(data(), [], tiny_base)
    with pytest.raises(InputError, match="holds no question"):
        compare(Dataset("empty", "empty.jsonl", ()), ["frozen"], tiny_base)
    for settings in ({"max_new_tokens": 0}, {"seeds": ()}, {"seeds": (1, 1)}, {"retention_documents": -1}):
        with pytest.raises(InputError, match=next(iter(settings))):
            Settings(**settings)  # type: ignore[arg-type]


def test_progress_foretells_and_never_goes_back(tiny_base: BaseModel) -> None:
    steps: list[Progress] = []
    compare(data(), ["frozen", TTT_QUICK], tiny_base, settings=QUICK, progress=steps.append)
    assert steps[0].stage == "plan" and steps[0].message.startswith("about ")
    shares = [step.done for step in steps]
    assert shares == sorted(shares) and shares[-1] == 100
    assert any("left" in step.message and step.stage == "ttt" for step in steps)
    compare(data(), ["frozen", TTT_QUICK], tiny_base, settings=QUICK, progress=steps.append)
    assert any(step.message.startswith("nothing left to measure") for step in steps)
