"""When something that was found is relevant."""

from __future__ import annotations

import math

import pytest

from continual_learning.documents.shipped import general_questions, unrelated_texts
from continual_learning.retrieval import Relevance
from continual_learning.retrieval.relevance import surely_about, text_key
from continual_learning.retrieval.routing import Rarity

PASSAGE = (
    "Comb jellies\nComb jellies swim with eight rows of cilia, the combs. Most are predators that eat plankton, "
    "among them small crustaceans and fish larvae; Beroe eats other comb jellies."
)


@pytest.fixture(scope="module")
def relevance() -> Relevance:
    return Relevance.default()


def test_a_question_about_the_text_is_relevant_and_others_are_not(relevance: Relevance) -> None:
    assert relevance("What do comb jellies eat?", PASSAGE) > 0.8
    assert relevance("What does Beroe eat instead of plankton?", PASSAGE) > 0.5
    assert relevance("Who painted the Mona Lisa?", PASSAGE) == 0.0


def test_it_is_between_zero_and_one(relevance: Relevance) -> None:
    assert relevance(PASSAGE, PASSAGE) == 1.0
    assert relevance("", PASSAGE) == relevance("the of and", PASSAGE) == relevance("otter", "") == 0.0


def test_one_shared_word_is_not_enough(relevance: Relevance) -> None:
    assert relevance("What is the capital of Japan?", "Japan\nNintendo of Japan sold the console.") < 0.5


def test_long_texts_that_share_a_few_words_are_not_relevant(relevance: Relevance) -> None:
    texts = unrelated_texts()
    assert max(relevance(a, b) for a in texts for b in texts if a is not b) < 0.5


def test_general_questions_are_not_relevant_to_a_passage(relevance: Relevance) -> None:
    assert max(relevance(q.question, PASSAGE) for q in general_questions()) < 0.5


def test_it_is_the_smaller_of_coverage_and_evidence() -> None:
    relevance = Relevance(Rarity.of(["common words"] * 150))
    unknown = math.log(151)  # nats of a word that no background text has
    assert relevance("otter", "an otter") == pytest.approx(unknown / 15)
    assert relevance("otter glacier", "otter glacier") == pytest.approx(2 * unknown / 15)
    assert relevance("a b0 c0 d0 e0 f0 g0 h0 i0 j0", "b0 c0 d0") == pytest.approx(3 / 9 / 0.5)
    assert relevance("otter glacier meadow saddle", "otter glacier meadow") == 1.0
    assert relevance("common words", "common words") == 0.0, "every background text has them"


@pytest.mark.parametrize(
    ("question", "sure"),
    [
        ("What do comb jellies and fish larvae eat?", True),
        ("Which painter of Vienna drew comb jellies and plankton?", False),
        ("Which painter of Vienna drew Ctenophora?", True),
        ("What is the capital of Japan?", False),
        ("What is plankton?", False),
    ],
)
def test_a_question_is_surely_about_a_text_by_its_title_or_by_most_of_its_words(question: str, sure: bool) -> None:
    assert surely_about(question, "Ctenophora", text_key("Ctenophora", PASSAGE)) == sure
