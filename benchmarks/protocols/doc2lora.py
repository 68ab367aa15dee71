"""Doc-to-LoRA on the embedded model: facts and passages that no training has seen, and their effect on other answers.

About 8 minutes on two slow cores for all variants.

A document is learned alone and is in no prompt. Facts are from the test split, whose names and values occur in no
training facts; facts of other relations also have statements and questions unseen in training. Passages are those of
`benchmark squad` (second half of the articles). Recall is the share of questions whose accepted answer is in at most
24 greedily generated tokens.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any

import torch

from continual_learning.datasets.base import halves, load_dataset, sample
from continual_learning.datasets.facts import fact_documents
from continual_learning.documents import Document
from continual_learning.documents.shipped import general_questions, unrelated_texts
from continual_learning.memory.state import State
from continual_learning.model.base_model import BaseModel
from continual_learning.model.generation import generate
from continual_learning.reading.plain import plain_answers
from continual_learning.strategies.base import make_strategy
from continual_learning.strategies.gate import retention
from continual_learning.strategies.methods.doc2lora import Doc2LoRA, state_adapter
from continual_learning.strategies.methods.doc2lora.hub import shipped_for
from continual_learning.strategies.methods.doc2lora.training.student import States, prompt_losses, question_losses
from continual_learning.strategies.methods.doc2lora.training.targets import Target, prompt_ids, reply_ids
from continual_learning.text.scoring import contains_answer
from continual_learning.types import Answer, QuestionAnswer
from protocols import Bench as Given

TOKENS = 24
DOCUMENTS = {"1-fact": 8, "8-facts": 8, "8-facts-held": 8, "32-facts": 2, "passages": 16}
GOALS = {"8-facts": 0.80, "32-facts": 0.50}
CONTROLS = 4  # questions per document that are asked again with another's adapter, and of the base alone
IN_PROMPT = 8  # questions per document that are asked with it in the prompt
Json = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """A document, the questions about it, and the reply to each."""

    document: Document
    questions: Sequence[QuestionAnswer]
    replies: Sequence[str]

    @property
    def read(self) -> str:
        """The text that the hypernetwork reads, and that the teacher has in its prompt."""
        return f"{self.document.title}\n{self.document.text}" if self.document.title else self.document.text


@dataclass(frozen=True)
class Bench:
    """The base, the strategy with and without routing, and the data."""

    base: BaseModel
    hypernetwork: str | None
    data: Path

    def strategy(self, **options: Any) -> Doc2LoRA:
        """doc2lora without its check, so that what it would refuse is measured, too."""
        made = make_strategy("doc2lora", {"guard": False, "hypernetwork": self.hypernetwork, **options})
        assert isinstance(made, Doc2LoRA)
        return made

    def learned(self, document: Document, state: State | None = None) -> tuple[State, float]:
        """The memory with one more document, and the seconds from document to adapter."""
        strategy = self.strategy()
        after, report = strategy.learn(self.base, state or strategy.init(self.base), document)
        if not report.accepted:
            raise SystemExit(report.reason)
        return after, report.timings["internalise"]

    def cases(self, part: str) -> list[Case]:
        """The documents of one kind."""
        count = DOCUMENTS[part]
        if part == "passages":
            drawn = sample(halves(load_dataset(self.data))[1], count, 0)
            return [
                Case(d.document, d.questions, [_capital(q.answers[0]) for q in d.questions]) for d in drawn.documents
            ]
        made = fact_documents("test", count, int(part.partition("-")[0]), 0, held=part.endswith("held"))
        return [Case(m.document, m.questions, m.replies) for m in made]


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


# -- what is internalised ----------------------------------------------------------------------------------


def internalised(bench: Bench, part: str) -> Json:
    """Recall and negative log-likelihood: own adapter, another document's, none, and the document in the prompt."""
    base, cases = bench.base, bench.cases(part)
    open_all, routed = bench.strategy(routing=False), bench.strategy()
    memories, seconds = zip(*(bench.learned(case.document) for case in cases), strict=True)
    empty = open_all.init(base)
    right: dict[str, list[bool]] = {name: [] for name in ("matched", "mismatched", "none", "prompt", "routed")}
    nll: dict[str, list[float]] = {name: [] for name in ("matched", "mismatched", "none", "prompt")}
    answers: list[Json] = []
    with torch.no_grad():
        for number, case in enumerate(cases):
            asked = [q.question for q in case.questions]
            own, other = memories[number], memories[(number + 1) % len(cases)]
            # A question that opens nothing gets the base's own answer, otherwise that of the open adapter.
            opens = [routed.affects(base, own, question) for question in asked]
            alone = [n for n in range(len(asked)) if n < CONTROLS or not opens[n]]
            bases = dict(zip(alone, plain_answers(base, [asked[n] for n in alone], TOKENS), strict=True))
            said = {
                "matched": [a.text for a in open_all.answer(base, own, asked, TOKENS)],
                "mismatched": [a.text for a in open_all.answer(base, other, asked[:CONTROLS], TOKENS)],
                "none": [bases[n].text for n in alone if n < CONTROLS],
            }
            said["routed"] = [
                text if opened else bases[n].text
                for n, (text, opened) in enumerate(zip(said["matched"], opens, strict=True))
            ]
            if part != "passages":  # `benchmark squad` asks these with the passage in the prompt
                prompts = [prompt_ids(base, question, case.read) for question in asked[:IN_PROMPT]]
                said["prompt"] = [g.text for g in generate(base, prompts, TOKENS)]
            for name, texts in said.items():
                right[name] += [contains_answer(t, q.answers) for t, q in zip(texts, case.questions, strict=False)]
            for name, losses in _losses(base, case, own, other, empty).items():
                nll[name] += losses
            for q, ours, opened in zip(case.questions, said["matched"], opens, strict=True):
                answers.append({"question": q.question, "answers": list(q.answers), "said": ours, "opened": opened})
            print(f"   {part}: {number + 1} of {len(cases)}, recall {fmean(right['matched']):.2f}", flush=True)
    means = {name: fmean(values) for name, values in nll.items()}
    return {
        "documents": len(cases),
        "questions": len(answers),
        "tokens": fmean(memory.meta.documents[0].tokens for memory in memories),
        "recall": {name: fmean(values) if values else None for name, values in right.items()},
        "asked": {name: len(values) for name, values in right.items()},
        "opened": fmean(a["opened"] for a in answers),
        "nll": means,
        "share": (means["none"] - means["matched"]) / (means["none"] - means["prompt"]),
        "seconds_mean": fmean(seconds),
        "seconds_median": median(seconds),
        "seconds_worst": max(seconds),
        "bytes": fmean(memory.bytes for memory in memories),
        "answers": answers,
    }


