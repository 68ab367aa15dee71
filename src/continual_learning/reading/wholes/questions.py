"""What kind of answer a question asks for, by rule. In doubt it is a span: a few words of the text.

The rules are for English. They look at how a question begins and how it ends, never at what it is about.
"""

from __future__ import annotations

import re
from typing import Literal

QuestionKind = Literal["summary", "about", "list", "count", "yes_no", "two_facts", "span"]

# What people call a text that they have: with these, "summarise" and "about" are about a document.
TEXT_NOUNS = (
    "document|doc|text|page|file|note|memo|letter|e-?mail|message|article|paper|report|contract|clause|agreement|recipe"
    "|readme|changelog|release notes|cv|resume|résumé|timetable|schedule|plan|programme|minutes|meeting|guide|how-?to"
    "|manual|instructions|handbook|product page|listing|description|story|chapter|passage|section|transcript|summary"
    "|policy|terms|faq|website|site|post|leaflet|brochure|list|table|form|application|proposal|presentation|slides"
)
_POLITE = r"(?:(?:please|kindly|ok|okay|so|and|now|hi|hello|hey|then)[, ]+)*"
_ASKING = (
    r"(?:(?:can|could|would|will) you (?:please |kindly |briefly |quickly )*"
    r"|i(?:'d| would) like (?:(?:you )?to (?:have )?)?"
    r"|i want (?:(?:you )?to (?:have )?)?|let me have |i need )?(?:please )?"
)
_A_FEW = r"(?:(?:short|brief|quick|concise|one[- ]sentence|two[- ]sentence|executive|high[- ]level|little|bullet) )*"
_SUMMARY = re.compile(
    rf"^{_POLITE}{_ASKING}(?:(?:briefly |quickly )?(?:summari[sz]e|sum up|recap|outline|condense)\b"
    rf"|(?:give|write|make|show|get|tell|do)(?: me| us)? (?:a |an |the )?{_A_FEW}"
    rf"(?:summary|overview|recap|outline|gist|rundown|digest|synopsis|abstract|key points|main points|highlights)\b"
    rf"|(?:a |the )?{_A_FEW}(?:summary|overview|recap|synopsis|gist)\b(?: of\b.*| please)?[.?! ]*$"
    r"|(?:tl;?dr\b)"
    r"|what(?:'s| is| are|'re| were| was) (?:the )?(?:gist|summary|upshot|bottom line|(?:main|key|most important|"
    r"essential|central) (?:points?|ideas?|takeaways?|messages?|things?|facts|findings|topics?))"
    r"(?: of| in| from| here|[?]|$)(?! (?:his|her|their|its|the author|the article's)\b)"
    r"|brief me (?:on|about)\b)",
)
_IT = r"(?:this|that|it|these|those|all (?:of )?(?:this|that|it)|here)"
_THE_TEXT = (
    rf"(?:{_IT}|(?:this|that|the|these|those|my|our|your|his|her) (?:[\w'’-]+ ){{0,4}}?(?:{TEXT_NOUNS})s?(?: here)?)"
)
_ABOUT = re.compile(
    rf"^{_POLITE}{_ASKING}(?:(?:(?:tell|explain|say)(?: me| to me)? )?what(?:'s|s| is| are|'re| was| were) "
    rf"(?P<what>.{{1,80}}?) (?:all |mainly |mostly |basically |really )?about[?.! ]*$"
    rf"|what (?:does|do|did) (?P<does>.{{1,80}}?) (?:cover|deal with|describe|discuss|talk about|treat|say|contain"
    rf"|tell (?:me|us|you))[?.! ]*$"
    rf"|(?:tell|explain)(?: me| to me)? (?:something |more |a bit |all )?(?:about )?{_THE_TEXT}[?.! ]*$"
    rf"|(?:what|which) (?:kind|sort|type) of (?:{TEXT_NOUNS}|thing) (?:is|are) {_THE_TEXT}[?.! ]*$"
    rf"|what (?:is|are) {_IT}[?.! ]*$"
    rf"|what(?:'s| is) the (?:subject|topic|theme|purpose) of {_THE_TEXT}[?.! ]*$)",
)
_SUBJECT = re.compile(rf"^(?:{_THE_TEXT}|[\"“'‘].*[\"”'’])$")
_LIST = re.compile(
    rf"^{_POLITE}{_ASKING}(?:(?:list|enumerate)\b(?! (?:one|an?|two|three|the (?:name|number|person|year))\b)"
    r"|(?:name|give|show|tell|mention)(?: me| us)? (?:all|every|each)\b(?! (?:about|the details))"
    r"|(?:give|show|get|make)(?: me| us)? (?:a |the )?(?:full |complete |short )?list\b"
    r"|what(?:'s| is| are) (?:all|the (?:full|complete) list of)\b"
    r"|(?:which|what) are all\b)",
)
_COUNT = re.compile(
    rf"^{_POLITE}{_ASKING}(?:(?:tell me |count )?(?:in |on |at |for |to |by |with |of |from |about )?"
    r"how many\b|count (?:the|all|how)\b|what(?:'s| is| was) the (?:total )?number of\b)"
)
_AUXILIARY = (
    "is|are|was|were|am|do|does|did|has|have|had|can|could|may|might|must|should|shall|will|would|ain't|isn't|aren't"
    "|wasn't|weren't|don't|doesn't|didn't|hasn't|haven't|hadn't|can't|cannot|couldn't|mustn't|shouldn't|won't|wouldn't"
)
_YES_NO = re.compile(rf"^{_POLITE}(?:{_AUXILIARY})\b")
_W = r"who|whom|whose|what|when|where|which|why|how"
# A question inside a question that begins like one of yes or no: "Can you tell me when …?"
_EMBEDDED = re.compile(
    r"^(?:can|could|would|will|do|does|did|is|may)(?:n't)? (?:you|i|we|anyone|anybody|someone|there|it|they)\b"
    r"(?: (?:please|kindly|happen to|possible to|possibly|be able to|perhaps|also|mind))*"
    r" (?:tell|telling|say|explain|know|ask|find out|remember|recall|show|give|name|list|let|describe|quote|remind)\b"
)
_CHOICE = re.compile(r"\bor\b(?! (?:not|so|more|less|later|earlier|above|below|over|under|older|younger)\b)")
_JOINED = re.compile(
    rf"^(?P<first>.*?\b(?:{_W})\b.*?)[,;]? (?:and|as well as|&|plus) (?:also )?"
    rf"(?P<second>(?:(?:in|on|at|by|for|to|from|with|after|until|since|of|under|per|about|through|over|into) )?"
    rf"(?:{_W})\b.*)$"
)


