"""BM25, the base's hidden states and a sentence encoder as retrievers and as routers.

    python benchmarks/lab/retrievers.py MODEL squad_dev_open.jsonl nq_passages.jsonl [--ask]

Finding: 20 or 100 passages of the second half of SQuAD's articles in one index, all their questions. Routing: which of
those passages a question opens, once they are learned, and how many of 120 search questions (Natural Questions) about
other things open one; the encoder's cosines need a threshold, chosen on passages of the first half and 120 other search
questions. Hidden states are slow, and tried on 20 passages. With ``--ask``: F1 of `rag` on questions about eight of 100
passages, all of them in its memory, by what ranks the chunks.
Needs ``pip install 'continual-learning-slm[encoder]'``.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from continual_learning.datasets.base import Dataset, halves, load_dataset, sample_evenly
from continual_learning.model.base_model import BaseModel
from continual_learning.retrieval.backends import Retriever, make_index
from continual_learning.retrieval.dense import DenseIndex
from continual_learning.retrieval.following import FollowingIndex
from continual_learning.retrieval.index import Hit, Index
from continual_learning.retrieval.relevance import text_key
from continual_learning.retrieval.routing import Router, default_rarity
from continual_learning.strategies.base import make_strategy
from continual_learning.strategies.methods.jitrl_mvp import JitRLMVPConfig
from continual_learning.text.scoring import token_f1

ENCODER = JitRLMVPConfig().encoder
RETRIEVERS: tuple[Retriever, ...] = ("bm25", "dense", "encoder")
MOST = 100
ASKED_DOCUMENTS, ASKED_QUESTIONS, TOKENS = 8, 3, 24
Open = Callable[[str], int | None]
"""The number of the passage that a question opens, or None."""


def indexed(index: Index, data: Dataset) -> Index:
    """The index, with every document under its number, and read."""
    for number, one in enumerate(data.documents):
        index.add((one.document.id, number), f"{one.document.title}\n{one.document.text}")
    index.search("ready", 1)  # vectors are made at the first search
    return index


def numbered(data: Dataset) -> list[tuple[int, str]]:
    """All questions, each with the number of its document."""
    return [(number, q.question) for number, one in enumerate(data.documents) for q in one.questions]


def finding(index: Index, data: Dataset) -> str:
    """Ranks of the right documents among all of them."""
    ranks, started, questions = [], time.perf_counter(), numbered(data)
    for number, question in questions:
        found = [hit.key[1] for hit in index.search(question, MOST)]
        ranks.append(found.index(number) + 1 if number in found else np.inf)
    seconds = (time.perf_counter() - started) / len(questions)
    at = np.array(ranks)
    shares = f"hit@1 {(at == 1).mean():.3f}, hit@5 {(at <= 5).mean():.3f}, MRR {(1 / at).mean():.3f}"
    return f"{shares} of {len(at)} questions, {seconds:.4f} s a question"


def remembered(index: Index) -> None:
    """From here on, no question is read twice."""
    if isinstance(index, DenseIndex):
        embed, known = index._embed, {}

        def look(texts: Sequence[str]) -> np.ndarray:
            if texts[0] not in known:
                known[texts[0]] = embed(texts)
            return known[texts[0]]

        index._embed = look


def by_words(data: Dataset) -> Open:
    """The product's router."""
    documents = [one.document for one in data.documents]
    keys = {(d.id, number): text_key(d.title, d.text) for number, d in enumerate(documents)}
    titles, router = {d.id: d.title for d in documents}, Router(default_rarity())

    def opened(question: str) -> int | None:
        route = router.route(keys, question, titles=titles)
        return route[0][1] if route else None

    return opened


def by_cosine(index: Index, threshold: float) -> Open:
    """The nearest passage, if it is near enough."""

    def opened(question: str) -> int | None:
        hits = index.search(question, 1)
        return hits[0].key[1] if hits and hits[0].score >= threshold else None

    return opened


def gated(gate: Open, index: Index) -> Open:
    """The nearest passage, where the router opens any."""
    return lambda question: by_cosine(index, -1.0)(question) if gate(question) is not None else None


def either(first: Open, then: Open) -> Open:
    """What the first opens, else what the second does."""

    def opened(question: str) -> int | None:
        number = first(question)
        return then(question) if number is None else number

    return opened


