"""What `squad` does not measure about the jitrl strategies: large memories, perplexity, feedback, decoding cost.

Passages and questions are those of the second half of the articles; the settings were chosen on the first. Recall is
the share of questions whose accepted answer is in at most 24 generated tokens.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from continual_learning.app.learner import Learner
from continual_learning.datasets.base import Dataset, QADocument, halves, load_dataset, sample
from continual_learning.documents import Document
from continual_learning.documents.shipped import general_questions
from continual_learning.memory.state import DocumentRecord, State
from continual_learning.model.base_model import BaseModel
from continual_learning.model.generation import generate
from continual_learning.reading.plain import plain_answers
from continual_learning.retrieval.chunk_store import kept_chunks
from continual_learning.retrieval.datastore import unit
from continual_learning.strategies.base import make_strategy
from continual_learning.strategies.gate import perplexity
from continual_learning.strategies.methods.jitrl_full import JitRLFull
from continual_learning.text.chunking import sentences
from continual_learning.text.scoring import contains_answer
from continual_learning.types import Answer, QuestionAnswer
from protocols import Bench

TOKENS = 24
SHOWN = 4
WAYS: Mapping[str, Mapping[str, Any]] = {"sentences": {}}
"""Which positions are searched, and how."""


def right(answers: Sequence[Answer], questions: Sequence[QuestionAnswer]) -> list[bool]:
    """Which questions were answered."""
    return [contains_answer(a.claim, q.answers) for a, q in zip(answers, questions, strict=True)]


def share(found: Sequence[bool]) -> float | None:
    """The share that is true; None if there are no values."""
    return sum(found) / len(found) if found else None


def learned(base: BaseModel, name: str, documents: Sequence[Document]) -> tuple[Any, State, float]:
    """A strategy, its memory of these documents, and the seconds per document."""
    strategy = make_strategy(name)
    state = strategy.init(base)
    started = time.perf_counter()
    for document in documents:
        state, _ = strategy.learn(base, state, document)
    return strategy, state, (time.perf_counter() - started) / len(documents)


def adding(base: BaseModel, data: Dataset, count: int) -> dict[str, Any]:
    """Add this many single-chunk documents to jitrl_mvp one at a time, and ask a question."""
    pieces = [s for item in data.documents for s in sentences(item.document.text)]
    documents = [Document(f"{n}: {pieces[n % len(pieces)]}", f"Piece {n}") for n in range(count)]
    started = time.perf_counter()
    strategy, state, _ = learned(base, "jitrl_mvp", documents)
    kept = time.perf_counter()
    strategy.affects(base, state, pieces[0])
    indexed = time.perf_counter()
    state, _ = strategy.learn(base, state, Document(pieces[0], "One more"))
    strategy.affects(base, state, pieces[1])
    ready = time.perf_counter()
    strategy.affects(base, state, pieces[2])
    return {
        "chunks": sum(map(len, kept_chunks(state).values())),
        "learn_s": kept - started,
        "index_s": indexed - kept,
        "one_more_and_search_s": ready - indexed,
        "search_s": time.perf_counter() - ready,
    }


def alone(base: BaseModel, name: str, asked: Sequence[QADocument]) -> dict[str, Any]:
    """Questions with only their own passage in memory."""
    found: list[bool] = []
    for number, item in enumerate(asked, 1):
        strategy, state, _ = learned(base, name, [item.document])
        answers = strategy.answer(base, state, [q.question for q in item.questions], TOKENS)
        found += right(answers, item.questions)
        print(f"   {name}: {number} of {len(asked)} passages, recall {share(found):.2f}", flush=True)
    return {"questions": len(found), "recall": share(found)}


def many(base: BaseModel, name: str, asked: Sequence[QADocument], memory: Sequence[QADocument]) -> dict[str, Any]:
    """The same questions with all these passages in memory, and the effect on general ones."""
    known = general_questions()
    before = right(plain_answers(base, [q.question for q in known], TOKENS), known)
    strategy, state, learn_s = learned(base, name, [item.document for item in memory])
    print(f"   {name}: {len(memory)} passages learned", flush=True)
    questions = [q for item in asked for q in item.questions]
    found = right(strategy.answer(base, state, [q.question for q in questions], TOKENS), questions)
    after = right(strategy.answer(base, state, [q.question for q in known], TOKENS), known)
    return {
        "passages": len(memory),
        "questions": len(questions),
        "recall": share(found),
        "learn_s": learn_s,
        "general_right": sum(before),
        "general_kept": share([b for a, b in zip(before, after, strict=True) if a]),
        "general_touched": sum(strategy.affects(base, state, q.question) for q in known),
    }


def learned_perplexity(base: BaseModel, asked: Sequence[QADocument]) -> dict[str, Any]:
    """Perplexity of learned passages, each in a memory of its own."""
    frozen = make_strategy("frozen")
    rows: dict[str, list[float]] = {"base": [], "jitrl_full": []}
    for item in asked:
        _, state, _ = learned(base, "jitrl_full", [item.document])
        texts = [item.document.text]
        rows["base"].append(perplexity(base, frozen, frozen.init(base), texts))
        rows["jitrl_full"].append(perplexity(base, make_strategy("jitrl_full"), state, texts))
    found: dict[str, Any] = {name: sum(values) / len(values) for name, values in rows.items()}
    pairs = list(zip(rows["base"], rows["jitrl_full"], strict=True))
    return {**found, "passages": len(asked), "lower": 1 - found["jitrl_full"] / found["base"],
            "least_lower": min(1 - after / before for before, after in pairs)}  # fmt: skip


def feedback(base: BaseModel, data: Dataset, paraphrases: Path, name: str) -> dict[str, Any]:
    """One round: each question is asked, and corrected if the answer was wrong; then it is asked again, rephrased,
    and others too: about the same passages, and general ones."""
    rows = [json.loads(line) for line in paraphrases.read_text(encoding="utf-8").splitlines()]
    put = {row["question"]: row["paraphrase"] for row in rows if row["split"] == "second"}
    items = [(item, q) for item in data.documents for q in item.questions if q.question.strip() in put]
    asked = [q for _, q in items]
    passages = {item.document.id: item for item, _ in items}
    nearby = [q for item in passages.values() for q in item.questions if q.question.strip() not in put]
    learner = Learner.open(base, name)
    for item in passages.values():
        learner.learn(item.document)
    groups: dict[str, list[str]] = {
        "asked": [q.question for q in asked],
        "paraphrased": [put[q.question.strip()] for q in asked],
        "nearby": [q.question for q in nearby],
        "unrelated": [q.question for q in general_questions()],
    }
    before = {group: learner.ask(texts, max_new_tokens=TOKENS) for group, texts in groups.items()}
    wrong = [not one for one in right(before["asked"], asked)]
    for answer, question, corrected in zip(before["asked"], asked, wrong, strict=True):
        if corrected:
            learner.feedback(answer, correction=question.answers[0])
    print(f"   {name}: {sum(wrong)} of {len(asked)} answers corrected", flush=True)
    after = {group: learner.ask(texts, max_new_tokens=TOKENS) for group, texts in groups.items()}
    found: dict[str, Any] = {"strategy": name, "questions": len(asked), "corrected": sum(wrong)}
    for group in ("asked", "paraphrased"):
        both = [right(answers[group], asked) for answers in (before, after)]
        found[f"{group}_error"] = [1 - sum(one) / len(one) for one in both]
        found[f"{group}_right_of_corrected"] = share([one for one, w in zip(both[1], wrong, strict=True) if w])
    for group in ("nearby", "unrelated"):
        changed = [a.text != b.text for a, b in zip(before[group], after[group], strict=True)]
        found |= {f"{group}_questions": len(changed), f"{group}_changed": sum(changed)}
    found["nearby_right"] = [sum(right(answers["nearby"], nearby)) for answers in (before, after)]
    return found


def all_corrected(base: BaseModel, asked: Sequence[QADocument], name: str) -> dict[str, Any]:
    """Ask all questions about some passages, correct the wrong answers, and ask again: many corrections at once."""
    learner = Learner.open(base, name)
    for item in asked:
        learner.learn(item.document)
    questions = [q for item in asked for q in item.questions]
    texts = [q.question for q in questions]
    answers = learner.ask(texts, max_new_tokens=TOKENS)
    before = right(answers, questions)
    for answer, question, was_right in zip(answers, questions, before, strict=True):
        if not was_right:
            learner.feedback(answer, correction=question.answers[0])
    print(f"   {name}: {before.count(False)} of {len(texts)} answers corrected", flush=True)
    after = right(learner.ask(texts, max_new_tokens=TOKENS), questions)
    return {
        "strategy": name,
        "questions": len(texts),
        "corrected": before.count(False),
        "error": [before.count(False) / len(texts), after.count(False) / len(texts)],
        "right_of_corrected": share([b for a, b in zip(before, after, strict=True) if not a]),
        "kept_of_right": share([b for a, b in zip(before, after, strict=True) if a]),
    }


def seconds(work: Callable[[], Any]) -> float:
    """Seconds of one run."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def large_memory(state: State, stored: int) -> State:
    """A memory of one passage and of meaningless ones of the same length, up to ``stored`` positions."""
    [own] = state.meta.documents
    tensors, documents, chunks = dict(state.tensors), [own], dict(kept_chunks(state))
    keys_ND = state.tensors[f"{own.id}/keys"]
    generator = torch.Generator().manual_seed(0)
    for number in range(stored // len(keys_ND)):
        name = f"doc-{number:012d}"
        tensors[f"{name}/keys"] = unit(torch.randn(keys_ND.shape, generator=generator)).half()
        for part in ("tokens", "sentence"):
            tensors[f"{name}/{part}"] = state.tensors[f"{own.id}/{part}"]
        documents.append(
            DocumentRecord(name, f"filler {number}", "text", name, own.tokens, own.learned_at, own.details)
        )
        chunks[name] = [f"Filler {number} of the store."]
    extra = {**state.meta.extra, "chunks": chunks}
    return State(tensors, replace(state.meta, documents=tuple(documents), extra=extra))


def cost(base: BaseModel, asked: Sequence[QADocument], stored: int) -> dict[str, Any]:
    """Seconds per step of plain decoding, and what a memory with ``stored`` positions adds to it.

    Steps of the plain model and of each way of searching alternate, so that other load on the machine affects all.
    """
    strategy, state, learn_s = learned(base, "jitrl_full", [asked[0].document])
    question = next(q.question for q in asked[0].questions if strategy.affects(base, state, q.question))
    large = large_memory(state, stored)
    prompt = base.chat_ids([{"role": "user", "content": question}])
    stops, base.stop_ids = base.stop_ids, frozenset()  # the same number of steps in each run
    made = {name: make_strategy("jitrl_full", options) for name, options in WAYS.items()}
    plain, works = {}, {}
    for limit in (1, TOKENS):
        plain[limit] = lambda limit=limit: generate(base, [prompt], limit)
        for name, one in made.items():
            works[name, limit] = lambda one=one, limit=limit: one.answer(base, large, [question], limit)
    try:
        for work in (*plain.values(), *works.values()):  # builds the indexes
            work()
        taken: dict[Any, float] = {}
        for _ in range(5):
            for key, work in (*plain.items(), *works.items()):
                taken[key] = min(seconds(work), taken.get(key, float("inf")))
    finally:
        base.stop_ids = stops
    step = (taken[TOKENS] - taken[1]) / (TOKENS - 1)
    found: dict[str, Any] = {
        "learn_s": learn_s,
        "stored": sum(len(t) for n, t in large.tensors.items() if n.endswith("/tokens")),
        "step_s": step,
    }
    for name in made:
        steered = (taken[name, TOKENS] - taken[name, 1]) / (TOKENS - 1)
        found[name] = {"step_s": steered, "added": steered / step - 1, "before_s": taken[name, 1] - taken[1]}
    return found


def examples(base: BaseModel, asked: Sequence[QADocument]) -> dict[str, Any]:
    """For some answers, which neighbours moved which token."""
    return {"answers": list(_examples(base, asked[:SHOWN]))}


def _examples(base: BaseModel, asked: Sequence[QADocument]) -> Iterator[dict[str, Any]]:
    for item in asked:
        strategy, state, _ = learned(base, "jitrl_full", [item.document])
        assert isinstance(strategy, JitRLFull)
        question = next((q for q in item.questions if strategy.affects(base, state, q.question)), item.questions[0])
        answer, moved = strategy.moved(base, state, question.question, TOKENS)
        texts = [s for passage in kept_chunks(state)[item.document.id] for s in sentences(passage)]
        steps = [
            {
                "step": m.step,
                "token": base.decode([m.token]) or "(end)",
                "instead_of": base.decode([m.instead_of]) or "(end)",
                "neighbours": [[texts[min(n, len(texts) - 1)], round(weight, 3)] for _, n, weight in m.neighbours[:2]],
            }
            for m in moved
        ]
        yield {"question": question.question, "answer": answer.text, "gold": question.answers[0], "moved": steps}


def measure(experiment: Any, bench: Bench) -> tuple[dict[str, Any], dict[str, Any], Any]:
    """Measure one variant of a strategy."""
    base, given, name = bench.base, experiment.setting, experiment.strategy
    data = halves(load_dataset(bench.data))[1]
    asked = sample(data, given["documents"]).documents  # the questions of `squad`
    ids = {item.document.id for item in asked}
    others = sample(data, given["passages"], one_per_article=False).documents
    memory = [*asked, *(item for item in others if item.document.id not in ids)][: given["passages"]]
    works: dict[str, Callable[[], dict[str, Any]]] = {
        "adding": lambda: adding(base, data, 10_000),
        "alone": lambda: alone(base, name, asked),
        "many": lambda: many(base, name, asked, memory),
        "cost": lambda: cost(base, asked, given["positions"]),
        "feedback": lambda: feedback(base, data, Path(__file__).with_name("paraphrases.jsonl"), name),
        "all-corrected": lambda: all_corrected(base, asked, name),
        "perplexity": lambda: learned_perplexity(base, asked),
        "examples": lambda: examples(base, asked),
    }
    found = works[experiment.variant]()
    answers = found.get("answers")
    if answers:
        found["answers"] = [{**answer, "moved": answer["moved"][:6]} for answer in answers]
    return found, {"data": data.sha256()}, answers


def table(results: Mapping[str, Any]) -> str:
    """The figures as Markdown."""
    parts = {_part(result): result["figures"] for result in results.values()}
    lines = ["| what | goal | measured |", "|---|---|---|"]
    lines += [f"| {' | '.join(row)} |" for row in _rows(parts)]
    for one in parts.get("examples", {}).get("answers", ()):
        lines += ["", f"*{one['question']}* {_cell(one['answer'])} (accepted: {one['gold']})", ""]
        lines += ["| step | token | instead of | neighbours: sentence, weight |", "|---|---|---|---|"]
        for moved in one["moved"][:6]:
            near = "; ".join(f"{_cell(text)[:90]} {weight}" for text, weight in moved["neighbours"])
            lines.append(f"| {moved['step']} | {_cell(moved['token'])} | {_cell(moved['instead_of'])} | {near} |")
    return "\n".join(lines)


def _part(result: Mapping[str, Any]) -> str:
    both = result["variant"] in ("alone", "many")
    return f"{result['variant']} {result['strategy']}" if both else result["variant"].replace("-", "_")


def _rows(parts: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Rows of what was measured, the target, and the result."""
    if one := parts.get("adding"):
        total = one["learn_s"] + one["index_s"]
        measured = f"{total:.1f} s; one more and a search {one['one_more_and_search_s']:.3f} s"
        yield f"jitrl_mvp: {one['chunks']:,} chunks, one document at a time", "well under 60 s", measured
    for name, learn_goal, general_goal, many_goal in (
        ("jitrl_mvp", "0.1 s", "98%", "0.9 of alone"),
        ("jitrl_full", "one forward pass", "97%", ""),
    ):
        own, one = parts.get(f"alone {name}"), parts.get(f"many {name}")
        if own:
            yield f"{name}: recall of {own['questions']} questions, own passage alone", "", f"{own['recall']:.2f}"
        if one:
            of = f", {one['recall'] / own['recall']:.2f} of alone" if own and own["recall"] else ""
            yield f"{name}: the same with {one['passages']} passages", many_goal, f"{one['recall']:.2f}{of}"
            kept = f"{one['general_kept']:.1%} of {one['general_right']}; {one['general_touched']} touched"
            yield f"{name}: general questions kept then", general_goal, kept
            yield f"{name}: learning a passage", learn_goal, f"{one['learn_s']:.3f} s"
    if one := parts.get("perplexity"):
        lower = f"{one['lower']:.0%} lower, of each at least {one['least_lower']:.0%}"
        measured = f"{one['base']:.1f} to {one['jitrl_full']:.1f}: {lower}"
        if "knn_lm" in one:
            measured += f"; kNN-LM {one['knn_lm']:.1f}"
        yield f"jitrl_full: mean perplexity of {one['passages']} learned passages", "40% lower", measured
    if one := parts.get("feedback"):
        for group, what, goal in (("asked", "asked again", "95%"), ("paraphrased", "put differently", "60%")):
            before, after = one[f"{group}_error"]
            measured = f"{one[f'{group}_right_of_corrected']:.0%} right; error of all {before:.2f} to {after:.2f}"
            yield f"feedback: the {one['corrected']} corrected of {one['questions']} questions, {what}", goal, measured
        changed, of = one["nearby_changed"], one["nearby_questions"]
        measured = f"{changed} of {of} changed; {one['nearby_right'][0]} right before, {one['nearby_right'][1]} after"
        yield "feedback: other questions on the same passages", "", measured
        measured = f"{one['unrelated_changed']} of {one['unrelated_questions']} changed"
        yield "feedback: general questions", "none changed", measured
    if one := parts.get("all_corrected"):
        before, after = one["error"]
        measured = f"{one['right_of_corrected']:.0%} right; error of all {before:.2f} to {after:.2f}"
        yield f"feedback: the {one['corrected']} wrong of {one['questions']} questions, all corrected", "95%", measured
    if one := parts.get("cost"):
        step = f"a step of {1e3 * one['step_s']:.0f} ms, {one['stored']:,} positions"
        for way in (key for key, value in one.items() if isinstance(value, dict)):
            measured = f"{one[way]['added']:+.0%}; before the first token {1e3 * one[way]['before_s']:+.0f} ms"
            yield f"jitrl_full: added to {step}; route {way}", "15%", measured


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|") or repr(text)