def _losses(base: BaseModel, case: Case, own: State, other: State, empty: State) -> dict[str, list[float]]:
    """Loss of each reply, in nats per token."""
    adapters = {"matched": state_adapter(own), "mismatched": state_adapter(other), "none": state_adapter(empty)}
    states = States(base, min(block for block, _ in adapters["matched"]))
    targets = [_target(base, q.question, reply) for q, reply in zip(case.questions, case.replies, strict=True)]
    found = {name: question_losses(base, adapter, [[targets]], states).tolist() for name, adapter in adapters.items()}
    in_prompt = [_target(base, q.question, r, case.read) for q, r in zip(case.questions, case.replies, strict=True)]
    return {**found, "prompt": prompt_losses(base, in_prompt).tolist()}


def _target(base: BaseModel, question: str, reply: str, document: str | None = None) -> Target:
    return Target(tuple(prompt_ids(base, question, document)), tuple(reply_ids(base, reply)), None, None, 1.0)


# -- what else it does -------------------------------------------------------------------------------------


def irrelevant(bench: Bench, documents: int = 1) -> Json:
    """General questions and unrelated texts with a document of facts or a passage in memory, routing on and off."""
    base, asked = bench.base, general_questions()
    questions = [q.question for q in asked]
    before = [a.text for a in plain_answers(base, questions, TOKENS)]
    knew = [contains_answer(text, q.answers) for text, q in zip(before, asked, strict=True)]
    rows: list[Json] = []
    for part in ("8-facts", "passages"):
        for case in bench.cases(part)[:documents]:
            memory, _ = bench.learned(case.document)
            row: Json = {"part": part, "title": case.document.title}
            for name, strategy in (("routed", bench.strategy()), ("open", bench.strategy(routing=False))):
                after = [a.text for a in strategy.answer(base, memory, questions, TOKENS)] if _touched(
                    bench, strategy, memory, questions
                ) else before  # fmt: skip
                knows = [contains_answer(text, q.answers) for text, q in zip(after, asked, strict=True)]
                kept = retention(base, strategy, memory, (), unrelated_texts())
                row[name] = {
                    "changed": fmean(a != b for a, b in zip(after, before, strict=True)),
                    "lost": sum(b and not a for a, b in zip(knows, knew, strict=True)) / max(1, sum(knew)),
                    "gained": sum(a and not b for a, b in zip(knows, knew, strict=True)),
                    "perplexity_change": kept.perplexity_change,
                }
            rows.append(row)
            print(f"   irrelevant: {json.dumps(row)}", flush=True)
    means = {name: {key: fmean(row[name][key] for row in rows) for key in rows[0][name]} for name in ("routed", "open")}
    return {"general_questions": len(asked), "general_right": sum(knew), "rows": rows, **means}


def _touched(bench: Bench, strategy: Doc2LoRA, memory: State, texts: Sequence[str]) -> bool:
    return any(strategy.affects(bench.base, memory, text) for text in texts)


