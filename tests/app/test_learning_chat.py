"""A conversation whose weights learn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from continual_learning.app.learning_chat import NestedSession
from continual_learning.documents import Limits
from continual_learning.errors import DocumentError, InputError, MismatchError, UnknownNameError
from continual_learning.memory.store import Store
from continual_learning.model.base_model import BaseModel
from continual_learning.settings.schema import NestedSettings
from continual_learning.strategies.base import make_strategy

SMALL: dict[str, Any] = {
    "periods": (0,), "learning_rates": (1e-2,), "steps": (1,), "replay": (0.5,), "optimizers": ("adamw",),
}  # fmt: skip


@pytest.fixture
def talk(tiny_base: BaseModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(
        "continual_learning.strategies.methods.nested.learning.MAX_LOSS_RISE", 50.0
    )  # a random model's may

    def open_(options: dict[str, Any] | None = None, **settings: Any) -> NestedSession:
        strategy = make_strategy("nested", {**SMALL, **(options or {})})
        return NestedSession(tiny_base, strategy, Store(tmp_path / "memory"), NestedSettings(**settings), 4)

    return open_


def test_a_turn_is_learned_then_answered(talk: Any) -> None:
    session = talk()
    turn = session.say("My fox lives in Paris.")
    assert turn.adaptation.accepted and turn.adaptation.seconds > 0 and turn.answer.question == "My fox lives in Paris."
    assert [m["role"] for m in session.history] == ["user", "assistant"]
    assert len(session.state.meta.documents) == 1 and not session.saved


def test_undo_is_exact_and_bounded(talk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("continual_learning.app.learning_chat.UNDO_DEPTH", 2)
    session = talk()
    states = [session.state]
    for name in ("Paris", "Lund", "Oslo"):
        session.say(f"My fox lives in {name}.")
        states.append(session.state)
    assert session.undo() and session.state.digest() == states[2].digest()
    assert session.state.meta.extra == states[2].meta.extra
    assert session.undo() and session.state is states[1]
    assert not session.undo()


def test_clear_keeps_the_weights_and_reset_does_not(talk: Any) -> None:
    session = talk()
    session.say("My fox lives in Paris.")
    learned = session.state
    session.clear()
    assert session.history == [] and session.state is learned
    session.reset()
    assert not session.state.tensors and session.turns == 0
    assert session.undo() and session.state is learned


def test_saved_weights_come_back_without_the_conversation_unless_asked(talk: Any) -> None:
    session = talk()
    session.say("My fox lives in Paris.")
    digest, said = session.state.digest(), list(session.history)
    assert session.save("evening").checkpoints == ("evening",) and session.saved
    with pytest.raises(InputError, match="'evening' is version"):
        session.save("evening")
    other = talk()
    other.load("evening")
    assert other.state.digest() == digest and other.history == [] and "history" not in other.state.meta.extra
    other.load("evening", with_history=True)
    assert other.history == said
    with pytest.raises(UnknownNameError):
        other.load("morning")
    with pytest.raises(MismatchError, match="slow_ratio"):
        talk({"slow_ratio": 0.5}).load("evening")


def test_the_window_bounds_the_prompt(talk: Any) -> None:
    session = talk(context_window=1)
    for name in ("Paris", "Lund"):
        session.say(f"My fox lives in {name}.")
    assert session._window()[0]["content"] == "My fox lives in Lund."
    assert session.stats()["messages_in_prompt"] == 2
    session.settings = NestedSettings(context_window=0)
    assert session._window() == []


def test_when_and_what_to_learn(talk: Any) -> None:
    never = talk(adapt_every_turn=False)
    assert never.say("My fox lives in Paris.").adaptation is None and not never.state.tensors
    third = talk(adapt_every_n_turns=2)
    assert third.say("My fox lives in Paris.").adaptation is None
    assert third.say("I have seven dogs.").adaptation.accepted
    [text] = third.state.meta.extra["texts"].values()
    assert text == "My fox lives in Paris.\n\nI have seven dogs."
    both = talk(adapt_user_only=False, adapt_every_n_turns=2)
    reply = both.say("My fox lives in Paris.").answer.text
    both.say("I have seven dogs.")
    [text] = both.state.meta.extra["texts"].values()
    assert reply.strip() in text
    window = talk(cumulative_context=True)
    window.say("My fox lives in Paris.")
    window.say("I have seven dogs.")
    assert list(window.state.meta.extra["texts"].values())[-1].startswith("My fox lives in Paris.\n\nI have")


def test_what_waits_to_be_learned_is_not_lost(talk: Any) -> None:
    session = talk(adapt_every_n_turns=3)
    session.say("My fox lives in Paris.")
    session.clear()
    session.say("I have seven dogs.")
    session.save("early")
    other = talk(adapt_every_n_turns=1)
    other.load("early")
    assert other.history == [] and other.stats()["messages_to_learn"] == 2
    assert "unlearned" not in other.state.meta.extra
    other.say("The cat is in the house.")
    [text] = other.state.meta.extra["texts"].values()
    assert text == "My fox lives in Paris.\n\nI have seven dogs.\n\nThe cat is in the house."
    session.reset()
    assert session.unlearned == []


def test_words_said_before_are_in_the_window_once_and_again_when_said_again(talk: Any) -> None:
    session = talk(cumulative_context=True, context_window=1, adapt_every_n_turns=2)
    for text in ("I have seven dogs.", "My fox lives in Paris.", "The cat is in the house.", "I have seven dogs."):
        session.say(text)
    first, second = session.state.meta.extra["texts"].values()
    assert first == "I have seven dogs.\n\nMy fox lives in Paris."
    assert second == "The cat is in the house.\n\nI have seven dogs."


def test_automatic_reset_and_save(talk: Any) -> None:
    session = talk(auto_reset_threshold=3, auto_save_every_n=2)
    assert session.say("My fox lives in Paris.").notes == ()
    assert "saved as saved-" in session.say("I have seven dogs.").notes[0]
    assert "start over after 3 turns" in session.say("The cat is in the house.").notes[0]
    assert not session.state.tensors and session.history == []
    assert session.say("My fox lives in Lund.").adaptation.accepted, "it goes on"
    assert len(session.store.checkpoints()) == 1


def test_the_same_words_are_learned_once(talk: Any) -> None:
    session = talk()
    session.say("My fox lives in Paris.")
    state = session.state
    assert not session.say("My fox lives in Paris.").adaptation.accepted and session.state is state


def test_why_ranks_the_turns(talk: Any) -> None:
    session = talk()
    for text in ("My fox lives in Paris.", "I have seven dogs.", "Who are you?"):
        session.say(text)
    rows = session.why(2)
    assert len(rows) == 2 and rows[0]["distance"] >= rows[1]["distance"] > 0 and rows[0]["levels"] == [1]


def test_an_interruption_changes_nothing(talk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    session = talk()
    session.say("My fox lives in Paris.")
    state, history = session.state, list(session.history)

    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(session.strategy, "answer", interrupt)
    with pytest.raises(KeyboardInterrupt):
        session.say("I have seven dogs.")
    assert session.state is state and session.history == history and session.stats()["undo"] == 1


def test_a_file_is_one_adaptation(talk: Any, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.txt").write_text(f"The house of number {name} is in Paris.")
    session = talk()
    (tmp_path / "no.bin").write_bytes(b"\x00\x01\x02")
    reports, skipped = session.learn_file(str(tmp_path))
    assert len(reports) == 2 == len(session.state.meta.documents) and "no.bin" in skipped[0].source
    assert session.undo() and not session.state.tensors


def test_a_folder_that_is_interrupted_is_not_learned_at_all(
    talk: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.txt").write_text(f"The house of number {name} is in Paris.")
    session = talk()
    learn, calls = session.strategy.learn, []

    def interrupted(*arguments: Any, **named: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return learn(*arguments, **named)

    monkeypatch.setattr(session.strategy, "learn", interrupted)
    with pytest.raises(KeyboardInterrupt):
        session.learn_file(str(tmp_path))
    assert not session.state.tensors and session.stats()["undo"] == 0


def test_files_are_read_within_the_limits_that_are_set(tiny_base: BaseModel, tmp_path: Path) -> None:
    (tmp_path / "long.txt").write_text("The cat is in the house. " * 20)
    strategy = make_strategy("nested", SMALL)
    limits = Limits(max_bytes=100)
    session = NestedSession(tiny_base, strategy, Store(tmp_path / "memory"), NestedSettings(), 4, limits)
    with pytest.raises(DocumentError, match="100"):
        session.learn_file(str(tmp_path / "long.txt"))


def test_one_shot_shows_that_it_is_gone(talk: Any) -> None:
    found = talk({"steps": (6,), "learning_rates": (5e-2,)}).one_shot(
        "My fox lives in Paris.", "Where does my fox live?"
    )
    assert found.gone and found.before.text == found.after_reset.text != found.adapted.text


def test_many_turns_keep_memory_flat(talk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("continual_learning.app.learning_chat.UNDO_DEPTH", 3)
    session = talk(context_window=2)
    sizes = []
    for number in range(40):
        session.say(f"My fox number {number} lives in Paris.")
        sizes.append(sum(t.numel() for n, t in session.state.tensors.items() if not n.startswith("turns/")))
    assert len(set(sizes)) == 1 and session.stats()["undo"] == 3 and session.stats()["messages_in_prompt"] == 4


@pytest.mark.model
def test_what_was_told_is_answered_from_weights_and_taken_back_exactly(tmp_path: Path) -> None:
    base = BaseModel.load("smollm2-135m")
    session = NestedSession(base, make_strategy("nested"), Store(tmp_path / "memory"), NestedSettings(), 12)
    session.say("My dog is called Biko.")
    session.clear()
    assert "Biko" in session.say("What is my dog called?").answer.text
    while session.undo():
        pass
    session.clear()
    session.settings = NestedSettings(adapt_every_turn=False)
    assert "Biko" not in session.say("What is my dog called?").answer.text
