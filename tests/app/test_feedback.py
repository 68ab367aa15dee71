"""Feedback: what was rewarded comes again, what was punished does not, and nothing else changes."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from continual_learning import Learner
from continual_learning.app.feedback import FeedbackMemory, likeness
from continual_learning.errors import InputError, UnknownNameError
from continual_learning.model.base_model import BaseModel
from continual_learning.strategies.base import strategy_names
from continual_learning.types import Answer, Source

ASKED = "What do comb jellies eat near the harbour of Lund?"
ALIKE = "Near the harbour of Lund, what is eaten by comb jellies?"
OTHER = "Who painted the Mona Lisa?"
TEXT = "Comb jellies eat plankton near the harbour of Lund. They have eight rows of cilia."


def open_(base: BaseModel, memory: str | None = None, strategy: str = "in_context") -> Learner:
    return Learner.open(base, strategy, memory)


def test_a_correction_is_given_next_time_and_nothing_else_changes(tiny_base: BaseModel) -> None:
    learner = open_(tiny_base)
    learner.learn(TEXT)
    other = learner.ask(OTHER, max_new_tokens=24).text
    answer = learner.ask(ASKED, max_new_tokens=24)
    given = learner.feedback(answer, correction="plankton")
    assert (given.question, given.answer, given.correction) == (ASKED, answer.text, "plankton")
    assert given.reward == -1.0
    again = learner.ask([OTHER, ASKED, ALIKE], max_new_tokens=24)
    assert [a.text for a in again] == [other, "plankton", "plankton"]
    assert [a.question for a in again] == [OTHER, ASKED, ALIKE]
    assert again[1].notes == ("feedback f1 was taken into account",) and again[0].notes == ()


QUICKLY = {"ttt": {"guard": False, "max_seconds": 1.0}}


@pytest.mark.parametrize("strategy", ["frozen", "rag", "jitrl_mvp", "jitrl_full", "quote", "ttt"])
def test_it_works_on_top_of_any_strategy(tiny_base: BaseModel, strategy: str) -> None:
    """Also where the base does not write the answer in one piece: a quotation, or parts that are recited."""
    assert strategy in strategy_names()
    learner = Learner.open(tiny_base, strategy, **QUICKLY.get(strategy, {}))
    learner.learn(TEXT)
    before = learner.ask(ASKED, max_new_tokens=24)
    learner.feedback(before, correction="eight rows of cilia")
    pieces: list[str] = []
    answer = learner.ask(ASKED, max_new_tokens=24, on_token=pieces.append)
    assert answer.text == "".join(pieces) == "eight rows of cilia" and "f1 was taken" in answer.notes[0]
    learner.undo_feedback()
    assert learner.ask(ASKED, max_new_tokens=24).text == before.text


def test_an_answer_that_the_base_did_not_write_cannot_be_avoided_and_says_so(tiny_base: BaseModel) -> None:
    learner = Learner.open(tiny_base, "quote", reader=None)
    learner.learn(TEXT)
    before = learner.ask(ASKED, max_new_tokens=24)
    learner.feedback(before, reward=-1.0)
    again = learner.ask(ASKED, max_new_tokens=24)
    assert again.text == before.text and "f1 could not be taken into account" in again.notes[0]


def test_a_bad_answer_is_avoided_and_a_good_one_kept(tiny_base: BaseModel) -> None:
    learner = open_(tiny_base)
    learner.feedback(Answer(ASKED, "the house"), reward=1.0)
    assert learner.ask(ASKED, max_new_tokens=24).text == "the house"
    learner.feedback(Answer(ASKED, "the house"), reward=-1.0)
    assert "house" not in learner.ask(ASKED, max_new_tokens=24).text


def test_what_is_punished_begins_where_a_bad_answer_says_something(tiny_base: BaseModel) -> None:
    learner = open_(tiny_base)
    learner.feedback(Answer(ASKED, "Comb jellies eat the house"), reward=1.0)
    learner.feedback(Answer(ASKED, "Comb jellies eat the house"), reward=-1.0)
    answer = learner.ask(ASKED, max_new_tokens=24).text
    assert answer.startswith("Comb jellies eat") and "house" not in answer


def test_the_last_correction_stands(tiny_base: BaseModel) -> None:
    learner = open_(tiny_base)
    for right in ("plankton", "small fish"):
        learner.feedback(Answer(ASKED, "nothing"), correction=right)
    assert learner.ask(ASKED, max_new_tokens=24).text == "small fish"
    assert [item.correction for item, _ in FeedbackMemory.of(learner.state).about(ASKED)] == ["small fish"]


def test_what_was_said_of_the_question_itself_goes_before_others_like_it(tiny_base: BaseModel) -> None:
    learner = open_(tiny_base)
    winter = "What do comb jellies eat near the harbour of Lund in winter?"
    learner.feedback(Answer(ASKED, "nothing"), correction="plankton")
    learner.feedback(Answer(winter, "plankton"), correction="small fish")
    assert likeness(ASKED, winter) > 0.55
    asked = [ASKED, winter, ALIKE]
    assert [a.text for a in learner.ask(asked[:2], max_new_tokens=24)] == ["plankton", "small fish"]
    assert [len(FeedbackMemory.of(learner.state).about(q)) for q in asked] == [1, 1, 2]


def test_it_persists_is_listed_and_can_be_undone(tiny_base: BaseModel) -> None:
    learner = open_(tiny_base, "work")
    learner.learn(TEXT)
    before = learner.ask(ASKED, max_new_tokens=24).text
    again = open_(tiny_base, "work")
    assert again.last_answer is not None and again.last_answer[:2] == (ASKED, before), "of another process"
    again.feedback(correction="plankton")
    again.feedback(Answer(OTHER, "Otto"), reward=-0.5)
    third = open_(tiny_base, "work")
    assert [(f.id, f.question, f.reward) for f in third.feedbacks] == [("f1", ASKED, -1.0), ("f2", OTHER, -0.5)]
    assert third.ask(ASKED, max_new_tokens=24).text == "plankton"
    assert third.undo_feedback("f1").question == ASKED
    assert third.ask(ASKED, max_new_tokens=24).text == before
    assert third.undo_feedback().id == "f2" and third.feedbacks == ()
    assert third.feedback(Answer(OTHER, "x"), reward=1).id == "f3", "no id is used twice"
    third.rollback()
    assert third.feedbacks == ()
    assert [d.title for d in third.documents] == [d.title for d in learner.documents]


def test_it_stays_while_documents_come_and_go(tiny_base: BaseModel) -> None:
    for strategy in ("jitrl_full", "rag", "in_context"):
        learner = open_(tiny_base, strategy=strategy)
        other = learner.learn("The cat lives in the house.").document_id
        learner.feedback(Answer(ASKED, "x", (Source(other, "", 1.0),)), correction="plankton")
        gone = learner.learn(TEXT).document_id
        assert learner.forget(gone) == () and len(learner.feedbacks) == 1
        learner.clear()
        assert learner.feedbacks == ()


def test_feedback_goes_with_the_document_that_it_may_repeat(tiny_base: BaseModel) -> None:
    learner = open_(tiny_base, "private", strategy="quote")
    kept = learner.learn("The cat lives in the house.").document_id
    learner.feedback(Answer("Where does the cat live?", "the house", (Source(kept, "", 1.0),)), reward=1.0)
    before = learner.state
    secret = learner.learn("The password keeper of the Orlin vault is Zuleika Pemberton.").document_id
    answer = learner.ask("Who is the password keeper of the Orlin vault?")
    assert secret in {source.document_id for source in answer.sources}
    learner.feedback(answer, reward=1.0)
    learner.feedback(Answer("Who keeps it?", "nobody"), correction="Zuleika Pemberton")  # from where is not known

    assert [item.id for item in learner.forget(secret)] == ["f2", "f3"]
    assert [item.id for item in learner.feedbacks] == ["f1"]
    assert (
        learner.state.tensors.keys() == before.tensors.keys() and learner.state.meta.documents == before.meta.documents
    )
    assert learner.last_answer is None
    assert learner.store is not None
    learner.store.cleanup(keep=0, dry_run=False)
    files = [path for path in learner.store.root.rglob("*") if path.is_file()]
    assert files and not [path for path in files if b"Zuleika" in path.read_bytes()]


def test_it_fades_where_told_to() -> None:
    memory = FeedbackMemory().add(ASKED, "x", None, "plankton").fading(10.0)
    given = datetime.fromisoformat(memory.items[0].given_at)
    weights = [memory.about(ASKED, given + timedelta(days=days)) for days in (0, 10, 20, 100)]
    assert [w[0][1] if w else 0 for w in weights] == pytest.approx([1.0, 0.5, 0.25, 0.0])
    assert memory.fading(None).about(ASKED, given + timedelta(days=1000))[0][1] == 1.0


def test_fading_gives_the_model_its_own_way_again(tiny_base: BaseModel) -> None:
    learner = open_(tiny_base, "work")
    before = learner.ask(ASKED, max_new_tokens=24).text
    learner.feedback(Answer(ASKED, before), correction="plankton")
    learner.fade_feedback(1.0)
    old = (datetime.now(UTC) - timedelta(days=30)).isoformat()
    memory = FeedbackMemory.of(learner.state)
    aged = replace(memory, items=(replace(memory.items[0], given_at=old),))
    learner.revise(aged.in_state, "test")
    assert learner.ask(ASKED, max_new_tokens=24).text == before


def test_likeness_tells_alike_from_unrelated() -> None:
    assert likeness(ASKED, ASKED.upper()) == 1.0
    assert likeness(ASKED, ALIKE) > 0.55
    assert likeness(ASKED, OTHER) == 0.0
    assert likeness("Who opened the Harrow mill?", "When did the Harrow mill open?") < 0.61, "another kind of answer"


def test_in_a_conversation_too(tiny_base: BaseModel) -> None:
    learner = open_(tiny_base)
    chat = learner.chat(24)
    learner.feedback(chat.say(ASKED), correction="plankton")
    chat.clear_history()
    assert chat.say(ASKED).text == "plankton"
    assert learner.last_answer is not None and learner.last_answer[:2] == (ASKED, "plankton")


def test_an_answer_that_feedback_moved_is_from_the_memory(tiny_base: BaseModel) -> None:
    learner = Learner.open(tiny_base, "frozen")
    given = learner.ask(ASKED, max_new_tokens=8)
    assert given.origin == "model"
    learner.feedback(given, correction="plankton")
    moved = learner.ask(ASKED, max_new_tokens=24)
    assert moved.text == "plankton" and moved.origin == "memory"
    assert learner.ask("Who painted the Mona Lisa?", max_new_tokens=8).origin == "model"


def test_what_makes_no_feedback(tiny_base: BaseModel) -> None:
    learner = open_(tiny_base)
    with pytest.raises(InputError, match="answered nothing yet"):
        learner.feedback(reward=1.0)
    answer = Answer(ASKED, "x")
    with pytest.raises(InputError, match="neither reward nor correction"):
        learner.feedback(answer)
    for reward in (1.5, math.nan):
        with pytest.raises(InputError, match="expected -1"):
            learner.feedback(answer, reward=reward)
    with pytest.raises(InputError, match="is empty"):
        learner.feedback(answer, correction=" ")
    with pytest.raises(UnknownNameError, match="'f9'"):
        learner.undo_feedback("f9")
    with pytest.raises(InputError, match="half-life of 0"):
        learner.fade_feedback(0)
    assert learner.feedbacks == ()


def test_a_damaged_last_answer_is_none(tiny_base: BaseModel, tmp_path: Path) -> None:
    learner = open_(tiny_base, "work")
    learner.learn(TEXT)
    learner.ask(ASKED, max_new_tokens=2)
    assert learner.store is not None
    (learner.store.root / "last_answer.json").write_text("{")
    assert open_(tiny_base, "work").last_answer is None
    assert learner.store.verify() == []
