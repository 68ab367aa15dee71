"""Study material as tokens."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_models import make_tiny

from continual_learning.model.base_model import BaseModel
from continual_learning.reading.plain import fitted_prompt
from continual_learning.strategies.methods.nested.material import pair_item as nested_item
from continual_learning.training.examples import (
    Item,
    StudyMaterial,
    answer_ids,
    cut_to_tokens,
    document_items,
    make_item,
    mini_batches,
    padded_ids,
    question_ids,
    reply_ids,
    study_items,
    text_item,
)

TEXT = "The quick brown fox lives in Paris with seven cats. It was born in June 1811 near the lazy dog."
MATERIAL = StudyMaterial(fragment_tokens=30, answer_tokens=40, questions_per_fragment=4, full_answer_every=2)


def made(base: BaseModel, material: StudyMaterial = MATERIAL, title: str = "Fox") -> list[Item]:
    return study_items(base, TEXT, title, material.fragments(base, TEXT), material, random.Random(0))


def test_questions_are_asked_without_a_system_prompt_and_answers_end(tiny_base: BaseModel) -> None:
    assert "helpful assistant" not in tiny_base.tokenizer.decode(question_ids(tiny_base, "Who?"))
    ids = answer_ids(tiny_base, "seven cats")
    assert tiny_base.decode(ids[:-1]) == "seven cats" and ids[-1] in tiny_base.stop_ids


def test_an_answer_in_a_line_follows_a_plain_prompt_and_ends_with_an_empty_line(tmp_path: Path) -> None:
    base = BaseModel.load(str(make_tiny("llama", tmp_path, chat=False)), device="cpu")
    assert base.decode([*question_ids(base, "Who?"), *reply_ids(base, "seven\ncats")]) == (
        "Question: Who?\nAnswer: seven cats\n\n"
    )
    item = make_item(question_ids(base, "Who?"), reply_ids(base, "seven cats"))
    assert nested_item(base, ("Who?", "seven cats")) == item


@pytest.mark.parametrize("chat", [True, False])
def test_a_trained_base_is_asked_as_it_was_trained(chat: bool, tmp_path: Path) -> None:
    base = BaseModel.load(str(make_tiny("llama", tmp_path, chat=chat)), device="cpu")
    assert fitted_prompt(base, (), "Who?", 8, system=False)[0] == question_ids(base, "Who?")
    assert fitted_prompt(base, (), "Who?", 8)[0] != question_ids(base, "Who?")


def test_every_token_of_a_text_but_the_first_is_learned(tiny_base: BaseModel) -> None:
    item = text_item(tiny_base, TEXT, "Fox")
    assert tiny_base.decode(item.ids) == f"Fox\n{TEXT}" and item.prompt_tokens == 1
    assert tiny_base.decode(text_item(tiny_base, TEXT).ids) == TEXT
    assert make_item([5, 6], [7]) == Item((5, 6, 7), 2)


def test_some_answers_are_whole_and_the_others_begin(tiny_base: BaseModel) -> None:
    fragments = MATERIAL.fragments(tiny_base, TEXT)
    lengths = [len(i.ids) - i.prompt_tokens for i in made(tiny_base)[:-1]]
    whole = [len(answer_ids(tiny_base, f.answer)) for f in fragments]
    assert lengths == (whole + [MATERIAL.answer_start_tokens] * len(fragments)) * 2


def test_the_text_comes_last(tiny_base: BaseModel) -> None:
    assert made(tiny_base)[-1] == text_item(tiny_base, TEXT, "Fox")
    assert made(tiny_base, replace(MATERIAL, questions_per_fragment=0)) == [text_item(tiny_base, TEXT, "Fox")]


def test_a_document_is_studied_passage_by_passage(tiny_base: BaseModel) -> None:
    material = StudyMaterial(questions_per_fragment=0)
    texts = [tiny_base.decode(i.ids) for i in document_items(tiny_base, TEXT, "Fox", 40, material, random.Random(0))]
    assert texts == [f"Fox\n{sentence}." for sentence in TEXT.rstrip(".").split(". ")]


def test_a_text_is_cut_to_its_limit(tiny_base: BaseModel) -> None:
    total = len(tiny_base.encode(TEXT))
    assert cut_to_tokens(tiny_base, TEXT, total) == (TEXT, total, 0)
    text, tokens, left_out = cut_to_tokens(tiny_base, TEXT, 10)
    assert TEXT.startswith(text) and (tokens, left_out) == (10, total - 10)


def test_a_pass_has_every_item_once_within_the_limit() -> None:
    lengths = [5, 90, 7, 30, 6, 31, 8, 29, 200, 5, 6, 7]
    batches = mini_batches(lengths, 64, random.Random(0))
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    assert all(len(b) * max(lengths[i] for i in b) <= 64 or len(b) == 1 for b in batches)
    assert len(batches) < len(lengths)
    assert batches == mini_batches(lengths, 64, random.Random(0)) != mini_batches(lengths, 64, random.Random(1))


def test_rows_are_padded_on_the_right() -> None:
    ids = padded_ids([Item((1, 2, 3), 1), Item((4,), 1)], torch.device("cpu"))
    assert ids.tolist() == [[1, 2, 3], [4, 0, 0]]
