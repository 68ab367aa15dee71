"""Where text is cut."""

from __future__ import annotations

import hashlib
import json
import re
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from continual_learning.documents.shipped import background_texts, unrelated_texts
from continual_learning.text import words
from continual_learning.text.chunking import (
    fragments,
    joined,
    overlapping_chunks,
    passages,
    sentence_chunks,
    sentences,
    spaces_before,
)


def count(text: str) -> int:
    return len(text.split())


TEXT = (
    "Dr. Ada Quill founded the mill in 1811. It burned down twice, in 1830 and in 1852, and was rebuilt each time.\n\n"
    "Was it profitable? Nobody knows! The U.S. consul J. Hart doubted it."
)


def test_sentences_do_not_end_at_abbreviations() -> None:
    assert sentences(TEXT) == [
        "Dr. Ada Quill founded the mill in 1811.",
        "It burned down twice, in 1830 and in 1852, and was rebuilt each time.",
        "Was it profitable?",
        "Nobody knows!",
        "The U.S. consul J. Hart doubted it.",
    ]


@pytest.mark.parametrize("limit", [3, 5, 8, 40])
def test_fragments_lose_no_word_and_keep_to_the_limit(limit: int) -> None:
    for sentence in sentences(TEXT):
        pieces = fragments(sentence, count, limit)
        assert " ".join(pieces) == sentence
        assert all(count(piece) <= limit for piece in pieces)


def test_fragments_are_cut_at_phrases() -> None:
    sentence = "The bridge was built by Otto Brand, who came from Lund, and it carried two rail tracks."
    assert fragments(sentence, count, 10) == [
        "The bridge was built by Otto Brand, who came",
        "from Lund, and it carried two rail tracks.",
    ]


@pytest.mark.parametrize("limit", [6, 12, 30, 100])
def test_passages_are_whole_and_within_the_limit(limit: int) -> None:
    found = passages(TEXT, count, limit)
    assert " ".join(found).split() == TEXT.split()
    assert all(count(passage) <= limit for passage in found)


def test_passages_are_few_and_of_about_one_length() -> None:
    text = " ".join(f"Sentence number {i} has just seven words." for i in range(13))
    assert [count(p) for p in passages(text, count, 40)] == [28, 28, 35]
    assert [count(p) for p in passages(text, count, 91)] == [91]
    assert [count(p) for p in passages(text, count, 90)] == [42, 49]


def test_no_text_gives_nothing() -> None:
    assert sentences("  \n ") == [] and fragments(" ", count, 5) == [] and passages("", count, 5) == []


TEN = " ".join(f"Sentence number {i} has just seven words." for i in range(10))


def test_chunks_without_overlap_are_the_text() -> None:
    found = sentence_chunks(TEN, count, 21, 0)
    assert " ".join(found) == TEN and [count(c) for c in found] == [21, 21, 21, 7]
    assert sentence_chunks(TEXT, count, 100, 20) == [" ".join(TEXT.split())], "what fits stays whole"
    assert sentence_chunks("", count, 9, 0) == []


def test_chunks_begin_with_the_end_of_the_one_before() -> None:
    found = sentence_chunks(TEN, count, 21, 7)
    assert [[int(n) for n in re.findall(r"\d", c)] for c in found] == [
        [0, 1, 2],
        [2, 3, 4],
        [4, 5, 6],
        [6, 7, 8],
        [8, 9],
    ]
    assert sentence_chunks(TEN, count, 21, 6) == sentence_chunks(TEN, count, 21, 0), "no whole sentence in 6 tokens"


@settings(max_examples=200, deadline=None)
@given(lengths=st.lists(st.integers(1, 30), max_size=15), limit=st.integers(4, 40), overlap=st.integers(0, 40))
def test_chunks_hold_every_word_within_the_limit(lengths: list[int], limit: int, overlap: int) -> None:
    said = iter(range(1000))
    text = " ".join(" ".join(f"W{next(said)}" for _ in range(n)) + "." for n in lengths)
    found = [[int(n) for n in re.findall(r"\d+", c)] for c in sentence_chunks(text, count, limit, overlap)]
    assert all(len(c) <= limit for c in found)
    assert all(c == list(range(c[0], c[-1] + 1)) for c in found), "each is one stretch of the text"
    assert sorted({n for c in found for n in c}) == list(range(sum(lengths)))
    for before, after in pairwise(found):
        assert after[-1] > before[-1] and after[0] > before[0], "each goes on"
        assert before[-1] - after[0] + 1 <= overlap


ODD = (
    "Dr. A. B. Quill (of \"Mill Co.\") paid $3.5 for 4,820 steam-powered re-opened U.S. well-known items. 'Why?' she "
    "said.  No. 5 isn't\nhere!\n\n  e.g. J. Hart's den: 50% of it... and so on. (See Fig. 3.) [1] Then \"go.\" x_y __a "
    "b.c-d. i.e. Max.\n \nlower case. ends A.\n\nB. C\n"
)


