"""The columns of the results table, and which value of a column is the best."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, Literal

from continual_learning.datasets.everyday import KINDS
from continual_learning.errors import ContinualLearningError
from continual_learning.evaluation.report import formats
from continual_learning.strategies.base import strategy_class

_LABEL_LENGTH = 28


@dataclass(frozen=True)
class Entry:
    """One strategy of a run, on one base model."""

    index: int
    label: str
    """Its name; with what is different in its configuration if the name occurs twice, and its base if several ran."""
    data: Mapping[str, Any]
    model: str = ""
    """Its base model's short name if several ran."""

    @property
    def name(self) -> str:
        """The label without the base model."""
        return self.label.removesuffix(_on(self.model))

    @property
    def baseline(self) -> bool:
        """Whether it is a baseline."""
        return self.data.get("role") == "baseline"

    @property
    def idle(self) -> bool:
        """Whether it learned nothing, so that learning cost nothing either."""
        return self.value("tokens_learned") == 0

    def value(self, name: str) -> float | None:
        """A number of the result; None if it is missing, undefined or not finite."""
        return formats.number(self.data.get(name))

    def bounds(self, name: str) -> tuple[float, float] | None:
        """A confidence interval of the result."""
        pair = self.data.get(name)
        low, high = (
            (formats.number(v) for v in pair) if isinstance(pair, list | tuple) and len(pair) == 2 else (None,) * 2
        )
        return None if low is None or high is None else (low, high)


@dataclass(frozen=True)
class Column:
    """A measured value of every strategy."""

    name: str
    """Its key in a result."""
    heading: str
    text: Callable[[float], str]
    better: Literal["high", "low", ""]
    meaning: str
    unit: str = ""
    """The unit of the numbers as shown; empty for a share."""
    per: str = ""
    """What it is a mean over; empty for totals."""
    interval: str = ""
    of_learning: bool = False
    """Whether it is a cost of learning: strategies that learned nothing are not compared."""
    shown: Literal["measured", "different", "nonzero"] = "measured"
    brief: bool = True
    """Whether it belongs in a short table."""

    @property
    def head(self) -> str:
        """Heading and unit on one line: ``learn, s``."""
        return f"{self.heading}, {self.unit}" if self.unit else self.heading

    @property
    def measure(self) -> str:
        """The unit in full: ``s a document``."""
        return " a ".join(part for part in (self.unit, self.per) if part)

    def cell(self, entry: Entry) -> str:
        """The value as shown, or a dash."""
        return formats.cell(entry.value(self.name), self.text)

    def bracket(self, entry: Entry) -> str:
        """The confidence interval as shown, or an empty string."""
        return formats.interval(entry.data.get(self.interval)) if self.interval else ""

    def visible(self, entries: Sequence[Entry]) -> bool:
        """Whether the column has something to say about these strategies."""
        if self.shown == "different":
            return len({entry.value(self.name) for entry in entries if not entry.idle}) > 1
        values = [entry.value(self.name) for entry in entries]
        return any(values) if self.shown == "nonzero" else any(value is not None for value in values)

    def compared(self, entries: Sequence[Entry]) -> list[tuple[float, Entry]]:
        """Strategies that take part in the comparison with their values, the best first."""
        found = [(v, e) for e in entries if (v := e.value(self.name)) is not None and not (self.of_learning and e.idle)]
        return sorted(found, key=lambda pair: -pair[0] if self.better == "high" else pair[0]) if self.better else []

    def best(self, entries: Sequence[Entry]) -> frozenset[int]:
        """Indices of the best: several if they read the same, none if all do or there is only one."""
        ranked = self.compared(entries)
        texts = [self.text(value) for value, _ in ranked]
        if len(set(texts)) < 2:
            return frozenset()
        return frozenset(entry.index for text, (_, entry) in zip(texts, ranked, strict=True) if text == texts[0])


