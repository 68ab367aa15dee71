"""The control that quotes from kept text what ttt would recite."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from continual_learning.documents import Document
from continual_learning.memory.state import State
from continual_learning.model.base_model import BaseModel
from continual_learning.strategies.base import make_strategy
from continual_learning.types import UNAFFECTED

TEXT = "Otto Brand lives in Lund. His seven cats sleep all day. Comb jellies eat plankton near the harbour of Lund."
ASKED = "What do comb jellies eat near the harbour of Lund?"


def learned(base: BaseModel, **options: Any) -> Any:
    strategy = make_strategy("quote", options)
    state, report = strategy.learn(base, strategy.init(base), Document(TEXT, "Lund"))
    assert report.accepted
    return strategy, state


def test_it_quotes_the_text_word_for_word(tiny_base: BaseModel) -> None:
    strategy, state = learned(tiny_base, reader=None)
    [answer] = strategy.answer(tiny_base, state, [ASKED], 60)
    assert "plankton" in answer.text and answer.text in TEXT
    assert answer.sources[0].quote == answer.text
    assert strategy.answer(tiny_base, state, [ASKED], 3)[0].tokens <= 3


def test_the_length_of_a_quote_is_a_setting(tiny_base: BaseModel) -> None:
    def tokens(room: int) -> int:
        strategy, state = learned(tiny_base, reader=None, quote_tokens=room, part_tokens=6)
        return strategy.answer(tiny_base, state, ["Where does Otto Brand of Lund live?"], 60)[0].tokens

    assert tokens(4) < tokens(40)


def test_what_it_is_not_about_is_left_to_the_base(tiny_base: BaseModel) -> None:
    strategy, state = learned(tiny_base)
    other = "Who painted the Mona Lisa?"
    assert strategy.answer_key(tiny_base, state, other) == UNAFFECTED
    frozen = make_strategy("frozen")
    both = strategy.answer(tiny_base, state, [other, ASKED], 6)
    assert both[0].text == frozen.answer(tiny_base, frozen.init(tiny_base), [other], 6)[0].text
    assert both[1].sources and not both[0].sources


ADDRESS = "https://archive.example.org/reports/2024/orrin-lighthouse/survey-final_v2.pdf?download=1&lang=en#page-17"
BLOB = "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVo0" * 20
THAI = "ประภาคารออร์ลินสร้างในปีหนึ่งพันเก้าร้อยเจ็ด " * 4


@pytest.mark.parametrize("text", [f"The Orrin survey is at {ADDRESS} today.", f"The Orrin key is {BLOB} now.", THAI])
def test_what_is_read_and_quoted_is_the_text_exactly(text: str, tiny_base: BaseModel) -> None:
    strategy = make_strategy("quote", {"passage_tokens": 60})
    state, _ = strategy.learn(tiny_base, strategy.init(tiny_base), Document(text, "Orrin"))
    library = strategy.library(tiny_base, state)
    assert library is None or library.whole(state.meta.documents[0].id) == text.strip()
    whole = make_strategy("quote", {"reader": None, "quote_tokens": 500, "passage_tokens": 900})
    state, _ = whole.learn(tiny_base, whole.init(tiny_base), Document(text, "Orrin"))
    [answer] = whole.answer(tiny_base, state, ["What is at Orrin: the survey, the key?"], 900)
    assert answer.text in text and (ADDRESS in answer.text or ADDRESS not in text)


def test_a_memory_of_an_earlier_version_still_answers(tiny_base: BaseModel) -> None:
    """It says nothing of spaces: those between the parts are as they were."""
    strategy = make_strategy("quote", {"reader": None, "quote_tokens": 500})
    text = f"The Orrin survey is at {ADDRESS} today."
    state, _ = strategy.learn(tiny_base, strategy.init(tiny_base), Document(text, "Orrin"))
    older = {n: t[t[:, 1] < 10] if n.endswith(".parts") else t for n, t in state.tensors.items()}
    [answer] = strategy.answer(tiny_base, State(older, replace(state.meta)), ["Where is the Orrin survey?"], 900)
    assert ADDRESS not in answer.text and ADDRESS in answer.text.replace(" ", "")