def test_english_is_split_as_it_ever_was() -> None:
    """Memories keep hashes of words and numbers of passages, which new questions must meet."""
    texts = [text for text in (*background_texts(), *unrelated_texts(), ODD) if text.isascii()]
    cut = [
        [
            words.words(text),
            words.terms(text),
            sentences(text),
            passages(text, count, 40),
            sentence_chunks(text, count, 50, 12),
            [fragments(sentence, count, 9) for sentence in sentences(text)],
        ]
        for text in texts
    ]
    assert len(texts) == 162
    digest = hashlib.sha256(json.dumps(cut).encode()).hexdigest()
    assert digest == "c912a5195b874bcb5e8363723168a5a408198ae615a81db84e38a21896436bf0"
    assert all(words.document_terms(text) == words.terms(text) for text in texts)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("灯塔建于1907年。它很高！谁建的？林海。", ["灯塔建于1907年。", "它很高！", "谁建的？", "林海。"]),
        ("「高い。」と彼は言った。", ["「高い。」", "と彼は言った。"]),
        ("Маяк стоит. Он высок! А. С. Берг, г. Орлин.", ["Маяк стоит.", "Он высок!", "А. С. Берг, г. Орлин."]),
        ("Ο φάρος. Είναι ψηλός.", ["Ο φάρος.", "Είναι ψηλός."]),
        ("بنيت المنارة. هل هي عالية؟ نعم.", ["بنيت المنارة.", "هل هي عالية؟", "نعم."]),
        ("यह ऊँचा है। वह नहीं है॥ १९०७", ["यह ऊँचा है।", "वह नहीं है॥", "१९०७"]),
        ("Élan. Ångström. «Oui.» ¿Sí? ¡Ya!", ["Élan.", "Ångström.", "«Oui.»", "¿Sí?", "¡Ya!"]),
        ("a 3.5 m tall. x remains", ["a 3.5 m tall. x remains"]),
    ],
)
def test_sentences_end_in_every_script(text: str, expected: list[str]) -> None:
    assert sentences(text) == expected


def tokens(text: str) -> int:
    """As many as a tokenizer of bytes makes of a text that it has never seen."""
    return len(text.encode())


UNBROKEN = {
    "base64": "Key:" + "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVo0" * 20,
    "code": "function(a,b){return a.b(c)+d[e];}" * 20,
    "Chinese": "奥林灯塔建于一九零七年由建筑师林海设计" * 10 + "，站在港口。" * 20,
    "Thai": "ประภาคารออร์ลินสร้าง" * 20,
    "marks": "a" + "\u0301" * 500,
    "emoji": "👨\u200d👩\u200d👧" * 60,
    "capitals": "A. " * 200,
    "spaces": "a" + " " * 500 + "b" * 200,
}


@pytest.mark.parametrize("limit", [12, 64])
@pytest.mark.parametrize("kind", UNBROKEN)
def test_no_passage_exceeds_the_limit_whatever_the_text(kind: str, limit: int) -> None:
    text = UNBROKEN[kind]
    for found in (passages(text, tokens, limit), sentence_chunks(text, tokens, limit, 0)):
        assert max(map(tokens, found)) <= limit
        assert "".join("".join(found).split()) == "".join(text.split()), "nothing is lost"
    assert all(tokens(piece) <= limit for sentence in sentences(text) for piece in fragments(sentence, tokens, limit))


@settings(max_examples=100, deadline=None)
@given(text=st.text(alphabet="ab. A字。、é\u0301\n-", max_size=120), limit=st.integers(4, 30))
def test_the_limit_holds_for_any_text(text: str, limit: int) -> None:
    found = passages(text, tokens, limit)
    assert all(tokens(passage) <= limit for passage in found)
    assert "".join("".join(found).split()) == "".join(text.split())


def test_pieces_are_cut_at_signs_and_joined_without_spaces_that_were_not_there() -> None:
    assert fragments("灯塔很高，站在港口。", tokens, 18) == ["灯塔很高，", "站在港口。"]
    assert passages("灯塔很高。站在港口。Keeper Tarn. 他很老。", tokens, 200) == [
        "灯塔很高。站在港口。Keeper Tarn. 他很老。"
    ]
    assert joined(["灯塔很高，", "站在港口。"]) == "灯塔很高，站在港口。"
    assert joined(["The keeper", "of the light", "灯塔"]) == "The keeper of the light 灯塔"
    assert joined(["ab", "cd", "灯", "塔"], [None, False, False, True]) == "abcd灯 塔"


@settings(max_examples=200, deadline=None)
@given(text=st.text(alphabet="ab. A字。、é\u0301\n\t-", max_size=120), limit=st.integers(4, 30))
def test_pieces_join_to_the_text_for_any_text(text: str, limit: int) -> None:
    pieces = [piece for sentence in sentences(text) for piece in fragments(sentence, tokens, limit)]
    for found in (pieces, passages(text, tokens, limit), sentence_chunks(text, tokens, limit, 0)):
        assert joined(found, spaces_before(text, found)) == " ".join(text.split())
    solid = "".join(text.split())
    chunks = overlapping_chunks(text, tokens, limit, limit // 3)
    assert "".join("".join(chunk.split())[repeated:] for chunk, repeated in chunks) == solid
