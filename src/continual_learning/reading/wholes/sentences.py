"""An answer as a sentence: made from the question and the span where a rule is safe, else the text's own sentence.

The rules change the order of words and put a verb into the form that the text's sentence has. A sentence always holds
the span, word for word.
"""

from __future__ import annotations

import re
from dataclasses import replace

from continual_learning.reading.wholes.blocks import blocks_of
from continual_learning.types import Answer

_PREPOSITIONS = (
    "on|in|at|to|from|by|until|till|near|since|after|before|under|through|during|into|for|with|over|between|within"
)
_BEFORE_SPAN = re.compile(rf"\b(?P<word>{_PREPOSITIONS})\s+(?:the\s+|a\s+|an\s+)?$", re.IGNORECASE)
_STARTS_SO = re.compile(rf"^(?:{_PREPOSITIONS}|about|around)\b", re.IGNORECASE)
_MONTH = "January|February|March|April|May|June|July|August|September|October|November|December"
_DAY = re.compile(
    rf"^(?:\d{{1,2}}(?:st|nd|rd|th)? (?:{_MONTH})|(?:{_MONTH}) \d{{1,2}}\b|(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day)"
)
_TIME = re.compile(r"^\d{1,2}(?::\d\d|\.\d\d)?(?: ?[ap]\.?m\.?|:\d\d)\b|^\d{1,2}:\d\d\b|^noon\b|^midnight\b")
_YEAR = re.compile(rf"^(?:(?:{_MONTH}) )?(?:1\d|20)\d\d$|^(?:{_MONTH})$")
_BE = "is|are|was|were"
_MODAL = "will|can|could|may|might|must|should|would|shall"
_SUBJECT_PRONOUN = "i|you|he|she|it|we|they|there"
_BE_QUESTION = re.compile(
    r"^(?P<word>what|when|where|how much|how (?P<adjective>high|long|tall|wide|deep|thick|old)) "
    rf"(?P<be>{_BE}) (?P<rest>.+)$",
    re.IGNORECASE,
)
_SUBJECT_QUESTION = re.compile(r"^(?:who|which (?:[\w'’-]+ ){0,3}?[\w'’-]+|what)\s+(?P<rest>(?P<verb>[a-z]+)\s+.+)$")
_DO_QUESTION = re.compile(
    r"^(?P<word>what|when|where|who|whom|how (?:much|many)(?P<counted>(?: [\w'’-]+){0,3}?)|which(?: [\w'’-]+){1,3}?) "
    r"(?P<do>do|does|did) (?P<rest>.+)$",
    re.IGNORECASE,
)
_PARTICIPLE = re.compile(
    r"^(?:\w{2,}ed|\w{3,}ing|built|made|held|born|found|written|sold|sent|paid|kept|lost|won|given|taken|known|shown|drawn"
    r"|chosen|broken|begun|done|gone|seen|set|put|read|cut|bought|brought|caught|taught|thought|told|said|left|led|met|spent"
    r"|understood|driven|eaten|fallen|grown|hidden|stolen|thrown|worn|due|located|based|stored)$"
)
_FINITE = re.compile(
    rf"^(?:\w{{2,}}s|\w{{2,}}ed|{_BE}|has|have|had|{_MODAL}|won|wrote|made|led|built|gave|took|ran|sold|sent)$"
)
_IRREGULAR = {
    "be": "was", "begin": "began", "break": "broke", "bring": "brought", "build": "built", "buy": "bought",
    "catch": "caught", "choose": "chose", "come": "came", "cost": "cost", "cut": "cut", "do": "did", "draw": "drew",
    "drink": "drank", "drive": "drove", "eat": "ate", "fall": "fell", "feel": "felt", "fight": "fought",
    "find": "found",
    "fly": "flew", "forget": "forgot", "get": "got", "give": "gave", "go": "went", "grow": "grew", "have": "had",
    "hear": "heard", "hold": "held", "keep": "kept", "know": "knew", "lead": "led", "leave": "left", "lend": "lent",
    "let": "let", "lose": "lost", "make": "made", "mean": "meant", "meet": "met", "pay": "paid", "put": "put",
    "read": "read", "ride": "rode", "rise": "rose", "run": "ran", "say": "said", "see": "saw", "sell": "sold",
    "send": "sent", "set": "set", "show": "showed", "sing": "sang", "sit": "sat", "speak": "spoke", "spend": "spent",
    "stand": "stood", "steal": "stole", "swim": "swam", "take": "took", "teach": "taught", "tell": "told",
    "think": "thought", "throw": "threw", "understand": "understood", "wear": "wore", "win": "won", "write": "wrote",
}  # fmt: skip
_MOST_WORDS = 14


