"""The one normalisation of documents and questions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from continual_learning.documents import Document
from continual_learning.errors import DocumentError
from continual_learning.text.characters import normalised, without_accents


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("light\u00adhouse", "lighthouse"),
        ("compli\u00ad\n  cated", "complicated"),
        ("o\ufb03ce \ufb01re \ufb02ag", "office fire flag"),
        ("a\u200bb\u2060c\ufeffd\u200ee", "abcde"),
        ("co\u200dop", "coop"),
        ("cafe\u0301", "café"),
        ("10\u00a0km\u202fan\u3000d", "10 km an d"),
        ("one\u2028two", "one\ntwo"),
        ("\uff11\uff19\uff10\uff17年！\uff21\uff22 \uff76\uff9e", "1907年！AB ガ"),
        ("\ufee3\ufe8e\ufe91", "ماب"),
        ("hidden\U000e0041\U000e0042", "hidden"),
        ("𝐛𝐨𝐥𝐝 𝟏", "bold 1"),
    ],
)
def test_what_does_not_show_goes_and_shapes_become_letters(text: str, expected: str) -> None:
    assert normalised(text) == expected
    assert Document(text).text == expected, "of every document"
    assert Document("x", text).title == expected


@pytest.mark.parametrize(
    "text", ["x² + y₁", "½ cup", "5 ㎡ at 20 ℃", "№ 5, ①, Ⅳ", "می\u200cروم", "👨\u200d👩\u200d👧", "क्\u200dष", "ﷺ"]
)
def test_what_means_something_stays(text: str) -> None:
    assert normalised(text) == text


@given(st.text())
def test_it_is_done_once_and_leaves_ascii_alone(text: str) -> None:
    once = normalised(text)
    assert normalised(once) == once
    ascii_only = text.encode("ascii", "ignore").decode()
    assert normalised(ascii_only) == ascii_only


@pytest.mark.parametrize("text", ["\u200b\u200b", "\u2060 \ufeff", "\u00ad", "\u200d", "\u3164", "\U000e0041"])
def test_a_text_that_does_not_show_is_empty(text: str) -> None:
    with pytest.raises(DocumentError, match="empty"):
        Document(text)


def test_accents_go_and_indic_vowels_stay() -> None:
    words = ["café", "straße", "φάρος", "ёлка", "أحمد", "हिन्दी", "Smørrebrød".lower()]
    assert list(map(without_accents, words)) == ["cafe", "strasse", "φαρος", "елка", "احمد", "हिन्दी", "smorrebrod"]


@pytest.mark.parametrize("title", ["word " * 100, "x" * 1000, "字" * 300])
def test_no_title_is_longer_than_a_line(title: str) -> None:
    cut = Document("text", title).title
    assert len(cut.encode()) <= 240 and cut.endswith("…") and title.startswith(cut[:-1])
