"""The closed form, its trust region, and kNN-LM's interpolation; and that both decoders apply them."""

from __future__ import annotations

import math

import pytest
import torch
from tiny_models import make_tiny

from continual_learning.model.base_model import BaseModel
from continual_learning.model.decoding import decodes_fast
from continual_learning.model.generation import generate
from continual_learning.model.logits_processors import Advantages, Step, interpolated, shifted, token_sums, within

LOGITS = torch.tensor([2.0, 0.5, -1.0, 0.0, -3.0])
ADVANTAGES = Advantages(torch.tensor([2, 4]), torch.tensor([1.0, -0.5]))


def kl(new: torch.Tensor, old: torch.Tensor) -> float:
    log_q, log_p = new.double().log_softmax(-1), old.double().log_softmax(-1)
    return float((log_q.exp() * (log_q - log_p)).sum())


def test_the_closed_form_maximises_advantage_less_divergence() -> None:
    beta = 3.0
    best = shifted(LOGITS, ADVANTAGES, beta)
    full = torch.zeros(5).index_add(0, ADVANTAGES.ids_S, ADVANTAGES.values_S)

    def worth(logits: torch.Tensor) -> float:
        return float((logits.softmax(-1) * full).sum()) - kl(logits, LOGITS) / beta

    generator = torch.Generator().manual_seed(0)
    others = [best + 0.3 * torch.randn(5, generator=generator) for _ in range(50)]
    assert all(worth(best) > worth(other) for other in others)


@pytest.mark.parametrize("limit", [0.01, 0.2, 1.0])
def test_the_trust_region_is_used_up_and_not_left(limit: float) -> None:
    moved = shifted(LOGITS, ADVANTAGES, 50.0, limit)
    assert kl(moved, LOGITS) == pytest.approx(limit, rel=1e-3)


def test_a_beta_within_the_trust_region_is_left_alone() -> None:
    assert within(LOGITS, ADVANTAGES.ids_S, ADVANTAGES.values_S, 0.5, 10.0) == 0.5
    assert within(LOGITS, ADVANTAGES.ids_S, ADVANTAGES.values_S, 99.0, math.inf) == 99.0


def test_tokens_without_an_advantage_keep_their_odds() -> None:
    moved = shifted(LOGITS, ADVANTAGES, 2.0)
    assert torch.equal(moved[[0, 1, 3]], LOGITS[[0, 1, 3]])
    assert moved[2] > LOGITS[2] and moved[4] < LOGITS[4]


def test_nothing_known_changes_nothing() -> None:
    none = Advantages(torch.tensor([], dtype=torch.int64), torch.tensor([]))
    assert shifted(LOGITS, none, 5.0, 1.0) is LOGITS


def test_interpolation_is_that_of_probabilities() -> None:
    p = torch.tensor([0.75, 0.25])
    found = interpolated(LOGITS, torch.tensor([4, 1]), p, 0.3).exp()
    expected = 0.7 * LOGITS.softmax(-1)
    expected[4] += 0.3 * 0.75
    expected[1] += 0.3 * 0.25
    assert torch.allclose(found, expected, atol=1e-6) and found.sum() == pytest.approx(1.0, abs=1e-5)


def test_weights_of_one_token_add_up() -> None:
    ids, sums = token_sums([7, 3, 7], [0.5, 1.0, 0.25])
    assert ids.tolist() == [3, 7] and sums.tolist() == [1.0, 0.75]


@pytest.mark.parametrize("family", ["llama", "gpt2"])  # the fast decoder, and Transformers' own
def test_both_decoders_let_each_row_be_steered(family: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    base = BaseModel.load(str(make_tiny(family, tmp_path_factory.mktemp("steered"))), device="cpu")
    assert decodes_fast(base) == (family == "llama")
    wanted = {0: [9, 11, 12], 1: [20, 21, 22], 2: [40, 41, 42]}
    sizes = set()

    def steer(step: Step) -> torch.Tensor:
        sizes.add((step.hidden_BD.shape, step.logits_BV.shape))
        logits = step.logits_BV.clone()
        for row, (prompt, written) in enumerate(zip(step.prompts, step.written, strict=True)):
            logits[row, wanted[prompt][len(written)]] += 1e4
        return logits

    made = generate(base, [[5, 6, 7], [8], [5, 6]], 3, steer=steer)
    assert [list(one.ids) for one in made] == list(wanted.values())
    assert sizes == {((3, base.hidden_size), (3, base.vocab_size))}


def test_steering_a_base_ends_with_its_block_and_adds_to_the_callers(tiny_base: BaseModel) -> None:
    def towards(token: int, by: float) -> object:
        return lambda step: step.logits_BV + by * torch.nn.functional.one_hot(torch.tensor(token), tiny_base.vocab_size)

    plain = generate(tiny_base, [[5, 6]], 2)[0].ids
    with tiny_base.steered(towards(30, 1e4)):  # type: ignore[arg-type]
        assert generate(tiny_base, [[5, 6]], 2)[0].ids == (30, 30)
        assert generate(tiny_base, [[5, 6]], 2, steer=towards(31, 2e4))[0].ids == (31, 31)  # type: ignore[arg-type]
    assert generate(tiny_base, [[5, 6]], 2)[0].ids == plain


def test_what_is_scored_is_steered_too(tiny_base: BaseModel) -> None:
    text = "The quick brown fox jumps."
    before, count = tiny_base.token_nll([text])
    with tiny_base.steered(lambda step: torch.zeros_like(step.logits_BV)):
        uniform, same = tiny_base.token_nll([text])
    assert uniform == pytest.approx(count * math.log(tiny_base.vocab_size), rel=1e-4) and same == count
    assert tiny_base.token_nll([text])[0] == before
