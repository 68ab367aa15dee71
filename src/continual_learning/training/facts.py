"""Made-up facts: documents of any number of them, each with its question, from a seed.

A fact is a relation between an invented subject and a value: "Dolmira Keth plays the oboe." No word of a subject or a
value, and no number, is shared by two splits (train, validation, test), so that a model which answers about the test
split has read the document and not remembered its training. The sentences' own words, the templates, are shared.
"""

from __future__ import annotations

import random
import zlib
from dataclasses import dataclass
from itertools import product
from typing import Literal, get_args

from continual_learning.documents import Document
from continual_learning.errors import InputError
from continual_learning.strategy import QuestionAnswer

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
# Of ten words, so many are for training and validation; the rest is for testing.
_TRAIN, _VALIDATION = 6, 8

_ONSETS = (
    "b bel br car cor d dar dol f fen g gal gor h hal j jor k kel l lor m mar mil n nor ol or p pel qu r "
    "ros s sar tal th tor tr ul v vel vor w yar z zan"
).split()
_MIDDLES = "a an ar e el en i il in ir o ol on or u un".split()
_PLACE_ENDS = "bury dale ford gate ham holm mere mouth ness stead ton wick".split()
_NAME_ENDS = "ba da dra ka la len lo mo na ra reth ric rin sa shi ta tha vo xa zo".split()
_WORDS = {
    "job": "architect baker beekeeper blacksmith butcher carpenter chemist dentist diver farmer florist gardener "
    "glazier hunter jeweller judge lawyer librarian locksmith mason miller miner nurse painter pilot plumber "
    "potter sailor sculptor shepherd singer surgeon tailor teacher translator vet waiter weaver welder writer",
    "instrument": "accordion banjo bassoon bagpipes cello clarinet cornet drums fiddle flute guitar harmonica harp "
    "horn lute lyre mandolin oboe organ piano piccolo recorder saxophone sitar tambourine trombone trumpet tuba "
    "ukulele viola violin xylophone zither",
    "food": "almonds apricots bacon barley beans bread butter cabbage cake carrots cheese cherries chestnuts "
    "chocolate cider dates dumplings figs garlic ginger grapes ham honey jam lemons lentils mushrooms mustard "
    "noodles olives onions oysters pancakes pears pepper pickles plums pumpkins radishes raisins rice salmon "
    "sausages soup spinach tea turnips vinegar walnuts wine",
    "animal": "badger beaver camel canary cat cobra crow dog donkey duck eagle falcon ferret fox frog goat goose "
    "hamster hare hawk hedgehog heron horse lizard alpaca mole monkey mouse otter owl parrot peacock pig "
    "pigeon rabbit raven robin sheep snail snake spider squirrel swan tiger toad turtle weasel wolf",
    "goods": "anchors axes barrels baskets bells blankets boots bottles bricks brushes buttons candles carpets chairs "
    "clocks coats cushions doors gloves hammers hats helmets kettles kites knives ladders lamps lanterns "
    "locks mirrors nails needles pans paper pipes plates pots ropes rugs saddles sails scissors shoes shovels "
    "soap spoons tables tents toys umbrellas wheels windows",
    "colour": "amber beige black blue bronze brown crimson cream gold green grey indigo ivory lilac maroon orange pink "
    "purple red scarlet silver turquoise violet white yellow",
}


@dataclass(frozen=True)
class _Relation:
    """How a fact is said, asked and answered. ``{s}`` is the subject, ``{v}`` the value."""

    subject: str
    value: str
    statements: tuple[str, ...]
    questions: tuple[str, ...]
    replies: tuple[str, ...]
    """One for each question, in its words."""


def _relation(subject: str, value: str, statements: str, *asked: tuple[str, str]) -> _Relation:
    questions, replies = zip(*asked, strict=True)
    return _Relation(subject, value, tuple(statements.split("|")), tuple(questions), tuple(replies))


