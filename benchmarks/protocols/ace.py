"""ACE on passages: recall of questions that no loop has seen, before and after, against in_context and rag.

All passages are in one memory. For each, the first questions are learned from, the next are held out for the gate, and
the last are asked at the end. Each variant of ace has one part switched off.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from continual_learning.datasets.base import Dataset, halves, load_dataset, sample
from continual_learning.documents.shipped import general_questions
from continual_learning.memory.state import State
from continual_learning.model.base_model import BaseModel
from continual_learning.strategies.base import Strategy, make_strategy
from continual_learning.strategies.methods.ace import ACE
from continual_learning.strategies.methods.ace.loops import Score, evaluate, offline
from continual_learning.strategies.methods.ace.memory import Task, with_playbook
from continual_learning.strategies.methods.ace.playbook import Playbook
from continual_learning.strategies.methods.ace.refine import PLAYBOOK_TOKENS
from continual_learning.text.scoring import contains_answer, token_f1
from continual_learning.types import Progress, QuestionAnswer
from protocols import Bench

NEW_TOKENS = 24


def parts(dataset: Dataset, train: int, held_out: int, test: int) -> tuple[list[Task], list[Task], list[Task]]:
    """Questions to learn from, for the gate, and to ask at the end."""
    found: tuple[list[Task], list[Task], list[Task]] = ([], [], [])
    for item in dataset.documents:
        tasks = [Task(question, item.document.id) for question in item.questions]
        for tasks_of, (start, count) in zip(
            found, ((0, train), (train, held_out), (train + held_out, test)), strict=True
        ):
            tasks_of.extend(tasks[start : start + count])
    return found


def recall(strategy: Strategy[Any], base: BaseModel, state: State, questions: Sequence[QuestionAnswer]) -> Score:
    """Recall and F1 of the strategy as users get it."""
    answers = strategy.answer(base, state, [q.question for q in questions], NEW_TOKENS)
    pairs = list(zip(answers, questions, strict=True))
    return Score(
        tuple(contains_answer(a.claim, q.answers) for a, q in pairs),
        tuple(token_f1(a.claim, q.answers) for a, q in pairs),
    )


def memory(strategy: Strategy[Any], base: BaseModel, dataset: Dataset) -> State:
    """A memory of all passages, without their questions."""
    state = strategy.init(base)
    for item in dataset.documents:
        state, _ = strategy.learn(base, state, item.document)
    return state


def baseline(name: str, base: BaseModel, dataset: Dataset, tasks: Sequence[Task]) -> dict[str, Any]:
    """Measure a strategy that learns nothing from questions. ``in_context`` gets only each question's own passage."""
    strategy = make_strategy(name)
    if name == "in_context":
        right: list[bool] = []
        f1s: list[float] = []
        for item in dataset.documents:
            state, _ = strategy.learn(base, strategy.init(base), item.document)
            score = recall(strategy, base, state, [t.qa for t in tasks if t.document == item.document.id])
            right += score.right
            f1s += score.f1s
        score = Score(tuple(right), tuple(f1s))
    else:
        score = recall(strategy, base, memory(strategy, base, dataset), [t.qa for t in tasks])
    return {"recall": score.recall, "f1": score.f1, "questions": len(tasks)}


def variant(
    name: str, options: Mapping[str, Any], base: BaseModel, dataset: Dataset, tasks: tuple[list[Task], ...], loops: int
) -> dict[str, Any]:
    """Run every loop; the gate decides which playbook is kept."""
    train, held_out, test = tasks
    strategy = make_strategy("ace", {**options, "loops": loops})
    assert isinstance(strategy, ACE)
    started = time.perf_counter()

    def tell(step: Progress) -> None:
        spent = (time.perf_counter() - started) / 60
        print(f"   {name}: {step.stage}, {step.done} of {step.total} questions, {spent:.1f} min", flush=True)

    state = memory(strategy, base, dataset)
    roles = strategy.roles(base, state)
    before = evaluate(roles, Playbook(), test)
    result = offline(roles, Playbook(), train, held_out, tell, patience=loops)
    after = evaluate(roles, result.playbook, test)
    kept = with_playbook(state, result.playbook)
    assert result.before is not None and result.after is not None
    return {
        "before": {"recall": before.recall, "f1": before.f1},
        "after": {"recall": after.recall, "f1": after.f1},
        "held_out": {"before": result.before.recall, "after": result.after.recall},
        "general_touched": sum(strategy.affects(base, kept, q.question) for q in general_questions()),
        "entries": len(result.playbook),
        "loops": [asdict(report) for report in result.reports],
        "last_entries": [entry.line for entry in list(result.last.entries.values())[-12:]],
        "malformed": len(result.failures),
        "within_budget": all(
            r.entries <= strategy.config.max_strategies and r.playbook_tokens <= PLAYBOOK_TOKENS for r in result.reports
        ),
    }


def measure(experiment: Any, bench: Bench) -> tuple[dict[str, Any], dict[str, Any], Any]:
    """Measure ace, or a strategy that learns nothing from questions."""
    given, base = experiment.setting, bench.base
    half = halves(load_dataset(bench.data))[given["half"] == "second"]
    dataset = sample(half, given["passages"], min_questions=sum(given["questions"]))
    tasks = parts(dataset, *given["questions"])
    if experiment.strategy == "ace":
        found = variant(experiment.variant, experiment.options, base, dataset, tasks, given["loops"])
    else:
        found = baseline(experiment.strategy, base, dataset, tasks[2])
    return found, {"data": dataset.sha256(), "asked": [len(t) for t in tasks]}, None


def table(results: Mapping[str, Any]) -> str:
    """The results as Markdown."""
    rows = {r["variant"] if r["strategy"] == "ace" else r["strategy"]: r["figures"] for r in results.values()}
    lines = [
        "| who | test recall before | after | F1 after | held out before | after | entries | malformed | in budget |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        if "before" in row:
            held = row["held_out"]
            lines.append(
                f"| ace, {name} | {row['before']['recall']:.3f} | {row['after']['recall']:.3f} "
                f"| {row['after']['f1']:.3f} | {held['before']:.3f} | {held['after']:.3f} | {row['entries']} "
                f"| {row['malformed']} | {'yes' if row['within_budget'] else 'no'} |"
            )
        else:
            lines.append(f"| {name} | | {row['recall']:.3f} | {row['f1']:.3f} | | | | | |")
    columns = "who, loop, learned, held out, kept, entries, tokens of them, applied, rejected, pruned, prompt tokens, "
    columns += "new tokens, seconds"
    lines += ["", f"| {' | '.join(columns.split(', '))} |", "|---" * len(columns.split(", ")) + "|"]
    for name, row in rows.items():
        for loop in row.get("loops", ()):
            read = sum(c["prompt_tokens"] for c in loop["costs"].values())
            wrote = sum(c["tokens"] for c in loop["costs"].values())
            lines.append(
                f"| {name} | {loop['loop']} | {loop['recall']:.3f} | {loop['validation']:.3f} "
                f"| {'yes' if loop['kept'] else 'no'} | {loop['entries']} | {loop['playbook_tokens']} "
                f"| {loop['applied']} | {loop['rejected']} | {loop['pruned']} | {read} | {wrote} "
                f"| {loop['seconds']:.0f} |"
            )
    shown = next((row["last_entries"] for row in rows.values() if row.get("last_entries")), [])
    if shown:
        lines += ["", "What the last loop of the first row ended with, kept or not:", "```", *shown, "```"]
    return "\n".join(lines)
