"""A stream of documents in one memory, at equal learning: what keeps later ones from overwriting earlier ones?

    python benchmarks/lab/stream_variants.py --data squad_dev_open.jsonl --out benchmarks [--minutes 8]

Six passages of six articles of the first half of the file, at most 160 tokens and four questions each, are learned one
after another by each memory of stream_memories.py. All have the same training examples (the passage's parts after
their cues, as ttt learns them), mini-batches and order, and so the same number of gradient steps; the same blocks
learn, with the same loss, AdamW and schedule. A learning rate is chosen for each kind of weights: the best at reciting
two passages of other articles, each learned alone (the parts ``rate …``).

All answer in the same way, too: routing says which document's cues to use, the weights recite its parts, and the span
reader reads them. Memories with separate weights per document open those of the routed document and nothing else;
shared ones are open for every question. Every question is asked right after its document, and again at the end.

Every part is stored as soon as it is measured: the same command resumes after an interruption, and starts no part
after ``--minutes``. Writes stream_variants.json, and the block ``stream_variants`` of README.md.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from blocks import write_block
from resumable import Parts
from stream_memories import Lesson, Memory, Merged, OwnAdapters, OwnNeurons, School, SharedNeurons

from continual_learning.datasets.base import Dataset, halves, load_dataset, sample
from continual_learning.documents.shipped import general_questions, unrelated_texts
from continual_learning.model.base_model import BaseModel
from continual_learning.model.machine import cpu_name
from continual_learning.reading.answering import answers_from, chosen_reader
from continual_learning.reading.plain import plain_answers
from continual_learning.retrieval.parts import part_index, part_keys, recite_all
from continual_learning.retrieval.routing import Passage, Rarity, Router, answer_by_route, passage_key
from continual_learning.strategies.methods.ttt.config import TTTConfig
from continual_learning.text.scoring import contains_answer, token_f1
from continual_learning.types import Answer, QuestionAnswer, Source

PASSAGE_TOKENS, QUESTIONS, ANSWER_TOKENS = 160, 4, 24
PASSES = 14  # passes over the parts, without repair after them: the same steps for all
GENERAL, UNRELATED, TUNED_ON = 24, 6, 2
# Peak learning rates: the smallest tried that recites as much as any other. That of 28 neurons was ttt's own.
RATES: Mapping[int | None, float] = {8: 6e-2, 28: 1.5e-2, 96: 1e-2, None: 2e-3}
ADAPTER_RATE = 5e-3
RATES_TRIED: Mapping[str, tuple[float, ...]] = {
    "all neurons": (1e-3, 2e-3, 5e-3),
    "adapter": (2e-3, 5e-3, 1e-2),
    "8 neurons": (1.5e-2, 3e-2, 6e-2),
    "96 neurons": (1e-2, 1.5e-2),
}
RANK = 8  # rank of the adapters: as many parameters as 28 neurons of the same blocks

Read = Callable[[str, str, list[str]], list[Answer]]
"""Makes answers from a document's title, what was recited of it, and questions."""


@dataclass
class Asker:
    """Asks all memories in the same way."""

    base: BaseModel
    router: Router
    read: Read
    recited: dict[Hashable, str] = field(default_factory=dict)
    read_before: dict[tuple[str, str], Answer] = field(default_factory=dict)
    """Answers by question and the text that they were read from: the same text gives the same answer."""

    def routes(self, texts: Sequence[str], lessons: Sequence[Lesson]) -> list[Passage | None]:
        """Which document each text is about, if any."""
        keys = {
            (one.document.id, 0): frozenset(passage_key(one.document.title, one.document.text).tolist())
            for one in lessons
        }
        titles = {one.document.id: one.document.title for one in lessons}
        found = [self.router.route(keys, text, titles=titles) for text in texts]
        return [route and route[0] for route in found]

    def answers(self, memory: Memory, lessons: Sequence[Lesson], questions: Sequence[str]) -> list[str]:
        """The answers of a memory of these lessons."""
        by_id = {one.document.id: one for one in lessons}

        def answered(route: Passage | None, asked: list[str]) -> list[Answer]:
            if route is None:
                with memory.opened(None):
                    return plain_answers(self.base, asked, ANSWER_TOKENS)
            lesson = by_id[route[0]]
            text = self.recite(memory, len(lessons), lesson)
            new = [question for question in asked if (question, text) not in self.read_before]
            if new:
                read = self.read(lesson.document.title, text, new)
                self.read_before.update({(answer.question, text): answer for answer in read})
            return [self.read_before[question, text] for question in asked]

        return [a.text for a in answer_by_route(questions, self.routes(questions, lessons), answered)]

    def recite(self, memory: Memory, learned: int, lesson: Lesson) -> str:
        """Recite all parts of a document from the weights of a memory that has learned this many documents."""
        key = (memory, learned if memory.always_open else 0, lesson.document.id)
        if key not in self.recited:
            with memory.opened(lesson.document.id):
                keys = part_keys(part_index(lesson.parts))
                self.recited[key] = recite_all(self.base, lesson.document.title, keys)
        return self.recited[key]


