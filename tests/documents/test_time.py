"""No text takes long: readers, cutters and splitters of words on long repetitive inputs."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

import pytest

from continual_learning.chat_models.json_output import parse_json
from continual_learning.documents import Document
from continual_learning.documents.html import decode_html
from continual_learning.documents.markdown import parse_markdown
from continual_learning.documents.pages import join_pages
from continual_learning.documents.pdf_tables import with_tables
from continual_learning.reading.in_prompt import Excerpt
from continual_learning.strategies.methods.nested.material import asked_and_answered
from continual_learning.strategies.methods.nested.restate import in_second_person, restate
from continual_learning.text.answer_types import answer_spans, asked_for, asked_kind
from continual_learning.text.characters import normalised
from continual_learning.text.chunking import passages, sentence_chunks, sentences
from continual_learning.text.scoring import answer_words, exact_match, token_f1
from continual_learning.text.words import document_terms, words
from continual_learning.training.questions import make_fragments

pytestmark = pytest.mark.slow

LENGTH = 20_000
SECONDS = 1.0
"""What is quadratic takes longer, even where a step takes ten nanoseconds; what is linear a tenth of it."""


def tokens(text: str) -> int:
    return -(-len(text.encode()) // 4)


def _json(text: str) -> None:
    with suppress(ValueError):
        parse_json(text)


READERS: dict[str, Callable[[str], object]] = {
    "markdown": lambda text: parse_markdown(text.encode()),
    "html": lambda text: decode_html(f"<p>{text}".encode()),
    "pages": lambda text: join_pages(text.split("\n")[:3000]) + join_pages([text] * 3),
    "tables": lambda text: with_tables(text, text),
    "document": lambda text: Document(f"x{text}", text),
    "normalised": normalised,
    "words": words,
    "terms": document_terms,
    "sentences": sentences,
    "passages": lambda text: passages(text, tokens, 256),
    "chunks": lambda text: sentence_chunks(text, tokens, 160, 32),
    "fragments": lambda text: make_fragments(text, tokens, 20, 23),
    "spans": answer_spans,
    "kinds": lambda text: (asked_for(text), asked_kind(text)),
    "scores": lambda text: (answer_words(text), token_f1(text, [text]), exact_match(text, [text])),
    "restate": restate,
    "person": in_second_person,
    "answered": asked_and_answered,
    "json": _json,
    "excerpt": lambda text: str(Excerpt(text, text)),
}
# What is repeated, what stands before it and after it.
PATTERNS = [
    *((once, "", "") for once in ("a", "A. ", "Dr. ", "a-", "1,", "1.", "_", ".\"", "!? ", ", ", "The ", "(")),
    *((once, "", "") for once in ("A of the ", "a_", "a'", "$1 ", "January ", "–", "'", "x y ")),
    *((once, "", "") for once in ("é", "e\u0301", "\u00ad", "字", "字。", "。", "、", "です", "ก", "가")),
    *((once, "", "") for once in ("क\u200d", "я. ", "१ ", "\u0301", "👩\u200d", "ﬁ")),
    *((once, "# T", "x") for once in (" ", "#", "*", "[", "![", "`", "<a ", "&", "_a", "](")),
    *((once, "", "") for once in (">", "- ", "```\n", "`~", "a\n1\n", "a\n===\n", "[a]: b\n", "* * ")),
    *((once, "", "") for once in ("\n", "\n ", "| ", " ", "<!--", "<h1>", "# a\n>", "http://", "p: =")),
    *((once, "---\n", "\n---\n") for once in ("a: \n", "[", "- ", "&a ")),
    (" ", "a", "b"), ("\n ", "a", "b"), (" ", "a.", "b"), (".", "1", ""), (",", "1", "a"), ("1", "", "a"),
    *((once, "", "") for once in ("Q: a ", "Q: a A: b ", "Question:\n", "oh ", "and I ", "; ", "'s name ")),
    (" ", "Q:", "A:"), ("a ", "I have ", "called b"), ("a ", "My ", "is b"), ("in ", "I live ", ""),
    *((once, "", "") for once in ("<think>", "```json\n", "{", "[", "Page 1\n", "iv\n")),
    *((once, "", "") for once in ("x-\n", "<meta ", "charset = ", "7 | a\n")),
    (" \n", "```", ""), ("\n", "```json{", ""), (" ", "\u00ad", "x"), ("\u0301", "a", ""), ("}", "{", ""),
]  # fmt: skip


@pytest.mark.parametrize("reader", READERS)
def test_no_text_takes_long(reader: str) -> None:
    for once, before, after in PATTERNS:
        text = before + once * (LENGTH // len(once)) + after
        started = time.process_time()
        READERS[reader](text)
        taken = time.process_time() - started
        assert taken < SECONDS, f"{taken:.1f} s for {before!r} {once!r} … {after!r}"
