"""The documents of a memory as whole texts, and which of them a question is about."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from continual_learning.memory.state import State
from continual_learning.model.base_model import Message
from continual_learning.reading.wholes.questions import TEXT_NOUNS, question_kind
from continual_learning.retrieval.relevance import holds_much, surely_about, text_key
from continual_learning.retrieval.routing import default_rarity, look_ups, term_hash
from continual_learning.text.lines import LINES, with_lines
from continual_learning.text.words import content_stems, stem

_NAMED = 0.6
"""Share of a title's content, by rarity, that names it."""
_HELD = 0.5
"""Share of a question's content that the only document of a memory must have, with `_EVIDENCE`, to be what it is about.
With 0.4 and 2 nats, which finds more of what the document does not say, a page that mentions "the capital of Orsel" was
taken to be asked for the capitals of the world, and for 13 of 60 general questions in all."""
_EVIDENCE = 4.0
"""Nats: a word that at most one background text has."""
_UNHEARD = 4.9
"""Nats: a word that no background text has."""
_NAME = re.compile(r"(?<=\w )[A-Z][a-z]")
_AUXILIARY = "is|are|was|were|do|does|did|has|have|had|can|could|may|must|should|will|would"
# What refers to something that the question itself does not name: "What does it weigh?", "What is her notice period?"
_REFERS = re.compile(
    r"^(?:(?:in|on|at|by|for|to|from|with|of) )?(?:what|which|who|whom|whose|when|where|why|how)\b"
    rf"(?: (?!(?:{_AUXILIARY})\b)[\w'-]+){{0,2}} (?:(?:{_AUXILIARY}) (?:he|she|it(?!.* (?:to|that|when|if|for)\b))"
    rf"|(?:(?:{_AUXILIARY}) )?(?:its|his|her))\b"
    rf"|^(?:{_AUXILIARY}) (?:it(?!.* (?:to|that|when|if|for)\b)|its|he|his|she|her)\b",
    re.IGNORECASE,
)
_TEXT_WORDS = frozenset(
    stem(part) for noun in TEXT_NOUNS.split("|") for part in re.findall(r"[a-zé]+", noun) if len(part) > 1
)
# Words of a request that say nothing about which text is meant.
_REQUEST = frozenset(
    stem(word)
    for word in """summarise summarize summary summed sum overview recap outline gist tell explain give brief short
    sentence sentences few words bullet points point main key please list lists all every each name many number count
    total kind say says describe deal cover covers discuss talk contain write make know want like everything whole
    entire here there one two three quickly briefly takeaway takeaways idea ideas topic topics content contents
    purpose subject you me""".split()
)


@dataclass(frozen=True)
class Chosen:
    """The document that a question is about."""

    document_id: str
    certain: bool
    """Whether the question names it or its words find it; if not, it is the only one there is."""
    guessed: bool = False
    """Whether nothing but that speaks for it."""


@dataclass(frozen=True)
class Library:
    """A memory's documents."""

    titles: Mapping[str, str]
    """By document id, in the order in which they were learned."""
    text: Callable[[str], str]
    """The whole text of a document, in lines: kept or recited."""
    keys: Callable[[], Mapping[str, frozenset[int]]]
    """Hashes of the content stems of every document and its title."""
    route: Callable[[str, Sequence[Message]], str | None]
    """The document that a question's words find, by the strategy's own lookup."""
    recited: bool = False
    """Whether texts are recited from weights, and not kept."""
    long: frozenset[str] = frozenset()
    """Documents that are too long to be recited for a question about a few words."""
    much: bool = False
    """Whether the memory `holds_much`: that a document has a question's words then says little."""
    longest: frozenset[str] = frozenset()
    """Those of them that are too long to be recited for anything but a question about the whole of them."""
    read: dict[str, str] = field(default_factory=dict, compare=False, repr=False)

    def whole(self, document_id: str) -> str:
        """The text of a document, fetched once."""
        if document_id not in self.read:
            self.read[document_id] = self.text(document_id)
        return self.read[document_id]

    def choose(self, question: str, history: Sequence[Message] = ()) -> Chosen | None:
        """The document that a question is about: named, found by its words, or the only one that it can be about."""
        if not self.titles:
            return None
        if named := self._named(question):
            return Chosen(named, True)
        if (found := self.route(question, history)) and self._surely(found, question, history):
            return Chosen(found, True)
        if len(self.titles) > 1:
            return None
        [only] = self.titles
        left = _content(question)
        if question_kind(question) in ("summary", "about") and not left:
            return Chosen(only, True)
        if self.much:
            return None
        weights = {term: default_rarity().idf(term_hash(term)) for term in left}
        held = self.keys().get(only, frozenset())
        shared = sum(weight for term, weight in weights.items() if term_hash(term) in held)
        if left and shared >= _EVIDENCE and shared >= _HELD * sum(weights.values()):
            return Chosen(only, False)
        if not history and _REFERS.match(question.strip()) and not _NAME.search(question):
            return Chosen(only, False)
        return None

    def _surely(self, document_id: str, question: str, history: Sequence[Message]) -> bool:
        """Whether the words of a question that a document has are not shared by accident, as among many documents."""
        if not self.much:
            return True
        key = self.keys().get(document_id, frozenset())
        return any(surely_about(asked, self.titles[document_id], key) for asked in look_ups(question, history))

    @property
    def only(self) -> Chosen | None:
        """The only document of a memory, as what a question may be about if it fits."""
        return Chosen(next(iter(self.titles)), False, True) if len(self.titles) == 1 and not self.much else None

    def missing(self, chosen: Chosen, question: str) -> set[str]:
        """The rare words of a question that a document has not: the question can hardly be about it.

        Where the question finds the document, those that no background text has.
        """
        kept = self.keys().get(chosen.document_id, frozenset())
        least = _EVIDENCE if chosen.guessed else _UNHEARD
        idf = default_rarity().idf
        return {term for term in _content(question) if term_hash(term) not in kept and idf(term_hash(term)) >= least}

    def _named(self, question: str) -> str | None:
        """The one document whose title a question names, whole or for the most part."""
        asked = content_stems(question) - _REQUEST
        shares: dict[str, float] = {}
        for document_id, title in self.titles.items():
            weights = {term: default_rarity().idf(term_hash(term)) for term in content_stems(title)}
            total = sum(weights.values())
            shared = sum(weight for term, weight in weights.items() if term in asked)
            if total and shared >= _EVIDENCE and shared >= _NAMED * total:
                shares[document_id] = shared / total
        best = max(shares.values(), default=0.0)
        named = [document_id for document_id, share in shares.items() if share == best]
        return named[0] if len(named) == 1 else None


def _content(question: str) -> set[str]:
    """The content of a question, without words that say nothing about which text is meant."""
    return content_stems(question) - _REQUEST - _TEXT_WORDS


def library_of(
    state: State,
    texts: Callable[[str], str],
    route: Callable[[str, Sequence[Message]], str | None],
) -> Library:
    """The library of a memory that keeps its texts."""
    titles = {record.id: record.title for record in state.meta.documents}

    def keys() -> dict[str, frozenset[int]]:
        return {document_id: _key(title, texts(document_id)) for document_id, title in titles.items()}

    def text(document_id: str) -> str:
        record = state.meta.document(document_id)
        return with_lines(texts(document_id), record.details.get(LINES) if record else None)

    return Library(titles, text, keys, route, much=holds_much(state))


_key = lru_cache(maxsize=512)(text_key)
