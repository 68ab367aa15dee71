"""Enumerations within a sentence: "A, B and C", or what is listed after a label and a colon."""

from __future__ import annotations

import re
from itertools import pairwise

_MOST_WORDS = 9
"""An entry with more words is a clause."""
_FEWEST = 2
_LONGEST_LIST = 60
_FEW = 3
_DETERMINERS = frozenset({"the", "a", "an", "your", "our", "their", "its", "his", "her", "my"})
# A name in capitals, with what is in brackets after it.
_NAME = re.compile(r"(?:[A-Z][\w'’.-]*(?:\s+(?=[A-Z(])|(?=\W|$)))+(?:\([^()]*\))?")
# Separators of entries, outside brackets and quotation marks.
_SEPARATOR = re.compile(
    r"\s*(?P<end>;|,)\s+(?P<last>(?:and|or|&|as well as|plus)\s+)?|\s+(?P<two>and|or|&)\s+|\s+[·•]\s+"
)
_HIDDEN = re.compile(r"\([^()]*\)|\[[^\[\]]*\]|\"[^\"]*\"|“[^”]*”|`+[^`]*`+")
_HIDE = "\x00"
# Words after which the first entry begins, and before which the last one ends.
_BEFORE = (
    "is|are|was|were|be|been|for|in|of|to|by|with|from|take|takes|include|includes|including|included|has|have|had|like"
    "|as|at|on|onto|into|than|only|need|needs|contain|contains|offer|offers|support|supports|cover|covers|go|goes|use"
    "|uses|add|between|through|via|namely|both|either|one|any|get|gets|bring|read|write|speak|speaks|who|that|which"
    "|said|named|called|against|about|over|under|after|before|within|does|do|did|not"
)
_FIRST = re.compile(rf"^.*(?:[:;–—]|\b(?:{_BEFORE})\b)\s+", re.IGNORECASE)
_AFTER = (
    "in|on|at|for|from|to|by|with|that|which|who|whose|where|when|while|is|are|was|were|will|has|have|had|can|may|must"
    "|should|so|because|if|but|as|until|after|before|during|than|returns?|into|upon|under|over|then|they|it|he|she"
)
_LAST = re.compile(rf"\s+(?:{_AFTER})\b.*$|\s[–—-]\s.*$|[.;:!?](?:\s.*)?$", re.IGNORECASE)
_LABEL = re.compile(r"^(?P<label>(?:[^\s:.!?|]+\s+){0,5}[^\s:.!?|]+)\s*:\s+(?P<rest>\S.*)$")
# How a clause begins, which is no entry.
_CLAUSE = re.compile(
    r"\s*(?:who|which|that|whose|where|when|while|if|it|he|she|they|we|you|i|so|but|because|except|then|as|though|not"
    r"|there)\b",
    re.IGNORECASE,
)
_SENTENCE = re.compile(r"\b(?:is|are|was|were|has|have|had|does|do|did|can|could|will|would)\b", re.IGNORECASE)
_CODE = re.compile(r"`+[^`]+`+|\"[^\"]+\"|“[^”]+”")


def labelled(text: str) -> tuple[str, str] | None:
    """A label and what follows its colon; None without one."""
    match = _LABEL.match(text)
    return (match["label"].strip(), match["rest"].strip()) if match else None


def listed(text: str) -> list[str]:
    """The entries of a text that is an enumeration as a whole, up to its first full stop; none if it is not one."""
    first = re.split(r"(?<=[^\W\d]{2}[.!?])\s", _hidden(text), maxsplit=1)[0]
    text = text[: len(first)].rstrip(" .;!")
    if len(text.split()) > _LONGEST_LIST:
        return []
    hidden = _hidden(text)
    if ";" in hidden:  # entries with commas of their own
        places = [0, *(match.end() for match in re.finditer(r";\s*", hidden)), len(text) + 1]
        entries = [text[a:b].strip(" ;") for a, b in pairwise(places)]
    else:
        entries = [piece for piece, _ in _pieces(text)]
    if len(entries) < _FEWEST or any(not _is_entry(entry) or _SENTENCE.search(_hidden(entry)) for entry in entries):
        return []
    return [_clean(entry) for entry in entries]


def enumerations(sentence: str) -> list[list[str]]:
    """The enumerations in a sentence with at least three entries, or two that a conjunction joins."""
    found: list[list[str]] = []
    pieces = _pieces(sentence)
    start = 0
    while start < len(pieces) - 1:
        end = start + 1
        while end < len(pieces) - 1 and not pieces[end][1] and _is_entry(pieces[end][0]):
            if _CLAUSE.match(pieces[end][0]):
                start = end
            end += 1
        middle = [piece for piece, _ in pieces[start + 1 : end]]
        first = _first(pieces[start][0], middle)
        entries = [first, *middle, _last(pieces[end][0], first, middle)]
        if pieces[end][1] and all(_is_entry(entry) for entry in entries):
            found.append([_clean(entry) for entry in entries])
        start = end
    return found


def _hidden(text: str) -> str:
    """The text with what is in brackets, quotation marks and back-quotes blotted out, at the same length."""
    return _HIDDEN.sub(lambda match: _HIDE * len(match[0]), text)


def _pieces(text: str) -> list[tuple[str, bool]]:
    """What stands between separators, and whether a conjunction stands before it."""
    pieces: list[tuple[str, bool]] = []
    start, joined = 0, False
    for match in _SEPARATOR.finditer(_hidden(text)):
        pieces.append((text[start : match.start()], joined))
        start, joined = match.end(), bool(match["last"] or match["two"])
    pieces.append((text[start:], joined))
    return pieces


def _is_entry(text: str) -> bool:
    return bool(re.search(r"\w", text)) and len(text.split()) <= _MOST_WORDS


def _clean(entry: str) -> str:
    entry = re.sub(r"^(?:the |a |an |some |and |or )(?=\S+$)", "", entry.strip(" .;,:`"))
    return entry[1:-1] if len(entry) > 2 and entry[0] in '"“' and entry[-1] in '"”' else entry.strip()


def _first(text: str, middle: list[str]) -> str:
    """The end of what stands before the first separator, from where the first entry begins."""
    words = text.split()
    if middle and all(_CODE.fullmatch(entry.strip()) for entry in middle):
        codes = _CODE.findall(text)
        return codes[-1] if codes else ""
    cut = text[match.end() :] if (match := _FIRST.match(_hidden(text))) else text
    same = {entry.split()[0].lower() for entry in middle} & _DETERMINERS
    if len(same) == 1 and (found := list(re.finditer(rf"\b{same.pop()}\s", text, re.IGNORECASE))):
        return text[found[-1].start() :]
    if middle and all(len(entry.split()) == 1 for entry in middle):
        return cut if len(cut.split()) <= _FEW else "".join(words[-1:])
    if middle and all(entry[:1].isupper() for entry in middle):
        named = re.search(r"(?:[A-Z][\w'’.-]*(?:\s+(?=[A-Z])|$))+$", cut)
        cut = named[0] if named else cut
    return cut


def _last(text: str, first: str, middle: list[str]) -> str:
    """The beginning of what stands after the conjunction, to where the last entry ends."""
    if middle and all(_CODE.fullmatch(entry.strip()) for entry in middle):
        code = _CODE.match(text.strip())
        return code[0] if code else ""
    if first and all(entry[:1].isupper() for entry in (first, *middle)) and (name := _NAME.match(text)):
        return name[0].strip()
    match = _LAST.search(_hidden(text))
    return text[: match.start()] if match and match.start() else text.rstrip(". ")
