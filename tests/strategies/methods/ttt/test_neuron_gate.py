"""TF-IDF over neurons, on numbers worked out by hand."""

from __future__ import annotations

import math

import torch

from continual_learning.strategies.methods.ttt.neuron_gate import accesses, tfidf, top_neurons


def test_a_token_accesses_the_neurons_that_contribute_most() -> None:
    neurons_NI = torch.tensor([[1.0, -5.0, 2.0, 0.0], [3.0, 0.1, 0.2, -0.4]])
    down_norm_I = torch.tensor([1.0, 1.0, 1.0, 10.0])
    # |a| * norm: [1, 5, 2, 0] and [3, 0.1, 0.2, 4]
    assert accesses(neurons_NI, down_norm_I, 1).tolist() == [0, 1, 0, 1]
    assert accesses(neurons_NI, down_norm_I, 2).tolist() == [1, 1, 1, 1]


def test_score_is_frequency_times_rarity() -> None:
    score = tfidf(torch.tensor([3, 1, 0]), torch.tensor([9, 0, 0]), background_sequences=9)
    expected = [3 / 4 * math.log(10 / 10), 1 / 4 * math.log(10 / 1), 0.0]
    torch.testing.assert_close(score, torch.tensor(expected, dtype=torch.float64))


def test_a_neuron_that_everything_uses_is_never_chosen_before_a_rare_one() -> None:
    score = tfidf(torch.tensor([90, 5, 5]), torch.tensor([100, 1, 2]), background_sequences=100)
    assert top_neurons(score, 2).tolist() == [1, 2]


def test_equal_scores_give_the_lowest_numbers() -> None:
    assert top_neurons(torch.zeros(6, dtype=torch.float64), 3).tolist() == [0, 1, 2]
