"""Which entries are put before a question: those relevant to it, within a budget; a whole playbook does harm.

An entry is judged by its text together with the questions that it came from, by the same measure that says whether a
passage is relevant (`retrieval.relevance`). Entries of the section ``general`` apply to any question that the memory
is about at all; entries that did harm at least as often as they helped are left out.
"""

from __future__ import annotations

from collections.abc import Callable

from continual_learning.retrieval import Relevance
from continual_learning.strategies.methods.ace.config import ACEConfig
from continual_learning.strategies.methods.ace.playbook import Entry, Playbook

# Entries before a question use up the window of a small model, and pull its answer away from the passage: so only a
# few, and only those that are relevant to the question.
TOP_ENTRIES = 3
GENERAL_ENTRIES = 1
ENTRY_TOKENS = 150
MIN_RELEVANCE = 0.5
"""Minimum relevance of an entry (see `retrieval.relevance`): half of the question's content."""


def select(
    playbook: Playbook, question: str, config: ACEConfig, relevance: Relevance, count_tokens: Callable[[str], int]
) -> list[tuple[Entry, float]]:
    """Return the entries for a question with their relevance, best first.

    With ``selection`` off: all of them, oldest first; the budget of the playbook bounds their tokens.
    """
    if not config.selection:
        return [(entry, 1.0) for entry in playbook.entries.values()]
    usable = [e for e in playbook.entries.values() if not e.harmful or e.helpful > e.harmful]
    judged = [(e, _judged(e, question, relevance)) for e in usable if e.section != "general"]
    near = [(e, score) for e, score in judged if score >= MIN_RELEVANCE]
    near.sort(key=lambda item: (-item[1], item[0].harmful - item[0].helpful, item[0].number))
    general = [(e, 1.0) for e in usable if e.section == "general"]
    general.sort(key=lambda item: (item[0].harmful - item[0].helpful, item[0].number))
    chosen: list[tuple[Entry, float]] = []
    left = ENTRY_TOKENS
    for entry, score in [*near[:TOP_ENTRIES], *general[:GENERAL_ENTRIES]]:
        size = count_tokens(entry.line)
        if size <= left:
            chosen.append((entry, score))
            left -= size
    return chosen


def _judged(entry: Entry, question: str, relevance: Relevance) -> float:
    asked = {origin.question for origin in entry.origins if origin.question}
    return max(relevance(question, f"{entry.text} {earlier}") for earlier in asked or {""})