@dataclass(frozen=True)
class Known:
    """What the base knows, which a memory should leave unchanged."""

    questions: tuple[QuestionAnswer, ...]
    """General questions that it answers right."""
    texts: tuple[str, ...]
    perplexity: float


@dataclass
class Row:
    """What was measured of one memory."""

    after: list[dict[str, Any]] = field(default_factory=list)
    """Answers just after each document."""
    end: list[dict[str, Any]] = field(default_factory=list)
    """Answers after the last one."""
    parts_after: list[float] = field(default_factory=list)
    parts_end: list[float] = field(default_factory=list)
    """Share of the parts of each document that are recited word for word."""

    def figures(self) -> dict[str, Any]:
        """Means over all questions; for parts, over documents."""
        found: dict[str, Any] = {}
        for when in ("after", "end"):
            answers = getattr(self, when)
            parts = getattr(self, f"parts_{when}")
            found[f"recall_{when}"] = mean([a["right"] for a in answers])
            found[f"f1_{when}"] = mean([a["f1"] for a in answers])
            found[f"parts_{when}"] = mean(parts)
        found["questions"] = len(self.end)
        return {**found, "answers_after": self.after, "answers_end": self.end}


def mean(values: Sequence[float]) -> float:
    """The mean; 0 if there are no values."""
    return sum(values) / max(1, len(values))


def parts_recited(lesson: Lesson, recited: str) -> float:
    """Share of a document's parts that were recited word for word."""
    said = f" {' '.join(recited.split())} "
    return mean([f" {' '.join(part.text.split())} " in said for part in lesson.parts])


def graded(lesson: Lesson, answers: Sequence[str]) -> list[dict[str, Any]]:
    """Score the answers to the questions of a lesson."""
    return [
        {
            "title": lesson.document.title,
            "question": asked.question,
            "answers": list(asked.answers),
            "said": said,
            "right": contains_answer(said, asked.answers),
            "f1": token_f1(said, asked.answers),
        }
        for asked, said in zip(lesson.questions, answers, strict=True)
    ]


def stream(
    asker: Asker, lessons: Sequence[Lesson], learner: Memory, asked: Mapping[str, Memory], known: Known
) -> dict[str, Any]:
    """One memory learns all lessons; the memories in ``asked``, itself or derived ones, are asked. Figures by name."""
    rows = {name: Row() for name in asked}
    seconds = []
    for number, lesson in enumerate(lessons, 1):
        started = time.perf_counter()
        learner.learn(lesson)
        seconds.append(lesson.seconds + time.perf_counter() - started)
        so_far = lessons[:number]
        for name, memory in asked.items():
            rows[name].after += graded(lesson, asker.answers(memory, so_far, [q.question for q in lesson.questions]))
            rows[name].parts_after.append(parts_recited(lesson, asker.recite(memory, number, lesson)))
            recall, parts = mean([a["right"] for a in rows[name].after]), mean(rows[name].parts_after)
            print(
                f"   {number}/{len(lessons)} {seconds[-1]:.1f} s  {name}: recall {recall:.2f}, parts {parts:.2f}",
                flush=True,
            )
    found = {}
    for name, memory in asked.items():
        questions = [q.question for lesson in lessons for q in lesson.questions]
        answers = iter(asker.answers(memory, lessons, questions))
        for lesson in lessons:
            rows[name].end += graded(lesson, [next(answers) for _ in lesson.questions])
            rows[name].parts_end.append(parts_recited(lesson, asker.recite(memory, len(lessons), lesson)))
        keys = sum(
            t.numel() * t.element_size()
            for one in lessons
            for t in (passage_key(one.document.title, one.document.text), part_index(one.parts))
        )
        found[name] = {
            **rows[name].figures(),
            **left_alone(asker, memory, lessons, known),
            "bytes_a_passage": (memory.bytes + keys) / len(lessons),
            "learn_seconds": mean(seconds),
            "steps": mean([len(lesson.batches) for lesson in lessons]),
        }
    return {"rows": found}


