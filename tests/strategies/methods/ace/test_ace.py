"""ACE: the loops with a scripted model, documents and answers with a tiny one."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from continual_learning.chat_models import ChatReply, ChatRequest
from continual_learning.chat_models.servers import estimated_tokens
from continual_learning.documents import Document
from continual_learning.errors import ChatModelError, ConfigError, InputError
from continual_learning.model.base_model import BaseModel
from continual_learning.reading.in_prompt import Excerpt
from continual_learning.retrieval import chunk_store
from continual_learning.strategies.base import make_strategy
from continual_learning.strategies.methods import ace as ace_module
from continual_learning.strategies.methods.ace import ACE, ACEConfig, loops, memory, prompts, refine, selection
from continual_learning.strategies.methods.ace import roles as ace_roles
from continual_learning.strategies.methods.ace.loops import evaluate, offline, online
from continual_learning.strategies.methods.ace.memory import Task, playbook_of, split, with_playbook
from continual_learning.strategies.methods.ace.patch import Operation, apply_all
from continual_learning.strategies.methods.ace.playbook import Origin, Playbook
from continual_learning.strategies.methods.ace.roles import Roles
from continual_learning.types import QuestionAnswer

pytestmark = pytest.mark.slow

TRUTH = {
    "What do comb jellies eat in the harbour?": "plankton",
    "What do comb jellies hunt in the harbour?": "plankton",
    "Who opened the Harrow Lane Observatory?": "Edwin Tamsel",
    "Which clockmaker opened the Harrow Lane Observatory?": "Edwin Tamsel",
}
TASKS = [Task(QuestionAnswer(q, (a,)), "doc-1") for q, a in TRUTH.items()]
TRAIN, HELD_OUT = [TASKS[0], TASKS[2]], [TASKS[1], TASKS[3]]
PASSAGE = Excerpt("A passage.", "Title")


class Model:
    """Answers right where an entry in the prompt says so; reflects and curates by rule unless told otherwise."""

    name, window = "scripted", 4000

    def __init__(self, spoil: Callable[[str, str], str | None] = lambda role, prompt: None):
        self.spoil = spoil
        self.prompts: dict[str, list[str]] = {"generator": [], "reflector": [], "curator": []}

    def count_tokens(self, messages: Sequence[Any]) -> int:
        return estimated_tokens(messages)

    def complete(self, requests: Sequence[ChatRequest], on_token: Any = None) -> list[ChatReply]:
        return [ChatReply(self.one(r.messages[-1]["content"]), 10, 5, 0.01) for r in requests]

    def one(self, prompt: str) -> str:
        if "key_insight" in prompt:
            role = "reflector"
        elif "You keep a playbook" in prompt:
            role = "curator"
        else:
            role = "generator"
        self.prompts[role].append(prompt)
        spoiled = self.spoil(role, prompt)
        return spoiled if spoiled is not None else getattr(self, role)(prompt)

    def generator(self, prompt: str) -> str:
        strategies = prompt.partition("Strategies:")[2]
        return next((a for a in TRUTH.values() if a in strategies), "no idea")

    def reflector(self, prompt: str) -> str:
        truth = prompt.partition("Right answer: ")[2].partition("\n")[0]
        question = prompt.partition("Question: ")[2].partition("\n")[0]
        return json.dumps({"key_insight": f"{question} {truth}", "bullet_tags": []})

    def curator(self, prompt: str) -> str:
        insight = prompt.partition("New insight: ")[2].partition("\n")[0]
        return json.dumps({"operations": [{"type": "ADD", "section": "strategies", "content": insight}]})


def roles(model: Model, **options: Any) -> Roles:
    return Roles(model, ACEConfig(**options), lambda question: [PASSAGE], lambda text: len(text.split()))


def test_offline_learns_what_helps_and_says_what_it_cost() -> None:
    result = offline(roles(Model()), Playbook(), TRAIN, HELD_OUT)
    assert result.before is not None and result.after is not None
    assert (result.before.recall, result.after.recall) == (0.0, 1.0)
    assert len(result.playbook) == 2 and result.reports[0].kept and not result.failures
    origin = next(iter(result.playbook.entries.values())).origins[0]
    assert origin == Origin("doc-1", TRAIN[0].qa.question, 1)
    first = result.reports[0]
    assert first.recall == 0.0 and first.costs["reflector"]["calls"] == 2 and first.costs["curator"]["tokens"] == 10
    assert result.stopped == "loop 2 changed nothing" or "without a better" in result.stopped


def test_the_playbook_that_it_began_with_is_kept_if_nothing_is_better() -> None:
    """A curator that adds poison: train and held-out answers stay wrong."""
    poison = json.dumps({"operations": [{"type": "ADD", "section": "general", "content": "Say nothing."}]})
    model = Model(lambda role, prompt: poison if role == "curator" else None)
    start = Playbook()
    result = offline(roles(model), start, TRAIN, HELD_OUT)
    assert result.playbook is start and result.after == result.before
    assert not any(report.kept for report in result.reports)


def test_a_playbook_that_loses_held_out_questions_is_not_kept_however_well_it_knows_its_own() -> None:
    helps = apply_all(
        Playbook(), [Operation("ADD", (), "strategies", f"{t.qa.question} {t.qa.answers[0]}") for t in HELD_OUT]
    ).playbook

    def remove(role: str, prompt: str) -> str | None:
        if role != "curator":
            return None
        question = prompt.partition("from the question: ")[2].partition("\n")[0]
        entries = [e for e in helps.entries.values() if e.id in prompt]
        removed = [{"type": "REMOVE", "id": e.id} for e in entries[:1]]
        return json.dumps({"operations": [*removed, {"type": "ADD", "section": "facts", "content": f"{question} zzz"}]})

    model = Model(remove)
    model.generator = lambda prompt: (  # type: ignore[method-assign]
        "no idea" if any(t.qa.question in prompt for t in TRAIN) else Model.generator(model, prompt)
    )
    result = offline(roles(model), helps, TRAIN, HELD_OUT)
    assert result.playbook is helps and result.after is not None and result.after.recall == 1.0
    assert any(report.validation == 0.0 for report in result.reports)


def test_malformed_replies_are_reported_and_leave_the_playbook_alone() -> None:
    start = Playbook()
    for role in ("reflector", "curator"):
        model = Model(lambda r, prompt, role=role: "I cannot do that." if r == role else None)
        result = offline(roles(model), start, TRAIN, HELD_OUT)
        assert result.playbook is start and len(result.reports[0].failures) == 2
        assert all(f.startswith(role) and "no JSON object" in f for f in result.failures)
        assert len(model.prompts[role]) == 4  # two questions, one retry each, and no second loop
        assert result.reports[0].costs[role]["failed"] == 2 and result.stopped == "loop 1 changed nothing"


def test_one_malformed_reply_does_not_stop_the_others() -> None:
    model = Model(lambda role, prompt: "no" if role == "reflector" and "Observatory" in prompt else None)
    result = offline(roles(model), Playbook(), TRAIN, HELD_OUT)
    assert len(result.playbook) == 1 and result.after is not None and result.after.recall == 0.5
    assert result.failures


def test_operations_that_cannot_be_applied_are_counted() -> None:
    bad = json.dumps({"operations": [{"type": "UPDATE", "id": "str-00099", "content": "x"}]})
    result = offline(roles(Model(lambda r, p: bad if r == "curator" else None)), Playbook(), TRAIN, HELD_OUT)
    assert result.reports[0].rejected == 2 and result.reports[0].applied == 0


def test_online_answers_first_and_learns_then(monkeypatch: pytest.MonkeyPatch) -> None:
    twice = [TASKS[0], TASKS[0]]
    together = online(roles(Model()), Playbook(), twice)
    monkeypatch.setattr(loops, "BATCH_QUESTIONS", 1)
    result = online(roles(Model()), Playbook(), twice)
    assert [report.recall for report in result.reports] == [0.0, 1.0]
    assert [report.recall for report in together.reports] == [0.0]


def test_without_labels_the_right_answer_is_never_seen() -> None:
    """The reference code's 'no ground truth' mode reads the label all the same."""
    model = Model()
    unlabelled = [Task(QuestionAnswer(t.qa.question, ()), t.document) for t in TRAIN]
    result = online(roles(model), Playbook(), unlabelled, HELD_OUT)
    asked = "\n".join(model.prompts["reflector"] + model.prompts["curator"])
    assert "The right answer is not known." in asked
    assert not any(answer in asked for answer in TRUTH.values())
    assert result.reports[0].recall is None and result.reports[0].validation is not None


