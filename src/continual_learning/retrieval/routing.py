"""Which passage of the memory a question is about, if any.

Each learned passage has its own weights and a key: hashes of the content words of the passage and its title.
A question opens the passage that covers the largest share of its content words, weighted by how rare
they are in background text,

    coverage(q, p) = evidence(q, p) / sum of idf(w) over words w in q,
    evidence(q, p) = sum of idf(w) over words w in q and p,

if both reach a threshold; else it opens none and the base gives its own answer, bit for bit. Coverage alone
would open a passage that mentions Japan for "What is the capital of Japan?": evidence asks for more than one shared
word. The key finds the weights and is never shown to the model.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from continual_learning.documents.shipped import background_texts
from continual_learning.memory.state import State, once_per_state
from continual_learning.text.words import content_stems, document_stems, hash_63, term_forms
from continual_learning.types import Source

if TYPE_CHECKING:
    from continual_learning.model.base_model import Message

# Name of a passage in a state: (document id, number of the passage).
Passage = tuple[str, int]

_KEY = ".key"
# Nats: at most one of the 150 background texts has the word.
_RARE = 4.0
_R = TypeVar("_R", bound=Hashable)
_A = TypeVar("_A")


def term_hash(stem: str) -> int:
    """The first 63 bits of SHA-256: the memory keeps no words, and a collision is practically impossible."""
    return hash_63(stem)


def passage_key(title: str, text: str) -> Tensor:
    """Sorted hashes of the content stems of a passage and its title: int64 [n]."""
    return torch.tensor(sorted({term_hash(s) for s in document_stems(f"{title} {text}")}), dtype=torch.int64)


def key_tensors(document_id: str, title: str, texts: Sequence[str]) -> dict[str, Tensor]:
    """The keys of a document's passages under their names in a state: ``<document id>/<passage>.key``."""
    return {f"{document_id}/{number:04d}{_KEY}": passage_key(title, text) for number, text in enumerate(texts)}


# Keyed by identity: a state is immutable, and its successor shares the tensors of whatever it keeps.
_key_sets: WeakIdKeyDictionary = WeakIdKeyDictionary()


@once_per_state
def passage_keys(state: State) -> Mapping[Passage, frozenset[int]]:
    """The word hashes of every passage: made once per state, and for a later state only for what is new in it."""
    index: dict[Passage, frozenset[int]] = {}
    for name, tensor in state.tensors.items():
        document_id, _, rest = name.partition("/")
        if rest.endswith(_KEY):
            keys = _key_sets.get(tensor)
            if keys is None:
                keys = _key_sets[tensor] = frozenset(tensor.tolist())
            index[document_id, int(rest.removesuffix(_KEY))] = keys
    return MappingProxyType(index)


def document_titles(state: State) -> dict[str, str]:
    """The titles of a state's documents, by id."""
    return {record.id: record.title for record in state.meta.documents}


@dataclass(frozen=True)
class Rarity:
    """Inverse document frequency of content words over background texts."""

    document_frequency: Mapping[int, int]
    texts: int

    @classmethod
    def of(cls, background: Iterable[str]) -> Rarity:
        """Count over the given texts; once per process, since all strategies ask for the same few."""
        return _rarity(tuple(background))

    def idf(self, term: int) -> float:
        """``log((|B| + 1) / (df + 1))``."""
        return math.log((self.texts + 1) / (self.document_frequency.get(term, 0) + 1))

    def match(self, text: str, keys: Sequence[frozenset[int]]) -> list[tuple[float, float]]:
        """For each key, coverage (0 to 1) and evidence (nats) of the content words of ``text``."""
        weights = {t: self.idf(t) for t in map(term_hash, sorted(content_stems(text)))}
        total = math.fsum(weights.values())
        if total == 0:
            return [(0.0, 0.0)] * len(keys)
        shared = [math.fsum(w for t, w in weights.items() if t in key) for key in keys]
        return [(evidence / total, evidence) for evidence in shared]


