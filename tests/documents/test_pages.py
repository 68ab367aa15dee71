"""The pages of a PDF as one text."""

from __future__ import annotations

import pytest

from continual_learning.documents.pages import join_pages


@pytest.mark.parametrize(
    ("pages", "expected"),
    [
        (["One. Two\n1", "three. Four.\n2", "Five.\n3"], "One. Two\nthree. Four.\n\nFive."),
        (["It was\niv", "late.\nv"], "It was\nlate."),
        (["12\nThe light-", "13\nhouse and", "14\nmore."], "The lighthouse and\nmore."),
        (["The tide | 7\nfoo bar", "The tide | 8\nbaz."], "The tide\n\nfoo bar\nbaz."),
        (
            ["Left head\nx y", "Right head\nz.", "Left head\nw.", "Right head\nv."],
            "Left head\n\nRight head\n\nx y\nz.\n\nw.\n\nv.",
        ),
        (["Only this", "- Page 2 -\n", "rest."], "Only this\nrest."),
        (["Only this", "Page 2 of 3", "rest."], "Only this\nrest."),
    ],
)
def test_running_heads_and_page_numbers_go(pages: list[str], expected: str) -> None:
    assert join_pages(pages) == expected


@pytest.mark.parametrize(
    "pages",
    [
        ["Chapter 1\nIt began.", "Chapter 2\nIt went on."],
        ["Text.", "Text."],
        ["In the year\n1904", "In the war\n1950"],
        ["The end.\n\nA heading", "The long first line of what follows it here is this."],
        ["12 apples", "12 pears"],
        ["See page 3.", "See page 4."],
        ["Item: Rope; Left: 5.", "Item: Rope; Left: 6."],
    ],
)
def test_text_stays(pages: list[str]) -> None:
    joined = join_pages(pages)
    assert joined.split() == " ".join(pages).split()


def test_a_heading_at_the_end_of_a_page_is_no_part_of_a_sentence() -> None:
    page = "The first line of this page is long.\nThe second one is as long as that.\nHarbours"
    assert join_pages([page, "Boats come here."]).endswith("Harbours\n\nBoats come here.")


def test_pages_of_notes_are_not_joined() -> None:
    assert join_pages(["Boats", "Sails\nRopes", "Tar"]) == "Boats\n\nSails\nRopes\n\nTar"
