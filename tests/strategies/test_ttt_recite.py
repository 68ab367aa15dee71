"""Parts recited from weights after their cues."""

from __future__ import annotations

from typing import Any

from continual_learning.strategies.methods.ttt.cues import cue_ids
from continual_learning.strategies.methods.ttt.recite import recite


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