def test_without_labels_a_change_must_do_no_harm() -> None:
    helps = apply_all(
        Playbook(), [Operation("ADD", (), "strategies", f"{t.qa.question} {t.qa.answers[0]}") for t in HELD_OUT]
    ).playbook

    def harm(role: str, prompt: str) -> str | None:
        ids = [i for i in helps.entries if i in prompt]
        return json.dumps({"operations": [{"type": "REMOVE", "id": ids[0]}]}) if role == "curator" and ids else None

    unlabelled = [Task(QuestionAnswer(t.qa.question, ())) for t in TRAIN]
    result = online(roles(Model(harm)), helps, unlabelled, HELD_OUT)
    assert result.playbook is helps and [r.kept for r in result.reports] == [False]
    assert result.reports[0].validation == 0.0 or result.reports[0].validation == 0.5
    with pytest.raises(InputError, match="0 held-out ones to judge by"):
        online(roles(Model()), Playbook(), unlabelled)
    with pytest.raises(InputError, match="reflector = false"):
        online(roles(Model(), reflector=False), Playbook(), unlabelled, HELD_OUT)


def test_tags_by_outcome_compare_with_the_answer_without_the_playbook() -> None:
    def answers(role: str, prompt: str) -> str | None:
        if role != "generator":
            return None
        if "jellies" in prompt:  # the entry helps here, and does harm there
            return "plankton" if "Strategies:" in prompt else "no"
        return "no" if "Strategies:" in prompt else "Edwin Tamsel"

    start = apply_all(
        Playbook(), [Operation("ADD", (), "strategies", f"{t.qa.question} x") for t in (TASKS[0], TASKS[2])]
    ).playbook
    result = online(roles(Model(answers)), start, [TASKS[0], TASKS[2]])
    counts = [(e.helpful, e.harmful) for e in list(result.playbook.entries.values())[:2]]
    assert counts == [(1, 0), (0, 1)]
    assert all(e.used_step for e in list(result.playbook.entries.values())[:2])


