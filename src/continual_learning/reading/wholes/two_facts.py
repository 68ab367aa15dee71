"""Questions for two facts ("Who signs the lease and when does it end?"), split in two that stand on their own.

What one of the two leaves out is taken from the other: its sentence ("When and where is the meeting?", "…, and since
which version?") or its subject ("…, and how long does it last?"). A pronoun stays where the subject is not certain: the
reader has the text before it, and a wrong subject misleads it more than a pronoun.
"""

from __future__ import annotations

import re
from typing import NamedTuple

AUXILIARY = (
    "is|are|was|were|am|do|does|did|has|have|had|can|could|may|might|must|should|shall|will|would|ain't|isn't|aren't"
    "|wasn't|weren't|don't|doesn't|didn't|hasn't|haven't|hadn't|can't|cannot|couldn't|mustn't|shouldn't|won't|wouldn't"
)
PREPOSITION = (
    "in|on|at|by|for|to|from|with|after|before|until|since|of|under|per|about|through|over|into|without|during|within"
    "|as"
)
_WORDS = "who|whom|whose|what|when|where|which|why|how"
_ADJECTIVES = (
    "much|many|long|often|far|old|big|large|small|tall|high|deep|fast|late|early|heavy|soon|wide|thick|hot|cold|warm"
    "|strong|loud|quickly|well"
)
_HEAD = rf"(?:(?:{PREPOSITION}) )?(?:how (?:{_ADJECTIVES})|{_WORDS})\b"
# What may stand between two questions; "and also", ", as well as".
_AND = r"[,;]? (?:and|as well as|&|plus) (?:also )?"
_TWO_WORDS = re.compile(
    rf"^(?P<first>.*?\b(?:{_WORDS})\b.*?){_AND}(?P<second>(?:(?:{PREPOSITION}) )?(?:{_WORDS})\b.*)$", re.IGNORECASE
)
_TWO_SENTENCES = re.compile(rf"^(?P<first>[^?]*\b(?:{_WORDS})\b[^?]*)\? (?:and )?(?P<second>[^?]+)$", re.IGNORECASE)
_YES_NO_TOO = re.compile(
    rf"^(?P<first>(?:{AUXILIARY}) .*?){_AND}(?P<second>{_HEAD}.*\b(?:{AUXILIARY})\b.*)$", re.IGNORECASE
)
# "When does the course start and end?"
_TWO_VERBS = re.compile(
    rf"^(?P<same>(?:when|where|(?:at )?what time|on (?:what|which) (?:day|date)) (?:{AUXILIARY}) .+ )(?P<one>[a-z]+)"
    r" and (?P<other>[a-z]+)$",
    re.IGNORECASE,
)
_DETERMINERS = "the|a|an|this|that|these|those|its|his|her|their|our|my|your"
# "What are the price and the weight of the bag?"
_TWO_THINGS = re.compile(
    rf"^(?P<head>(?:who|what|when|where|how (?:{_ADJECTIVES})) (?:is|are|was|were)) (?P<det>{_DETERMINERS}) "
    rf"(?P<one>(?:(?!(?:{PREPOSITION}) )[\w'’-]+ ){{1,3}}?)and (?:(?P<again>{_DETERMINERS}) )?"
    rf"(?P<other>(?:(?!(?:{PREPOSITION}) )[\w'’-]+ ?){{1,3}}?)(?P<rest>(?: ?\b(?:{PREPOSITION}) .+)?)$",
    re.IGNORECASE,
)
# "How long is the warranty on the frame and on the motor?"
_TWO_PLACES = re.compile(
    rf"^(?P<same>{_HEAD} .+?) (?P<place>(?P<word>{PREPOSITION}) [^,]+?),? and (?P<other>(?P=word) .+)$", re.IGNORECASE
)
_BETWEEN = re.compile(rf"\b(?:between|both|either) (?:{_WORDS})\b", re.IGNORECASE)
# Verbs after which "who", "what" and the like begin a clause and no question of their own.
_REPORTED = re.compile(
    r"\b(?:know|knew|said|says|say|explain(?:s|ed)?|describe[sd]?|show(?:s|ed|n)?|determine[sd]?|decide[sd]?|learn(?:s|ed)?"
    r"|study|studied|studies|wonder(?:s|ed)?|understand|understood|believe[sd]?|discover(?:s|ed)?|consider(?:s|ed)?"
    r"|of|between|and|to|from|about)$",
    re.IGNORECASE,
)
_PARSED = re.compile(
    rf"^(?P<before>.*?)(?P<head>(?:\b(?:{PREPOSITION}) )?\b(?:how (?:{_ADJECTIVES})|{_WORDS}))\b ?(?P<rest>.*)$",
    re.IGNORECASE,
)
_AUXILIARY_IN = re.compile(rf"(?:^|(?<= ))(?:{AUXILIARY})(?= |$)", re.IGNORECASE)
_BEGINS_SO = re.compile(rf"^(?:{PREPOSITION}|an?|each|every)\b", re.IGNORECASE)
_WITH_NOUN = re.compile(r"(?:which|what|whose|how much|how many)$", re.IGNORECASE)
_SEVERAL = re.compile(r"[^suia']s$")
_PRONOUN = re.compile(r"\b(?P<word>it|they|he|she|its|their|his|her|him|them)\b", re.IGNORECASE)
_SPEAKER = re.compile(r"(?:i|you|we)\b", re.IGNORECASE)
_VERBS = frozenset(
    """arrive begin break bring build buy call carry catch charge choose close come contain cost cover cut deal deliver
    depart do draw drink drive eat employ end expire fall find finish fit fly follow get give go grow happen have hold
    include join keep know last lead leave lend lie live look lose make mean measure meet move need offer open own pay
    play produce put raise reach read receive release replace require return ride rise run say see sell send serve set
    show sign sit sleep speak spend stand start stay stop study support take teach tell think throw train travel turn
    use visit want wear weigh win work write born built made held found written sold sent paid kept lost won given taken
    known shown drawn chosen broken begun done gone seen read bought brought caught taught told said left led met spent
    due located based stored ready available""".split()
)