COLUMNS = (
    Column(
        "recall", "recall", formats.ratio, "high",
        "Share of the questions whose gold answer occurs in the generated one: whole words; case, punctuation and "
        "articles aside.",
        interval="recall_interval",
    ),
    Column(
        "f1", "token F1", formats.ratio, "high",
        "Overlap of the words of the answer with the gold answer's, as SQuAD measures it.", interval="f1_interval",
    ),
    Column(
        "exact_match", "exact match", formats.ratio, "high",
        "Share of the answers that are the gold answer and nothing else, as SQuAD measures it.",
    ),
    Column(
        "hit_at_3", "hit@3", formats.ratio, "high",
        "Share of the questions whose gold answer occurs in the answer or in one of its first two alternatives; every "
        "other measure scores the answer alone.",
    ),
    Column(
        "score", "score", formats.ratio, "high",
        "Mean over the questions, each scored from 0 to 1 by the rule of its kind.", interval="score_interval",
    ),
    *(
        Column(
            f"score_{kind}", kind.replace("_", " "), formats.ratio, "high",
            f"Mean score of the questions of the kind {kind}.",
        )
        for kind in KINDS
    ),
    Column(
        "answered", "answered", formats.percent, "",
        "Share of the questions that the document answers whose answer is not that it does not say.",
    ),
    Column(
        "f1_alone", "F1 alone", formats.ratio, "high",
        "Token F1 of the same questions where each document is in the smallest memory.",
    ),
    Column(
        "opened", "right document", formats.percent, "high",
        "Share of the questions for which a passage of the right document was read, in the largest memory.",
    ),
    Column(
        "left_alone", "left alone", formats.percent, "high",
        "Share of questions about other things that the base answered by itself, beside the largest memory.",
    ),
    Column(
        "final_recall", "final recall", formats.ratio, "high",
        "Mean recall of all documents after the last one was learned (ACC).",
    ),
    Column(
        "bwt", "BWT", formats.ratio, "high",
        "Backward transfer: recall of a document at the end less recall when it had just been learned, mean over all "
        "but the last.",
        of_learning=True,
    ),
    Column(
        "fwt", "FWT", formats.ratio, "high",
        "Forward transfer: recall of a document just before it is learned less the base's, mean over all but the "
        "first.",
    ),
    Column(
        "forgetting", "forgetting", formats.ratio, "low",
        "The best recall that a document ever had less its recall at the end, mean over all but the last "
        "(Chaudhry et al. 2018).",
        of_learning=True,
    ),
    Column(
        "plasticity", "plasticity", formats.ratio, "high",
        "Recall of a document when it has just been learned less the base's, mean.",
    ),
    Column(
        "learn_seconds", "learn", formats.seconds, "low",
        "Wall time of learning a document, mean.", unit="s", per="document", of_learning=True,
    ),
    Column(
        "answer_seconds", "answer", formats.seconds, "low",
        "Wall time of answering a question, mean; of a batch, its share.", unit="s", per="question",
    ),
    Column(
        "general_kept", "general kept", formats.percent, "high",
        "Of the general questions that the base answers, the share still answered after learning.", of_learning=True,
    ),
    Column(
        "perplexity_change", "unrelated perplexity", formats.change, "low",
        "Relative change of the perplexity of text that has nothing to do with the documents.", of_learning=True,
    ),
    Column("perplexity_before", "perplexity before", formats.ratio, "", "Perplexity of unrelated text, the base's."),
    Column(
        "perplexity_after", "perplexity after", formats.ratio, "low", "The same after learning.", of_learning=True,
    ),
    Column(
        "forgetting_ratio", "forgetting ratio", formats.ratio, "low",
        "Share of the holdout recall before learning that is lost after it, 0.15 at most being the target; undefined "
        "where it was 0 before.",
        of_learning=True,
    ),
    Column("holdout_before", "holdout before", formats.ratio, "", "Recall of the holdout before learning."),
    Column(
        "holdout_after", "holdout after", formats.ratio, "high", "Recall of the holdout after learning.",
        of_learning=True,
    ),
    Column(
        "bytes_kept", "kept", formats.megabytes, "low", "What all documents together add to the memory.",
        unit="MB", of_learning=True,
    ),
    Column(
        "learn_gflop", "learn", formats.count, "low",
        "Floating-point operations of learning a document, mean; a multiply-add is two.",
        unit="GFLOP", per="document", of_learning=True, brief=False,
    ),
    Column(
        "peak_memory_bytes", "peak memory", formats.gigabytes, "low",
        "The most memory that was in use, the loaded model included.", unit="GB", brief=False,
    ),
    Column(
        "tokens_learned", "learned", formats.count, "", "Tokens of all documents that were learned.",
        unit="tokens", shown="different", brief=False,
    ),
    Column("documents", "documents", formats.count, "", "Documents given.", shown="different", brief=False),
    Column("questions", "questions", formats.count, "", "Questions asked.", shown="different", brief=False),
    Column(
        "refused", "refused", formats.count, "",
        "Documents that were not kept because the check after learning failed.", unit="documents", shown="nonzero",
    ),
)  # fmt: skip
COLUMN = {column.name: column for column in COLUMNS}