def test_tags_by_the_reflector_and_several_rounds() -> None:
    def tags(role: str, prompt: str) -> str | None:
        if role == "reflector":
            used = [{"id": "str-00001", "tag": "harmful"}] if "str-00001" in prompt else []
            return json.dumps({"key_insight": "look again", "bullet_tags": used})
        return "no idea" if role == "generator" else json.dumps({"operations": []})

    start = apply_all(Playbook(), [Operation("ADD", (), "strategies", f"{TASKS[0].qa.question} x")]).playbook
    model = Model(tags)
    result = online(roles(model, backend="ollama", reflection_rounds=3), start, [TASKS[0]])
    assert result.playbook.entries["str-00001"].harmful == 3 and len(model.prompts["reflector"]) == 3
    assert sum("Hint: look again" in p for p in model.prompts["generator"]) == 1  # the same prompt is asked once


@pytest.mark.parametrize(
    ("options", "section", "text"),
    [
        ({"curator": False}, "strategies", "eat in the harbour? plankton"),
        ({"curator": False, "reflector": False}, "facts", "What do comb jellies eat in the harbour? plankton"),
        ({"reflector": False}, "strategies", "What do comb jellies eat in the harbour? plankton"),
    ],
)
def test_without_reflector_or_curator(options: dict[str, Any], section: str, text: str) -> None:
    model = Model()
    result = online(roles(model, **options), Playbook(), [TASKS[0]])
    [entry] = result.playbook.entries.values()
    assert entry.section == section and entry.text.endswith(text)
    assert bool(model.prompts["reflector"]) == options.get("reflector", True)
    assert bool(model.prompts["curator"]) == options.get("curator", True)