def left_alone(asker: Asker, memory: Memory, lessons: Sequence[Lesson], known: Known) -> dict[str, float]:
    """How much of the base's knowledge is left. Where no weights are open all of it is, by construction."""
    routes = asker.routes([q.question for q in known.questions], lessons)
    touched = [q for q, route in zip(known.questions, routes, strict=True) if memory.always_open or route]
    answers = asker.answers(memory, lessons, [q.question for q in touched]) if touched else []
    lost = sum(not contains_answer(said, q.answers) for said, q in zip(answers, touched, strict=True))
    perplexity = known.perplexity
    routes = asker.routes(known.texts, lessons)
    if memory.always_open or any(routes):
        nll, tokens = 0.0, 0
        for text, route in zip(known.texts, routes, strict=True):
            with memory.opened(route and route[0]):
                one, count = asker.base.token_nll([text])
            nll, tokens = nll + one, tokens + count
        perplexity = float(torch.tensor(nll / tokens).exp())
    return {
        "general_kept": 1.0 - lost / max(1, len(known.questions)),
        "perplexity_change": perplexity / known.perplexity - 1.0,
    }


def known_to(base: BaseModel) -> dict[str, Any]:
    """Indices of the general questions that the base answers right, up to the number asked, and its perplexity."""
    questions = general_questions()
    said = plain_answers(base, [q.question for q in questions], ANSWER_TOKENS)
    right = [n for n, (q, a) in enumerate(zip(questions, said, strict=True)) if contains_answer(a.text, q.answers)]
    nll, tokens = base.token_nll(unrelated_texts()[:UNRELATED])
    return {"right": right[:GENERAL], "perplexity": float(torch.tensor(nll / tokens).exp())}


def recited_at(
    asker: Asker, lessons: Sequence[Lesson], make: Callable[[float], Memory], tried: Sequence[float]
) -> dict[str, float]:
    """Share of parts recited when each lesson is learned alone, by learning rate."""
    found = {}
    for rate in tried:
        shares = []
        for lesson in lessons:
            memory = make(rate)
            memory.learn(lesson)
            shares.append(parts_recited(lesson, asker.recite(memory, 1, lesson)))
        found[f"{rate:g}"] = mean(shares)
        print(f"   {rate:g}: {mean(shares):.2f} of the parts recited", flush=True)
    return found


