"""Strategy auto: which strategy is chosen, of made-up candidates, and what is said about it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from continual_learning.errors import InputError
from continual_learning.strategies.choosing import AutoConfig, Candidate, choose

READS = Candidate("reads", 0.1, 0.1, 2.0, 1_000, 320, True, 0.60)
QUOTES = Candidate("quotes", 0.2, 0.2, 1.0, 5_000, 200, True, 0.58)
WINDOW = Candidate("window", 0.0, 0.0, 1.5, 1_000, 900, True, 0.62)
WEIGHTS = Candidate("weights", 60.0, 40.0, 1.2, 900_000, 0, False, 0.55)
ONE_PASS = Candidate("one_pass", 4.0, 2.0, 0.5, 8_000_000, 0, False, 0.15)
RUINS = Candidate("ruins", 9.0, 5.0, 0.5, 9_000_000, 0, False, 0.70, general_kept=0.12)
IDLE = Candidate("idle", 0.0, 0.0, 0.1, 0, 0, False, 0.05)
UNKNOWN = Candidate("unknown", 1.0, 1.0, 0.1, 0, 0, False, None)
ALL = (READS, QUOTES, WINDOW, WEIGHTS, ONE_PASS, RUINS, IDLE, UNKNOWN)
TOO_LONG = replace(WINDOW, too_long="9000 tokens in all, and 7872 fit into the window")
NO_TEXT: dict[str, Any] = {"keep_text": False}


@pytest.mark.parametrize(
    ("candidates", "wanted", "chosen", "reason"),
    [
        # reads and window are as good but for noise; quotes is not within it
        (ALL, {}, "window", "F1 0.62, the best of those that fit, and the fastest of 2 as good: 30 s in all"),
        ((READS, QUOTES), {}, "quotes", "F1 0.58, as good as the best (reads, 0.60) but for noise"),
        (
            (replace(READS, answer_seconds=1.0), replace(QUOTES, learn_seconds=50.0)),
            {"uses": 1},
            "reads",
            "2 s in all with 1 question a document",
        ),
        # learning costs, but with many questions the faster answers win
        ((READS, replace(WEIGHTS, f1=0.58)), {"uses": 10}, "reads", "10 questions"),
        ((READS, replace(WEIGHTS, f1=0.58)), {"uses": 1000}, "weights", "2,460 s in all with 1,000 questions"),
        ((*ALL[:2], TOO_LONG, *ALL[3:]), {}, "quotes", "F1 0.58"),
        (ALL, NO_TEXT, "weights", "F1 0.55, the best of those that fit"),
        (ALL, {**NO_TEXT, "seconds": 40}, "weights", "F1 0.55"),
        (ALL, {**NO_TEXT, "seconds": 39}, "one_pass", "F1 0.15"),
        ((replace(WEIGHTS, lacks="no reader"), ONE_PASS), {}, "one_pass", "F1 0.15"),
        ((IDLE, UNKNOWN), {}, "unknown", "nothing else is left, though its F1"),
    ],
)
def test_the_best_that_fits_and_of_equals_the_fastest(
    candidates: tuple[Candidate, ...], wanted: dict[str, Any], chosen: str, reason: str
) -> None:
    found = choose(candidates, AutoConfig(**wanted), documents=2, unlearned_f1=0.04)
    assert found.strategy == chosen
    assert reason in found.reason and "\n" not in found.reason
    assert found.considered[0].candidate.strategy == chosen
    assert len(found.considered) == len(candidates)


def test_everything_that_rules_a_candidate_out_is_reported() -> None:
    found = choose(
        (*ALL[:2], TOO_LONG, *ALL[3:]), AutoConfig(keep_text=False, seconds=39), documents=2, unlearned_f1=0.04
    )
    why = {each.candidate.strategy: dict(each.ruled_out) for each in found.considered}
    assert why == {
        "one_pass": {},
        "reads": {"auto.keep_text": "it keeps the text"},
        "quotes": {"auto.keep_text": "it keeps the text"},
        "window": {"auto.keep_text": "it keeps the text", "length": TOO_LONG.too_long},
        "weights": {"auto.seconds": "40 s for the longest document, over 39"},
        "ruins": {"quality": "only 12% of general questions still answered"},
        "idle": {"quality": "F1 0.05, 0.04 without a memory"},
        "unknown": {"not measured": "its F1 on this kind of base was not measured"},
    }
    totals = {each.candidate.strategy: each.total_seconds for each in found.considered}
    assert totals["weights"] == pytest.approx(60 + 10 * 2 * 1.2)


@pytest.mark.parametrize(
    ("candidates", "wanted", "words"),
    [
        ((READS, QUOTES, WEIGHTS), {**NO_TEXT, "seconds": 1}, ["auto.keep_text = false", "2 of 3", "keep_text: true"]),
        ((WEIGHTS, ONE_PASS, IDLE), {"seconds": 1}, ["auto.seconds = 1", "weights: 40 s", "raise auto.seconds"]),
        ((replace(READS, lacks="no hypernetwork"),), {}, ["base", "no hypernetwork", "model prepare"]),
        ((TOO_LONG, IDLE), {}, ["length", "9000 tokens", "shorter documents"]),
        ((IDLE,), {}, ["quality", "0.04 without a memory", "another base"]),
    ],
)
def test_nothing_left_names_the_limit_that_rules_out_most(
    candidates: tuple[Candidate, ...], wanted: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(InputError) as caught:
        choose(candidates, AutoConfig(**wanted), documents=1, unlearned_f1=0.04)
    message = str(caught.value)
    assert all(word in message for word in words) and "\n" not in message, message
