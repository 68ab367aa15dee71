"""Passages before a question: what stands in the prompt, what is cut, where an answer ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from generations import watch_generations
from tiny_models import make_tiny

from continual_learning.errors import InputError
from continual_learning.model.base_model import BaseModel, Message
from continual_learning.model.generation import Generation
from continual_learning.reading.in_prompt import EXAMPLES, Excerpt, ReadingConfig, read_answers, reading_prompt
from continual_learning.reading.plain import fitted_prompt, plain_answers
from continual_learning.reading.turns import latest_turns
from continual_learning.types import Source

DOG = Excerpt("My dog is called Biko.\n\nIt barks.", "The dog")
CAT = Excerpt("The cat is called Otto.")
QUESTION = "What is the dog called?"
TALK = [{"role": "user", "content": "Hello\nthere."}, {"role": "assistant", "content": "Good day."}]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    """A tiny model with a window of 1,536 tokens."""
    folder = make_tiny("llama", tmp_path_factory.mktemp("wide"), max_position_embeddings=1536)
    return BaseModel.load(str(folder), device="cpu")


def prompt(base: BaseModel, *passages: Excerpt, history: Sequence[Any] = (), **options: Any) -> str:
    """The prompt as text, with its special tokens."""
    config = ReadingConfig(**{"instruction": "Read.", "shots": 0, **options})
    ids, notes = reading_prompt(base, config, passages, QUESTION, 8, history)
    assert notes == ()
    return str(base.tokenizer.decode(ids))


def test_completion_is_plain_text_that_ends_where_the_answer_begins(base: BaseModel) -> None:
    assert prompt(base, DOG, CAT, style="completion") == (
        "Read.\n\nPassage: The dog\nMy dog is called Biko.\nIt barks.\nThe cat is called Otto.\n"
        "Question: What is the dog called?\nAnswer:"
    )
    assert prompt(base, CAT, style="completion", instruction="").startswith("Passage: The cat")


def test_chat_is_a_turn_of_the_chat_format(base: BaseModel) -> None:
    assert prompt(base, DOG, CAT, style="chat") == (
        "<|im_start|>user\nRead.\n\n<passage>\nThe dog\nMy dog is called Biko.\n\nIt barks.\n\n"
        "The cat is called Otto.\n</passage>\n\nQuestion: What is the dog called?<|im_end|>\n<|im_start|>assistant\n"
    )


@pytest.fixture(scope="module")
def untaught(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    """A tiny model that was never taught to chat, and whose texts begin with a token."""
    folder = make_tiny("llama", tmp_path_factory.mktemp("untaught"), chat=False, max_position_embeddings=1536)
    base = BaseModel.load(str(folder), device="cpu")
    encode = base.encode
    base.encode = lambda text, add_special_tokens=False, **how: [0] * add_special_tokens + encode(text, **how)  # type: ignore[method-assign]
    return base


def test_a_base_that_was_never_taught_to_chat_reads_examples_and_writes_a_line(
    untaught: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not untaught.chats
    assert prompt(untaught, CAT, shots=1) == prompt(untaught, CAT, shots=1, style="completion")
    talk: list[Message] = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi."}]
    ids, notes = fitted_prompt(untaught, [*talk, {"role": "assistant", "content": "Hello."}], "Who was Homer?", 24)
    assert ids[0] == 0 and notes == ()
    text = untaught.decode(ids[1:])
    assert text.startswith("Be brief.\n\nQuestion: What do we call somebody who bakes bread?\nAnswer: a baker\n\n")
    assert text.endswith("Answer: Norway\n\nQuestion: Hi.\nAnswer: Hello.\n\nQuestion: Who was Homer?\nAnswer:")
    calls = watch_generations(monkeypatch, Generation("a poet", 2, 0.5, (1, 2)))
    plain_answers(untaught, ["Who was Homer?"], 4)
    assert [call.one_line for call in calls] == [True]
    monkeypatch.setattr(untaught, "window", 60)
    assert "baker" not in untaught.decode(fitted_prompt(untaught, [], "Who was Homer?", 24)[0])


@pytest.mark.parametrize("shots", [0, 1, 2, 3])
def test_shots_are_worked_examples(base: BaseModel, shots: int) -> None:
    completion = prompt(base, CAT, style="completion", shots=shots)
    chat = prompt(base, CAT, style="chat", shots=shots)
    for number, example in enumerate(EXAMPLES):
        block = f"Passage: {example.passage}\nQuestion: {example.question}\nAnswer: {example.answer}\n\n"
        assert (block in completion) == (number < shots)
        assert (example.passage in chat) == (number < shots)
        assert (f"<|im_start|>assistant\n{example.answer}<|im_end|>" in chat) == (number < shots)


def test_examples_are_answered_in_a_few_words_of_their_passages() -> None:
    assert len(EXAMPLES) == 3
    for example in EXAMPLES:
        assert example.answer in example.passage and len(example.answer.split()) <= 4
        assert "\n" not in example.passage + example.question + example.answer


def test_an_earlier_conversation_stands_between_passages_and_question(base: BaseModel) -> None:
    assert prompt(base, CAT, style="completion", history=TALK) == (
        "Read.\n\nPassage: The cat is called Otto.\nQuestion: Hello there.\nAnswer: Good day.\n"
        "Question: What is the dog called?\nAnswer:"
    )
    chat = prompt(base, CAT, style="chat", shots=1, history=TALK)
    assert chat.index(EXAMPLES[0].answer) < chat.index("user\nHello\nthere.") < chat.index("The cat is called Otto.")


def fit(base: BaseModel, *passages: Excerpt, **options: Any) -> tuple[str, int, tuple[str, ...]]:
    history, tokens = options.pop("history", ()), options.pop("max_new_tokens", 16)
    config = ReadingConfig(**{"instruction": "Read.", **options})
    ids, notes = reading_prompt(base, config, passages, QUESTION, tokens, history)
    assert len(ids) + tokens <= base.window
    return str(base.tokenizer.decode(ids)), len(ids), notes


@pytest.mark.parametrize("style", ["chat", "completion"])
def test_passages_are_cut_from_their_beginning_and_a_note_says_so(base: BaseModel, style: str) -> None:
    long = Excerpt(" ".join(f"fact{i}" for i in range(2000)))
    text, size, [note] = fit(base, CAT, long, style=style, shots=0)
    assert "fact1999" in text and "fact1 " not in text and "Otto" not in text and QUESTION in text
    assert size > base.window - 16 - 12, "the window is used"
    assert note.startswith("only the last ") and "tokens of the documents fit into the window of 1536" in note
    text, _, [_] = fit(base, long, CAT, style=style, shots=0)
    assert "Otto" in text and "fact1999" in text and "fact1 " not in text, "the last passage is the last to be cut"


def test_a_memory_of_any_size_costs_no_more_than_a_window(base: BaseModel, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded = 0
    encode = base.encode

    def counting(text: str, *args: Any, **kwargs: Any) -> list[int]:
        nonlocal encoded
        encoded += len(text)
        return encode(text, *args, **kwargs)

    monkeypatch.setattr(base, "encode", counting)
    many = [Excerpt(f"Passage number {i} about the quick brown fox and the lazy dog.") for i in range(20_000)]
    text, _, [_] = fit(base, *many)
    assert "number 19999" in text
    assert encoded < 300_000 < sum(len(e.text) for e in many)


@pytest.mark.parametrize("style", ["chat", "completion"])
def test_examples_and_old_turns_make_room_for_passages(tiny_base: BaseModel, style: str) -> None:
    """In a window of 256 tokens three examples fit nowhere; passages get half of it at least."""
    text, _, notes = fit(tiny_base, CAT, style=style, shots=3)
    assert EXAMPLES[0].passage not in text and "Otto" in text and notes == ()
    talk = [{"role": r, "content": f"{r} {i}: the dog."} for i in range(12) for r in ("user", "assistant")]
    text, _, notes = fit(tiny_base, Excerpt("fact " * 500), style=style, shots=3, history=talk)
    assert "the oldest" in notes[0] and "tokens of the documents" in notes[1]
    assert "assistant 11" in text and "user 0" not in text
    assert text.count("fact") > 15


def test_everything_that_fits_stays(base: BaseModel) -> None:
    text, _, notes = fit(base, CAT, DOG, shots=3, history=TALK)
    assert notes == () and all(e.passage in text for e in EXAMPLES) and "Good day." in text


def test_a_question_that_does_not_fit_is_an_error(tiny_base: BaseModel) -> None:
    with pytest.raises(InputError, match=r"the question takes .* expected at most 240") as error:
        reading_prompt(tiny_base, ReadingConfig(), [CAT], "why? " * 300, 16)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("style", "one_line"), [("completion", True), ("chat", False)])
def test_answers_end_with_the_line_in_completions_alone(
    base: BaseModel, monkeypatch: pytest.MonkeyPatch, style: str, one_line: bool
) -> None:
    calls = watch_generations(monkeypatch, Generation("  Biko\n", 3, 0.5, (1, 2, 3)))
    source = Source("doc-1", "The dog", 1.0)
    [found] = read_answers(base, ReadingConfig(style=style), [[DOG]], [QUESTION], 30, print, sources=[(source,)])
    assert [(call.max_new_tokens, call.on_token, call.one_line) for call in calls] == [(30, print, one_line)]
    assert (found.question, found.text, found.tokens, found.seconds) == (QUESTION, "Biko", 3, 0.5)
    assert found.sources == (source,) and found.notes == ()


def test_every_question_has_passages_of_its_own(base: BaseModel, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = watch_generations(monkeypatch, Generation("", 0, 0.0, ()))
    answers = read_answers(base, ReadingConfig(shots=0), [[DOG], [CAT]], ["Whose dog?", "Whose cat?"], 8)
    prompts = sorted((text for call in calls for text in call.texts), key=lambda text: "Whose cat?" in text)
    assert [a.question for a in answers] == ["Whose dog?", "Whose cat?"]
    assert ["Biko" in p and "Whose dog?" in p for p in prompts] == [True, False]
    assert ["Otto" in p and "Whose cat?" in p for p in prompts] == [False, True]


def test_what_the_system_says_stays_when_old_turns_go(tiny_base: BaseModel) -> None:
    talk = [{"role": r, "content": f"{r} {i}: the dog."} for i in range(40) for r in ("user", "assistant")]
    history = [{"role": "system", "content": "Be brief."}, *talk]
    text, _, notes = fit(tiny_base, style="chat", history=history)
    plain, plain_notes = fitted_prompt(tiny_base, history, QUESTION, 16)
    for prompt_text, said in ((text, notes), (str(tiny_base.tokenizer.decode(plain)), plain_notes)):
        assert "Be brief." in prompt_text and "assistant 39" in prompt_text and "user 0:" not in prompt_text
        assert len(said) == 1 and "the oldest" in said[0]


def test_a_long_conversation_is_fitted_in_few_tries() -> None:
    history = [{"role": "system", "content": "Be brief."}, *({"role": "user", "content": str(i)} for i in range(5000))]
    tries: list[int] = []

    def latest(limit: int) -> list[Message]:
        def fits(kept: list[Message]) -> bool:
            tries.append(len(kept))
            return len(kept) <= limit

        return latest_turns(history, fits)

    assert latest(6000) == history
    assert latest(301) == [history[0], *history[-300:]]
    assert latest(1) == latest(0) == history[:1]
    assert len(tries) < 4 * 16
