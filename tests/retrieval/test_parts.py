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
    part_spaces,
    window_features,
    windows,
)
from continual_learning.retrieval.routing import Rarity
from continual_learning.text.answer_types import asked_kind
from continual_learning.text.chunking import joined

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


LONG = {
    "address": "The archive is at https://archive.example.org/reports/2024/03/orrin/survey-final_v2.pdf?x=1 now.",
    "path": "Edit /usr/local/share/orrin/config.d/90-lighthouse-keeper.conf, then restart.",
    "hash": "Its SHA-256 is 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08.",
    "German": "Das Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft tagt.",
    "chemistry": "Add (2S,5R,6R)-3,3-dimethyl-7-oxo-6-(2-phenylacetamido)-4-thia-1-azabicyclo[3.2.0]heptane slowly.",
    "Thai": "ประภาคารออร์ลินสร้างในปีหนึ่งพันเก้าร้อยเจ็ด โดยสถาปนิกลินไห่",
    "Chinese": "奥林灯塔建于一九零七年，由建筑师林海设计，\n站在港口。它很高。",
    "white space": "a\tb  c\n\n    return  first_value_of_the_table[index_of_row]  # done\n",
}


@pytest.mark.parametrize("kind", LONG)
def test_parts_join_to_the_very_text(kind: str) -> None:
    text = LONG[kind]
    parts = cut_parts(text, lambda piece: len(piece.encode()), 24)
    assert len(parts) > 1
    kept = [part.text for part in parts]
    assert joined(kept, part_spaces(part_index(parts), len(parts))) == " ".join(text.split())


def test_only_unusual_spaces_are_kept() -> None:
    """So that the keys of most texts are what they were in earlier versions."""
    parts = cut_parts(TEXT, count, 8)
    assert part_index(parts)[:, 1].max() < 10 and part_spaces(part_index(parts), 3) == [None, None, None]
    assert part_spaces(part_index(parts, "Before it", spaced=False), 2) == [False, None]