def jobs(school: School) -> dict[str, Callable[[], tuple[Memory, dict[str, Memory]]]]:
    """What to learn and to ask, by the name of the part, most important first."""

    def with_merged() -> tuple[Memory, dict[str, Memory]]:
        own = own_neurons(28)
        return own, {
            "28 neurons for each document, opened by routing (what ttt does)": own,
            "merging: the same branches all open, summed": Merged(own, mean=False),
            "merging: the same branches all open, averaged": Merged(own, mean=True),
        }

    def own_neurons(count: int) -> OwnNeurons:
        return OwnNeurons(school, RATES[count], count)

    def one(name: str, make: Callable[[], Memory]) -> Callable[[], tuple[Memory, dict[str, Memory]]]:
        def made() -> tuple[Memory, dict[str, Memory]]:
            memory = make()
            return memory, {name: memory}

        return made

    def shared(count: int | None, **options: Any) -> Callable[[], Memory]:
        return lambda: SharedNeurons(school, RATES[count], count, **options)

    return {
        "own 28": with_merged,
        "dense": one("dense: all neurons in one memory, one document after another", shared(None)),
        "sparse 28": one("sparse: the top 28 of each document in one memory, all open", shared(28)),
        "disjoint 28": one(
            "disjoint: the top 28 that no document had, in one memory, all open", shared(28, choice="free")
        ),
        "adapters": one(
            f"low-rank deltas (LoRA, rank {RANK}) for each document, opened by routing",
            lambda: OwnAdapters(school, ADAPTER_RATE, RANK),
        ),
        "dense replay": one("dense, with replay of earlier documents' items", shared(None, replay=True)),
        "own 8": one("8 neurons for each document, opened by routing", lambda: own_neurons(8)),
        "own 96": one("96 neurons for each document, opened by routing", lambda: own_neurons(96)),
        "sparse 96": one("sparse: the top 96 of each document in one memory, all open", shared(96)),
        "first 28": one("the same 28 neurons trained on and on, all open", shared(28, choice="first")),
        "sparse 28 replay": one("sparse, top 28, with replay of earlier documents' items", shared(28, replay=True)),
        "dense slowly": one("dense, at half the learning rate", lambda: SharedNeurons(school, RATES[None] / 2, None)),
        "sparse 8": one("sparse: the top 8 of each document in one memory, all open", shared(8)),
    }


ORDER = (
    "dense", "dense slowly", "dense replay", "sparse 8", "sparse 28", "sparse 96", "sparse 28 replay", "first 28",
    "disjoint 28", "own 8", "own 28", "own 96", "adapters",
)  # fmt: skip
"""Labels of the parts in the table."""


def passages(data: Path, base: BaseModel, count: int) -> tuple[Dataset, Dataset]:
    """The stream, and passages of other articles to choose learning rates on; all are short ones of the first half."""
    first, _ = halves(load_dataset(data))
    short = tuple(d for d in first.documents if len(base.encode(d.document.text)) <= PASSAGE_TOKENS)
    both = sample(replace(first, documents=short), count + TUNED_ON).documents
    few = tuple(replace(d, questions=d.questions[:QUESTIONS]) for d in both)
    return replace(first, documents=few[:count]), replace(first, documents=few[count:])


def markdown(parts: Mapping[str, Any], setting: Mapping[str, Any], missing: Sequence[str]) -> str:
    """The table, and what it was measured on."""
    lines = [
        "| memory | recall just after | at the end | ratio | F1 just after | at the end | parts recited just after | "
        "at the end | general kept | unrelated perplexity | kept, MB a passage | learn, s |",
        "|---|" + "---|" * 11,
    ]
    for part in ORDER:
        for name, row in parts.get(part, {}).get("rows", {}).items():
            ratio = f"{row['recall_end'] / row['recall_after']:.2f}" if row["recall_after"] else ""
            shown = f"**{name}**" if "ttt" in name else name
            lines.append(
                f"| {shown} | {row['recall_after']:.2f} | {row['recall_end']:.2f} | {ratio} | {row['f1_after']:.2f} | "
                f"{row['f1_end']:.2f} | {row['parts_after']:.2f} | {row['parts_end']:.2f} | "
                f"{row['general_kept']:.0%} | {row['perplexity_change']:+.1%} | {row['bytes_a_passage'] / 1e6:.2f} | "
                f"{row['learn_seconds']:.1f} |"
            )
    some = next((row for part in ORDER for row in parts.get(part, {}).get("rows", {}).values()), None)
    if some is not None:
        lines += [
            "",
            f"{some['questions']} questions on {setting['passages']} passages of as many articles of the first half; "
            f"{some['steps']:.0f} steps a passage in every row. {GENERAL} general questions that the base has right, "
            f"{UNRELATED} unrelated texts. {setting['machine']}; other work ran beside it, so that seconds are upper "
            "bounds. The reader was trained on articles of the same half, so that recall is no "
            "measure of the product here: rows are to be compared with one another.",
        ]
    tried = {kind: parts[f"rate {kind}"]["recited"] for kind in RATES_TRIED if f"rate {kind}" in parts}
    if tried:
        shown = "; ".join(
            f"{kind} " + ", ".join(f"{share:.2f} at {rate}" for rate, share in by_rate.items())
            for kind, by_rate in tried.items()
        )
        rates = ", ".join(f"{rate:g} for {count or 'all'}" for count, rate in RATES.items())
        lines += [
            "",
            f"Learning rates: {rates} neurons and {ADAPTER_RATE:g} for adapters. Share of the parts of {TUNED_ON} "
            f"passages of other articles that were recited word for word, each learned alone: {shown}.",
        ]
    if missing:
        lines += ["", f"Not measured yet: {', '.join(missing)}."]
    return "\n".join(lines)