def question_kind(question: str) -> QuestionKind:
    """The kind of answer that a question asks for; `span` unless its form says otherwise."""
    asked = _plain(question)
    if not asked:
        return "span"
    if _SUMMARY.search(asked):
        return "summary"
    if (about := _ABOUT.search(asked)) and _is_text(about["what"] or about["does"]):
        return "about"
    if _LIST.search(asked):
        return "list"
    if split_facts(question) is not None:
        return "two_facts"
    if _COUNT.search(asked):
        return "count"
    if _YES_NO.search(asked) and not _EMBEDDED.search(asked) and not _offers_choice(asked):
        return "yes_no"
    return "span"


def about_what(question: str) -> str | None:
    """What a question of the form "What is … about?" names, whatever it is; None for other questions."""
    asked = _plain(question)
    found = _ABOUT.search(asked)
    return (found["what"] or found["does"]) if found else None


def split_facts(question: str) -> tuple[str, str] | None:
    """The two questions in a question with two facts ("Who … and when …?"), or None if it is not one.

    What one of them leaves out is taken from the other: a pronoun becomes the other's subject, and a question word
    without a sentence ("When and where did …?", "…, and from when?") has the other's.
    """
    text = " ".join(question.split()).rstrip("?!. ")
    match = _JOINED.match(text.lower())
    if match is None or _BETWEEN.search(match["first"]):
        return None
    first, second = text[: match.end("first")].rstrip(",; "), text[match.start("second") :]
    if not _after_word(first):
        first = f"{first} {_after_word(second)}"
    if not _is_question(first):
        return None
    second = _with_subject(first, _with_clause(first, second))
    if not _is_question(second):
        return None
    return f"{first[0].upper()}{first[1:]}?", f"{second[0].upper()}{second[1:]}?"


def may_ask_for_list(question: str) -> bool:
    """Whether several things may be asked for: "Which colours …?", "What are the …?". A text may still have one."""
    return bool(_PLURAL.search(_plain(question)))


def _plain(question: str) -> str:
    return " ".join(question.lower().replace("’", "'").split()).strip(" ?!.")


def _is_text(named: str | None) -> bool:
    return named is None or bool(_SUBJECT.match(named))


def _offers_choice(asked: str) -> bool:
    """Whether it asks which of two: "Is it open or closed?"."""
    return bool(_CHOICE.search(asked))