def test_budgets_hold_after_every_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = [Task(QuestionAnswer(f"What is the colour of bird number {n} in Lund?", (f"hue{n}",))) for n in range(12)]
    monkeypatch.setattr(loops, "BATCH_QUESTIONS", 3)
    monkeypatch.setattr(loops, "DUPLICATE_SIMILARITY", 1.0)
    result = online(roles(Model(), max_strategies=4), Playbook(), tasks)
    assert [r.entries for r in result.reports] == [3, 4, 4, 4] and result.reports[-1].pruned > 0
    monkeypatch.setattr(loops, "BATCH_QUESTIONS", 12)
    monkeypatch.setattr(loops, "PLAYBOOK_TOKENS", 50)
    tight = online(roles(Model()), Playbook(), tasks)
    assert 0 < tight.reports[0].playbook_tokens <= 50


def test_loops_patience_and_early_stop() -> None:
    counter = iter(range(100))
    junk = lambda role, prompt: (  # noqa: E731
        json.dumps({"operations": [{"type": "ADD", "section": "facts", "content": f"junk {next(counter)}"}]})
        if role == "curator"
        else None
    )
    assert len(offline(roles(Model(junk), loops=5), Playbook(), TRAIN, HELD_OUT).reports) == 2
    assert len(offline(roles(Model(junk), loops=3), Playbook(), TRAIN, HELD_OUT, patience=9).reports) == 3


def test_evaluation_learns_nothing_and_needs_answers() -> None:
    one = roles(Model())
    assert evaluate(one, Playbook(), HELD_OUT).right == (False, False)
    assert one.costs["reflector"].calls == 0
    with pytest.raises(InputError, match="has no answer"):
        evaluate(one, Playbook(), [Task(QuestionAnswer("What?", ()))])


def test_the_papers_json_answer() -> None:
    reply = json.dumps({"reasoning": "r", "bullet_ids": ["str-00001", "str-00009"], "final_answer": "plankton"})
    model = Model(lambda role, prompt: reply if role == "generator" else None)
    start = apply_all(Playbook(), [Operation("ADD", (), "strategies", TASKS[0].qa.question)]).playbook
    [attempt] = roles(model, generator="json").generate(start, TASKS[:1])
    assert (attempt.answer, attempt.used, attempt.reasoning) == ("plankton", ("str-00001",), "r")
    broken = Model(lambda role, prompt: "words" if role == "generator" else None)
    [failed] = roles(broken, generator="json").generate(start, TASKS[:1])
    assert failed.answer == "" and "no JSON object" in failed.error and "no answer in JSON" in failed.notes[0]


def test_full_reflections_ask_for_all_that_the_paper_names() -> None:
    fields = json.dumps({**dict.fromkeys(prompts.FULL_REFLECTION, "x"), "bullet_tags": []})
    model = Model(lambda role, prompt: fields if role == "reflector" else None)
    online(roles(model, backend="ollama"), Playbook(), TASKS[:1])
    assert all(name in model.prompts["reflector"][0] for name in prompts.FULL_REFLECTION)


def test_what_does_not_fit_goes_in_order_and_the_question_never() -> None:
    model = Model()
    model.window = 140
    one = roles(model)
    start = apply_all(Playbook(), [Operation("ADD", (), "strategies", TASKS[0].qa.question)]).playbook
    long, short = Excerpt("far " * 60), Excerpt("near " * 20)
    shown = one.entries(start, TASKS[0].qa.question)
    [attempt] = one.attempts(TASKS[:1], [shown], [(long, short)], 24)
    assert attempt.excerpts == (short,) and attempt.shown == ()
    assert "1 of 2 excerpts did not fit" in attempt.notes[0] and model.prompts["generator"][0].count("near") == 20
    model.window = 30
    with pytest.raises(InputError, match="shorten the question"):
        one.attempts(TASKS[:1], [()], [()], 24)


def test_splits_take_turns() -> None:
    train, held = split(TASKS)
    assert len(train) == len(held) == 2 and not set(map(id, train)) & set(map(id, held))
    assert [len(half) for half in split(TASKS[:2])] == [1, 1]
    with pytest.raises(InputError, match="at least 2"):
        split(TASKS[:1])


# -- the strategy -------------------------------------------------------------------------------------

JELLIES = Document("Comb jellies eat plankton near the harbour of Lund. They have eight rows of cilia.", "Jellies")
FOX = Document("The quick brown fox lives in Paris with seven cats. It was born in 1811.", "Fox")


