"""Question-answer pairs from the statements of a conversation, by rule and without a model.

Next-token steps on "My dog is called Biko." do not make a small model answer "What is my dog called?". So each
statement is asked for in the ways in which a person would ask, and answered in the second person: "Your dog is
called Biko." The rules know simple English clauses: copulas, possession, verbs with an object, a place or a time. A
sentence that none of them fits gives nothing here; `training.questions` asks about it with telegraphic questions.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from continual_learning.text.chunking import sentences

_TIME = re.compile(
    r"\b(?:\d{1,2}(?::\d\d)?\s?(?:am|pm|o'clock)|(?:1[5-9]|20)\d\d|noon|midnight|morning|evening|afternoon|night|"
    r"(?:mon|tues|wednes|thurs|fri|satur|sun)days?|january|february|march|april|may|june|july|august|september|"
    r"october|november|december|spring|summer|autumn|winter|weekends?|christmas|easter|half past|quarter)\b"
    r"|^\d{1,2}(?::\d\d)?$",
    re.IGNORECASE,
)
_PARTICIPLE = r"\w+(?:ed|en|rn|pt|ld|lt|nt|id|ing)|made|set|won|cut"
_PLACE_WORDS = "in at on under behind near inside beside above below outside from".split()
_COLOURS = frozenset(
    "red blue green yellow black white grey gray brown orange purple pink teal silver gold turquoise beige".split()
)
_IRREGULAR = {
    "bought": "buy", "went": "go", "saw": "see", "met": "meet", "found": "find", "lost": "lose", "made": "make",
    "wrote": "write", "read": "read", "sold": "sell", "took": "take", "gave": "give", "got": "get", "had": "have",
    "won": "win", "grew": "grow", "broke": "break", "left": "leave", "began": "begin", "built": "build",
    "taught": "teach", "ate": "eat", "drank": "drink", "drove": "drive", "flew": "fly", "ran": "run", "sang": "sing",
    "spent": "spend", "kept": "keep", "hid": "hide", "put": "put", "paid": "pay", "chose": "choose", "spoke": "speak",
    "told": "tell", "came": "come", "became": "become", "brought": "bring", "caught": "catch", "sent": "send",
    "stood": "stand", "wore": "wear", "swam": "swim", "rode": "ride", "held": "hold", "fell": "fall", "knew": "know",
    "did": "do", "slept": "sleep", "cut": "cut", "set": "set", "led": "lead", "heard": "hear", "felt": "feel",
}  # fmt: skip
_PRESENT = frozenset(
    """live work play have own keep drive drink eat like love prefer hate need want study teach speak collect read
    write run grow bake cook ride sing use wear support follow train swim practise call take go come pay park store
    start begin end close open leave arrive cost weigh contain belong meet visit paint build repair sleep hide stay
    know make sell buy watch learn plan dream fear avoid suffer coach volunteer commute""".split()
)
_SECOND_PERSON = (
    (r"\bI am\b|\bI'm\b|\bI’m\b", "you are"),
    (r"\bI was\b", "you were"),
    (r"\bI've\b|\bI’ve\b", "you have"),
    (r"\bI'll\b|\bI’ll\b", "you will"),
    (r"\bI\b", "you"),
    (r"\b[Mm]yself\b", "yourself"),
    (r"\b[Mm]y\b|\bour\b|\bOur\b", "your"),
    (r"\b[Mm]ine\b|\b[Oo]urs\b", "yours"),
    (r"\bme\b|\bus\b", "you"),
    (r"\b[Ww]e are\b|\b[Ww]e're\b|\b[Ww]e’re\b", "you are"),
    (r"\b[Ww]e\b", "you"),
)
_LEAD_IN = re.compile(
    r"(?:by the way|oh|well|so|also|and|actually|fun fact|just so you know|for the record|please note(?: that)?|"
    r"remember(?: that)?|note(?: that)?|you should know(?: that)?|i should mention(?: that)?|did i mention(?: that)?|"
    r"i want you to know(?: that)?|guess what|yes|no|hi|hello)[,:!]?\s+",
    re.IGNORECASE,
)
# Words that begin a request, which states nothing.
_REQUESTS = frozenset(
    """write tell give name describe explain let please could can would will should list show say suggest thanks thank
    what who where when why how which is are do does did repeat translate summarise summarize compare make find help
    try imagine stop wait ok okay great interesting sure""".split()
)
# "US" is a country.
_PERSONAL = re.compile(r"\b(?:[Ii]|[Mm]e|[Mm]y|MY|[Mm]ine|[Mm]yself|[Ww]e|[Oo]urs?|us)\b")


@dataclass(frozen=True)
class Restated:
    """One statement: the questions that it answers, and the answer."""

    statement: str
    questions: tuple[str, ...]
    answer: str
    """The statement as the listener would repeat it."""


def is_personal(text: str) -> bool:
    """Whether a text is about its speaker: I, my, our."""
    return _PERSONAL.search(text) is not None


def in_second_person(text: str) -> str:
    """``I live in Oslo with my dog.`` as ``You live in Oslo with your dog.``"""
    for pattern, word in _SECOND_PERSON:
        text = re.sub(pattern, word, text)
    return _capitalised(text) if text.strip() else text


def statements(text: str) -> list[str]:
    """Return a text's sentences that state something, split into clauses where "and my" or "and I" joins several."""
    found = []
    for sentence in sentences(text):
        if sentence.endswith("?"):
            continue
        clauses = re.split(r"\s*;\s+|,?\s+(?:and|but)\s+(?=(?:my|I|I'm|our|we)\b)", sentence)
        for clause in clauses:
            bare = clause.strip().rstrip(".!,; ")
            begins = 0
            while lead_in := _LEAD_IN.match(bare, begins):
                begins = lead_in.end()
            bare = bare[begins:]
            if len(bare.split()) > 2 and re.split(r"[\s,]", bare)[0].lower() not in _REQUESTS:
                found.append(_capitalised(bare))
    return found