_FIRST_WORD = re.compile(
    rf"^(?P<before>.*?)\b(?P<word>how (?:much|many|long|often|far|old|big|large|tall|high|deep|fast|late|early"
    rf"|heavy|soon|wide|thick)|(?:what|which) (?:time|date|day|year|place|price|address|number)|{_W})\b(?P<rest>.*)$",
    re.IGNORECASE,
)


def _after_word(part: str) -> str:
    """What follows the question word."""
    match = _FIRST_WORD.match(part)
    return match["rest"].strip(" ,;") if match else ""


_BETWEEN = re.compile(rf"\b(?:between|both|either) (?:{_W})\b")
# Verbs after which "who", "what" and the like begin a clause and no question of their own.
_REPORTED = re.compile(
    r"\b(?:know|knew|said|says|say|explain(?:s|ed)?|describe[sd]?|show(?:s|ed|n)?|determine[sd]?|decide[sd]?|learn(?:s|ed)?"
    r"|study|studied|studies|wonder(?:s|ed)?|understand|understood|believe[sd]?|discover(?:s|ed)?|consider(?:s|ed)?"
    r"|of|between|and|to|from|about)$"
)


def _is_question(part: str) -> bool:
    match = _FIRST_WORD.match(part)
    if match is None or not match["rest"].strip():
        return False
    before = match["before"].strip().lower()
    return len(before.split()) < 2 or (len(before.split()) == 2 and not _REPORTED.search(before))


_PREPOSITION = "in|on|at|by|for|to|from|with|after|before|until|of|under|per|about|through|over|into|without|during"
_PLURAL = re.compile(
    rf"^{_POLITE}(?:(?:{_PREPOSITION}) )?(?:(?:which|what) (?:(?:other|different|kinds? of|types? of|sorts? of) )?"
    r"(?:[\w'-]+ ){0,2}?(?!(?:is|was|does|has|its|this|class|process|address|status|always|news|gas|bus)\b)"
    r"[\w-]*[^s'\W]s\b"
    r"|what (?:are|were) (?:the|his|her|its|their|our|my|your)\b|which (?:are|were)\b|(?:which|what) people\b"
    r"|by what can\b|who (?:are|were)\b)"
)
_CLAUSE = re.compile(rf"\b(?:{_AUXILIARY})\b.*$", re.IGNORECASE)
_PRONOUN = re.compile(r"\b(?:it|they|he|she)\b", re.IGNORECASE)
# Of a question: what stands between its auxiliary and its verb, or the thing at its end.
_NOUNS = r"(?:the|this|that|a|an|my|our|your|their|his|her|its)\s+(?:[\w'’-]+\s+){0,3}?[\w'’-]+?"
_SUBJECTS = (
    re.compile(r"\b(?:do|does|did)\s+(?P<subject>(?:[\w'’-]+\s+){0,2}?[\w'’-]+)\s+[a-z]+$"),
    re.compile(rf"\b(?:{_AUXILIARY})\s+(?P<subject>{_NOUNS}|[A-Z][\w'’-]*(?:\s+[A-Z][\w'’-]*)*)(?=\s+[a-z]+\b|$)"),
    re.compile(r"(?P<subject>\b(?:the|this|a|an|our|my|your)\s+(?:[\w'’-]+\s+){0,2}?[\w'’-]+(?:\s+of\s+[\w'’ -]+)?)$"),
)


def _with_clause(first: str, second: str) -> str:
    """The second question with the sentence of the first, if it has none of its own."""
    clause = _CLAUSE.search(first)
    rest = _after_word(second)
    if clause is None or (rest and (_CLAUSE.search(rest) or len(rest.split()) > 4)):
        return second
    if not rest or not re.match(rf"(?:{_PREPOSITION})\b", rest):
        head = second[: len(second) - len(rest)].rstrip() if rest else second
        return f"{head} {clause[0]} {rest}".rstrip()
    # "How long is the warranty on the barrel, and how long on the tap?"
    head = second[: len(second) - len(rest)].rstrip()
    same = re.split(rf"\s+(?={rest.split()[0]}\b)", clause[0], maxsplit=1)[0]
    return f"{head} {same} {rest}"


def _with_subject(first: str, second: str) -> str:
    """The second question with the subject of the first for its pronoun."""
    pronoun = _PRONOUN.search(second)
    found = next((match for pattern in _SUBJECTS if (match := pattern.search(first))), None)
    if pronoun is None or found is None or _PRONOUN.search(found["subject"]):
        return second
    return f"{second[: pronoun.start()]}{found['subject']}{second[pronoun.end() :]}"