@lru_cache(maxsize=4)
def _rarity(texts: tuple[str, ...]) -> Rarity:
    counts: Counter[int] = Counter()
    for text in texts:
        counts.update({term_hash(s) for s in content_stems(text)})
    return Rarity(counts, len(texts))


@cache
def default_rarity() -> Rarity:
    """Rarity of words in the background texts that ship with the package, which are counted once per process."""
    return Rarity.of(background_texts())


def rare_terms(text: str) -> frozenset[int]:
    """Hashes of the content stems of a text that at most one background text has."""
    return frozenset(term for term in map(term_hash, content_stems(text)) if default_rarity().idf(term) >= _RARE)


# What opens a passage: the share of the question's content that it must hold, and the rarity of the shared words in
# nats (a word that no background text uses counts 5). Chosen so that questions about nothing learned open nothing.
ROUTE_THRESHOLD, ROUTE_EVIDENCE = 0.25, 7.7


def look_ups(text: str, history: Sequence[Message]) -> list[str]:
    """The queries for a text: the text, then the user's previous turn with the text (for "And when was that?")."""
    earlier = [m["content"] for m in history if m["role"] == "user"][-1:]
    return [text, *(f"{turn} {text}" for turn in earlier)]


@dataclass(frozen=True)
class Router:
    """Finds the passage that a text is about."""

    rarity: Rarity
    threshold: float = ROUTE_THRESHOLD
    """Minimum coverage that opens a passage."""
    evidence: float = ROUTE_EVIDENCE
    """Minimum evidence, in nats."""

    def route(
        self,
        keys: Mapping[Passage, frozenset[int]],
        text: str,
        history: Sequence[Message] = (),
        titles: Mapping[str, str] | None = None,
    ) -> tuple[Passage, float] | None:
        """The passage that ``text`` opens, with its coverage, or None.

        A text that opens none ("And when was that?") is tried again together with the user's previous turn.
        ``titles`` are by document id: a text that names the whole title of a document, with a rare word in it, needs
        no other evidence that it is about that document.
        """
        for asked in look_ups(text, history):
            named = self._named(asked, titles or {})
            best: tuple[float, float, Passage] | None = None
            for passage, (coverage, evidence) in zip(keys, self.rarity.match(asked, list(keys.values())), strict=True):
                enough = coverage >= self.threshold and (evidence >= self.evidence or passage[0] in named)
                if enough and (best is None or (coverage, evidence) > best[:2]):
                    best = (coverage, evidence, passage)
            if best:
                return best[2], best[0]
        return None

    def _named(self, text: str, titles: Mapping[str, str]) -> set[str]:
        """The documents whose titles a text names."""
        asked = {term_hash(stem) for stem in content_stems(text)}
        found = set()
        for document_id, title in titles.items():
            words = [[term_hash(form) for form in forms] for forms in term_forms(title)]
            if all(not asked.isdisjoint(forms) for forms in words) and any(self._is_rare(forms[0]) for forms in words):
                found.add(document_id)
        return found

    def _is_rare(self, term: int) -> bool:
        return self.rarity.idf(term) >= _RARE


def routed_sources(state: State, route: Iterable[tuple[Passage, float]]) -> tuple[Source, ...]:
    """The documents that a route leads to, with their coverage of the question."""
    titles = {d.id: d.title for d in state.meta.documents}
    return tuple(Source(document_id, titles[document_id], coverage) for (document_id, _), coverage in route)


def answer_by_route(
    questions: Sequence[str], routes: Sequence[_R], answer: Callable[[_R, list[str]], list[_A]]
) -> list[_A]:
    """Answer in the order of the questions; questions with the same route are answered in one batch."""
    together: dict[_R, list[int]] = {}
    for i, route in enumerate(routes):
        together.setdefault(route, []).append(i)
    answers: dict[int, _A] = {}
    for route, chosen in together.items():
        answers.update(zip(chosen, answer(route, [questions[i] for i in chosen]), strict=True))
    return [answers[i] for i in range(len(questions))]
