"""The everyday documents: the two halves, and the rule by which an answer of each kind is scored."""

from __future__ import annotations

import hashlib
from collections import Counter
from importlib.resources import files

import pytest

from continual_learning.datasets.everyday import KINDS, EverydayQuestion, Half, Kind, everyday_dataset
from continual_learning.errors import InputError
from continual_learning.evaluation.everyday import score
from continual_learning.text.scoring import contains_answer

HALVES: tuple[Half, ...] = ("tuning", "report")
REPORT_SHA256 = "7657edf8d9e050e3f1cfbd4e85ed817b28f0579a0eea4d978be2f42cc3625e65"
DOCUMENT = "word " * 300


def _questions(half: Half) -> list[tuple[str, EverydayQuestion]]:
    documents = everyday_dataset(half).documents
    return [(d.document.text, q) for d in documents for q in d.questions if isinstance(q, EverydayQuestion)]


@pytest.mark.parametrize("half", HALVES)
def test_a_half_has_ten_forms_with_ten_questions_of_mixed_kinds(half: Half) -> None:
    documents = everyday_dataset(half).documents
    assert len({d.document.source for d in documents}) == len(documents) == 10
    assert all(150 <= len(d.document.text.split()) <= 450 for d in documents)
    for item in documents:
        kinds = Counter(q.kind for q in item.questions if isinstance(q, EverydayQuestion))
        assert kinds.pop("summary", 0) + kinds.pop("about", 0) == 1
        assert kinds == {"fact": 3, "yes_no": 1, "list": 1, "count": 1, "two_facts": 1, "unknown": 2}
    answers = Counter(q.answers for _, q in _questions(half) if q.kind == "yes_no")
    assert answers == {("yes",): 5, ("no",): 5}, "always yes is worth no more than always no"


def test_the_half_for_reporting_is_the_one_committed_before_tuning() -> None:
    path = files("continual_learning") / "data" / "everyday" / "report.yaml"
    assert hashlib.sha256(path.read_bytes()).hexdigest() == REPORT_SHA256
    assert not {d.document.title for d in everyday_dataset("tuning").documents} & {
        d.document.title for d in everyday_dataset("report").documents
    }
    with pytest.raises(InputError, match="half 'both'; expected tuning or report"):
        everyday_dataset("both")  # type: ignore[arg-type]


@pytest.mark.parametrize("half", HALVES)
def test_every_right_answer_is_in_its_document_and_scores_1(half: Half) -> None:
    for text, question in _questions(half):
        if question.kind == "unknown":
            right = "The document does not say."
            assert not question.answers
        elif question.parts:
            right = ", ".join(part[0] for part in question.parts[: question.enough or None])
            absent = [part for part in question.parts if not contains_answer(text, part)]
            assert not absent, question.question
        else:
            right = question.answers[0]
            stated = any(answer in text for answer in question.answers) if question.exact else True
            assert stated and (question.kind != "fact" or contains_answer(text, question.answers)), question.question
        origin = "unknown" if question.kind == "unknown" else "memory"
        assert score(question, right, origin, text) == 1.0, question.question  # type: ignore[arg-type]
        refused = score(question, "The document does not say.", "unknown", text)
        assert refused == (question.kind == "unknown")


def _fact(*answers: str, exact: bool = False, kind: Kind = "fact") -> EverydayQuestion:
    return EverydayQuestion("?", answers, kind, exact)


def _parts(kind: Kind, *parts: tuple[str, ...], enough: int = 0) -> EverydayQuestion:
    return EverydayQuestion("?", tuple(w for part in parts for w in part), kind, parts=parts, enough=enough)


PLACE = _fact("the mirror room", "mirror room")
PRICE = _fact("£22", exact=True)
LIST = _parts("list", ("date",), ("name",), ("place", "location"))
FACTS = _parts("two_facts", ("Callum",), ("Thursday", "16 Oct"))
POINTS = _parts("summary", ("solar panels", "Sonnwerk"), ("burst pipe",), ("cats",), enough=2)


@pytest.mark.parametrize(
    ("question", "text", "expected"),
    [
        (PLACE, "Mirror Room.", 1.0),
        (PLACE, "It is held in the mirror room.", 1.0),
        (PLACE, "It is held in the dojo, the mirror room, the big hall or the pool.", 0.0),  # long answers cannot win
        (PLACE, "the dojo", 0.0),
        (PLACE, "", 0.0),
        (PRICE, "£22 each", 1.0),
        (PRICE, "22", 0.0),
        (PRICE, "£22.50", 0.0),
        (PRICE, "£222", 0.0),
        (_fact("5 mm", exact=True), "1.5 mm", 0.0),
        (_fact("5 mm", exact=True), "5\u00a0mm", 1.0),
        (_fact("GaugeTimeout", exact=True), "gaugetimeout", 0.0),
        (_fact("Grid.from()", exact=True), "`Grid.from()`", 1.0),
        (_fact("1,140", kind="count"), "1140 species", 1.0),
        (_fact("3", "three", kind="count"), "Three times a week", 1.0),
        (_fact("3", "three", kind="count"), "13", 0.0),
        (_fact("no", kind="yes_no"), "No, accounts are optional.", 1.0),
        (_fact("no", kind="yes_no"), "Yes. There is no need.", 0.0),
        (_fact("no", kind="yes_no"), "accounts are optional", 0.0),
        (LIST, "date, name or place", 1.0),
        (LIST, "- location\n- date\n- name\n", 1.0),
        (LIST, "It can be sorted by:\ndate; name; place", 1.0),
        (LIST, "date (newest first, or oldest first), name", 2 / 3),
        (LIST, "date, colour", 0.0),
        (LIST, "date, name, place, colour", 2 / 3),
        (LIST, "date, size, colour, weight, age", 0.0),
        (LIST, "The date name place " + "and so on " * 9, 0.0),
        (FACTS, "Callum, by 16 Oct", 1.0),
        (FACTS, "Callum", 0.5),
        (FACTS, "Callum, Friday", 0.0),
        (FACTS, "Tunde", 0.0),
        (POINTS, "Sonnwerk builds solar panels.", 0.5),
        (POINTS, "A burst pipe; a contract for solar panels.", 1.0),
        (POINTS, "The next meeting is in October.", 0.0),
        (POINTS, "A burst pipe and solar panels " + "and more " * 50, 0.0),
    ],
)
def test_an_answer_is_scored_by_the_rule_of_its_kind(question: EverydayQuestion, text: str, expected: float) -> None:
    assert score(question, text, "memory", DOCUMENT) == pytest.approx(expected)
    assert score(question, text, "unknown", DOCUMENT) == 0.0, "a refusal of what the document says is never right"


def test_what_is_not_said_is_right_by_its_origin_alone() -> None:
    question = _fact(kind="unknown")
    assert [score(question, "no", origin, DOCUMENT) for origin in ("unknown", "memory", "model")] == [1.0, 0.0, 0.0]


def test_a_summary_of_a_short_document_may_have_40_words() -> None:
    text = "A burst pipe and solar panels " + "x " * 30
    assert score(POINTS, text, "memory", "word " * 60) == 1.0 and len(text.split()) == 36
    assert score(POINTS, text + "x " * 5, "memory", "word " * 60) == 0.0


def test_every_kind_is_asked_in_each_half() -> None:
    assert all({q.kind for _, q in _questions(half)} == set(KINDS) for half in HALVES)
