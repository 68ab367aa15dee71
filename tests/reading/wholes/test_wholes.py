"""Summaries, lists, counts and yes or no, from texts in the forms that people have them."""

import pytest

from continual_learning.reading.wholes.blocks import blocks_of
from continual_learning.reading.wholes.lists import best_list, count_of, in_words, list_with
from continual_learning.reading.wholes.summary import about, summary
from continual_learning.reading.wholes.tables import looked_up
from continual_learning.reading.wholes.yes_no import verdict
from continual_learning.text.lines import line_lengths, with_lines

NOTES = """# Handover notes

The staging cluster moved to `eu-west-3` on 4 March, because the old region was too small for the new tests.
The on-call phone stays with Priya until June.

## Open tasks

- renew the certificate of the mail server
- close the two old accounts, A-17 and A-18
- ask Postgres support about the slow query

## Systems

| System | Owner | Port |
|---|---|---|
| Mail | Priya | 25 |
| Search | Tomasz | 9200 |

Backups: Berlin, Oslo and Turin. Step 1 of the audit is done. The budget is not spent yet.
Guests are welcome. Entry is free for children.

Wi-fi? No, only by cable.
"""
BLOCKS = blocks_of("Handover notes", NOTES)
CLUB = """# Rowing club

Present: Ms Adler (chair), Mr Petrov, Ms Lund

## What to bring
- shoes
- a towel

## Tasks
| Who | What | By |
|---|---|---|
| Joost | list of old boats | 12 Sept |
| Nkechi | book the river | 5 Sept |
| Bram | poster | 12 Sept |

## Rules

1. Use. The boats may be used for training. Open fire is forbidden. Coffee is charged separately.

2. Repairs. The club keeps the roof, the walls and the heating in good order. The club house has a roof but no lift.

3. Rain. The oars can go in the rain; the flag must not. Tea is allowed. Beer isn't.

## Method
1. Carry the boat to the water.
2. Get in, but don't stand up.

## [2.1.0] - 2026-02-11
### Added
- dark mode
### Fixed
- a crash at the start

## [2.0.3] - 2026-01-15
### Fixed
- the clock
### Removed
- the printed calendar

## [2.0.2] - 2025-12-20
- faster maps
"""
CLUB_BLOCKS = blocks_of("Rowing club", CLUB)


def test_a_text_is_set_in_its_lines_again() -> None:
    flat = " ".join(NOTES.split())
    assert blocks_of("", with_lines(flat, line_lengths(NOTES))) == blocks_of("", NOTES)
    assert line_lengths("one two\n\n\nthree\n") == [6, 0, 5]
    assert with_lines("one two three four", [6, 0, 5]) == "one two\n\nthree\nfour"
    assert with_lines("one two", None) == "one two"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ab c- d e", "ab\nc- d\ne"),  # a word was cut
        ("ab cc-d e", "ab\ncc-d\ne"),  # an error of recitation
        ("abc-de", "ab\nc-d\ne"),  # no spaces
    ],
)
def test_lines_survive_what_happens_to_words(text: str, expected: str) -> None:
    assert with_lines(text, line_lengths("ab\nc-d\ne")) == expected


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("List all open tasks.", "renew the certificate of the mail server; close the two old accounts"),
        ("List the systems.", "Mail, Search"),
        ("Which owners are there?", "Priya, Tomasz"),
        ("List all places of backups.", "Berlin, Oslo, Turin"),
    ],
)
def test_a_list_is_found_by_its_name(question: str, expected: str) -> None:
    found = best_list(BLOCKS, question)
    assert found is not None
    assert in_words(found.entries).startswith(expected)


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("Who attended?", "Ms Adler (chair), Mr Petrov, Ms Lund"),  # "Present"
        ("What do I need?", "shoes, a towel"),  # "What to bring"
        ("Which versions fixed bugs?", "2.1.0, 2.0.3"),
        ("What was removed in 2.0.3?", "the printed calendar"),  # under a heading of another depth
        ("Which parts does the club keep in good order?", "roof, walls, heating"),
    ],
)
def test_a_list_is_found_by_what_else_it_is_called(question: str, expected: str) -> None:
    text = CLUB.replace("- the printed calendar", "- the printed calendar\n- the old map")
    expected = expected.replace("calendar", "calendar, the old map")
    found = best_list(blocks_of("Rowing club", text), question)
    assert found is not None
    assert in_words(found.entries) == expected


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("What is the port of Search?", ("9200",)),
        ("Which owner does Mail have?", ("Priya",)),
        ("What is the port of Backup?", ()),
        ("How old is Priya?", ()),
    ],
)
def test_a_cell_is_looked_up_by_its_row_and_column(question: str, expected: tuple[str, ...]) -> None:
    assert looked_up(BLOCKS, question) == expected