def main() -> None:
    """Measure the requested parts that are not there yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder for stream_variants.json, with README.md")
    parser.add_argument("--passages", type=int, default=6)
    parser.add_argument("--rows", help="names of parts, separated by commas: own 28, dense … [all]")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="minutes after which no part is started")
    given = parser.parse_args()
    began = time.perf_counter()
    base = BaseModel.load()
    config = TTTConfig(passes=PASSES)
    learned, tuned = passages(given.data, base, given.passages)
    setting = {
        "model": base.name,
        "data": learned.sha256(),
        "passages": given.passages,
        "machine": f"{cpu_name()}, {torch.get_num_threads()} threads, torch {torch.__version__}",
    }
    parts = Parts(given.out / "stream_variants.json", setting)
    school = School.of(base, config)
    reader = chosen_reader(base, config)
    assert reader is not None, "the embedded model has a reader"

    def read(title: str, text: str, questions: list[str]) -> list[Answer]:
        return answers_from(base, reader, [Source("", title, 1.0, text=text)], questions, ANSWER_TOKENS)

    rarity = Rarity.of(school.background)
    asker = Asker(base, Router(rarity, config.route_threshold, config.route_evidence), read)
    made = jobs(school)
    kinds: dict[str, Callable[[float], Memory]] = {
        "all neurons": lambda rate: OwnNeurons(school, rate, None),
        "adapter": lambda rate: OwnAdapters(school, rate, RANK),
        "8 neurons": lambda rate: OwnNeurons(school, rate, 8),
        "96 neurons": lambda rate: OwnNeurons(school, rate, 96),
    }
    tuning = [f"rate {kind}" for kind in kinds]
    wanted = [name.strip() for name in given.rows.split(",")] if given.rows else [*tuning, *made]
    if unknown := [name for name in wanted if name not in (*tuning, *made)]:
        parser.error(f"no part {unknown[0]!r}; expected some of: {', '.join([*tuning, *made])}")

    def measure(name: str) -> dict[str, Any]:
        if name in tuning:
            kind = name.removeprefix("rate ")
            few = [school.lesson(d.document) for d in tuned.documents]
            return {"recited": recited_at(asker, few, kinds[kind], RATES_TRIED[kind])}
        lessons = [school.lesson(d.document, d.questions) for d in learned.documents]
        return stream(asker, lessons, *made[name](), known())

    def known() -> Known:
        facts = parts.measured["base"]
        texts = tuple(unrelated_texts()[:UNRELATED])
        return Known(tuple(general_questions()[n] for n in facts["right"]), texts, facts["perplexity"])

    for name in ("base", *wanted):
        if name not in parts.measured and time.perf_counter() - began > given.minutes * 60:
            print(f"-- {name}: left for the next run", flush=True)
            continue
        parts.measure(name, (lambda: known_to(base)) if name == "base" else (lambda name=name: measure(name)))
        missing = [one for one in made if one not in parts.measured]
        write_block(given.out / "README.md", "stream_variants", markdown(parts.measured, setting, missing))
    print(json.dumps({"measured": list(parts.measured)}))


if __name__ == "__main__":
    main()