def together(bench: Bench) -> Json:
    """All documents of 8 facts in one memory: recall with routing, and of half of them with every adapter in place."""
    base, cases = bench.base, bench.cases("8-facts")
    memory: State | None = None
    for case in cases:
        memory, _ = bench.learned(case.document, memory)
    assert memory is not None
    asked = [(q, case.document.id) for case in cases for q in case.questions]
    found: Json = {"documents": len(cases), "questions": len(asked), "bytes": memory.bytes}
    for name, strategy, chosen in (
        ("routed", bench.strategy(), asked),
        ("open", bench.strategy(routing=False), asked[::2]),
    ):
        answers: list[Answer] = []
        for at in range(0, len(chosen), 16):
            answers += strategy.answer(base, memory, [q.question for q, _ in chosen[at : at + 16]], TOKENS)
        pairs = list(zip(answers, chosen, strict=True))
        found[name] = fmean(contains_answer(answer.claim, q.answers) for answer, (q, _) in pairs)
        if name == "routed":
            owned = [[source.document_id for source in answer.sources] == [owner] for answer, (_, owner) in pairs]
            found["right_document"] = fmean(owned)
        print(f"   together, {name}: recall {found[name]:.2f}", flush=True)
    return found


# -- writing -----------------------------------------------------------------------------------------------


def measure(experiment: Any, given: Given) -> tuple[Json, Json, Any]:
    """Measure one variant: a kind of document, or the effect on other answers."""
    bench = Bench(given.base, experiment.options.get("hypernetwork"), given.data)
    folder = bench.hypernetwork or shipped_for(given.base.name)
    if folder is None:
        raise SystemExit(f"no hypernetwork ships for {given.base.name}; expected the option hypernetwork: FOLDER")
    works = {"irrelevant": irrelevant, "together": together}
    name = experiment.variant
    found = works[name](bench) if name in works else internalised(bench, name)
    return found, {"hypernetwork": hypernetwork_digest(Path(folder)), "tokens": TOKENS}, found.pop("answers", None)


def table(results: Mapping[str, Json]) -> str:
    """The figures as Markdown."""
    parts = {result["variant"]: result["figures"] for result in results.values()}
    lines = [
        "| documents | questions | own adapter | by routing | another's adapter | frozen | in the prompt | share of "
        "the prompt's gain (NLL) | document to adapter, s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for part in DOCUMENTS:
        if (one := parts.get(part)) is None:
            continue
        recall = one["recall"]
        columns = [f"{one['documents']} of {_kind(part)}, {one['tokens']:.0f} tokens", str(one["questions"])]
        columns += [_share(recall[name]) for name in ("matched", "routed", "mismatched", "none", "prompt")]
        nll = one["nll"]
        columns.append(
            f"{one['share']:.0%} ({nll['none']:.2f} to {nll['matched']:.2f}, prompt {nll['prompt']:.2f}, "
            f"another's adapter {nll['mismatched']:.2f})"
        )
        columns.append(f"{one['seconds_mean']:.2f}, worst {one['seconds_worst']:.2f}")
        lines.append(f"| {' | '.join(columns)} |")
    lines += ["", "| to reach | reached | |", "|---|---|---|"]
    lines += [f"| {goal} | {figure} | {'yes' if met else 'no'} |" for goal, figure, met in _goals(parts)]
    if one := parts.get("together"):
        lines += [
            "",
            f"All {one['documents']} documents of 8 facts in one memory ({one['bytes'] / 1e6:.0f} MB): "
            f"{one['routed']:.0%} of {one['questions']} questions with routing ({one['right_document']:.0%} open their "
            f"own document), {one['open']:.0%} with all adapters in place.",
        ]
    return "\n".join(lines)


def _goals(parts: Mapping[str, Json]) -> list[tuple[str, str, bool]]:
    rows: list[tuple[str, str, bool]] = []
    for part, goal in GOALS.items():
        if one := parts.get(part):
            recall = one["recall"]["matched"]
            rows.append((f"{_kind(part)}: at least {goal:.0%} answered", f"{recall:.0%}", recall >= goal))
    if one := parts.get("passages"):
        nll = one["nll"]
        content = (nll["mismatched"] - nll["matched"]) / (nll["none"] - nll["prompt"])
        figure = f"{one['share']:.0%}, {content:.0%} beyond another passage's adapter"
        rows.append(("unseen passages: at least 40% of the prompt's fall in NLL", figure, one["share"] >= 0.4))
        worst = one["seconds_worst"]
        rows.append(("under 1 s a passage", f"mean {one['seconds_mean']:.2f}, worst {worst:.2f} s", worst < 1))
    if one := parts.get("irrelevant"):
        for name, what in (("routed", "routing, the default"), ("open", "`routing: false`")):
            found = one[name]
            rows.append(
                (f"an irrelevant document changes at most 3% of general answers ({what})",
                 f"{found['changed']:.0%} change wording, {found['lost']:.0%} of the right ones lost, unrelated "
                 f"perplexity {found['perplexity_change']:+.0%}", found["changed"] <= 0.03)
            )  # fmt: skip
    return rows


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.0%}"


def _kind(part: str) -> str:
    return {
        "1-fact": "1 fact", "8-facts": "8 facts", "8-facts-held": "8 facts of other relations", "32-facts": "32 facts",
        "passages": "a SQuAD passage",
    }[part]  # fmt: skip


def hypernetwork_digest(folder: Path) -> str:
    """Which hypernetwork was measured: the first half of the SHA-256 of its weights."""
    file = folder / "hypernetwork.safetensors" if folder.is_dir() else folder
    return hashlib.sha256(file.read_bytes()).hexdigest()[:32]