def entries(result: Mapping[str, Any]) -> list[Entry]:
    """The strategies of a run, each with a unique label: base by base, highest recall or score first."""
    found: list[Entry] = []
    names = model_names(result)
    for model in names or {"": ""}:
        rows = [row for row in result.get("results") or () if not names or row.get("model") == model]
        labels = _labels(rows)
        main = [_or(formats.number(row.get("recall")), _or(formats.number(row.get("score")), -1.0)) for row in rows]
        for i in sorted(range(len(rows)), key=lambda i: -main[i]):
            short = names.get(model, "")
            data = _without_refusals(_with_role(rows[i]))
            found.append(Entry(len(found), labels[i] + _on(short), data, short))
    return found


def model_names(result: Mapping[str, Any]) -> dict[str, str]:
    """Of a run on several base models, their short names: of paths and names of the hub the last part, if it is one's.

    Empty for a run on one.
    """
    names = [str(model.get("name")) for model in result.get("models") or ()]
    last = [PurePath(name).name for name in names]
    return {name: end if last.count(end) == 1 else name for name, end in zip(names, last, strict=True)}


def by_model(found: Sequence[Entry]) -> dict[str, list[Entry]]:
    """The entries of each base model; all under an empty name if there was one base."""
    groups: dict[str, list[Entry]] = {}
    for entry in found:
        groups.setdefault(entry.model, []).append(entry)
    return groups


def best_of_each(column: Column, found: Sequence[Entry]) -> frozenset[int]:
    """Indices of the best on each base."""
    return frozenset(index for group in by_model(found).values() for index in column.best(group))


def _on(model: str) -> str:
    return f" on {model}" if model else ""


def visible(found: Sequence[Entry]) -> list[Column]:
    """The columns that have something to say."""
    return [column for column in COLUMNS if column.visible(found)]


def _with_role(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """Fill in the role, from today's strategy, in a row that was written before rows had a role."""
    if "role" in row:
        return row
    try:
        found = strategy_class(str(row.get("strategy")))
    except ContinualLearningError:
        return row  # for example of a package that is not installed here
    return {**row, "role": found.role, "learns": found.learns}


def _without_refusals(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """A strategy that never learns refuses every document by definition, which says nothing about the documents."""
    if row.get("learns") is not False:
        return row
    notes = [note for note in row.get("notes") or () if not str(note).startswith("refused:")]
    return {**row, "refused": None, "notes": notes}


def _labels(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    names = [str(row.get("label") or row.get("strategy") or "unnamed") for row in rows]
    labels: list[str] = []
    for name, row in zip(names, rows, strict=True):
        label = name
        if names.count(name) > 1:
            same = [other.get("config") or {} for other, n in zip(rows, names, strict=True) if n == name]
            config = row.get("config") or {}
            different = [key for key in config if any(other.get(key) != config[key] for other in same)]
            label = f"{name} ({', '.join(f'{key}={config[key]}' for key in different)})"
            if not different or len(label) > _LABEL_LENGTH or label in labels:
                label = f"{name} #{sum(n == name for n in names[: len(labels) + 1])}"
        labels.append(label)
    return labels


def _or(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value
