"""A needle in a haystack: one invented fact in a text of any length, at a given depth, and a question about it.

After the needle test of long contexts (Kamradt 2023, github.com/gkamradt/LLMTest_NeedleInAHaystack). The hay is
generated here: plain, distinct sentences about village life that state nothing memorable. It is not the shipped
background text: strategies calibrate on that, and a needle in hay that they know too well would stand out. Names are
made of syllables, so that no model can have read the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from random import Random

from continual_learning.datasets.base import Dataset, QADocument
from continual_learning.documents import Document
from continual_learning.errors import InputError

DEPTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
TOLERANCE = 0.05
"""Relative tolerance of the length of a document."""

_PARAGRAPH = 6  # sentences
_TRIES = 200

# Template of a needle, its question, and which of its parts is the answer.
_NEEDLES = (
    ("The code of the strongroom in {place} is {code}.", "What is the code of the strongroom in {place}?", "code"),
    ("{person} hid the silver compass in {place}.", "Where did {person} hide the silver compass?", "place"),
    ("The stone bridge of {place} was designed by {person}.", "Who designed the stone bridge of {place}?", "person"),
    ("The ferry to {place} is called the {name}.", "What is the ferry to {place} called?", "name"),
    ("The library of {place} owns {code} maps.", "How many maps does the library of {place} own?", "code"),
    ("{person} keeps the only {name} bell in the country.", "Who keeps the only {name} bell in the country?", "person"),
)
_ONSETS = "br dr fl gl kr pl sk sn tr vr z".split()
_VOWELS = "a e i o u".split()
_MIDDLES = "lb ld mbr nd ndr rg rv sk lth zz".split()
_ENDINGS = "ak ip isk olm oth ovar ul urn".split()


def _phrases(text: str) -> list[str]:
    return text.strip().replace("\n", "|").split("|")


_PEOPLE = _phrases("""
the baker|the postman|a young teacher|the old gardener|the blacksmith|a tired nurse|the miller|the butcher
the tailor|a quiet shepherd|the carpenter|two sisters|the innkeeper|the fishmonger|a visiting painter|the choir
the schoolchildren|a retired sailor|the beekeeper|the cobbler|an elderly couple|the night watchman|the dairyman
the potter|a travelling salesman|the bus driver|the new doctor|the neighbours|a group of hikers|the librarian""")
_ACTIONS = _phrases("""
swept the yard|mended an old chair|wrote a long letter|carried baskets of apples|painted a wooden fence
waited for the train|told stories about the winter|repaired a broken lamp|cut the tall grass|sold fresh bread
looked for a lost glove|drank a cup of tea|cleaned the windows|fed the chickens|stacked firewood|read the newspaper
hung up the washing|counted the coins twice|planted rows of beans|talked about the weather|sharpened the knives
rested in the shade|folded clean towels|picked ripe plums|sang an old song|filled the water trough|moved a heavy table
tied up the boat|brushed the grey horse|sorted buttons by colour|boiled a pot of soup|closed the wooden gate
borrowed a ladder|argued about the price of wool|polished a pair of boots|watched the clouds""")
_TIMES = _phrases("""
in the morning|before breakfast|around noon|late in the afternoon|after supper|on a rainy day|at the weekend
early in the spring|during the long summer|on the first cold evening|after the market had closed|before the bells rang
in the middle of the week|at the end of the harvest|when the fog had lifted|as the sun went down|for most of the day
once the road was dry|just before dark|during the holidays""")
_PLACES = _phrases("""
behind the school|near the harbour|beside the church wall|in the narrow lane|at the edge of the forest
under the chestnut tree|by the river|on the village green|next to the barn|outside the town hall|in the back kitchen
across from the inn|at the foot of the hill|on the wide steps|in the small orchard|close to the mill
along the canal|in front of the shop|at the crossroads|below the old tower""")
_ASIDES = _phrases("""
a dog slept by the door|the rain began to fall|nobody was in a hurry|the wind turned cold|smoke rose slowly
the tea grew cold|a cart rolled past|the geese made a great noise|there was little else to do|the light was good
everyone else was at home|the shops were still shut|it was far too warm indoors|a bell rang in the distance
the children were asleep|the path was covered with leaves|the bread was still in the oven|a cat sat on the wall
the river was higher than usual|the lamps had not been lit""")
_LINKS = ["while", "because", "although", "and", "but"]
_FRAMES = (
    "{person} {action}",
    "{time}, {person} {action}",
    "{person} {action} {place}",
    "{place}, {person} {action} {time}",
    "{person} {action} {place} {link} {aside}",
    "{time}, {person} {action} {place} {link} {aside}",
    "{person} {action} {time}, and {other} {second}",
    "{aside}, and {person} {action} {place} {time}",
)


def needle_dataset(
    count: int, tokens: int, seed: int, count_tokens: Callable[[str], int], depths: Sequence[float] = DEPTHS
) -> Dataset:
    """``count`` documents of ``tokens`` tokens (within 5%), each with one invented fact and one question about it.

    ``count_tokens`` is the length of a text in tokens. Document i has its needle at ``depths[i % len(depths)]`` (0 is
    the first sentence, 1 the last) and says so in `QADocument.depth`. Six kinds of fact take turns, so that 30
    documents have every kind at every default depth. Facts depend on the seed alone, so that two lengths with the same
    seed ask the same. Raises InputError if a length cannot be met.
    """
    from continual_learning.types import QuestionAnswer

    if count < 1:
        raise InputError(f"count = {count} is not valid; expected at least 1 document")
    if not depths or not all(0 <= depth <= 1 for depth in depths):
        raise InputError(f"depths = {list(depths)} is not valid; expected shares from 0 (start) to 1 (end)")
    needles = list(islice(_needles(Random(f"needles {seed}")), count))
    hay = _Hay(Random(f"hay {seed}"))
    documents = []
    for number, (fact, question, answer) in enumerate(needles):
        depth = float(depths[number % len(depths)])
        text = _document(fact, depth, tokens, hay, count_tokens)
        title = f"Village notes, part {number + 1}"
        qa = (QuestionAnswer(question, (answer,)),)
        documents.append(QADocument(Document(text, title, "generated"), qa, tokens=tokens, depth=depth))
    return Dataset(f"needle-{tokens}", "generated", tuple(documents), seed=seed)


def _needles(random: Random) -> Iterator[tuple[str, str, str]]:
    """An endless stream of facts, questions and answers. No name and no number occurs twice."""
    used: set[str] = set()

    def new(word: str, more: Sequence[str]) -> str:
        while word in used:
            word += random.choice(more)
        used.add(word)
        return word

    def name() -> str:
        word = "".join(random.choice(part) for part in (_ONSETS, _VOWELS, _MIDDLES, _ENDINGS))
        return new(word.capitalize(), _ENDINGS)

    while True:
        for fact, question, answer in _NEEDLES:
            parts = {
                "place": name(),
                "name": name(),
                "person": f"{name()} {name()}",
                "code": new(str(random.randrange(10_000, 100_000)), "0123456789"),
            }
            yield fact.format(**parts), question.format(**parts), parts[answer]


class _Hay:
    """Sentences; none is repeated until all have been used."""

    def __init__(self, random: Random):
        self._random = random
        self._used: set[str] = set()

    def sentence(self) -> str:
        pick = self._random.choice
        text = ""
        for _ in range(_TRIES):
            person, other = self._random.sample(_PEOPLE, 2)
            action, second = self._random.sample(_ACTIONS, 2)
            parts = {"time": pick(_TIMES), "place": pick(_PLACES), "link": pick(_LINKS), "aside": pick(_ASIDES)}
            text = pick(_FRAMES).format(person=person, other=other, action=action, second=second, **parts)
            text = f"{text[0].upper()}{text[1:]}."
            if text not in self._used:
                break
        self._used.add(text)
        return text


def _document(fact: str, depth: float, tokens: int, hay: _Hay, count_tokens: Callable[[str], int]) -> str:
    sentences: list[str] = []

    def text() -> str:
        return _laid_out(sentences, fact, depth)

    # The lengths of sentences do not quite add up to that of the text, so the text is measured again.
    while (missing := tokens - count_tokens(text())) > 0:
        while missing > 0:
            sentences.append(hay.sentence())
            missing -= max(count_tokens(" " + sentences[-1]), 1)
    while sentences and (excess := count_tokens(text()) - tokens) > 0:
        while sentences and excess > 0:
            excess -= count_tokens(" " + sentences.pop())
    # The last sentence is replaced by the one or two that fit best.
    del sentences[-1:]
    missing = tokens - count_tokens(text())
    tails = [[hay.sentence() for _ in range(count)] for count in (0, *[1] * 20, *[2] * 20)]
    sentences += min(tails, key=lambda tail: abs(missing - sum(count_tokens(" " + s) for s in tail)))
    found = count_tokens(text())
    if abs(found - tokens) > TOLERANCE * tokens:
        raise InputError(f"tokens = {tokens}: the nearest text with a needle has {found}; ask for more, such as 250")
    return text()


def _laid_out(sentences: Sequence[str], fact: str, depth: float) -> str:
    """The text in paragraphs, with the fact between sentences so that ``depth`` of the characters precede it."""
    total = sum(map(len, sentences))
    places, before = [0], 0
    for sentence in sentences:
        before += len(sentence)
        places.append(before)
    at = min(range(len(places)), key=lambda i: abs(places[i] - depth * total))
    whole = [*sentences[:at], fact, *sentences[at:]]
    return "\n\n".join(" ".join(whole[i : i + _PARAGRAPH]) for i in range(0, len(whole), _PARAGRAPH))
