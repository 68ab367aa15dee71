"""Answers as sentences that hold the words found."""

import pytest

from continual_learning.reading.wholes.sentences import as_sentence, sentence_with
from continual_learning.types import Answer, Source

TEXT = """# Handover notes
The staging cluster moved to eu-west-3 on 4 March. The phone stays with Priya until June, then Tomasz has it.
- insurance is £68.50
- judge: the new vet, Ffion Bowen
| Height | 118 cm |
| Tap | brass |
The Nowak family is staying in the guest flat. Run `systemctl stop ledger-worker` first.
The bridge was built in 1887 by Eiffel. Comb jellies eat plankton. We need 120 scones by Friday.
"""


@pytest.mark.parametrize(
    ("question", "span", "sentence"),
    [
        ("Where did the staging cluster move?", "eu-west-3", "The staging cluster moved to eu-west-3."),
        ("When did the staging cluster move?", "4 March", "The staging cluster moved on 4 March."),
        ("Who has the phone after June?", "Tomasz", "Tomasz has the phone after June."),
        ("how much is the insurance", "£68.50", "The insurance is £68.50."),
        ("How high is the barrel?", "118 cm", "The barrel is 118 cm high."),
        ("Where is the Nowak family staying?", "guest flat", "The Nowak family is staying in the guest flat."),
        ("When was the bridge built?", "1887", "The bridge was built in 1887."),
        ("What do comb jellies eat?", "plankton", "Comb jellies eat plankton."),
        ("How many scones do we need?", "120", "We need 120 scones."),
        (
            "Which command stops the writers?",
            "systemctl stop ledger-worker",
            "`systemctl stop ledger-worker` stops the writers.",
        ),
        # No rule is safe: the text's own words.
        ("What is the tap made of?", "brass", "Tap: brass."),
        ("Whom did the tower please?", "Eiffel", "The bridge was built in 1887 by Eiffel."),
        ("Why do we bake?", "120 scones", "We need 120 scones by Friday."),
    ],
)
def test_a_sentence_is_made_from_question_and_span(question: str, span: str, sentence: str) -> None:
    assert sentence_with(question, span, TEXT) == sentence


def test_only_a_span_of_what_was_read_becomes_a_sentence() -> None:
    source = Source("doc-1", "Notes", 1.0, "eu-west-3", 0, TEXT)
    answer = Answer("Where did the staging cluster move?", "eu-west-3", (source,), origin="memory")
    assert as_sentence(answer).text == "The staging cluster moved to eu-west-3."
    for origin in ("model", "unknown"):
        assert as_sentence(Answer(answer.question, answer.text, (source,), origin=origin)).text == "eu-west-3"
