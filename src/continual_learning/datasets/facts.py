"""Made-up facts: documents of any number of facts, each with its question, generated from a seed.

A fact is a relation between an invented subject and a value: "Dolmira Keth plays the oboe." No word of a subject or a
value, and no number, is shared by two splits (train, validation, test), so that a model that answers about the test
split has read the document and does not remember its training. The templates, the sentences' own words, are shared (and
those of the train split contain no value of validation or test), except for the `held` relations, which no training
document has. ``data/facts.yaml`` holds relations and words.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import product
from typing import Any, Literal, get_args

import yaml

from continual_learning.documents import Document
from continual_learning.errors import InputError
from continual_learning.types import QuestionAnswer

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
# Of ten words, the first 6 are for training, those up to the 8th for validation, and the rest for testing.
_TRAIN, _VALIDATION = 6, 8

_ONSETS = (
    "b bel br car cor d dar dol f fen g gal gor h hal j jor k kel l lor m mar mil n nor ol or p pel qu r "
    "ros s sar tal th tor tr ul v vel vor w yar z zan"
).split()
_MIDDLES = "a an ar e el en i il in ir o ol on or u un".split()
_PLACE_ENDS = "bury dale ford gate ham holm mere mouth ness stead ton wick".split()
_NAME_ENDS = "ba da dra ka la len lo mo na ra reth ric rin sa shi ta tha vo xa zo".split()
_CODAS = (
    "b bble ck ckle ct d dge f ft g k lk lt mp nch nd ng nk nt p pp rb rch rg rk rn rp rt sh sk sp ss st t x z".split()
)
_SYLLABLES = (
    "ado bre da dro esk fi gra hu ik jo kri lum mek ne no ol ox phe pli qui ri sil thal tu ux vo wy xi yl za".split()
)
# Kinds that are one invented name, by the syllables that names are made of.
_NAMED = "company ship river".split()
_COINED = "coined land project server hotel restaurant team pony medicine film star battle phone bridge train".split()
_STRANGE = "strange realm inventor vault mountain school".split()
# Kinds of two words: two different ones of one kind, or one of each of two kinds.
_TWICE = {"person": "company", "climber": "strange"}
_BOTH = {"full name": ("first name", "surname"), "date": ("day", "month")}


@dataclass(frozen=True)
class _Relation:
    """How a fact is stated, asked and answered. ``{s}`` is the subject, ``{v}`` the value."""

    subject: str
    value: str
    statements: tuple[str, ...]
    questions: tuple[str, ...]
    replies: tuple[str, ...]
    """One for each question, in the same words."""


@cache
def _file() -> Any:
    return yaml.safe_load((files("continual_learning") / "data" / "facts.yaml").read_text(encoding="utf-8"))


@cache
def _relations(group: str) -> tuple[_Relation, ...]:
    return tuple(
        _Relation(
            entry["about"],
            entry["value"],
            tuple(entry["statements"]),
            tuple(pair["question"] for pair in entry["asked"]),
            tuple(pair["reply"] for pair in entry["asked"]),
        )
        for entry in _file()["relations"][group]
    )


@dataclass(frozen=True)
class FactDocument:
    """Facts in sentences, and the question about each, in the same order."""

    document: Document
    questions: tuple[QuestionAnswer, ...]
    replies: tuple[str, ...]
    """The answer to each question as a whole sentence in the question's words, which may differ from the document's."""


def split_of(word: str) -> Split:
    """The one split that a word or a number may appear in, decided by its checksum and so the same everywhere."""
    place = zlib.crc32(word.encode()) % 10
    return "train" if place < _TRAIN else "validation" if place < _VALIDATION else "test"


def fact_documents(split: Split, count: int, facts: int = 8, seed: int = 0, held: bool = False) -> list[FactDocument]:
    """``count`` documents of ``facts`` facts each; the same for the same split and seed.

    Documents of the train split have more relations than those of other splits; with ``held``, which is for other
    splits, a document has only relations that training documents lack. A subject has up to three facts, so that the
    question must be understood and not only the name. A shorter list is a prefix of a longer one. Raises InputError
    for counts below 1, an unknown split, and held relations in the train split.
    """
    if split not in SPLITS:
        raise InputError(f"split {split!r}; expected one of {', '.join(SPLITS)}")
    if min(count, facts) < 1:
        raise InputError(f"{count} documents of {facts} facts; expected at least 1 of each")
    if held and split == "train":
        raise InputError("held relations of the train split; expected validation or test: no training is to meet them")
    words = _Words(split)
    relations = _relations("held" if held else "common")
    if split == "train":
        relations += _relations("training")
    key = f"{split} {seed} {facts}" + (" held" if held else "")
    return [_document(words, relations, facts, random.Random(f"{key} {n}")) for n in range(count)]


class _Words:
    """All words of a split, by kind."""

    def __init__(self, split: Split):
        def mine(words: Sequence[str]) -> list[str]:
            return [word for word in words if split_of(word) == split]

        def invented(*parts: Sequence[str]) -> list[str]:
            return mine(["".join(some).capitalize() for some in product(*parts)])

        def numbers(first: int, behind: int, step: int = 1) -> list[str]:
            return mine([str(n) for n in range(first, behind, step)])

        names = invented(_ONSETS, _MIDDLES, _NAME_ENDS)
        coined = names + invented(_ONSETS, _MIDDLES, _CODAS)
        strange = invented(_SYLLABLES, _SYLLABLES)
        self._kinds = {kind: mine(text.split()) for kind, text in _file()["words"].items()}
        self._kinds |= {
            "year": numbers(1500, 2000),
            "number": numbers(2000, 100_000, 10),
            "thousands": numbers(1000, 10_000),
            "hundreds": numbers(100, 1000),
            "count": numbers(2, 100),
            "day": numbers(1, 32),
            "time": mine([f"{hour}:{minute:02}" for hour in range(5, 24) for minute in range(0, 60, 5)]),
            "place": invented(_ONSETS, _MIDDLES, _PLACE_ENDS),
        }
        for kinds, words in ((_NAMED, names), (_COINED, coined), (_STRANGE, strange)):
            self._kinds |= dict.fromkeys(kinds, words)

    def draw(self, kind: str, random_: random.Random) -> str:
        """A value or a subject of a kind."""
        if kind in _TWICE:
            return " ".join(random_.sample(self._kinds[_TWICE[kind]], 2))
        return " ".join(random_.choice(self._kinds[part]) for part in _BOTH.get(kind, (kind,)))


def _document(words: _Words, relations: Sequence[_Relation], facts: int, random_: random.Random) -> FactDocument:
    taken: set[str] = set()
    sentences: list[str] = []
    questions: list[QuestionAnswer] = []
    replies: list[str] = []
    while len(sentences) < facts:
        relation = random_.choice(relations)
        subject = words.draw(relation.subject, random_)
        if taken & set(subject.split()):
            continue
        taken |= set(subject.split())
        about = [r for r in relations if r.subject == relation.subject]
        for chosen in random_.sample(about, min(random_.randint(1, 3), facts - len(sentences), len(about))):
            value = words.draw(chosen.value, random_)
            while set(value.split()) & set(subject.split()):
                value = words.draw(chosen.value, random_)
            taken |= set(value.split())  # a name that is used as a value is never the subject of another fact
            sentences.append(random_.choice(chosen.statements).format(s=subject, v=value))
            asked = random_.randrange(len(chosen.questions))
            questions.append(QuestionAnswer(chosen.questions[asked].format(s=subject), (value,)))
            replies.append(chosen.replies[asked].format(s=subject, v=value))
    order = random_.sample(range(facts), facts)
    return FactDocument(
        Document(" ".join(sentences[i] for i in order), "", "generated"),
        tuple(questions[i] for i in order),
        tuple(replies[i] for i in order),
    )