def restate(text: str) -> list[Restated]:
    """Return every statement that some rule can ask for. Questions stay in the first person, as the user asks."""
    found = []
    for statement in statements(text):
        questions = list(dict.fromkeys(_tidy(q) for q in _questions(statement)))
        if questions:
            found.append(Restated(statement, tuple(questions), f"{in_second_person(statement)}."))
    return found


def _capitalised(text: str) -> str:
    """With a capital first letter, unless the first word is a name such as ``parse_config``."""
    return text if re.search(r"[_.]", text.split()[0]) else text[0].upper() + text[1:]


def _tidy(question: str) -> str:
    question = " ".join(question.split()).rstrip(" .,?") + "?"
    return question[0].upper() + question[1:]


def _questions(statement: str) -> list[str]:
    for rule in (_possession, _first_person_is, _named, _is, _first_person_verb, _third_person_verb):
        if found := rule(statement):
            return found
    return []


def _inside(subject: str) -> str:
    """A subject in the middle of a question: ``My dog`` as ``my dog``."""
    first, _, rest = subject.partition(" ")
    return f"{first.lower()} {rest}".strip() if first in ("My", "Our", "The", "A", "An", "This", "That") else subject


def _where_or_when(words: str) -> str:
    return "When" if _TIME.search(words) else "Where"


def _possession(statement: str) -> list[str]:
    """``I have two cats``, ``I have a cat called Juno``, ``We own a boat``."""
    match = re.match(r"(?:I|We) (?:also )?(?P<verb>have|own|keep)(?: got)? (?P<rest>.+)", statement)
    if match is None:
        return []
    verb, rest = match["verb"], match["rest"]
    if named := re.match(r"(?:an? |one |the )?(?P<thing>.+?) (?:called|named|whose name is) (?P<name>.+)", rest):
        thing = named["thing"]
        return [*_name_questions(f"my {thing}"), f"What {thing} do I {verb}", f"Which {thing} do I {verb}"]
    number = r"\d+|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|twenty"
    if counted := re.match(rf"(?:{number}) (?P<things>[\w-]+(?: [\w-]+)?)", rest):
        things = counted["things"]
        return [
            f"How many {things} do I {verb}",
            f"How many {things} have I got",
            f"What number of {things} do I {verb}",
        ]
    return [f"What do I {verb}", f"What kind of thing do I {verb}", f"Tell me what I {verb}"]


def _first_person_is(statement: str) -> list[str]:
    match = re.match(r"(?:I am|I'm|I’m|I was|We are|We were) (?P<rest>.+)", statement)
    if match is None:
        return []
    rest = match["rest"]
    we, was = statement.startswith("We"), statement.split()[1] in ("was", "were")
    am = ("were we" if was else "are we") if we else ("was I" if was else "am I")
    if re.match(r"(?:\d+|[a-z-]+) years old", rest):
        return [f"How old {am}", "What is my age"]
    if re.match(r"(?:called|named) .+", rest):
        return ["What is my name", f"What {am} called", "Who am I"]
    if re.match(r"an? ", rest):
        return [f"What {am}", "What do I do", "What is my job", "What do I do for a living"]
    if from_ := re.match(r"(?P<what>(?:originally )?from|based in|living in|staying in) ", rest):
        tail = from_["what"].removesuffix(" in")
        return [f"Where {am} {tail}", "Which place am I from" if "from" in tail else f"Where do I {_lemma(tail)}"]
    pattern = r"(?P<state>[\w-]+(?: [\w-]+)?) (?P<prep>to|of|about|for|with|in|at|on|by|from) (?P<object>.+)"
    if tied := re.match(pattern, rest):
        state, prep, thing = tied["state"], tied["prep"], tied["object"]
        found = [f"What {am} {state} {prep}"]
        if prep in ("in", "at", "on"):
            found = [f"{_where_or_when(thing)} {am} {state}", f"{_where_or_when(thing)} exactly {am} {state}"]
        if object_ := re.match(r"(?P<doing>\w+ing) (?P<thing>.+)", state):
            found += [f"What {am} {object_['doing']}"]
        return [*found, f"Do you remember what {_said(am)} {state} {prep}"]
    if doing := re.match(r"(?P<doing>\w+ing) (?P<thing>.+)", rest):
        return [f"What {am} {doing['doing']}", f"Do you remember what {_said(am)} {doing['doing']}"]
    return [f"What {am}", f"How {am}", f"Do you remember what {_said(am)}"]


