"""The facade that users meet: documents in, answers out, versions between."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from continual_learning import Document, Learner
from continual_learning.app.estimate import Estimate
from continual_learning.app.learning_estimate import LearningEstimate
from continual_learning.errors import (
    ConfigError,
    DocumentError,
    InputError,
    MismatchError,
    StorageError,
    UnknownNameError,
    UnsafeNameError,
)
from continual_learning.memory.state import State
from continual_learning.memory.store import Store
from continual_learning.model.base_model import BaseModel
from continual_learning.strategies.base import Cost, strategy_class
from continual_learning.types import Answer, LearnReport, Progress

TEXT = "Comb jellies eat plankton near the harbour of Lund."


def open_(base: BaseModel, memory: str | None = None, strategy: str = "in_context", **options: Any) -> Learner:
    return Learner.open(base, strategy, memory, **options)


def test_learn_ask_and_read_back(tiny_base: BaseModel) -> None:
    learner = open_(tiny_base, "work")
    report = learner.learn(TEXT, title="Ctenophora")
    assert isinstance(report, LearnReport) and report.accepted
    answer = learner.ask("What do comb jellies eat?", max_new_tokens=3)
    assert isinstance(answer, Answer) and answer.sources[0].title == "Ctenophora"
    again = open_(tiny_base, "work")
    assert again.documents == learner.documents and again.documents[0].title == "Ctenophora"
    assert again.ask("What do comb jellies eat?", max_new_tokens=3).text == answer.text


def test_a_list_gives_a_list(tiny_base: BaseModel) -> None:
    learner = open_(tiny_base)
    reports = learner.learn([TEXT, Document("The fox is quick.", "Fox")])
    assert [r.accepted for r in reports] == [True, True]
    answers = learner.ask(["a?", "b?"], max_new_tokens=2)
    assert [a.question for a in answers] == ["a?", "b?"]
    with pytest.raises(InputError, match="with 2 documents"):
        learner.learn([TEXT, "The dog is lazy."], title="one title")


def test_paths_folders_and_texts_are_told_apart(tiny_base: BaseModel, tmp_path: Path) -> None:
    (tmp_path / "jellies.md").write_text(f"# Jellies\n\n{TEXT}", encoding="utf-8")
    learner = open_(tiny_base)
    assert isinstance(learner.learn(tmp_path / "jellies.md"), LearnReport)
    assert learner.documents[0].title == "Jellies"
    (tmp_path / "fox.txt").write_text("The fox is quick.", encoding="utf-8")
    reports = learner.learn(str(tmp_path))
    assert isinstance(reports, list) and [r.accepted for r in reports] == [True, False], "one is there already"
    with pytest.raises(DocumentError, match=r"missing\.txt"):
        learner.learn(str(tmp_path / "missing.txt"))


def test_an_estimate_counts_what_would_be_learned_and_learns_nothing(
    tiny_base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = open_(tiny_base, strategy="lora", max_tokens=12)
    monkeypatch.setattr(Estimate, "here", lambda base: Estimate(60.0, 134_500_000))
    monkeypatch.setattr(type(learner.strategy), "cost", Cost(learn_token=0.5, token_bytes=10, document_bytes=100))
    expected = learner.estimate([TEXT, TEXT, "The fox."])
    short = len(tiny_base.encode("The fox."))
    assert expected == LearningEstimate(
        documents=2, tokens=12 + short, bytes=200 + 10 * (12 + short), seconds=0.5 * (12 + short)
    )
    assert learner.documents == ()
    quoted = open_(tiny_base, strategy="quote")
    quoted.learn(TEXT, title="held")
    assert quoted.estimate(TEXT).documents == 0 and quoted.estimate(TEXT).tokens == 0


def test_rollback_clear_and_forget(tiny_base: BaseModel) -> None:
    for learner in (open_(tiny_base), open_(tiny_base, "undo")):
        first = learner.learn(TEXT, title="one")
        learner.learn("The fox is quick.", title="two")
        learner.forget(first.document_id)
        assert [d.title for d in learner.documents] == ["two"]
        learner.rollback()
        assert [d.title for d in learner.documents] == ["one", "two"]
        learner.rollback()
        assert [d.title for d in learner.documents] == ["one"]
        learner.rollback()
        assert learner.documents == ()
        learner.learn(TEXT, title="one")
        learner.clear()
        assert learner.documents == ()
        with pytest.raises(UnknownNameError):
            learner.forget(first.document_id)


def test_checkpoints(tiny_base: BaseModel) -> None:
    learner = open_(tiny_base, "work")
    learner.save("empty")
    learner.learn(TEXT, title="one")
    learner.save("before-lunch")
    learner.learn("The fox is quick.", title="two")
    learner.load("before-lunch")
    assert [d.title for d in learner.documents] == ["one"]
    learner.load("empty")
    assert learner.documents == ()
    assert {v.action for v in learner.history} >= {"init", "learn", "load"}
    with pytest.raises(UnknownNameError):
        learner.load("after-lunch")
    with pytest.raises(InputError, match="has no name"):
        open_(tiny_base).save("x")
    with pytest.raises(UnsafeNameError):
        open_(tiny_base, "../../x")


def test_options_are_validated_before_the_model_is_loaded() -> None:
    with pytest.raises(ConfigError, match="did you mean 'learning_rate'"):
        Learner.open("no such model", "ttt", learning_rat=1)
    with pytest.raises(UnknownNameError, match="did you mean 'frozen'"):
        Learner.open("no such model", "frozn")


def test_a_memory_keeps_its_options(tiny_base: BaseModel) -> None:
    open_(tiny_base, "work", instruction="Be brief.").learn(TEXT)
    assert open_(tiny_base, "work").strategy.config.instruction == "Be brief."
    assert open_(tiny_base, "work", instruction="Be long.").strategy.config.instruction == "Be long."


def test_one_document_is_not_called_documents(tiny_base: BaseModel) -> None:
    with pytest.raises(InputError, match="with 1 document;"):
        open_(tiny_base).learn([TEXT], title="T")


def test_another_strategy_or_base_is_refused(tiny_base: BaseModel) -> None:
    open_(tiny_base, "work").learn(TEXT)
    with pytest.raises(MismatchError, match="strategy 'in_context'"):
        open_(tiny_base, "work", strategy="frozen")
    other = BaseModel("other", tiny_base.model, tiny_base.tokenizer, fingerprint="another")
    with pytest.raises(MismatchError, match="base model"):
        open_(other, "work")


def test_two_learners_of_one_memory_do_not_lose_each_others_documents(tiny_base: BaseModel) -> None:
    one, two = open_(tiny_base, "work"), open_(tiny_base, "work")
    one.learn(TEXT, title="one")
    two.learn("The fox is quick.", title="two")
    one.learn("The dog is lazy.", title="three")
    assert [d.title for d in one.documents] == ["one", "two", "three"]


def test_an_interruption_leaves_the_memory_as_it_was(tiny_base: BaseModel) -> None:
    learner = open_(tiny_base, "work", strategy="ttt", neurons=4, guard=False, passes=2)
    learner.learn(TEXT, title="one")
    before, versions = learner.state.digest(), len(learner.history)

    def interrupt(progress: Progress) -> None:
        if progress.stage == "learn" and progress.done > 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        learner.learn("The fox is quick and lives in Paris.", progress=interrupt)
    assert learner.state.digest() == before and len(learner.history) == versions
    assert open_(tiny_base, "work", strategy="ttt").state.digest() == before


def test_a_refusal_writes_nothing(tiny_base: BaseModel) -> None:
    learner = open_(tiny_base, "work", strategy="ttt", neurons=4, learning_rate=0.0, passes=1)
    report = learner.learn(TEXT)
    assert not report.accepted and learner.documents == () and learner.history == []


def test_chat_keeps_and_clears_its_history(tiny_base: BaseModel) -> None:
    chat = open_(tiny_base).chat(max_new_tokens=4)
    chat.say("My dog is called Biko.")
    assert [m["role"] for m in chat.history] == ["user", "assistant"]
    chat.say("What is my dog called?")
    assert len(chat.history) == 4
    chat.clear_history()
    assert chat.history == []
    with pytest.raises(InputError, match="empty"):
        chat.say("  ")


def test_a_long_chat_drops_its_oldest_turns_and_says_so(tiny_base: BaseModel) -> None:
    chat = open_(tiny_base, strategy="frozen").chat(max_new_tokens=4)
    notes = [chat.say(f"Turn {i}: the quick brown fox jumps over the lazy dog again.").notes for i in range(8)]
    assert notes[0] == () and "oldest" in notes[-1][0]


def test_in_context_cuts_to_the_window_and_says_so(tiny_base: BaseModel) -> None:
    learner = open_(tiny_base)
    learner.learn(" ".join([TEXT] * 30))
    [note] = learner.ask("What do comb jellies eat?", max_new_tokens=4).notes
    assert "tokens of the documents fit into the window" in note


def test_perplexity_is_of_the_model_with_its_memory(tiny_base: BaseModel) -> None:
    learner = open_(tiny_base, strategy="ttt", neurons=None, passes=10, guard=False)
    before = learner.perplexity([TEXT])
    elsewhere = learner.perplexity(["Numbers 0 1 2 3 4."])
    learner.learn(TEXT)
    assert learner.perplexity([TEXT]) < 0.8 * before
    assert learner.perplexity(["Numbers 0 1 2 3 4."]) == elsewhere


def test_bad_questions_are_refused(tiny_base: BaseModel) -> None:
    learner = open_(tiny_base)
    with pytest.raises(InputError, match="is empty"):
        learner.ask(["fine?", " "])
    with pytest.raises(InputError, match="at least 1"):
        learner.ask("fine?", max_new_tokens=0)
    with pytest.raises(InputError, match="expected 'question' and 'answer'"):
        learner.learn(TEXT, qa=[{"frage": "?"}])


def test_threads_take_turns(tiny_base: BaseModel) -> None:
    learner = open_(tiny_base, "work")
    threads = [threading.Thread(target=learner.learn, args=(f"Document number {i} is here.",)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(learner.documents) == 4


class TestRetiredOptions:
    """A memory stores every option it was made with; one that is deleted later must not make it unreadable."""

    @pytest.fixture
    def retired(self, tiny_base: BaseModel, monkeypatch: pytest.MonkeyPatch) -> None:
        open_(tiny_base, "work").learn(TEXT)
        config = strategy_class("in_context").Config
        store = Store.open("work")
        state = store.load()
        store.save(State(state.tensors, replace(state.meta, config={**state.meta.config, "pages": 3})), "learn", "")
        monkeypatch.setattr(config, "RETIRED", {"pages": 3})

    @pytest.mark.usefixtures("retired")
    def test_a_memory_with_the_value_that_is_meant_now_opens_and_answers(self, tiny_base: BaseModel) -> None:
        learner = open_(tiny_base, "work")
        assert learner.ask("What do comb jellies eat?", max_new_tokens=3).sources
        assert learner.learn("The fox is quick.").accepted

    @pytest.mark.usefixtures("retired")
    def test_another_value_is_an_error_that_names_it(
        self, tiny_base: BaseModel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(strategy_class("in_context").Config, "RETIRED", {"pages": 1})
        with pytest.raises(MismatchError, match=r"memory 'work' was made with pages = 3, .* retired; expected 1: "):
            open_(tiny_base, "work")

    @pytest.mark.usefixtures("retired")
    def test_a_user_who_sets_it_is_told(self, tiny_base: BaseModel) -> None:
        with pytest.raises(ConfigError, match="'pages' is retired; leave it out"):
            open_(tiny_base, pages=3)


def test_opening_a_memory_reads_its_tensors_once(tiny_base: BaseModel, monkeypatch: pytest.MonkeyPatch) -> None:
    open_(tiny_base, "work").learn(TEXT)
    loads: list[object] = []
    load = Store.load

    def counted(store: Store, *given: Any) -> State:
        loads.append(store)
        return load(store, *given)

    monkeypatch.setattr(Store, "load", counted)
    open_(tiny_base, "work")
    assert len(loads) == 1


def test_reading_sees_what_another_process_wrote(tiny_base: BaseModel) -> None:
    one, two = (Learner.open(tiny_base, "quote", memory="shared") for _ in range(2))
    report = one.learn("The Pell archive opened in 1904.", title="Pell")
    assert [d.title for d in two.documents] == ["Pell"]
    assert two.ask("When did the Pell archive open?").sources[0].document_id == report.document_id
    one.forget(report.document_id)
    assert two.documents == () and two.ask("When did the Pell archive open?").sources == ()


def test_a_memory_that_was_deleted_is_an_error_and_is_not_written_back(tiny_base: BaseModel) -> None:
    learner = Learner.open(tiny_base, "quote", memory="gone")
    learner.learn("The Pell archive opened in 1904.")
    assert learner.store is not None
    learner.store.delete()
    for use in (lambda: learner.documents, lambda: learner.ask("When?"), lambda: learner.learn("The cat lives here.")):
        with pytest.raises(StorageError, match="'gone' was deleted while it was open"):
            use()
    assert not learner.store.exists


@pytest.mark.parametrize("source", ["", " \n"])
def test_an_empty_source_is_not_the_working_folder(tiny_base: BaseModel, source: str) -> None:
    learner = Learner.open(tiny_base, "quote")
    with pytest.raises(InputError, match="is empty"):
        learner.learn(source)
    assert learner.documents == ()


def test_the_same_text_under_another_title_is_the_same_document(tiny_base: BaseModel) -> None:
    learner = Learner.open(tiny_base, "quote")
    first = learner.learn("The cat lives\nin the house.", title="Cats")
    again = learner.learn("The cat lives in the  house.", title="More on cats")
    assert not again.accepted and again.reason == f"the same text as 'Cats' ({first.document_id})"
    both = learner.learn([Document("The dog sleeps."), Document("The cat lives in the house."), Document("A dog.")])
    assert [report.accepted for report in both] == [True, False, True]
    assert len(learner.documents) == 3


def test_a_file_that_changed_names_its_earlier_text(tiny_base: BaseModel, tmp_path: Path) -> None:
    file = tmp_path / "rules.md"
    learner = Learner.open(tiny_base, "quote")
    file.write_text("The gate closes at nine.")
    first = learner.learn(file)
    file.write_text("The gate closes at ten.")
    second = learner.learn(file)
    assert first.warnings == () and second.accepted
    assert str(file) in second.warnings[0] and f"memory forget {first.document_id}" in second.warnings[0]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda learner: learner.ask(None), ["the question", "None", "NoneType"]),
        (lambda learner: learner.ask(b"What?"), ["the question", "bytes", "decode"]),
        (lambda learner: learner.ask(["What?", 3]), ["the question", "3", "int"]),
        (lambda learner: learner.ask("Who is \ud83e?"), ["the question", "surrogate", "position 7"]),
        (lambda learner: learner.learn(None), ["the document", "NoneType"]),
        (lambda learner: learner.learn(b"a text"), ["the document", "bytes", "decode"]),
        (lambda learner: learner.learn([TEXT, None]), ["the document", "NoneType"]),
        (lambda learner: learner.learn(TEXT, title=3), ["the title", "int"]),
        (lambda learner: learner.learn("half \ud83e"), ["surrogate", "position 5"]),
        (lambda learner: learner.learn(TEXT, qa=[{"question": "a", "answer": [None]}]), ["an answer", "NoneType"]),
        (lambda learner: learner.chat().say(None), ["the message", "NoneType"]),
        (lambda learner: learner.chat().say("half \ud83e"), ["the message", "surrogate"]),
        (lambda learner: learner.feedback(Answer("a", "b"), correction="\ud83e"), ["the correction", "surrogate"]),
        (lambda learner: Document(None), ["the text", "NoneType"]),
    ],
)
def test_what_is_no_text_is_an_error_of_one_line(tiny_base: BaseModel, call: Any, words: list[str]) -> None:
    learner = open_(tiny_base)
    with pytest.raises(InputError) as error:
        call(learner)
    assert all(word in str(error.value) for word in words) and "\n" not in str(error.value)
    assert not learner.documents
