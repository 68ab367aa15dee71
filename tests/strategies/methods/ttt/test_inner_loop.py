"""The inner loop of ttt on a tiny random model: gaps, steps, and what the whole vocabulary prefers."""

from __future__ import annotations

import pytest
import torch

from continual_learning.model.base_model import BaseModel
from continual_learning.model.families import mlp_parts
from continual_learning.model.generation import generate
from continual_learning.strategies.methods.ttt.dual_mlp import NeuronBranch
from continual_learning.strategies.methods.ttt.inner_loop import Batch, Course, prefix_activations
from continual_learning.training.examples import Item

pytestmark = pytest.mark.slow


def course(base: BaseModel, items: list[Item], block: int = 2) -> tuple[Course, dict[int, torch.Tensor]]:
    """A course with a branch of all neurons in a block, and values of zero."""
    parts = mlp_parts(base.mlp(block))
    branch = NeuronBranch(parts, torch.arange(parts.intermediate_size))
    batch = Batch.of(base, items, prefix_activations(base, items, block))
    return Course(base, {block: branch}, 0.0, batch, base.stop_ids), {block: branch.down_KD.detach()}


def test_what_is_looked_up_is_what_the_model_would_say_instead(tiny_base: BaseModel) -> None:
    prompt = tiny_base.encode("Who lives in the house?")
    [made] = generate(tiny_base, [prompt], 5)
    right = Item((*prompt, *made.ids), len(prompt))
    other = Item((*prompt[1:], *prompt[:1], *made.ids[:-1], made.ids[-1] ^ 1), len(prompt))
    wrong = Item((*prompt, *made.ids[:-1], made.ids[-1] ^ 1), len(prompt))
    taught, values = course(tiny_base, [right, wrong])
    assert taught.look_up(values) == [[], [made.ids[-1]]]
    assert len(course(tiny_base, [right, other, wrong])[0].look_up(values)) == 3


def test_a_gap_is_the_log_odds_against_a_token(tiny_base: BaseModel) -> None:
    ids = tuple(tiny_base.encode("Who lives in the house?"))
    taught, values = course(tiny_base, [Item(ids, len(ids) - 2)])
    taught._rivals_S = torch.arange(tiny_base.logits(torch.zeros(1, 32)).shape[-1])
    with torch.no_grad():
        probability_TV = tiny_base.model(torch.tensor([ids])).logits.softmax(dim=-1)[0]
    own = torch.stack([probability_TV[len(ids) - 3, ids[-2]], probability_TV[len(ids) - 2, ids[-1]]])
    torch.testing.assert_close(taught.gaps(values), torch.log((1 - own) / own), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("block", [3, 2])
def test_a_step_aims_at_a_probability_beyond_one_half(block: int, tiny_base: BaseModel) -> None:
    """In the last block, with a neuron for every token, the step is exact but for the loss not being linear."""
    ids = tuple(tiny_base.encode("Who lives in the house?"))
    taught, values = course(tiny_base, [Item(ids, len(ids) - 3)], block)
    taught.look_up(values)
    before = taught.gaps(values)
    steps = 0
    while (taught.gaps(values) > -0.3).any():
        values, seen = taught.step(values, 1.0)
        assert steps or torch.equal(seen, before.detach())
        steps += 1
    assert steps <= 8 and (before > 0).all()
    assert taught.step(values, 1.0)[0] is values, "no token is left to learn"