_RELATIONS = (
    _relation(
        "person",
        "job",
        "{s} works as a {v}.|{s} earns a living as a {v}.",
        ("What does {s} work as?", "{s} works as a {v}."),
        ("What is the job of {s}?", "The job of {s} is {v}."),
    ),
    _relation(
        "person",
        "place",
        "{s} lives in {v}.|The home of {s} is in {v}.",
        ("Where does {s} live?", "{s} lives in {v}."),
        ("In which town does {s} live?", "{s} lives in the town of {v}."),
    ),
    _relation(
        "person",
        "instrument",
        "{s} plays the {v}.|{s} has learned to play the {v}.",
        ("Which instrument does {s} play?", "{s} plays the {v}."),
        ("What does {s} play?", "{s} plays the {v}."),
    ),
    _relation(
        "person",
        "animal",
        "{s} has a pet {v}.|{s} keeps a {v} as a pet.",
        ("What kind of pet does {s} have?", "{s} has a pet {v}."),
        ("Which animal does {s} keep as a pet?", "{s} keeps a {v} as a pet."),
    ),
    _relation(
        "person",
        "food",
        "The favourite food of {s} is {v}.|{s} likes to eat {v}.",
        ("What is the favourite food of {s}?", "The favourite food of {s} is {v}."),
        ("What does {s} like to eat?", "{s} likes to eat {v}."),
    ),
    _relation(
        "person",
        "year",
        "{s} was born in {v}.|{s} came into the world in {v}.",
        ("When was {s} born?", "{s} was born in {v}."),
        ("In which year was {s} born?", "{s} was born in the year {v}."),
    ),
    _relation(
        "person",
        "person",
        "{s} is married to {v}.|{s} has married {v}.",
        ("Who is {s} married to?", "{s} is married to {v}."),
        ("Who has {s} married?", "{s} has married {v}."),
    ),
    _relation(
        "place",
        "person",
        "The mayor of {s} is {v}.|{s} has a mayor called {v}.",
        ("Who is the mayor of {s}?", "The mayor of {s} is {v}."),
        ("What is the name of the mayor of {s}?", "The name of the mayor of {s} is {v}."),
    ),
    _relation(
        "place",
        "river",
        "{s} lies on the river {v}.|The river that flows through {s} is the {v}.",
        ("On which river does {s} lie?", "{s} lies on the river {v}."),
        ("Which river flows through {s}?", "The river that flows through {s} is the {v}."),
    ),
    _relation(
        "place",
        "number",
        "{s} has {v} inhabitants.|The population of {s} is {v}.",
        ("How many inhabitants does {s} have?", "{s} has {v} inhabitants."),
        ("What is the population of {s}?", "The population of {s} is {v}."),
    ),
    _relation(
        "place",
        "food",
        "{s} is known for its {v}.|{s} is famous for {v}.",
        ("What is {s} known for?", "{s} is known for its {v}."),
        ("What is {s} famous for?", "{s} is famous for its {v}."),
    ),
    _relation(
        "place",
        "year",
        "{s} was founded in {v}.|The town of {s} was founded in the year {v}.",
        ("When was {s} founded?", "{s} was founded in {v}."),
        ("In which year was {s} founded?", "{s} was founded in the year {v}."),
    ),
    _relation(
        "company",
        "goods",
        "The company {s} makes {v}.|{s} is a company that sells {v}.",
        ("What does the company {s} make?", "The company {s} makes {v}."),
        ("What does the company {s} sell?", "The company {s} sells {v}."),
    ),
    _relation(
        "company",
        "place",
        "The head office of {s} is in {v}.|The company {s} is based in {v}.",
        ("Where is the head office of {s}?", "The head office of {s} is in {v}."),
        ("Where is the company {s} based?", "The company {s} is based in {v}."),
    ),
    _relation(
        "company",
        "person",
        "The company {s} was founded by {v}.|The founder of {s} is {v}.",
        ("Who founded the company {s}?", "The company {s} was founded by {v}."),
        ("Who is the founder of {s}?", "The founder of {s} is {v}."),
    ),
    _relation(
        "ship",
        "person",
        "The captain of the ship {s} is {v}.|The ship {s} is commanded by {v}.",
        ("Who is the captain of the ship {s}?", "The captain of the ship {s} is {v}."),
        ("Who commands the ship {s}?", "The ship {s} is commanded by {v}."),
    ),
    _relation(
        "ship",
        "goods",
        "The ship {s} carries {v}.|The cargo of the ship {s} is {v}.",
        ("What does the ship {s} carry?", "The ship {s} carries {v}."),
        ("What is the cargo of the ship {s}?", "The cargo of the ship {s} is {v}."),
    ),
    _relation(
        "ship",
        "colour",
        "The ship {s} is painted {v}.|The colour of the ship {s} is {v}.",
        ("What colour is the ship {s}?", "The ship {s} is {v}."),
        ("In which colour is the ship {s} painted?", "The ship {s} is painted {v}."),
    ),
)


