"""Pointing at answers in a text: what the base reads, what rules say, the network, files, and answers."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from generations import watch_generations
from tiny_models import make_tiny

from continual_learning.app.feedback import FeedbackMemory, FeedbackSteer
from continual_learning.documents import Document
from continual_learning.errors import ConfigError, CorruptMemoryError, MismatchError
from continual_learning.model.base_model import BaseModel
from continual_learning.reading.answering import answers_from
from continual_learning.reading.span_reader import SpanReader, load_reader, packaged_reader, save_reader
from continual_learning.reading.span_reader.features import FEATURES, TextWords, token_features
from continual_learning.reading.span_reader.network import NetworkShape, SpanNetwork
from continual_learning.reading.span_reader.reader import batch_of, best_spans, readings
from continual_learning.reading.span_reader.states import read_states
from continual_learning.reading.spans import FoundSpan, Reading
from continual_learning.retrieval.routing import default_rarity
from continual_learning.strategies.base import make_strategy
from continual_learning.types import Answer, Source

TEXT = "Otto Brand lives in Lund. His seven cats sleep all day. Comb jellies eat plankton near the harbour in 1920."
ASKED = ("What do comb jellies eat near the harbour?", "Where does Otto Brand live?")


def shape(base: BaseModel, **changed: Any) -> NetworkShape:
    return NetworkShape(base.hidden_size, (1, 3), len(FEATURES), **{"width": 16, "layers": 1, "heads": 2, **changed})


def a_reader(base: BaseModel, seed: int = 0) -> SpanReader:
    torch.manual_seed(seed)
    network = SpanNetwork(shape(base))
    network.train(False)
    return SpanReader(network.requires_grad_(False), base.fingerprint, {"made": "by chance"})


@pytest.fixture(scope="module")
def states(tiny_base: BaseModel) -> Any:
    return read_states(tiny_base, "Lund", TEXT, ASKED, (1, 3))


# -- what the base reads ---------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])
def test_states_are_those_of_one_pass_over_text_and_question(family: str, tmp_path: Path) -> None:
    base = BaseModel.load(str(make_tiny(family, tmp_path)), device="cpu")
    found = read_states(base, "Lund", TEXT, ASKED, (1, 3))
    begin = [] if base.tokenizer.bos_token_id is None else [base.tokenizer.bos_token_id]
    before = [*begin, *base.encode("Lund\n")]
    text, asked = base.encode(TEXT), base.encode(f"\nQuestion: {ASKED[1]}\nAnswer:")
    whole = torch.tensor([[*before, *text, *asked]])
    for place, block in enumerate((1, 3)):
        expected = base.hidden_before(whole, block)[0, len(before) :]
        got = torch.cat([found.text_TLD[:, place], found.questions_QLD[1][:, place]])
        torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-3)
    last = base.run_from(base.hidden_before(whole, 0), whole, 0)[0, -1]
    likely = base.logits(last).log_softmax(-1)[torch.tensor(text)]
    torch.testing.assert_close(found.first_T[1], likely, atol=1e-4, rtol=1e-3)
    assert TEXT[slice(*found.offsets[0])].strip() == base.decode(text[:1]).strip()


def test_what_does_not_fit_the_window_is_left_out(tiny_base: BaseModel) -> None:
    found = read_states(tiny_base, "Lund", TEXT * 40, [ASKED[0] * 40], (1,))
    assert 0 < len(found.offsets) == len(found.text_TLD) < tiny_base.window
    assert len(found.questions_QLD[0]) <= 128


# -- what rules say --------------------------------------------------------------------------------


def test_features_say_what_stands_beside_the_questions_words(tiny_base: BaseModel, states: Any) -> None:
    words = TextWords.of(TEXT, states.offsets)
    found_TF = token_features(words, ASKED[0], default_rarity(), states.first_T[0])
    assert found_TF.shape == (len(states.offsets), len(FEATURES)) and bool(found_TF.isfinite().all())

    def of(word: str, feature: str) -> float:
        start = TEXT.index(word)
        token = next(i for i, (a, b) in enumerate(states.offsets) if a <= start < b)
        return float(found_TF[token, FEATURES.index(feature)])

    assert of("jellies", "shared") == 1 and of("plankton", "shared") == 0
    assert of("plankton", "near_shared") > of("cats", "near_shared")
    assert of("eat", "before_shared") == 0 and of("Comb", "before_shared") == 1
    assert of("1920", "digit") == 1 and of("1920", "date") == 1 and of("1920", "before_punctuation") == 1
    assert of("plankton", "best_sentence") == 1 and of("Otto", "best_sentence") == 0
    assert of("plankton", "window_score") >= of("Otto", "window_score")
    asks_when = token_features(words, "When did jellies eat?", default_rarity(), states.first_T[0])
    assert asks_when[:, FEATURES.index("kind_asked_for")].sum() > 0 == found_TF[:, FEATURES.index("digit")].min()


def test_a_text_without_a_word_is_said_to_be_none() -> None:
    with pytest.raises(ValueError, match="without a word"):
        TextWords.of("  \n", [(0, 1)])


# -- the network -----------------------------------------------------------------------------------


def test_padding_changes_no_score(tiny_base: BaseModel, states: Any) -> None:
    network = a_reader(tiny_base).network
    short = read_states(tiny_base, "Lund", TEXT[:60], ASKED[:1], (1, 3))
    rows = [*readings(states, ASKED), *readings(short, ASKED[:1])]
    together = network(*batch_of(rows))
    for row, scores_TT in zip(rows, together, strict=True):
        alone = network(*batch_of([row]))[0]
        n = len(alone)
        torch.testing.assert_close(scores_TT[:n, :n], alone, atol=1e-4, rtol=1e-4)
        assert (scores_TT[n:] < -1000).all() and (scores_TT[:, n:] < -1000).all()


def test_a_span_ends_where_it_begins_or_later_and_is_not_too_long(tiny_base: BaseModel, states: Any) -> None:
    scores = a_reader(tiny_base).network(*batch_of(readings(states, ASKED)))[0]
    possible = scores > -1000
    longest = a_reader(tiny_base).network.shape.longest
    assert all(0 <= j - i < longest for i, j in possible.nonzero().tolist())
    assert possible.diagonal().all()


def test_attention_goes_both_ways(tiny_base: BaseModel, states: Any) -> None:
    network = a_reader(tiny_base).network
    row = readings(states, ASKED)[0]
    before = network(*batch_of([row]))[0, 0, 0]
    row.features_TF[-1] += 3.0  # the last word of the text
    after = network(*batch_of([row]))[0, 0, 0]
    assert abs(float(after - before)) > 1e-6


def test_best_spans_do_not_overlap_and_have_no_punctuation_around_them() -> None:
    text = "(Otto Brand), lives in Lund."
    offsets = [(0, 1), (1, 5), (6, 11), (11, 13), (14, 19), (20, 22), (23, 27), (27, 28)]
    scores = torch.full((8, 8), -1e4)
    scores[0, 3], scores[1, 2], scores[6, 7], scores[7, 7] = 5.0, 4.0, 3.0, 2.0
    found = best_spans(scores, text, offsets, 2)
    assert [span.text for span in found] == ["Otto Brand", "Lund"]
    assert [text[s.start :][: len(s.text)] for s in found] == ["Otto Brand", "Lund"]
    assert found[0].probability > found[1].probability > 0


# -- readers and their files -----------------------------------------------------------------------


def test_a_reader_is_the_same_after_saving(tiny_base: BaseModel, tmp_path: Path) -> None:
    reader = a_reader(tiny_base)
    save_reader(reader, tmp_path / "r.safetensors")
    loaded = load_reader(tmp_path / "r.safetensors")
    assert loaded.facts == {"made": "by chance"} and loaded.network.shape == reader.network.shape
    both = [one.read(tiny_base, "Lund", TEXT, ASKED, 3) for one in (reader, loaded)]
    assert [[s.text for s in one.spans] for one in both[0]] == [[s.text for s in one.spans] for one in both[1]]
    assert all(len(one.spans) == 3 and one.said and one.unknown == 0 for one in both[0])
    assert all(one.confidence == one.spans[0].probability for one in both[0])
    assert (
        reader.read(tiny_base, "Lund", " ", ASKED) == [Reading(())] * 2
        and reader.read(tiny_base, "Lund", TEXT, []) == []
    )


def test_a_file_that_is_no_reader_is_refused(tiny_base: BaseModel, tmp_path: Path) -> None:
    path = tmp_path / "r.safetensors"
    with pytest.raises(ConfigError, match="no such file"):
        load_reader(path)
    path.write_bytes(b"hello")
    with pytest.raises(CorruptMemoryError, match="not a span reader"):
        load_reader(path)
    reader = a_reader(tiny_base)
    save_reader(reader, path)
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"continual-learning span reader 1", b"continual-learning span reader 9"))
    with pytest.raises(CorruptMemoryError, match="format"):
        load_reader(path)


def test_a_reader_of_another_base_is_refused(tiny_base: BaseModel) -> None:
    reader = SpanReader(a_reader(tiny_base).network, "f" * 64)
    with pytest.raises(MismatchError, match="train reader"):
        reader.read(tiny_base, "Lund", TEXT, ASKED)
    assert packaged_reader(tiny_base) is None


# -- answers ---------------------------------------------------------------------------------------


class Fixed:
    """Stands for a reader that found these spans."""

    def __init__(self, *spans: tuple[str, float], unknown: float = 0.0, confidence: float = 0.25):
        self.spans = spans
        self.unknown = unknown
        self.confidence = confidence

    def read(self, base: BaseModel, title: str, text: str, questions: Any, count: int = 3) -> list[Reading]:
        spans = tuple(FoundSpan(span, max(0, text.find(span)), chance) for span, chance in self.spans[:count])
        return [Reading(spans, self.unknown, self.confidence) for _ in questions]


PASSAGES = (Source("a", "Lund", 0.5, chunk=0, text=TEXT), Source("b", "Seas", 0.4, chunk=2, text="Krill drift."))


def answered(base: BaseModel, reader: Any, room: int = 60) -> Answer:
    [answer] = answers_from(base, reader, PASSAGES, [ASKED[0]], room)
    return answer


def said(base: BaseModel, reader: Any) -> str:
    return answered(base, reader).text


def test_the_likeliest_span_is_the_answer_and_the_others_are_alternatives(tiny_base: BaseModel) -> None:
    answer = answered(tiny_base, Fixed(("plankton", 0.4), ("Lund", 0.3), ("day", 0.1)))
    assert answer.text == "plankton" and answer.origin == "memory" and answer.confidence == 0.25
    assert [a.text for a in answer.alternatives] == ["Lund", "day"]
    assert [a.probability for a in answer.alternatives] == pytest.approx([0.3, 0.1])
    assert answered(tiny_base, Fixed(("plankton", 0.4)), room=1).tokens == 1


def test_a_span_that_occurs_twice_has_the_probability_of_both(tiny_base: BaseModel) -> None:
    answer = answered(tiny_base, Fixed(("plankton", 0.4), ("Lund", 0.3), ("Lund", 0.2)))
    assert answer.text == "Lund" and answer.alternatives[0].text == "plankton"


def test_the_source_of_an_answer_is_the_passage_that_it_is_a_span_of(tiny_base: BaseModel) -> None:
    first, second = answered(tiny_base, Fixed(("Krill", 0.4), ("plankton", 0.3))).sources
    assert (first.document_id, first.chunk, first.quote, first.text) == ("b", 2, "Krill", "Krill drift.")
    assert (second.document_id, second.quote) == ("a", "")
    assert answered(tiny_base, Fixed(("plankton", 0.3))).sources[0].quote == "plankton"


def test_a_text_that_does_not_say_is_an_answer_of_one_sentence(tiny_base: BaseModel) -> None:
    answer = answered(tiny_base, Fixed(("plankton", 0.3), unknown=0.6, confidence=0.7))
    nearest = "Comb jellies eat plankton near the harbour in 1920."
    assert answer.text == f'"Lund" does not say. The nearest passage: "{nearest}"'
    assert answer.origin == "unknown" and answer.confidence == 0.7
    assert [a.text for a in answer.alternatives] == ["plankton"]
    assert answer.sources[0].document_id == "a" and answer.sources[0].quote == nearest
    assert answered(tiny_base, Fixed()).origin == "unknown", "nothing was found"
    assert answered(tiny_base, Fixed(("plankton", 0.5), unknown=0.2)).text == "plankton"


def test_feedback_moves_the_choice(tiny_base: BaseModel) -> None:
    reader = Fixed(("plankton", 0.6), ("Lund", 0.3))

    def after(answer: str, reward: float | None, correction: str | None = None) -> str:
        memory = FeedbackMemory().add(ASKED[0], answer, reward, correction)
        with tiny_base.steered(FeedbackSteer(tiny_base, memory.about(ASKED[0]))):
            return said(tiny_base, reader)

    assert after("plankton", -1.0) == "Lund"
    assert after("Lund", 1.0) == "Lund"
    assert after("plankton", None, "krill") == "krill"
    assert after("plankton / Lund", None, "krill") == "krill", "an answer of an earlier version"
    assert after("plankton", 1.0) == "plankton"
    assert said(tiny_base, reader) == "plankton"


def test_log_likelihoods_stay_normalised_under_feedback(tiny_base: BaseModel) -> None:
    memory = FeedbackMemory().add(ASKED[0], "plankton", None, "krill")
    steer = FeedbackSteer(tiny_base, memory.about(ASKED[0]))
    moved = steer.weigh({"plankton": math.log(0.6), "Lund": math.log(0.4)})
    assert sum(map(math.exp, moved.values())) == pytest.approx(1.0)
    assert moved["krill"] > moved["Lund"] > moved["plankton"]


@pytest.mark.parametrize("name", ["quote", "ttt"])
def test_a_strategy_answers_with_the_spans_of_the_reader_that_is_set(
    name: str, tiny_base: BaseModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "continual_learning.strategies.methods.ttt.recite.recite_all", lambda *_: TEXT
    )  # as if learned by heart
    path = tmp_path / "r.safetensors"
    save_reader(a_reader(tiny_base), path)
    quick = {"guard": False, "passes": 1, "neurons": 8} if name == "ttt" else {}
    plain = make_strategy(name, {"reader": None, **quick})
    state, report = plain.learn(tiny_base, plain.init(tiny_base), Document(TEXT, "Lund"))
    assert report.accepted
    with_reader = make_strategy(name, {"reader": str(path), **quick})
    quoted, one = (s.answer(tiny_base, state, [ASKED[0]], 30)[0] for s in (plain, with_reader))
    assert one.text in TEXT and one.text != quoted.text and one.alternatives[0].text in TEXT
    assert one.origin == quoted.origin == "memory"
    [source] = one.sources
    assert (source.text, source.quote, source.chunk, source.recited) == (TEXT, one.text, 0, name == "ttt")
    heard: list[str] = []
    with_reader.answer(tiny_base, state, [ASKED[0]], 30, heard.append)
    assert "".join(heard) == one.text
    with pytest.raises(ConfigError, match="no such file"):
        make_strategy(name, {"reader": str(tmp_path / "none"), **quick}).answer(tiny_base, state, [ASKED[0]], 30)


def test_a_passage_is_recited_once_for_all_questions(tiny_base: BaseModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("continual_learning.reading.pipeline.chosen_reader", lambda *_: Fixed(("plankton", 0.9)))
    strategy = make_strategy("ttt", {"guard": False, "passes": 1, "neurons": 8})
    state, _ = strategy.learn(tiny_base, strategy.init(tiny_base), Document(TEXT, "Lund"))
    calls = watch_generations(monkeypatch)
    for _ in range(2):
        assert [a.text for a in strategy.answer(tiny_base, state, [ASKED[0]] * 2, 30)] == ["plankton"] * 2
    assert len(calls) == 1
    other, _ = strategy.learn(tiny_base, strategy.init(tiny_base), Document(TEXT, "Lund"))
    strategy.answer(tiny_base, other, [ASKED[0]], 30)
    assert len(calls) == 2  # other weights, though they are of the same document
