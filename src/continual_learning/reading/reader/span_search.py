"""The spans of a text that a causal language model is likeliest to write as its answer.

A span's probability is that of its tokens and of the end of the line after them, so every candidate is a span of the
text, and a probability is not a score but the model's own. The tokens of all spans form a trie. It is searched best
first: a node is expanded with the few tokens that follow it, all questions in one forward pass, until no open node is
likely enough beside the best span found. (Constrained decoding by a trie: De Cao et al. 2021, arXiv 2010.00904,
section 3.2; there by beam search.)

Shapes: V = vocabulary.
"""

from __future__ import annotations

import heapq
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from torch import Tensor

from continual_learning.reading.spans import FoundSpan
from continual_learning.text.span_edges import span_edges

_LONGEST = 28  # tokens of the longest span
_LONGEST_CHARACTERS = 160
# Nodes that are opened in one round, and how far each is followed while there is but one way on.
_NODES, _AHEAD = 5, 6
# A node is left closed if it is this unlikely, or this much less likely than the best span.
_LEAST, _LEAST_SHARE = 0.01, 0.1
_ROUNDS = 8
# A line that begins with one of these is an item of its own, not the rest of the line before.
_BREAK = re.compile(r"\n[ \t]*(?:\n|[-*+#|>•]|\d+[.)]\s)")


@dataclass
class _Node:
    """The tokens from the root to here begin a span."""

    ways: dict[int, _Node] = field(default_factory=dict)
    """What may follow, by token."""
    span: tuple[int, int] | None = None
    """Start and end of the first span that is complete here."""


class SpanTrie:
    """The spans of one text as token sequences."""

    def __init__(self, text: str, tokenizer: Any):
        self.text = text
        self.root = _Node()
        self.tokens: set[int] = set()
        """All tokens that a span may have."""
        starts, ends = span_edges(text)
        allowed = set(ends)
        flat = re.sub(r"\s", " ", text)
        breaks = [match.start() for match in _BREAK.finditer(text)]
        following = iter([*breaks, len(text)])
        limit = next(following)
        for start in starts:
            while limit <= start and limit < len(text):
                limit = next(following)
            self._add(flat, start, min(limit, start + _LONGEST_CHARACTERS), allowed, tokenizer)

    def _add(self, flat: str, start: int, stop: int, allowed: set[int], tokenizer: Any) -> None:
        # An answer follows a colon, so that its first word comes after a space.
        encoded = tokenizer(
            f" {flat[start:stop]}",
            return_offsets_mapping=True,
            add_special_tokens=False,
            split_special_tokens=True,
            verbose=False,
        )
        node = self.root
        places = list(zip(encoded["input_ids"], encoded["offset_mapping"], strict=True))[:_LONGEST]
        self.tokens.update(token for token, _ in places)
        for token, (_, end) in places:
            node = node.ways.setdefault(token, _Node())
            at = start + end - 1
            if at in allowed and node.span is None:
                node.span = (start, at)


class Chain(NamedTuple):
    """Tokens to be read after what was read for a question: each follows the one before."""

    after: int | None
    """The place of the node that the first follows; None: the question."""
    tokens: tuple[int, ...]


@dataclass
class SpanSearch:
    """One question's search. `chains` says what is to be read; `learn` takes the log-probabilities that it gives."""

    trie: SpanTrie
    end: int
    """The token that ends an answer."""
    found: dict[str, FoundSpan] = field(default_factory=dict)
    _open: list[tuple[float, int, int | None, int, _Node]] = field(default_factory=list)
    _asked: list[list[tuple[float, _Node]]] = field(default_factory=list)
    _rounds: int = 0
    _count: int = 0

    def begin(self, log_likely_V: Tensor) -> None:
        """Take the log-probabilities of the first token of an answer."""
        self._follow(self.trie.root, 0.0, None, log_likely_V)

    def chains(self) -> list[Chain]:
        """The chains of the next round; none when the search is over."""
        self._asked = []
        if self._rounds >= _ROUNDS:
            return []
        self._rounds += 1
        best = max((span.probability for span in self.found.values()), default=0.0)
        least = max(_LEAST, best * _LEAST_SHARE) if self.found else 0.0
        chosen: list[Chain] = []
        while self._open and len(chosen) < _NODES and math.exp(-self._open[0][0]) >= least:
            cost, _, after, token, node = heapq.heappop(self._open)
            tokens, nodes = [token], [(-cost, node)]
            while len(node.ways) == 1 and len(tokens) < _AHEAD:
                [(token, node)] = node.ways.items()
                tokens.append(token)
                nodes.append((math.nan, node))  # known when the one before is read
            chosen.append(Chain(after, tuple(tokens)))
            self._asked.append(nodes)
        return chosen

    def learn(self, chain: int, places: list[int], log_likely: list[Tensor]) -> None:
        """Take the log-probabilities ``[V]`` after each token of one of the chains last asked for."""
        nodes = self._asked[chain]
        score = nodes[0][0]
        for number, (_, node) in enumerate(nodes):
            log_likely_V = log_likely[number]
            if node.span is not None:
                self._keep(node.span, score + float(log_likely_V[self.end]))
            if number + 1 < len(nodes):
                [token] = node.ways
                score += float(log_likely_V[token])
            else:
                self._follow(node, score, places[number], log_likely_V)

    def _follow(self, node: _Node, score: float, place: int | None, log_likely_V: Tensor) -> None:
        if not node.ways:
            return
        tokens = list(node.ways)
        for token, more in zip(tokens, log_likely_V[tokens].tolist(), strict=True):
            self._count += 1  # equal scores are taken in the order of the text
            heapq.heappush(self._open, (-(score + more), self._count, place, token, node.ways[token]))

    def _keep(self, span: tuple[int, int], score: float) -> None:
        text = " ".join(self.trie.text[span[0] : span[1]].split())
        probability = math.exp(score)
        before = self.found.get(text)
        if before is None:
            self.found[text] = FoundSpan(text, span[0], probability)
        else:  # the same words in other tokens
            self.found[text] = replace(before, probability=before.probability + probability)

    def best(self) -> Iterator[FoundSpan]:
        """The spans found, likeliest first."""
        yield from sorted(self.found.values(), key=lambda span: -span.probability)