def as_sentence(answer: Answer) -> Answer:
    """The answer as a sentence, if it is a span of what its first source read; other answers are unchanged."""
    if answer.origin != "memory" or not answer.sources:
        return answer
    source = answer.sources[0]
    span = answer.text.strip()
    if not span or source.quote.strip() != span or span not in source.text or _is_sentence(span):
        return answer
    return replace(answer, text=sentence_with(answer.question, span, source.text, source.title))


def sentence_with(question: str, span: str, text: str, title: str = "") -> str:
    """A sentence that answers ``question`` with ``span``, words of ``text``."""
    own = _own_sentence(span, text, title)
    asked = " ".join(question.split()).rstrip("?!. ")
    said = f"`{span}`" if f"`{span}`" in text else span  # a command keeps its back-quotes
    for made in (_by_subject(asked, said), _by_be(asked, said, own), _by_do(asked, said, own)):
        if made is not None and span in made:
            return _capital(f"{made}." if made[-1] not in ".!?" else made, span)
    return own or span


def with_preposition(answer: Answer) -> str:
    """A span with the preposition that stands before it in its text, for "when" and "where": "on 4 March"."""
    asked = answer.question.lower()
    if not re.match(r"^(?:when|where)\b", asked) or not answer.sources:
        return answer.text
    own = _own_sentence(answer.text, answer.sources[0].text, "")
    return _placed(answer.text, own, required=False) or answer.text


def _own_sentence(span: str, text: str, title: str) -> str:
    """The sentence, entry or row of a text that has the span, as a sentence; "" if none has all of it."""
    for unit in blocks_of(title, text).units:
        if span in unit.text or span in " ".join(unit.cells):
            if unit.kind == "row":
                cells = [cell for cell in unit.cells if cell]
                return f"{cells[0]}: {', '.join(cells[1:])}." if len(cells) > 1 else f"{unit.text}."
            return unit.text if unit.text.rstrip("\"”')").endswith((".", "!", "?")) else f"{unit.text.rstrip(',;: ')}."
    return ""


def _is_sentence(span: str) -> bool:
    return len(span.split()) > _MOST_WORDS or span.endswith((".", "!", "?"))


def _capital(made: str, span: str) -> str:
    """The sentence with a capital, unless it begins with a command or identifier, which are quoted exactly."""
    first = made.split()[0]
    exact = made.startswith(span) and re.search(r"[\d_/.`=-]|[a-z][A-Z]", first.rstrip("."))
    return made if exact or not made[0].islower() else made[0].upper() + made[1:]


def _placed(span: str, own: str, required: bool = True) -> str | None:
    """The span with the preposition before it; by its form if the text has none; None if there is no telling."""
    if _STARTS_SO.match(span):
        return span
    place = own.find(span)
    if place > 0 and (match := _BEFORE_SPAN.search(own[:place])):
        return f"{own[match.start() : place]}{span}"
    if _DAY.match(span):
        return f"on {span}"
    if _TIME.match(span):
        return f"at {span}"
    if _YEAR.match(span):
        return f"in {span}"
    return None if required else span