class _Part(NamedTuple):
    """One of the two questions."""

    before: str
    """What stands before the question word and its preposition."""
    head: str
    """The question word, with its preposition and its noun: "In which season", "How much butter"."""
    clause: str
    """The sentence from its auxiliary on; "" if it has none, as in "Who signs the lease?"."""
    rest: str
    """All that follows the question word."""


def split_facts(question: str) -> tuple[str, str] | None:
    """The two questions in a question for two facts, each on its own; None if it is not one."""
    text = " ".join(question.split()).rstrip("?!. ")
    for split in (_sentences, _two_questions, _yes_no_too, _repeated):
        if (parts := split(text)) is not None:
            first, second = (f"{part[0].upper()}{part[1:].rstrip(',; ')}?" for part in parts)
            return first, second
    return None


def _sentences(text: str) -> tuple[str, str] | None:
    match = _TWO_SENTENCES.match(text)
    if match is None or not (_is_question(match["first"]) and _is_question(match["second"])):
        return None
    return match["first"], _with_subject(match["first"], match["second"])


def _two_questions(text: str) -> tuple[str, str] | None:
    match = _TWO_WORDS.match(text)
    if match is None or _BETWEEN.search(text):
        return None
    first, second = match["first"], match["second"]
    one, two = _parsed(first), _parsed(second)
    if _is_bare(one):
        # "How much butter and how much flour do I need?"
        clause = two.clause or ("" if _is_bare(two) else two.rest)
        if not clause:
            return None
        first = f"{first} {clause}"
    elif _other_subject(two):
        second = _with_verb(one, two)
    elif _is_bare(two):
        second = _completed(one, two)
    first, second = (" ".join(part.split()) for part in (first, second))
    second = _with_subject(first, second)
    return (first, second) if _is_question(first) and _is_question(second) else None


def _yes_no_too(text: str) -> tuple[str, str] | None:
    """ "Is breakfast included, and when is it served?" """
    match = _YES_NO_TOO.match(text)
    if match is None or re.search(rf"\b(?:{_WORDS})\b", match["first"], re.IGNORECASE):
        return None
    return match["first"], _with_subject(match["first"], match["second"])


def _repeated(text: str) -> tuple[str, str] | None:
    """Questions that name two verbs, things or places after one question word."""
    if match := _TWO_VERBS.match(text):
        if match["one"].lower() not in _VERBS or match["other"].lower() not in _VERBS:
            return None
        return f"{match['same']}{match['one']}", f"{match['same']}{match['other']}"
    if match := _TWO_PLACES.match(text):
        return f"{match['same']} {match['place']}", f"{match['same']} {match['other']}"
    if match := _TWO_THINGS.match(text):
        one, other, again = match["one"].strip(), match["other"].strip(), match["again"]
        # "the black and white flag" is one thing.
        if not again and (len(one.split()) > 1 or len(other.split()) > 1 or not match["rest"]):
            return None
        if _SEVERAL.search(one) or _SEVERAL.search(other):
            return None
        head = re.sub(r"\b(are|were)$", lambda m: {"are": "is", "were": "was"}[m[0].lower()], match["head"])
        rest = f" {match['rest'].strip()}" if match["rest"] else ""
        return f"{head} {match['det']} {one}{rest}", f"{head} {again or match['det']} {other}{rest}"
    return None


def _parsed(part: str) -> _Part:
    match = _PARSED.match(part)
    assert match is not None, part
    head, rest = match["head"], match["rest"].strip(" ,;")
    found = _AUXILIARY_IN.search(rest)
    # An auxiliary further back is in a clause of its own: "Who signs the lease that was drafted?"
    if found is None or len(rest[: found.start()].split()) > (4 if _WITH_NOUN.search(head) else 0):
        return _Part(match["before"], head, "", rest)
    return _Part(match["before"], f"{head} {rest[: found.start()]}".strip(), rest[found.start() :], rest)