def _said(am: str) -> str:
    """Turn ``am I`` into the order of a statement: ``I am``."""
    verb, subject = am.split()
    return f"{subject} {verb}"


def _name_questions(thing: str) -> list[str]:
    return [f"What is {thing} called", f"What is the name of {thing}", f"What is {thing}'s name", f"Who is {thing}"]


def _named(statement: str) -> list[str]:
    """``My dog is called Biko``, ``The name of my dog is Biko``, ``My dog's name is Biko``."""
    if match := re.match(r"(?P<thing>.+?) (?:is|are|was|were) (?:called|named|nicknamed) .+", statement):
        return _name_questions(_inside(match["thing"]))
    if match := re.match(r"(?:The name of (?P<a>.+?)|(?P<b>.+?)['’]s name) (?:is|was) .+", statement):
        return _name_questions(_inside(match["a"] or match["b"]))
    if re.match(r"My name is .+", statement):
        return ["What is my name", "What am I called", "Who am I", "Do you remember my name"]
    return []


def _is(statement: str) -> list[str]:
    match = re.match(r"(?P<subject>.+?) (?P<be>is|are|was|were) (?P<rest>.+)", statement)
    if match is None or len(match["subject"].split()) > 7:
        return []
    subject, be, rest = _inside(match["subject"]), match["be"], match["rest"]
    thing = re.sub(r"^(?:my|our|the) ", "", subject)
    first = rest.split()[0].lower()
    if re.match(r".+ (?:old)$", rest):
        return [f"How old {be} {subject}", f"What is the age of {subject}"]
    if first in _PLACE_WORDS:
        asks = _where_or_when(rest.partition(" ")[2])
        found = [f"{asks} {be} {subject}", f"{asks} exactly {be} {subject}"]
        found.append(f"Do you know {asks.lower()} {subject} {be}")
        return [*found, f"{asks} can I find {subject}"] if asks == "Where" else found
    if doing := re.match(rf"(?P<state>{_PARTICIPLE}) (?P<prep>\w+) (?P<object>.+)", rest):
        return _state_questions(subject, be, doing["state"], doing["prep"], doing["object"])
    if rest.lower() in _COLOURS or rest.split()[-1].lower() in _COLOURS:
        if re.search(r"\bcolou?r\b", subject):
            return [f"What {be} {subject}", f"Do you remember {subject}", f"Which one {be} {subject}"]
        return [f"What colour {be} {subject}", f"Which colour {be} {subject}", f"What is the colour of {subject}"]
    if re.match(r"an? ", rest):
        return [f"What {be} {subject}", f"What does {subject} do", f"What is the job of {subject}",
                f"What kind of {thing.split()[-1]} {be} {subject}"]  # fmt: skip
    favourite = re.match(r"(?:my|our) favou?rite (?P<kind>.+)", subject)
    if favourite:
        kind = favourite["kind"]
        return [f"What {be} {subject}", f"Which {kind} do I like best", f"What {kind} do I like most",
                f"Which {kind} {be} my favourite"]  # fmt: skip
    found = [f"What {be} {subject}", f"Do you remember {subject}", f"Tell me {subject}"]
    if all(word.isalpha() and word[0].isupper() for word in rest.split()):
        found += [f"Who {be} {subject}", f"What is the name of {subject}", f"Which {thing} do I have"]
    else:
        found += [f"Which {thing} is it", f"What do I have as {subject}"]
    return found


def _state_questions(subject: str, be: str, state: str, prep: str, thing: str) -> list[str]:
    """``is kept in the shed``, ``was built by Ann``, ``is learning the harp``."""
    if state.endswith("ing"):
        return [f"What {be} {subject} {state}", f"What {be} {subject} {state} these days"]
    if prep == "by":
        return [f"Who {be} {subject} {state} by", f"By whom {be} {subject} {state}", f"Who {state} {subject}"]
    if prep in _PLACE_WORDS or prep == "for":
        asks = _where_or_when(thing)
        found = [f"{asks} {be} {subject} {state}", f"{asks} exactly {be} {subject} {state}"]
        return [*found, f"{asks} can I find {subject}"] if asks == "Where" else [*found, f"{asks} {be} {subject}"]
    return [f"What {be} {subject} {state} {prep}", f"How {be} {subject} {state}"]