@dataclass(frozen=True)
class FactDocument:
    """Facts in sentences, and the question about each, in the same order."""

    document: Document
    questions: tuple[QuestionAnswer, ...]
    replies: tuple[str, ...]
    """To each question a whole sentence in its words, which are not always those of the document."""


def split_of(word: str) -> Split:
    """The one split that a word or a number may appear in: by its checksum, so the same everywhere."""
    place = zlib.crc32(word.encode()) % 10
    return "train" if place < _TRAIN else "validation" if place < _VALIDATION else "test"


def fact_documents(split: Split, count: int, facts: int = 8, seed: int = 0) -> list[FactDocument]:
    """``count`` documents of ``facts`` facts each; the same for the same split and seed.

    A subject has up to three facts, so that a question must be understood and not only its name. A longer list starts
    with the shorter one. Raises InputError for counts below 1 and another split.
    """
    if split not in SPLITS:
        raise InputError(f"split {split!r}; expected one of {', '.join(SPLITS)}")
    if min(count, facts) < 1:
        raise InputError(f"{count} documents of {facts} facts; expected at least 1 of each")
    words = _Words(split)
    return [_document(words, facts, random.Random(f"{split} {seed} {facts} {n}")) for n in range(count)]


class _Words:
    """All words of a split, by kind."""

    def __init__(self, split: Split):
        def mine(words: list[str]) -> list[str]:
            return [word for word in words if split_of(word) == split]

        def invented(ends: list[str]) -> list[str]:
            return mine(["".join(parts).capitalize() for parts in product(_ONSETS, _MIDDLES, ends)])

        self.names, self.places = invented(_NAME_ENDS), invented(_PLACE_ENDS)
        self.kinds = {kind: mine(text.split()) for kind, text in _WORDS.items()}
        self.kinds["year"] = mine([str(n) for n in range(1500, 2000)])
        self.kinds["number"] = mine([str(n) for n in range(2000, 100_000, 10)])

    def draw(self, kind: str, random_: random.Random) -> str:
        """A value or a subject of a kind."""
        if kind == "person":
            return " ".join(random_.sample(self.names, 2))
        if kind == "place":
            return random_.choice(self.places)
        return random_.choice(self.kinds.get(kind, self.names))


def _document(words: _Words, facts: int, random_: random.Random) -> FactDocument:
    taken: set[str] = set()
    sentences: list[str] = []
    questions: list[QuestionAnswer] = []
    replies: list[str] = []
    while len(sentences) < facts:
        relation = random_.choice(_RELATIONS)
        subject = words.draw(relation.subject, random_)
        if taken & set(subject.split()):
            continue
        taken |= set(subject.split())
        about = [r for r in _RELATIONS if r.subject == relation.subject]
        for chosen in random_.sample(about, min(random_.randint(1, 3), facts - len(sentences), len(about))):
            value = words.draw(chosen.value, random_)
            taken |= set(value.split())  # a name that is a value is no other fact's subject
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
