"""generation.py: our greedy decoding against Transformers' own, streaming, windows, batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from tiny_models import FAMILIES, make_tiny
from torch import Tensor, nn

from continual_learning.errors import InputError, StoppedError
from continual_learning.model import fast_decoder, generation
from continual_learning.model.base_model import BaseModel
from continual_learning.model.fast_decoder import FastDecoder
from continual_learning.model.generation import GenerationControl, controlled, generate

PROMPTS = ["The quick brown fox", "Comb", "What is the capital of France? The capital of", "Question: Who lives"]


@pytest.fixture(scope="module", params=FAMILIES)
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BaseModel]:
    yield BaseModel.load(str(make_tiny(request.param, tmp_path_factory.mktemp("family"))), device="cpu")


def by_transformers(base: BaseModel, prompts: list[list[int]], n: int, stop: int) -> list[tuple[int, ...]]:
    longest = max(map(len, prompts))
    pad = base.tokenizer.pad_token_id
    ids_BT = torch.tensor([[pad] * (longest - len(p)) + p for p in prompts])
    mask_BT = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts])
    out_BT = base.model.generate(
        input_ids=ids_BT,
        attention_mask=mask_BT,
        max_new_tokens=n,
        do_sample=False,
        eos_token_id=stop,
        pad_token_id=pad,
    )
    rows = [row[longest:].tolist() for row in out_BT]
    return [tuple(row[: row.index(stop)] if stop in row else row) for row in rows]


def test_single_prompts_equal_transformers(base: BaseModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "stop_ids", frozenset({1}))
    for text in PROMPTS[:2]:
        ids = base.encode(text)
        (got,) = generate(base, [ids], 20)
        assert (got.ids,) == tuple(by_transformers(base, [ids], 20, stop=1))
        assert got.tokens == len(got.ids) > 0
        assert got.text == base.decode(got.ids).rstrip("\ufffd")
        assert got.seconds > 0


def test_the_probability_is_the_geometric_mean_of_the_tokens(base: BaseModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "stop_ids", frozenset())
    prompts = [base.encode(text) for text in PROMPTS]
    rows = [found.ids for found in generate(base, prompts, 8)]
    # A token that ends one row, and that one not at once.
    stops = (ids[n] for ids in rows for n in range(1, 7) if ids[n] not in ids[:n])
    monkeypatch.setattr(base, "stop_ids", frozenset({next(stops)}))
    results = [(prompt, found) for prompt, found in zip(prompts, generate(base, prompts, 8), strict=True) if found.ids]
    assert len({len(found.ids) for _, found in results}) > 1, "a row that ended is to be among them"
    for prompt, found in results:
        ids_1T = torch.tensor([[*prompt, *found.ids]])
        with torch.no_grad():
            log_p_TV = base.model(ids_1T).logits[0].float().log_softmax(-1)
        written = [log_p_TV[len(prompt) - 1 + n, token] for n, token in enumerate(found.ids)]
        assert found.probability == pytest.approx(float(torch.stack(written).mean().exp()), rel=2e-3)


def test_nothing_written_has_no_probability(base: BaseModel, monkeypatch: pytest.MonkeyPatch) -> None:
    prompt = base.encode(PROMPTS[0])
    monkeypatch.setattr(base, "stop_ids", frozenset(generate(base, [prompt], 1)[0].ids))
    [found] = generate(base, [prompt], 4)
    assert found.ids == () and found.probability is None


def test_a_batch_of_different_lengths_equals_transformers(base: BaseModel, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = [base.encode(text) for text in PROMPTS]
    # A token that one row writes early stops that row, and the others go on without it.
    monkeypatch.setattr(base, "stop_ids", frozenset())
    stop = generate(base, [prompts[1]], 20)[0].ids[4]
    monkeypatch.setattr(base, "stop_ids", frozenset({stop}))
    got = [g.ids for g in generate(base, prompts, 20)]
    assert got == by_transformers(base, prompts, 20, stop)
    assert len({len(ids) for ids in got}) > 1


def test_a_row_does_not_depend_on_the_rows_beside_it(base: BaseModel) -> None:
    prompts = [base.encode(text) for text in PROMPTS]
    together = generate(base, prompts, 12)
    assert [g.ids for g in together] == [generate(base, [p], 12)[0].ids for p in prompts]


def test_patched_modules_take_part(tiny_base: BaseModel) -> None:
    ids = tiny_base.encode(PROMPTS[0])
    before = generate(tiny_base, [ids], 8)[0].ids
    with tiny_base.patched({tiny_base.mlp_path(3): nn.Identity()}):
        assert generate(tiny_base, [ids], 8)[0].ids != before
    assert generate(tiny_base, [ids], 8)[0].ids == before


def test_more_prompts_than_a_batch_come_back_in_order(tiny_base: BaseModel, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = [tiny_base.encode("dog " * (1 + i % 5) + str(i)) for i in range(10)]
    one_by_one = [generate(tiny_base, [p], 4)[0].ids for p in prompts]
    monkeypatch.setattr(generation, "BATCH_ROWS", 3)
    assert [g.ids for g in generate(tiny_base, prompts, 4)] == one_by_one
    assert generate(tiny_base, [], 4) == []


def test_batches_keep_both_limits() -> None:
    lengths = [10] * 40 + [9_000, 9_000, 5_000]
    batches = list(generation._batches(lengths))
    # 5,000 takes two more with it: a fourth row padded to its length would pass 16,384 tokens.
    assert batches == [[40], [41], [42, 0, 1], [*range(2, 34)], [*range(34, 40)]]


def test_generation_ends_with_the_window(tiny_base: BaseModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiny_base, "stop_ids", frozenset())
    short, long = [5] * 200, [5] * 250
    got = generate(tiny_base, [short, long], 100)
    assert [g.tokens for g in got] == [56, 6]
    assert got[1].ids == generate(tiny_base, [long], 100)[0].ids


@pytest.mark.parametrize(
    ("prompts", "n", "message"),
    [
        ([[5] * 256], 4, "a prompt of 256 tokens; expected fewer than the model's window of 256"),
        ([[5], []], 4, "a prompt of 0 tokens"),
        ([[5]], 0, "max_new_tokens = 0; expected at least 1"),
    ],
)
def test_bad_input(tiny_base: BaseModel, prompts: list[list[int]], n: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        generate(tiny_base, prompts, n)


def test_streaming_sends_the_text_and_takes_one_prompt(base: BaseModel) -> None:
    pieces: list[str] = []
    ids = base.encode(PROMPTS[2])
    (got,) = generate(base, [ids], 20, on_token=pieces.append)
    assert "".join(pieces) == got.text == generate(base, [ids], 20)[0].text
    assert len(pieces) > 1
    assert all(pieces)
    with pytest.raises(InputError, match="on_token with 2 prompts"):
        generate(base, [ids, ids], 4, on_token=pieces.append)


def test_streaming_never_splits_a_character(tiny_base: BaseModel) -> None:
    text = "naïve 日本語 café"
    ids = tiny_base.encode(text)
    assert any("\ufffd" in tiny_base.decode(ids[:n]) for n in range(len(ids)))
    pieces: list[str] = []
    writer = generation._TextWriter(tiny_base, pieces.append)
    for n in range(1, len(ids) + 1):
        assert not writer.write(ids[:n])
    assert writer.close(ids) == text == "".join(pieces)
    assert not any("\ufffd" in piece for piece in pieces)


def test_a_plain_transcript_ends_at_the_next_question(tiny_base: BaseModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiny_base, "stop_text", "\nQuestion:")
    ids = tiny_base.encode(" Paris.\nQuest of\nQuestion: Who")
    pieces: list[str] = []
    writer = generation._TextWriter(tiny_base, pieces.append)
    stops = [writer.write(ids[:n]) for n in range(1, len(ids) + 1)]
    end = stops.index(True)
    assert tiny_base.decode(ids[: end + 1]).endswith(":")
    assert "".join(pieces) == " Paris.\nQuest of"
    assert writer.close(ids[: end + 1]) == " Paris.\nQuest of"


def test_one_line_ends_with_the_first_that_is_not_empty(tiny_base: BaseModel) -> None:
    ids = tiny_base.encode("\n Paris.\nWho lives")
    pieces: list[str] = []
    writer = generation._TextWriter(tiny_base, pieces.append, one_line=True)
    stops = [writer.write(ids[:n]) for n in range(1, len(ids) + 1)]
    assert tiny_base.decode(ids[: stops.index(True) + 1]).count("\n") == 2
    assert writer.close(ids) == "".join(pieces) == "\n Paris."


def test_the_end_of_turn_of_the_template_stops(tiny_base: BaseModel) -> None:
    eos, end_of_turn = tiny_base.encode("<|endoftext|><|im_end|>", special_words=True)
    assert tiny_base.stop_ids == {eos, end_of_turn}
    assert tiny_base.stop_text is None


@pytest.mark.parametrize("streamed", [False, True])
def test_a_text_cut_within_a_character_ends_before_it(
    tiny_base: BaseModel, monkeypatch: pytest.MonkeyPatch, streamed: bool
) -> None:
    monkeypatch.setattr(tiny_base, "stop_ids", frozenset())
    wanted = "fox 🦊 é 日本"
    ids = tiny_base.encode(wanted)
    assert any("\ufffd" in tiny_base.decode(ids[:n]) for n in range(len(ids)))
    for limit in range(1, len(ids) + 1):
        forced, pieces = iter(ids), list[str]()
        (made,) = generate(
            tiny_base, [tiny_base.encode("a")], limit, pieces.append if streamed else None,
            choose=lambda _logits, forced=forced: torch.tensor([next(forced)]),
        )  # fmt: skip
        assert wanted.startswith(made.text) and made.ids == tuple(ids[:limit])
        assert not streamed or "".join(pieces) == made.text
    assert made.text == wanted


def test_a_prompt_that_nobody_waits_for_is_read_no_further(
    tiny_base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompt = tiny_base.encode("The quick brown fox jumps over the lazy dog.")
    generate(tiny_base, [prompt], 1)  # the decoder is chosen
    control, read, pieces = GenerationControl(), FastDecoder._forward, []

    def forward(self: FastDecoder, *args: Any) -> Tensor:
        pieces.append(args)
        control.give_up("the client left")
        return read(self, *args)

    monkeypatch.setattr(fast_decoder, "_PIECE", 3)
    monkeypatch.setattr(FastDecoder, "_forward", forward)
    with controlled(control), pytest.raises(StoppedError, match="the client left"):
        generate(tiny_base, [prompt], 12)
    assert len(pieces) == 1


def test_a_generation_is_ended_or_given_up_from_outside(tiny_base: BaseModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiny_base, "stop_ids", frozenset())
    prompt = tiny_base.encode("The quick brown fox")
    whole = generate(tiny_base, [prompt], 12)[0]
    steps = 0

    def after(count: int, act: Callable[[], None]) -> Callable[[Tensor], Tensor]:
        nonlocal steps
        steps = 0

        def choose(logits_BV: Tensor) -> Tensor:
            nonlocal steps
            steps += 1
            if steps == count:
                act()
            return logits_BV.argmax(-1)

        return choose

    control = GenerationControl()
    with controlled(control):
        (ended,) = generate(tiny_base, [prompt], 12, choose=after(5, control.end))
    assert ended.ids == whole.ids[:5]
    control = GenerationControl()
    with controlled(control), pytest.raises(StoppedError, match="why"):
        generate(tiny_base, [prompt], 12, choose=after(5, lambda: control.give_up("why")))
    assert steps == 5
    assert generate(tiny_base, [prompt], 12)[0].ids == whole.ids, "what is outside is not ruled"