def _lemma(verb: str) -> str:
    """The infinitive of a past or third-person form, as far as simple rules go."""
    word = verb.lower()
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if word == "has":
        return "have"
    if word in _PRESENT:
        return word
    for suffix, instead in (("ied", "y"), ("ies", "y")):
        if word.endswith(suffix) and len(word) > 4:
            return word[: -len(suffix)] + instead
    if word.endswith("ing"):
        return _stem(word[:-3])
    if word.endswith("ed"):
        return _stem(word[:-2])
    if re.search(r"(?:ss|sh|ch|x|o)es$", word):
        return word[:-2]
    return word[:-1] if word.endswith("s") else word


def _stem(stem: str) -> str:
    """Return a verb from its stem without -ed or -ing: with its final e, or with its consonant no longer doubled."""
    if f"{stem}e" in _PRESENT:
        return f"{stem}e"
    if len(stem) > 2 and stem[-1] == stem[-2] and stem[-1] not in "sl":
        return stem[:-1]
    if stem in _PRESENT or re.search(r"(?:[aeiou]{2}[^aeiou]|[^aeiou]{2}|[aeiou][wxy]|er|en|it|ow)$", stem):
        return stem
    return f"{stem}e"


def _is_past(verb: str) -> bool:
    return verb.lower() in _IRREGULAR or (verb.lower().endswith("ed") and verb.lower() not in _PRESENT)


def _verb_questions(subject: str, verb: str, rest: str, do: str) -> list[str]:
    """Questions for the object, the place and the time of ``subject verb rest``."""
    root = _lemma(verb)
    words = rest.split()
    found: list[str] = []
    if not words:
        return [f"What {do} {subject} {root}"]
    first = words[0].lower()
    if first in _PLACE_WORDS:
        asks = _where_or_when(" ".join(words[1:]))
        found += [f"{asks} {do} {subject} {root}", f"{asks} exactly {do} {subject} {root}"]
        found += [f"Do you know {asks.lower()} {subject} {verb}"]
        if root == "live":
            found += [f"In which place {do} {subject} live", f"What town {do} {subject} live in"]
        if root == "work" and first in ("at", "in"):
            found += [f"What is the place where {subject} {verb}"]
        return found
    if first in ("as", "for", "with", "to", "about", "of", "by"):
        found += [f"What {do} {subject} {root} {first}", f"Who {do} {subject} {root} {first}"]
        if root == "work" and first == "as":
            owner = "my" if subject == "I" else f"{subject}'s"
            found += [f"What is {owner} job", f"What {do} {subject} do for a living", f"What {do} {subject} do"]
        return found
    found += [f"What {do} {subject} {root}", f"Which thing {do} {subject} {root}", f"Tell me what {subject} {verb}"]
    object_ = rest
    if place := re.match(rf"(?P<object>.+?) (?P<prep>{'|'.join(_PLACE_WORDS)}) (?P<tail>.+)", rest):
        object_ = place["object"]
        found.insert(0, f"{_where_or_when(place['tail'])} {do} {subject} {root} {object_}")
    if number := re.match(r"(?:\d+|two|three|four|five|six|seven|eight|nine|ten|twelve) (?P<things>[\w-]+)", object_):
        found.insert(0, f"How many {number['things']} {do} {subject} {root}")
    return found


def _first_person_verb(statement: str) -> list[str]:
    adverb = "(?:always|usually|often|once|also|just|really|recently)"
    match = re.match(rf"(?:I|We) (?:{adverb} )?(?P<verb>[a-z]+)(?: (?P<rest>.+))?$", statement)
    if match is None:
        return []
    subject = "we" if statement.startswith("We") else "I"
    do = "did" if _is_past(match["verb"]) else "do"
    return _verb_questions(subject, match["verb"], match["rest"] or "", do)


def _third_person_verb(statement: str) -> list[str]:
    words = statement.split()
    if words[0] not in ("My", "Our", "The", "This") and not words[0][0].isupper():
        return []
    for at in range(1 if words[0] not in ("My", "Our", "The", "This") else 2, min(len(words), 6)):
        verb = words[at].lower()
        if _is_past(verb) or (verb.endswith("s") and _lemma(verb) in _PRESENT) or verb == "has":
            subject = _inside(" ".join(words[:at]))
            return _verb_questions(subject, words[at], " ".join(words[at + 1 :]), "did" if _is_past(verb) else "does")
    return []
