"""Parts of a passage: cut, kept as hashes, found by a question."""

from __future__ import annotations

import pytest
import torch

from continual_learning.documents.shipped import background_texts
from continual_learning.retrieval.parts import (
    WEIGHTS,
    best_window,
    cut_parts,
    part_index,
    part_keys,
    window_features,
    windows,
)
from continual_learning.retrieval.routing import Rarity
from continual_learning.text.answer_types import asked_kind

TEXT = (
    "Veldt moles live under the sands of Orrin, where they eat the roots of thorn trees. "
    "They were first described in 1874 by the botanist Ada Quill, who kept forty of them in a box. "
    "A grown mole weighs three kilograms."
)


def count(text: str) -> int:
    return len(text.split())


@pytest.fixture(scope="module")
def rarity() -> Rarity:
    return Rarity.of(background_texts())


def test_parts_are_the_text_in_order_and_none_is_too_long() -> None:
    parts = cut_parts(TEXT, count, 8)
    assert " ".join(part.text for part in parts) == TEXT
    assert all(part.tokens == count(part.text) <= 8 for part in parts)
    assert [part.sentence for part in parts] == sorted(part.sentence for part in parts)
    assert parts[-1].sentence == 2


def test_keys_hold_no_words_and_survive_being_stored() -> None:
    parts = cut_parts(TEXT, count, 8)
    index_n3 = part_index(parts)
    assert index_n3.dtype == torch.int64 and index_n3.shape[1] == 3
    keys = part_keys(index_n3)
    assert [key.sentence for key in keys] == [part.sentence for part in parts]
    assert [key.tokens for key in keys] == [part.tokens for part in parts]
    dated = [part.text for part, key in zip(parts, keys, strict=True) if key.answers["date"]]
    assert len(dated) == 1 and "1874" in dated[0]


@pytest.mark.parametrize(
    ("question", "kind"),
    [
        ("When was it described?", "date"),
        ("In what year did it begin?", "date"),
        ("How many did she keep?", "number"),
        ("Who described them?", "name"),
        ("Where do they live?", "name"),
        ("What do they eat?", None),
    ],
)
def test_the_kind_of_answer_that_a_question_asks_for(question: str, kind: str | None) -> None:
    assert asked_kind(question) == kind


@pytest.mark.parametrize(
    ("question", "holds"),
    [
        ("What do veldt moles eat?", "roots"),
        ("When were they described?", "1874"),
        ("Who was the botanist?", "Ada Quill"),
        ("How much does a grown mole weigh?", "three kilograms"),
    ],
)
def test_a_question_finds_the_parts_that_answer_it(rarity: Rarity, question: str, holds: str) -> None:
    parts = cut_parts(TEXT, count, 8)
    found = best_window(part_keys(part_index(parts)), question, rarity, 12)
    assert holds in " ".join(parts[number].text for number in found)


def test_a_question_about_nothing_here_finds_some_window(rarity: Rarity) -> None:
    keys = part_keys(part_index(cut_parts(TEXT, count, 8)))
    assert best_window(keys, "", rarity, 12) in windows(keys, 12)


def test_windows_begin_at_every_part_and_end_where_no_room_is_left() -> None:
    parts = cut_parts(TEXT, count, 8)
    found = windows(parts, 12)
    assert [window.start for window in found] == list(range(len(parts)))
    for window in found:
        before_last = sum(parts[number].tokens for number in window[:-1])
        assert len(window) == 1 or before_last <= 12 - 3
    assert found[-1] == range(len(parts) - 1, len(parts))


def test_every_feature_has_a_weight(rarity: Rarity) -> None:
    keys = part_keys(part_index(cut_parts(TEXT, count, 8)))
    for features in window_features(keys, "When were veldt moles described?", rarity, 12):
        assert set(features) == set(WEIGHTS)