def _is_bare(part: _Part) -> bool:
    """Whether a question has no sentence: "when", "how many hours a week", "since which version"."""
    if part.clause or not part.rest:
        return not part.clause
    words = part.rest.split()
    head = part.head.lower()
    if _BEGINS_SO.match(part.rest) or (len(words) == 1 and words[0].endswith("ly")):
        return True
    if _WITH_NOUN.search(head):
        return " " in head.replace("how ", "") or len(words) == 1 or bool(_BEGINS_SO.match(words[1]))
    return head.split()[-1] not in ("who", "what", "whom")


def _completed(one: _Part, two: _Part) -> str:
    """The second question with the sentence of the first."""
    clause = one.clause or _turned(one)
    if not two.rest or not _BEGINS_SO.match(two.rest):
        words = (two.rest, clause) if _WITH_NOUN.search(two.head) else (clause, two.rest)
        return " ".join((f"{two.before}{two.head}", *words))
    # "How long is the warranty on the barrel, and how long on the tap?"
    same = re.split(rf" (?={re.escape(two.rest.split()[0])}\b)", clause, maxsplit=1)[0]
    return f"{two.before}{two.head} {same} {two.rest}"


def _other_subject(two: _Part) -> str:
    """The subject that a question names without what is asked about it: "how long do green ones", "when the pool"."""
    if two.clause:
        return two.clause.partition(" ")[2] if re.search(r" ones?$", two.clause) else ""
    named = re.match(rf"(?:{_DETERMINERS}) ", two.rest, re.IGNORECASE)
    return two.rest if named and not re.search(r"\b(?:who|what|whom)$", two.head, re.IGNORECASE) else ""


def _with_verb(one: _Part, two: _Part) -> str:
    """The second question with its own subject and the verb of the first."""
    auxiliary, *words = one.clause.split() or [""]
    verb = words[len(_noun_phrase(words, auxiliary.lower())) :]
    return " ".join([f"{two.before}{two.head}", auxiliary, _other_subject(two), *verb])


def _turned(part: _Part) -> str:
    """What "who" did, as a sentence for another question word: "was the cluster moved" of "Who moved the cluster"."""
    verb, _, rest = part.rest.partition(" ")
    return f"was {rest} {verb}" if verb.endswith("ed") and rest else part.rest


def _is_question(part: str) -> bool:
    match = _PARSED.match(part)
    if match is None or not match["rest"].strip():
        return False
    before = match["before"].strip().lower()
    return len(before.split()) < 2 or (len(before.split()) == 2 and not _REPORTED.search(before))


# -- the subject -----------------------------------------------------------------------------------


def _with_subject(first: str, second: str) -> str:
    """The second question with the subject of the first for its pronoun, if that is clear."""
    found = _PRONOUN.search(second)
    if found is None:
        return second
    subject = _subject(first)
    word = found["word"].lower()
    if not subject or _PRONOUN.search(subject):
        return second
    several = bool(_SEVERAL.search(subject)) or " and " in subject
    person = any(name[0].isupper() for name in subject.split()) or bool(re.match(r"who (?:is|was)\b", first.lower()))
    fits = several if word in ("they", "them", "their") else not several
    if word in ("he", "she", "his", "her", "him"):
        fits = person
    if not fits:
        return second
    if word in ("its", "his", "her", "their"):
        subject += "'" if several else "'s"
    return f"{second[: found.start()]}{subject}{second[found.end() :]}"


def _subject(question: str) -> str:
    """What a question is about: the subject after its auxiliary, or what "who" does something to; "" if unclear."""
    leading = re.match(rf"^(?:{AUXILIARY}) ", question, re.IGNORECASE)
    part = _Part("", "", question, "") if leading else _parsed(question)
    if part.clause:
        verb, *words = part.clause.split()
        words = [] if _SPEAKER.match(" ".join(words)) else _noun_phrase(words, verb.lower())
    else:
        _, *words = part.rest.split() or [""]
        while words and re.fullmatch(PREPOSITION, words[0], re.IGNORECASE):  # "sent in the recording"
            words = words[1:]
        if not words or not (re.fullmatch(_DETERMINERS, words[0], re.IGNORECASE) or words[0][0].isupper()):
            return ""
        words = _noun_phrase(words, "is")
    return " ".join(words)


def _noun_phrase(words: list[str], auxiliary: str) -> list[str]:
    """The words of a subject: up to a preposition other than "of", or the verb."""
    ends = [n for n, word in enumerate(words) if n and re.fullmatch(rf"(?!of$)(?:{PREPOSITION})", word, re.IGNORECASE)]
    words = words[: ends[0]] if ends else words
    start = 2 if words and re.fullmatch(_DETERMINERS, words[0], re.IGNORECASE) else 1
    verbs = [n for n, word in enumerate(words) if n >= start and _is_verb(word)]
    if verbs:
        return words[: verbs[0]]
    return words if auxiliary in ("is", "are", "was", "were") else words[:-1]


def _is_verb(word: str) -> bool:
    return word.islower() and (word in _VERBS or bool(re.search(r"\w{2,}(?:ed|ing)$", word)))