def test_rows_are_chosen_by_a_value() -> None:
    assert looked_up(CLUB_BLOCKS, "Whose tasks are due by 12 Sept?") == ("Joost", "Bram")


def test_another_question_finds_no_list() -> None:
    assert best_list(BLOCKS, "List the planets of the solar system.") is None


def test_entries_of_a_list_are_counted() -> None:
    found = count_of(BLOCKS, "How many open tasks are there?")
    assert found is not None
    assert found[0] == 3
    assert count_of(BLOCKS, "How many tasks did Priya close in May?") is None


@pytest.mark.parametrize(
    ("question", "expected"),
    [("How many people were present?", 3), ("How many steps are there?", 2), ("How many versions are listed?", 3)],
)
def test_entries_are_counted_by_what_they_are(question: str, expected: int) -> None:
    found = count_of(CLUB_BLOCKS, question)
    assert found is not None
    assert found[0] == expected


def test_a_span_is_completed_to_the_list_that_it_is_in() -> None:
    found = list_with(BLOCKS, "Which places have backups?", "Oslo")
    assert found is not None
    assert found.entries == ("Berlin", "Oslo", "Turin")
    assert list_with(BLOCKS, "Which towns are on the coast?", "Oslo") is None
    assert list_with(BLOCKS, "Which places have backups?", "Berlin, Oslo and Turin") is None


@pytest.mark.parametrize(
    ("question", "yes", "part"),
    [
        ("Are guests welcome?", True, "Guests are welcome"),
        ("Is the budget spent?", False, "not spent"),
        ("Do children have to pay?", False, "free for children"),
        ("Is there wi-fi?", False, "only by cable"),
    ],
)
def test_yes_or_no_rests_on_a_sentence(question: str, yes: bool, part: str) -> None:
    found = verdict(BLOCKS, question)
    assert found is not None
    assert found.yes is yes
    assert part in found.sentence


@pytest.mark.parametrize(
    ("question", "yes"),
    [
        ("Does the club house have a lift?", False),  # the clause, not the sentence
        ("Does the club house have a roof?", True),
        ("Is open fire allowed?", False),  # forbidden: no negation besides
        ("Is coffee included?", False),
        ("Is the printed calendar still there?", False),  # under "Removed"
        ("Can the oars go in the rain?", True),
        ("Can the flag go in the rain?", False),  # what is left out is said before
        ("Is beer allowed?", False),
    ],
)
def test_yes_or_no_goes_by_the_clause_and_the_heading(question: str, yes: bool) -> None:
    found = verdict(CLUB_BLOCKS, question)
    assert found is not None
    assert found.yes is yes


def test_what_the_text_does_not_touch_is_neither_yes_nor_no() -> None:
    assert verdict(BLOCKS, "Is the restaurant in Madrid expensive?") is None


def test_summaries_are_words_of_the_text_without_its_marks() -> None:
    said = summary(BLOCKS)
    assert "staging cluster moved to `eu-west-3`" in said
    assert len(said.split()) < len(NOTES.split()) / 2
    for made in (said, about(BLOCKS)):
        assert made.startswith("Handover notes")
        assert not {"#", "|", "|---|---|---|"} & set(made.split())
        assert set(made.replace(".", "").replace(":", "").replace(",", "").replace(";", "").lower().split()) <= {
            *NOTES.replace(".", "").replace(":", "").replace(",", "").lower().split(), "it", "covers", "and",
        }  # fmt: skip
    assert about(BLOCKS).count(". ") == 0