def _by_subject(asked: str, span: str) -> str | None:
    """ "Who judges the show" with the span as its subject."""
    match = _SUBJECT_QUESTION.match(asked[0].lower() + asked[1:])
    if match is None or len(span.split()) > _MOST_WORDS // 2 or asked.lower().startswith("what "):
        return None
    verb, rest = match["verb"], match["rest"]
    following = rest.split()[1].lower()
    if not _FINITE.match(verb) or (
        verb in ("was", "is", "are", "were", "does", "its") and following in _SUBJECT_PRONOUN.split("|")
    ):
        return None
    if verb in ("has", "have", "had", *_MODAL.split("|")) and re.match(rf"(?:{_SUBJECT_PRONOUN})$", following):
        return None
    # "Which room is yoga in": the subject comes after the verb.
    if re.search(rf"\b(?:{_PREPOSITIONS}|of)$", rest, re.IGNORECASE) or (
        not asked.lower().startswith("who")
        and verb in ("is", "are", "was", "were", *_MODAL.split("|"), "has", "have", "had")
    ):
        return None
    return f"{span} {rest}"


def _by_be(asked: str, span: str, own: str) -> str | None:
    """ "When is the fete" as "The fete is on 28 June"."""
    match = _BE_QUESTION.match(asked)
    if match is None or len(match["rest"].split()) > _MOST_WORDS:
        return None
    word, be, words = match["word"].lower(), match["be"].lower(), match["rest"].split()
    verb = ""
    for place in range(len(words) - 1, 0, -1):
        last = place == len(words) - 1 or _STARTS_SO.match(words[place + 1])
        if last and _PARTICIPLE.match(words[place]):
            words, verb = words[:place], " ".join(words[place:])
            break
    subject = " ".join(words)
    if re.match(r"(?:there|it|this|that|he|she|they)$", words[0], re.IGNORECASE) or re.search(
        rf"\b(?:{_PREPOSITIONS}|of|called|like|about)$", match["rest"], re.IGNORECASE
    ):
        return None
    if word in ("when", "where"):
        placed = _placed(span, own)
        return f"{subject} {be} {f'{verb} ' if verb else ''}{placed}" if placed else None
    if verb:
        return None
    if match["adjective"]:
        return f"{subject} {be} {span} {match['adjective'].lower()}" if span[0].isdigit() and " " in span else None
    return f"{subject} {be} {span}"


def _by_do(asked: str, span: str, own: str) -> str | None:
    """ "Where did the cluster move" as "The cluster moved to eu-west-3", if the text's sentence has "moved"."""
    match = _DO_QUESTION.match(asked)
    if match is None:
        return None
    words = match["rest"].split()
    said = {word.strip(".,;:!?\"'()").lower() for word in own.split()}
    for place in range(1, min(len(words), 8)):
        form = next((form for form in _forms(words[place].lower(), match["do"].lower()) if form in said), None)
        # After "do" a verb looks like any other word: it is one after a pronoun, or at the end.
        plain = match["do"].lower() == "do" and place < len(words) - 1
        if form is None or (plain and not re.match(rf"(?:{_SUBJECT_PRONOUN})$", words[place - 1], re.IGNORECASE)):
            continue
        subject, rest = " ".join(words[:place]), " ".join(words[place + 1 :])
        word = match["word"].lower()
        if word in ("when", "where"):
            placed = _placed(span, own)
            return f"{subject} {form} {f'{rest} ' if rest else ''}{placed}" if placed else None
        thing = (match["counted"] or "").strip()
        named = span if not thing or thing.lower() in span.lower() else f"{span} {thing}"
        return f"{subject} {form} {named}{f' {rest}' if rest else ''}"
    return None


def _forms(verb: str, do: str) -> list[str]:
    """The forms that a verb takes without its auxiliary."""
    if do == "do":
        return [verb]
    if do == "does":
        return [f"{verb}es" if re.search(r"(?:s|x|z|ch|sh|o)$", verb) else re.sub(r"(?<=[^aeiou])y$", "ie", verb) + "s"]
    if verb in _IRREGULAR:
        return [_IRREGULAR[verb]]
    if verb.endswith("e"):
        return [f"{verb}d"]
    return [re.sub(r"(?<=[^aeiou])y$", "i", verb) + "ed", f"{verb}{verb[-1]}ed"]
