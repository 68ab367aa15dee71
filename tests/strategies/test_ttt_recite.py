"""Parts recited from weights after their cues."""

from __future__ import annotations

from typing import Any

import pytest

from continual_learning.model.generation import Generation
from continual_learning.retrieval.parts import cut_parts, part_index, part_keys, part_spaces
from continual_learning.strategies.methods.ttt import recite as reciting
from continual_learning.strategies.methods.ttt.cues import cue_ids
from continual_learning.strategies.methods.ttt.recite import recite, recite_all


def test_cues_differ(tiny_base: Any) -> None:
    cues = [tuple(cue_ids(tiny_base, "Veldt moles", number)) for number in range(70)]
    assert len(set(cues)) == 70
    assert cue_ids(tiny_base, "", 0)


def test_reciting_keeps_to_its_limit_and_streams_what_it_answers(tiny_base: Any) -> None:
    chosen = [range(0, 2), range(1, 3)]
    answers = recite(tiny_base, "Moles", chosen, 6)
    assert len(answers) == 2
    assert all(answer.tokens <= 6 for answer in answers)
    pieces: list[str] = []
    (alone,) = recite(tiny_base, "Moles", chosen[:1], 6, pieces.append)
    assert alone.tokens == answers[0].tokens
    assert "".join(pieces).strip() == alone.text


def test_a_long_word_is_recited_in_one(tiny_base: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "The Orrin survey is at https://archive.example.org/reports/2024/orrin-lighthouse/survey-final_v2.pdf today."
    parts = cut_parts(text, lambda piece: len(tiny_base.encode(piece)), 20)
    index = part_index(parts)
    cues = {tuple(cue_ids(tiny_base, "Orrin", number)): part.text for number, part in enumerate(parts)}

    def by_heart(base: Any, prompts: Any, most: int, on_token: Any = None) -> list[Generation]:
        texts = [cues[tuple(prompt)] for prompt in prompts]
        if on_token:
            on_token(texts[0])
        return [Generation(text, len(base.encode(text)), 0.0, tuple(base.encode(text)), 1.0) for text in texts]

    monkeypatch.setattr(reciting, "generate", by_heart)
    spaced = part_spaces(index, len(parts))
    assert False in spaced
    assert recite_all(tiny_base, "Orrin", part_keys(index), spaced) == text
    heard: list[str] = []
    whole = [range(len(parts))]
    assert recite(tiny_base, "Orrin", whole, 900, None, spaced)[0].text == text
    assert recite(tiny_base, "Orrin", whole, 900, heard.append, spaced)[0].text == text == "".join(heard)
