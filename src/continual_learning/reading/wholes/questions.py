"""What kind of answer a question asks for, by rule. In doubt it is a span: a few words of the text.

The rules are for English. They look at how a question begins and how it ends, never at what it is about.
"""

from __future__ import annotations

import re
from typing import Literal

from continual_learning.reading.wholes.two_facts import AUXILIARY, PREPOSITION, split_facts

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
_YES_NO = re.compile(rf"^{_POLITE}(?:{AUXILIARY})\b")
# A question inside a question that begins like one of yes or no: "Can you tell me when …?"
_EMBEDDED = re.compile(
    r"^(?:can|could|would|will|do|does|did|is|may)(?:n't)? (?:you|i|we|anyone|anybody|someone|there|it|they)\b"
    r"(?: (?:please|kindly|happen to|possible to|possibly|be able to|perhaps|also|mind))*"
    r" (?:tell|telling|say|explain|know|ask|find out|remember|recall|show|give|name|list|let|describe|quote|remind)\b"
)
# A question which of two: "Is it open or closed?".
_CHOICE = re.compile(r"\bor\b(?! (?:not|so|more|less|later|earlier|above|below|over|under|older|younger)\b)")


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
    if _YES_NO.search(asked) and not _EMBEDDED.search(asked) and not _CHOICE.search(asked):
        return "yes_no"
    return "span"


def about_what(question: str) -> str | None:
    """What a question of the form "What is … about?" names, whatever it is; None for other questions."""
    asked = _plain(question)
    found = _ABOUT.search(asked)
    return (found["what"] or found["does"]) if found else None


def may_ask_for_list(question: str) -> bool:
    """Whether several things may be asked for: "Which colours …?", "What are the …?". A text may still have one."""
    return bool(_PLURAL.search(_plain(question)))


def may_be_answered_by_list(question: str) -> bool:
    """Whether a list that has just this name answers it: "What do I need?", "Who attended?", "Where can I pay?"."""
    return bool(_OPEN.search(_plain(question)))


def _plain(question: str) -> str:
    return " ".join(question.lower().replace("’", "'").split()).strip(" ?!.")


def _is_text(named: str | None) -> bool:
    return named is None or bool(_SUBJECT.match(named))


_OPEN = re.compile(
    rf"^{_POLITE}(?:(?:what|whom|where) (?:do|does|did|can|should|must|may|could|will|has to|have to|goes|comes)\b"
    r"|(?:what|who) (?:(?:was|were|is|are|has been|have been|has|have) (?:already )?)?[a-z]{2,}(?:ed|ing)\b"
    r"|who (?:came|went)\b"
    r"|who (?:was|were|is|are) (?:there|present|absent|missing|responsible|invited|involved)\b)"
)
_PLURAL = re.compile(
    rf"^{_POLITE}(?:(?:{PREPOSITION}) )?(?:(?:which|what) (?:(?:other|different|kinds? of|types? of|sorts? of) )?"
    r"(?:[\w'-]+ ){0,2}?(?!(?:is|was|does|has|its|this|class|process|address|status|always|news|gas|bus)\b)"
    r"[\w-]*[^s'\W]s\b"
    r"|(?:which|what) (?:software|equipment|clothing|food|furniture|luggage|gear|hardware|material|people)\b"
    r"|what (?:are|were) (?:the|his|her|its|their|our|my|your)\b|which (?:are|were)\b"
    r"|by what can\b|who (?:are|were)\b)"
)