def threshold(index: Index, data: Dataset, others: Sequence[str]) -> float:
    """The cosine with the most questions of both kinds treated rightly, each kind counting as much."""
    nothing = [Hit(("", -1), 0.0)]
    best = [((index.search(question, 1) or nothing)[0], number) for number, question in numbered(data)]
    away = [(index.search(question, 1) or nothing)[0].score for question in others]
    cuts = np.linspace(0, 1, 101)
    worth = [
        np.mean([hit.score >= cut and hit.key[1] == number for hit, number in best]) + np.mean([s < cut for s in away])
        for cut in cuts
    ]
    return float(cuts[int(np.argmax(worth))])


def routing(opened: Open, data: Dataset, others: Sequence[str]) -> str:
    """Questions that open their passage, another one, none, and questions about other things that open one."""
    pairs = [(number, opened(question)) for number, question in numbered(data)]
    right = np.mean([a == b for a, b in pairs])
    none = np.mean([b is None for _, b in pairs])
    false = sum(opened(question) is not None for question in others)
    wrong = 1 - right - none
    return f"right {right:.3f}, another {wrong:.3f}, none {none:.3f}; {false} of {len(others)} others open one"


def asked(base: BaseModel, data: Dataset) -> None:
    """F1 of rag by what ranks its chunks."""
    for retriever in ("bm25", "encoder"):
        rag = make_strategy("rag", {})
        rag._finder._index = FollowingIndex(lambda kind=retriever: make_index(kind, base, ENCODER))
        state = rag.init(base)
        for one in data.documents:
            state, _ = rag.learn(base, state, one.document)
        step = len(data.documents) // ASKED_DOCUMENTS
        qa = [q for one in data.documents[::step][:ASKED_DOCUMENTS] for q in one.questions[:ASKED_QUESTIONS]]
        rag.answer(base, state, [qa[0].question], 1)  # the chunks are read
        started = time.perf_counter()
        answers = rag.answer(base, state, [q.question for q in qa], TOKENS)
        seconds = (time.perf_counter() - started) / len(qa)
        f1 = np.mean([token_f1(a.claim, q.answers) for a, q in zip(answers, qa, strict=True)])
        print(f"rag, {retriever}: F1 {f1:.3f} on {len(qa)} questions, {seconds:.2f} s a question", flush=True)


def main(model: str, squad: Path, searches: Path, ask: bool) -> None:
    """Print the comparison."""
    base = BaseModel.load(model)
    first, second = halves(load_dataset(squad))
    if ask:
        asked(base, sample_evenly(second, MOST, 0))
        return
    rows = [json.loads(line) for line in searches.read_text(encoding="utf-8").splitlines()]
    titles = {one.document.title.casefold() for part in (first, second) for one in part.documents}
    away = [r["questions"][0]["question"] for r in rows if r["title"].replace("_", " ").casefold() not in titles]
    step = len(away) // 240
    tuning, reported = away[::step][:240:2], away[::step][1:240:2]
    for count in (20, 100):
        data, other = sample_evenly(second, count, 0), sample_evenly(first, count, 0)
        words = by_words(data)
        print(f"{count} passages, {len(numbered(data))} questions", flush=True)
        print("  router:", routing(words, data, reported))
        for retriever in RETRIEVERS:
            if retriever == "dense" and count > 20:
                continue
            started = time.perf_counter()
            index = make_index(retriever, base, ENCODER)
            loaded = time.perf_counter()
            indexed(index, data)
            print(f"  {retriever}: {loaded - started:.1f} s to load, {time.perf_counter() - loaded:.2f} s to index")
            print("    finds:", finding(index, data), flush=True)
            if retriever == "dense":
                continue
            remembered(index)
            print("    chooses where the router opens:", routing(gated(words, index), data, reported), flush=True)
            if retriever == "encoder":  # BM25's scores have no absolute meaning
                cut = threshold(indexed(make_index(retriever, base, ENCODER), other), other, tuning)
                near = by_cosine(index, cut)
                print(f"    opens from a cosine of {cut:.2f}:", routing(near, data, reported), flush=True)
                print("    opens where the router does not:", routing(either(words, near), data, reported), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), "--ask" in sys.argv[4:])