def ace(**options: Any) -> ACE:
    strategy = make_strategy("ace", options)
    assert isinstance(strategy, ACE)
    return strategy


def qa(*pairs: tuple[str, str]) -> list[QuestionAnswer]:
    return [QuestionAnswer(question, (answer,)) for question, answer in pairs]


def test_without_questions_the_document_is_kept_and_the_playbook_is_not_touched(tiny_base: BaseModel) -> None:
    strategy = ace()
    state, report = strategy.learn(tiny_base, strategy.init(tiny_base), JELLIES)
    assert report.accepted and report.reason == "kept in 1 chunks" and "playbook" not in state.meta.extra


def test_one_question_cannot_be_held_out(tiny_base: BaseModel) -> None:
    strategy = ace()
    state, report = strategy.learn(
        tiny_base, strategy.init(tiny_base), JELLIES, qa(("What do jellies eat?", "plankton"))
    )
    assert report.accepted and "cannot be both learned from and held out" in report.warnings[0]
    assert "playbook" not in state.meta.extra


def test_learning_from_questions_in_process(tiny_base: BaseModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """The scripted model plays the roles; state, report and forgetting are the strategy's own."""
    strategy = ace()
    model = Model()
    monkeypatch.setattr(strategy, "chat_model", lambda base=None: model)
    questions = [task.qa for task in TASKS]
    state, report = strategy.learn(tiny_base, strategy.init(tiny_base), JELLIES, questions)
    assert report.recall_before == 0.0 and report.recall_after is not None
    first = playbook_of(state.meta.extra)
    assert len(state.meta.extra["held_out"][JELLIES.id]) == 2
    assert strategy.describe(tiny_base, state)["held_out_questions"] == 2
    both, _ = strategy.learn(tiny_base, state, FOX, qa(("Where does the fox live?", "Paris"), ("Born when?", "1811")))
    assert len(both.meta.extra["held_out"]) == 2
    left = strategy.forget(tiny_base, both, JELLIES.id)
    assert (
        JELLIES.id not in json.dumps(left.meta.extra) and playbook_of(left.meta.extra).next_number >= first.next_number
    )


def test_held_out_questions_of_earlier_documents_are_asked_again(
    tiny_base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    strategy, model = ace(), Model()
    monkeypatch.setattr(strategy, "chat_model", lambda base=None: model)
    state, _ = strategy.learn(tiny_base, strategy.init(tiny_base), JELLIES, [task.qa for task in TASKS])
    model.prompts["generator"].clear()
    earlier = {held[0] for held in state.meta.extra["held_out"][JELLIES.id]}
    strategy.learn(tiny_base, state, FOX, qa(("Where does the fox live?", "Paris"), ("Born when?", "1811")))
    assert sum(any(q in p for p in model.prompts["generator"]) for q in earlier) == 2


def test_self_reflection_is_off_unless_asked_for(tiny_base: BaseModel, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Model()
    strategy = ace(self_reflection=True)
    monkeypatch.setattr(strategy, "chat_model", lambda base=None: model)
    text = " ".join([JELLIES.text, FOX.text, "Edwin Tamsel opened the Harrow Lane Observatory in May 1887."])
    _, report = strategy.learn(tiny_base, strategy.init(tiny_base), Document(text, "All"))
    assert report.accepted and report.recall_before is not None and report.recall_after is not None
    assert report.recall_after >= report.recall_before
    assert model.prompts["reflector"] and all("not known" in p for p in model.prompts["reflector"])


def test_answers_carry_their_chunks_and_entries(tiny_base: BaseModel) -> None:
    strategy = ace()
    state, _ = strategy.learn(tiny_base, strategy.init(tiny_base), JELLIES)
    question = "What do comb jellies eat near the harbour of Lund?"
    operation = Operation(
        "ADD", (), "facts", "Comb jellies of the harbour in Lund eat plankton.", origin=Origin(JELLIES.id)
    )
    with_entry = with_playbook(state, apply_all(Playbook(), [operation]).playbook)
    [answer] = strategy.answer(tiny_base, with_entry, [question], max_new_tokens=4)
    assert [s.title for s in answer.sources] == ["Jellies", "playbook fct-00001"]
    assert answer.sources[1].document_id == JELLIES.id
    assert strategy.answer_key(tiny_base, with_entry, question) != strategy.answer_key(tiny_base, state, question)
    assert "plankton" in strategy.context(tiny_base, with_entry, question)
    assert not strategy.affects(tiny_base, with_entry, "What is the capital of France?")


def test_a_long_document_is_looked_up_not_cut(tiny_base: BaseModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("continual_learning.strategies.methods.ace.CHUNK_TOKENS", 60)
    monkeypatch.setattr("continual_learning.strategies.methods.ace.OVERLAP_TOKENS", 0)
    monkeypatch.setattr(ace_roles, "SHOTS", 0)
    monkeypatch.setattr(ace_roles, "INSTRUCTION", "Answer.")
    strategy = ace()
    filler = " ".join(f"Sentence number {n} of the filler says nothing at all." for n in range(60))
    document = Document(f"The heron Zubrik nests in Vellamo. {filler}", "Birds")
    assert len(tiny_base.encode(document.text)) > tiny_base.window
    state, report = strategy.learn(tiny_base, strategy.init(tiny_base), document)
    assert report.tokens_left_out == 0
    [answer] = strategy.answer(tiny_base, state, ["Where does the heron Zubrik nest, in Vellamo?"], max_new_tokens=4)
    assert "Zubrik nests in Vellamo" in answer.sources[0].quote and not answer.notes


def test_addresses_with_passwords_are_refused() -> None:
    with pytest.raises(ConfigError, match="carries a user or password"):
        ace(host="http://me:pw@localhost:11434")


def test_a_server_that_is_not_there_leaves_the_state_as_it_was(
    tiny_base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    strategy = ace(backend="ollama", host="http://127.0.0.1:9")
    monkeypatch.setattr("continual_learning.strategies.methods.ace._RETRIES", 0)
    state = strategy.init(tiny_base)
    kept, _ = strategy.learn(tiny_base, state, JELLIES)
    assert kept.meta.documents
    with pytest.raises(ChatModelError, match="ollama serve"):
        strategy.learn(tiny_base, state, JELLIES, [task.qa for task in TASKS])
    with pytest.raises(ChatModelError):
        strategy.answer(tiny_base, kept, ["What do comb jellies eat?"])
    assert state.meta.documents == () and replace(state.meta) == state.meta


def test_the_variable_that_holds_a_servers_key_is_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_OWN_KEY", "sk-one")
    model = ace(backend="openai", api_key_variable="MY_OWN_KEY").chat_model()
    assert model._key == "sk-one"  # type: ignore[attr-defined]


def test_what_retired_options_meant_is_what_is_done_now() -> None:
    now = {
        "retries": ace_module._RETRIES,
        "patience": loops.PATIENCE,
        "batch_questions": loops.BATCH_QUESTIONS,
        "validation_share": memory.VALIDATION_SHARE,
        "earlier_questions": ace_module._EARLIER_QUESTIONS,
        "reflection": None,
        "tagging": None,
        "playbook_tokens": refine.PLAYBOOK_TOKENS,
        "duplicate_similarity": refine.DUPLICATE_SIMILARITY,
        "top_entries": selection.TOP_ENTRIES,
        "general_entries": selection.GENERAL_ENTRIES,
        "entry_tokens": selection.ENTRY_TOKENS,
        "min_relevance": selection.MIN_RELEVANCE,
        "instruction": ace_roles.INSTRUCTION,
        "shots": ace_roles.SHOTS,
        "top_k": chunk_store.TOP_K,
        "chunk_tokens": chunk_store.CHUNK_TOKENS,
        "overlap_tokens": chunk_store.OVERLAP_TOKENS,
        "min_score": chunk_store.MIN_SCORE,
        "answer_tokens": ace_roles.ANSWER_TOKENS,
        "insight_chars": ace_roles.INSIGHT_CHARS,
    }
    assert now == ACEConfig.RETIRED


def test_the_former_name_of_the_servers_model_is_read() -> None:
    """Memories of before carry it with all their options."""
    assert ace(model="x", backend="ollama").config.server_model == "x"
