"""What `benchmark squad` does not measure of the jitrl strategies: large memories, perplexity, feedback, decoding cost.

    python benchmarks/jitrl.py --data squad_dev_open.jsonl --out benchmarks [--parts many,perplexity,feedback,cost]

Passages and questions are those of the second half of the articles; the settings were chosen on the first. Recall is
the share of questions whose accepted answer stands in at most 24 generated tokens.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from continual_learning.answering import plain_answers
from continual_learning.background import general_questions
from continual_learning.base import BaseModel
from continual_learning.documents import Document
from continual_learning.evaluation.datasets import Dataset, QADocument, halves, load_dataset, sample
from continual_learning.evaluation.machine import cpu_name
from continual_learning.learner import Learner
from continual_learning.retention import perplexity
from continual_learning.retrieval.datastore import make_neighbours, unit
from continual_learning.scoring import contains_answer
from continual_learning.state import State
from continual_learning.strategies.jitrl_full import JitRLFull
from continual_learning.strategy import Answer, make_strategy

TOKENS = 24
SHOWN = 3


def recall(answers: Sequence[Answer], documents: Sequence[QADocument]) -> float:
    """Share of the questions of these documents that were answered."""
    questions = [q for item in documents for q in item.questions]
    return sum(contains_answer(a.text, q.answers) for a, q in zip(answers, questions, strict=True)) / len(questions)


def learned(base: BaseModel, name: str, documents: Sequence[Document]) -> tuple[Any, State, float]:
    """A strategy with these documents, and the seconds each took."""
    strategy = make_strategy(name)
    state = strategy.init(base)
    started = time.perf_counter()
    for document in documents:
        state, _ = strategy.learn(base, state, document)
    return strategy, state, (time.perf_counter() - started) / len(documents)


def many(base: BaseModel, data: Dataset, count: int, passages: int, strategies: Sequence[str]) -> list[dict[str, Any]]:
    """The questions of the first ``count`` passages with only their own passage in memory, and with ``passages``."""
    drawn = sample(data, passages, seed=0, one_per_article=False).documents
    asked = drawn[:count]
    questions = [q.question for item in asked for q in item.questions]
    known = general_questions()
    right = [
        contains_answer(a.text, q.answers)
        for q, a in zip(known, plain_answers(base, [q.question for q in known], TOKENS), strict=True)
    ]
    rows = []
    for name in strategies:
        alone: list[Answer] = []
        for item in asked:
            strategy, state, _ = learned(base, name, [item.document])
            alone += strategy.answer(base, state, [q.question for q in item.questions], TOKENS)
        strategy, state, seconds = learned(base, name, [item.document for item in drawn])
        together = strategy.answer(base, state, questions, TOKENS)
        answers = strategy.answer(base, state, [q.question for q in known], TOKENS)
        kept = [contains_answer(a.text, q.answers) for a, q, r in zip(answers, known, right, strict=True) if r]
        touched = sum(strategy.affects(base, state, q.question) for q in known)
        rows.append(
            {
                "strategy": name,
                "questions": len(questions),
                "alone": recall(alone, asked),
                "passages": len(drawn),
                "together": recall(together, asked),
                "learn_s": seconds,
                "general_kept": sum(kept) / len(kept),
                "general_touched": touched,
            }
        )
        print(rows[-1], flush=True)
    return rows


def learned_perplexity(base: BaseModel, data: Dataset, count: int) -> dict[str, float]:
    """Perplexity of learned passages, each in a memory of its own."""
    frozen = make_strategy("frozen")
    before, after = [], []
    for item in sample(data, count, seed=0).documents:
        strategy, state, _ = learned(base, "jitrl_full", [item.document])
        before.append(perplexity(base, frozen, frozen.init(base), [item.document.text]))
        after.append(perplexity(base, strategy, state, [item.document.text]))
    return {"base": sum(before) / count, "jitrl_full": sum(after) / count}


def feedback(base: BaseModel, data: Dataset, paraphrases: Path, strategy: str) -> dict[str, Any]:
    """One round: every question is asked and corrected; then all are asked again, put differently, and others too."""
    rows = [json.loads(line) for line in paraphrases.read_text(encoding="utf-8").splitlines()]
    rows = [row for row in rows if row["split"] == "second"]
    items = {q.question.strip(): (item, q) for item in data.documents for q in item.questions}
    chosen = [(*items[row["question"]], row["paraphrase"]) for row in rows]
    learner = Learner.open(base, strategy)
    for document in dict.fromkeys(item.document for item, _, _ in chosen):
        learner.learn(document)
    corrected = {q.question for _, q, _ in chosen}
    nearby = [q for item in {i.document.id: i for i, _, _ in chosen}.values() for q in item.questions]
    nearby = [q for q in nearby if q.question not in corrected]
    unrelated = [q.question for q in general_questions()]
    groups: dict[str, list[str]] = {
        "asked": [q.question for _, q, _ in chosen],
        "paraphrased": [p for _, _, p in chosen],
        "nearby": [q.question for q in nearby],
        "unrelated": unrelated,
    }
    before = {name: learner.ask(group, max_new_tokens=TOKENS) for name, group in groups.items()}
    for (_, q, _), answer in zip(chosen, before["asked"], strict=True):
        if not contains_answer(answer.text, q.answers):
            learner.feedback(answer, correction=q.answers[0])
    after = {name: learner.ask(group, max_new_tokens=TOKENS) for name, group in groups.items()}

    def right(answers: Sequence[Answer]) -> float:
        golds = [q.answers for _, q, _ in chosen]
        return sum(contains_answer(a.text, gold) for a, gold in zip(answers, golds, strict=True)) / len(golds)

    def changed(name: str) -> float:
        return sum(a.text != b.text for a, b in zip(before[name], after[name], strict=True)) / len(before[name])

    fixed = [contains_answer(a.text, q.answers) for (_, q, _), a in zip(chosen, after["asked"], strict=True)]
    return {
        "strategy": strategy,
        "questions": len(chosen),
        "corrections": len(learner.feedbacks),
        "right": {name: [right(before[name]), right(after[name])] for name in ("asked", "paraphrased")},
        "corrected_right": sum(fixed) / len(fixed),
        "nearby_questions": len(nearby),
        "nearby_changed": changed("nearby"),
        "unrelated_changed": changed("unrelated"),
    }


def cost(base: BaseModel, data: Dataset, stored: int) -> dict[str, Any]:
    """Seconds of a step of decoding, and of the logit work with so many positions in the memory."""
    items = sample(data, 1, seed=0).documents
    strategy, state, seconds = learned(base, "jitrl_full", [items[0].document])
    assert isinstance(strategy, JitRLFull)
    question = next(q.question for q in items[0].questions if strategy.affects(base, state, q.question))
    own = state.meta.documents[0]
    tensors, documents, chunks = dict(state.tensors), [own], dict(state.meta.extra["chunks"])
    positions = own.details["positions"]
    generator = torch.Generator().manual_seed(0)
    keys = unit(torch.randn(positions, base.hidden_size, generator=generator)).half()
    for number in range(stored // positions):
        name = f"doc-{number:012d}"
        tensors[f"{name}/keys"] = keys
        for part in ("tokens", "sentence"):
            tensors[f"{name}/{part}"] = state.tensors[f"{own.id}/{part}"]
        documents.append(type(own)(name, f"filler {number}", "text", name, own.tokens, own.learned_at, own.details))
        chunks[name] = [f"Filler {number} of the store."]
    meta = type(state.meta)(
        **{**vars(state.meta), "documents": tuple(documents), "extra": {**state.meta.extra, "chunks": chunks}}
    )
    large = State(tensors, meta)

    def best(work: Callable[[], Any], runs: int = 3) -> float:
        work()
        found = []
        for _ in range(runs):
            started = time.perf_counter()
            work()
            found.append(time.perf_counter() - started)
        return min(found)

    prompt = base.chat_ids([{"role": "user", "content": question}])
    one = best(lambda: base.generate([prompt], 1))
    plain = best(lambda: base.generate([prompt], TOKENS))
    [made] = base.generate([prompt], TOKENS)
    step = (plain - one) / max(1, made.tokens - 1)
    [answer] = strategy.answer(base, large, [question], TOKENS)
    [first] = strategy.answer(base, large, [question], 1)
    whole = best(lambda: strategy.answer(base, large, [question], TOKENS))
    begun = best(lambda: strategy.answer(base, large, [question], 1))
    steered = (whole - begun) / max(1, answer.tokens - first.tokens)
    every_ND = torch.cat([t for n, t in tensors.items() if n.endswith("/keys")])
    query_1D = keys[:1].float()
    found = {
        "learn_s": seconds,
        "stored": len(every_ND),
        "step_s": step,
        "step_with_memory_s": steered,
        "before_the_first_token_s": begun - one,
    }
    for search in ("exact", "faiss"):
        index = make_neighbours(search, every_ND)  # type: ignore[arg-type]
        found[f"search_all_{search}_s"] = best(lambda index=index: index.search(query_1D, 32))  # type: ignore[misc]
    return found


def examples(base: BaseModel, data: Dataset) -> list[dict[str, Any]]:
    """For some answers, which neighbours moved which token."""
    shown = []
    for item in sample(data, SHOWN, seed=0).documents:
        strategy, state, _ = learned(base, "jitrl_full", [item.document])
        question = item.questions[0]
        answer, moved = strategy.moved(base, state, question.question, TOKENS)
        steps = [
            {
                "token": base.decode([m.token]),
                "instead_of": base.decode([m.instead_of]),
                "neighbours": [[sentence, round(weight, 3)] for _, sentence, weight in m.neighbours[:2]],
            }
            for m in moved[:6]
        ]
        shown.append(
            {"question": question.question, "answer": answer.text, "gold": question.answers[0], "moved": steps}
        )
    return shown


def main() -> None:
    """Measure the parts asked for and write ``jitrl.json``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("benchmarks"))
    parser.add_argument("--parts", default="many,perplexity,feedback,cost,examples")
    parser.add_argument("--documents", type=int, default=16, help="passages whose questions are asked")
    parser.add_argument("--passages", type=int, default=200, help="passages in the large memory")
    parser.add_argument("--strategies", default="jitrl_mvp,jitrl_full", help="of the part many")
    parser.add_argument("--positions", type=int, default=100_000)
    given = parser.parse_args()
    base = BaseModel.load("smollm2-135m")
    data = halves(load_dataset(given.data))[1]
    path = given.out / "jitrl.json"
    results: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    results |= {"machine": cpu_name(), "threads": torch.get_num_threads(), "torch": torch.__version__}
    paraphrases = Path(__file__).with_name("paraphrases.jsonl")
    parts: dict[str, Callable[[], Any]] = {
        "many": lambda: many(base, data, given.documents, given.passages, given.strategies.split(",")),
        "perplexity": lambda: learned_perplexity(base, data, given.documents),
        "feedback": lambda: feedback(base, data, paraphrases, "jitrl_full"),
        "cost": lambda: cost(base, data, given.positions),
        "examples": lambda: examples(base, data),
    }
    for part in given.parts.split(","):
        results[part] = parts[part]()
        print(part, json.dumps(results[part]), flush=True)
        path.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
