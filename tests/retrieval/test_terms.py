"""What texts are compared by."""

from __future__ import annotations

from continual_learning.retrieval import terms
from continual_learning.text.words import content_stems


def test_terms_are_stems_of_content_words_with_repeats() -> None:
    assert terms("The otters and the otter's den") == ["otter", "otter", "den"]


def test_hyphenated_words_count_whole_and_in_parts() -> None:
    assert terms("steam-powered") == ["steam-power", "steam", "power"]


def test_they_are_the_words_that_routing_knows() -> None:
    text = "In 1811 the U.S. consul J. Hart's well-known mills (built of red-brown stone) were re-opened, 3.5 km off."
    assert set(terms(text)) == content_stems(text)
