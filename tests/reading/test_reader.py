"""The reader: exact probabilities of spans, questions that do not see each other, texts that are read once."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from tiny_models import make_tiny

from continual_learning.errors import ConfigError, CorruptMemoryError, MismatchError
from continual_learning.model.base_model import BaseModel
from continual_learning.reading.reader.adapter import adapted, new_weights
from continual_learning.reading.reader.calibration import Calibration, Observed, fitted
from continual_learning.reading.reader.reader import (
    END,
    Reader,
    load_reader,
    question_prompt,
    save_reader,
    text_prompt,
)
from continual_learning.reading.reader.span_search import SpanTrie

TITLE = "Orsel"
TEXT = "Marta Quill built the ferry of Orsel in 1874. It carries coal, and `mail --night` to the island."
ASKED = ["Who built the ferry?", "What does it carry to the island of Orsel in winter?", "When?"]


def made(base: BaseModel) -> Reader:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        weights = new_weights(base, 1, 2)
        for name, weight in weights.items():
            if name.endswith(".B"):
                weight.normal_(std=0.3)
    return Reader(weights, base.fingerprint, Calibration())


def written(base: BaseModel, reader: Reader, before: str, wanted: list[int], play: list[int] | None = None) -> float:
    """Probability that the adapted base writes these tokens after the text and ``before``; of those in ``play``."""
    begin = [] if base.tokenizer.bos_token_id is None else [base.tokenizer.bos_token_id]
    prompt = [*begin, *base.encode(text_prompt(TITLE, TEXT)), *base.encode(before)]
    with base.patched(adapted(base, reader.weights)), torch.no_grad():
        ids = torch.tensor([[*prompt, *wanted]])
        hidden = base.backbone(input_ids=ids, use_cache=False).last_hidden_state[0]
        logits = base.logits(hidden)
        likely = logits - logits[:, play or slice(None)].logsumexp(-1, keepdim=True)
    return math.exp(sum(float(likely[len(prompt) - 1 + i, token]) for i, token in enumerate(wanted)))


def unweighed(*given: object) -> object:
    return given[5]


@pytest.mark.parametrize("family", ["llama", "gemma3", "mistral"])
def test_a_spans_probability_is_that_of_writing_it(
    family: str, tmp_path: Path, tiny_base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the last two have blocks that attend to the last 8 or 16 tokens alone
    base = tiny_base if family == "llama" else BaseModel.load(str(make_tiny(family, tmp_path)), device="cpu")
    monkeypatch.setattr("continual_learning.reading.reader.reader.weighed_by_question", unweighed)
    reader = made(base)
    found = reader.read(base, TITLE, TEXT, ASKED, 3)
    spans = [(question, span) for question, one in zip(ASKED, found, strict=True) for span in one.spans]
    assert spans
    for question, span in spans:
        wanted = [*base.encode(f" {span.text}"), *base.encode(END)]
        expected = written(base, reader, question_prompt(question), wanted)
        assert span.probability == pytest.approx(expected, rel=1e-3)
        assert TEXT[span.start :].startswith(span.text)


def test_of_a_large_vocabulary_the_tokens_of_text_and_questions_compete(
    tiny_base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("continual_learning.reading.reader.reader.weighed_by_question", unweighed)
    monkeypatch.setattr("continual_learning.reading.reader.tokens_in_play.background_texts", lambda: ["and then"])
    monkeypatch.setattr("continual_learning.reading.reader.tokens_in_play._SMALL", 10)
    monkeypatch.setattr(tiny_base, "_remembered", {})
    reader = made(tiny_base)
    [found] = reader.read(tiny_base, TITLE, TEXT, ASKED[:1], 3)
    texts = (TEXT, ASKED[0], "and then")
    play = {token for text in texts for token in tiny_base.encode(f" {text}")}
    play |= {*SpanTrie(TEXT, tiny_base.tokenizer).tokens, *tiny_base.encode(END), tiny_base.encode(" unknown")[0]}
    assert len(play) < tiny_base.vocab_size / 2 and found.spans
    for span in found.spans:
        wanted = [*tiny_base.encode(f" {span.text}"), *tiny_base.encode(END)]
        share = written(tiny_base, reader, question_prompt(ASKED[0]), wanted, sorted(play))
        assert span.probability == pytest.approx(share, rel=1e-3)


def test_of_answers_as_likely_the_one_that_the_question_fits_is_first(
    tiny_base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = made(tiny_base)
    weighed = reader.read(tiny_base, TITLE, TEXT, ASKED, 8)
    monkeypatch.setattr("continual_learning.reading.reader.reader.weighed_by_question", unweighed)
    changed = 0
    for question, before, after in zip(ASKED, reader.read(tiny_base, TITLE, TEXT, ASKED, 8), weighed, strict=True):
        best = before.spans[0].probability
        rivals = [span for span in before.spans[:3] if span.probability >= 0.2 * best]
        wanted = tiny_base.encode(f" {question}")
        likely = {
            span.text: span.probability * written(tiny_base, reader, f"\nAnswer: {span.text}\nQuestion:", wanted) ** 0.5
            for span in rivals
        }
        share = sum(span.probability for span in rivals) / sum(likely.values())
        now = {span.text: span.probability for span in after.spans}
        for text, probability in likely.items():
            assert now[text] == pytest.approx(probability * share, rel=1e-3)
        assert [s.probability for s in after.spans] == sorted((s.probability for s in after.spans), reverse=True)
        changed += len(rivals) > 1
    assert changed


def test_questions_do_not_see_each_other_and_a_text_is_read_once(
    tiny_base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = made(tiny_base)
    together = reader.read(tiny_base, TITLE, TEXT, ASKED)
    read: list[int] = []
    backbone = tiny_base.backbone.forward

    def counted(*args: object, **given: torch.Tensor) -> object:
        read.append(given["input_ids"].shape[1])
        return backbone(*args, **given)

    monkeypatch.setattr(tiny_base.backbone, "forward", counted)
    apart = [reader.read(tiny_base, TITLE, TEXT, [question])[0] for question in ASKED]
    for one, other in zip(together, apart, strict=True):
        assert [span.text for span in one.spans] == [span.text for span in other.spans]
        assert one.seen == pytest.approx(other.seen, rel=1e-3)
    assert max(read) < len(tiny_base.encode(TEXT))


def test_spans_keep_words_commands_and_lines_whole(tiny_base: BaseModel) -> None:
    text = "Run `mail --night` at 10.5 km from\nthe pier.\n- Coal goes first.\n\nLast words."
    trie = SpanTrie(text, tiny_base.tokenizer)
    found = set()
    open_nodes = [trie.root]
    while open_nodes:
        node = open_nodes.pop()
        open_nodes += node.ways.values()
        if node.span:
            found.add(text[slice(*node.span)])
    assert "mail --night" in found and "10.5 km" in found and "from\nthe pier" in found and "Coal" in found
    assert not any(cut in found for cut in ("mail", "--night", "10", "10.", "5 km", "pier.\n- Coal", "first.\n\nLast"))


def test_a_text_longer_than_the_window_is_read_up_to_it(tiny_base: BaseModel) -> None:
    reader = made(tiny_base)
    [found] = reader.read(tiny_base, TITLE, "The ferry is old. " * tiny_base.window, ["What is old?"])
    assert found.spans


@pytest.mark.parametrize("text", ["", "…", "?!"])
def test_a_text_without_a_word_says_nothing(tiny_base: BaseModel, text: str) -> None:
    [found] = made(tiny_base).read(tiny_base, "", text, ["Who?"])
    assert not found.spans and not found.said


def test_a_file_holds_the_reader_and_is_for_one_base(tiny_base: BaseModel, tmp_path: Path) -> None:
    reader = made(tiny_base)
    save_reader(reader, tmp_path / "reader.safetensors")
    loaded = load_reader(tmp_path / "reader.safetensors")
    assert loaded.calibration == reader.calibration
    for name, weight in reader.weights.items():
        torch.testing.assert_close(loaded.weights[name], weight, atol=1e-3, rtol=1e-3)
    other = Reader(reader.weights, "another", Calibration())
    with pytest.raises(MismatchError, match="train reader"):
        other.read(tiny_base, "", TEXT, ASKED)
    (tmp_path / "torn.safetensors").write_bytes(b"torn")
    with pytest.raises(CorruptMemoryError, match="train reader"):
        load_reader(tmp_path / "torn.safetensors")
    with pytest.raises(ConfigError, match="no such file"):
        load_reader(tmp_path / "none.safetensors")


def test_the_calibration_gives_the_shares_that_were_observed() -> None:
    sure, unsure = (1.0, 2.0, 1.0, -3.0), (1.0, -2.0, 0.0, 3.0)
    observed = [Observed(sure, n < 80, unknown=False) for n in range(100)]
    observed += [Observed(unsure, n < 30, unknown=False) for n in range(100)]
    observed += [Observed(unsure, False, unknown=True) for _ in range(300)]
    found = fitted(observed)
    assert found.of(sure)[1] == pytest.approx(0.8, abs=0.02) and found.of(unsure)[1] == pytest.approx(0.3, abs=0.02)
    # Of 200 answered questions half look unsure, of 300 others all: 1 / (1 + 0.5) where both kinds are as frequent.
    assert found.of(unsure)[0] == pytest.approx(2 / 3, abs=0.02) and found.of(sure)[0] < 0.02
    assert fitted([]) == Calibration()
