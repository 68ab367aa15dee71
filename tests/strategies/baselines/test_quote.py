"""The control that quotes from kept text what ttt would recite."""

from __future__ import annotations

from typing import Any

from continual_learning.documents import Document
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
    strategy, state = learned(tiny_base)
    [answer] = strategy.answer(tiny_base, state, [ASKED], 60)
    assert "plankton" in answer.text and answer.text in TEXT
    assert answer.sources[0].quote == answer.text
    assert strategy.answer(tiny_base, state, [ASKED], 3)[0].tokens <= 3


def test_the_length_of_a_quote_is_a_setting(tiny_base: BaseModel) -> None:
    def tokens(room: int) -> int:
        strategy, state = learned(tiny_base, quote_tokens=room, part_tokens=6)
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
