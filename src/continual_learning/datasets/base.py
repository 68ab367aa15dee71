"""Documents with questions about them: SQuAD, a user's own, splits by article, and samples.

A `Dataset` is a value: loading gives one, splitting and sampling give others, and `Dataset.sha256` says whether two
hold the same. Questions are never used in learning unless a caller passes them.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING

from continual_learning.datasets.squad import HUB_NAMES, hub_squad, read_squad
from continual_learning.documents import Document, read_documents
from continual_learning.documents.qa_files import QARow, load_qa_rows
from continual_learning.documents.shipped import LESSONS
from continual_learning.errors import InputError

if TYPE_CHECKING:
    from continual_learning.types import QuestionAnswer

SAMPLE = "squad_sample"
"""Name of the sample of SQuAD that ships with the package (``data/squad_sample``)."""
LESSONS_NAME = "lessons"
"""Name of the texts with questions that ship with the package to train on (``data/lessons``)."""
_SAMPLE_NOTE = "squad_sample: 50 passages of SQuAD 1.1 that ship with the package (Rajpurkar et al. 2016, CC BY-SA 4.0)"

_LINE = re.compile(r":\d+$")  # a document of a JSON lines file has the source path:line


@dataclass(frozen=True)
class QADocument:
    """A document and the questions about it, if any."""

    document: Document
    questions: tuple[QuestionAnswer, ...]
    article: str = ""
    """The article that it is part of, empty if none: documents of one article never fall on both sides of a split."""
    tokens: int | None = None
    """The length that was asked for, in tokens; for generated documents only."""
    depth: float | None = None
    """Where the needle is: 0 at the start, 1 at the end; for needle documents only."""


@dataclass(frozen=True)
class Dataset:
    """Documents with questions, and where they came from."""

    name: str
    source: str
    """A file's name without its folder, a repository on the hub, or ``generated``."""
    documents: tuple[QADocument, ...]
    split: str = "all"
    """``all``, ``learn`` or ``holdout``; ``first`` or ``second`` half of the file."""
    seed: int = 0
    """Seed of the split or sample that made it, whichever came last; of a generated set, the seed of its texts."""
    shared_questions: tuple[QuestionAnswer, ...] = ()
    """Questions about all documents together, from a QA file that names no document."""
    notes: tuple[str, ...] = ()
    """What was left out when loading, and whose data it is, one sentence each."""

    @property
    def questions(self) -> tuple[QuestionAnswer, ...]:
        """All questions: those of the documents in order, then the shared ones."""
        return tuple(q for item in self.documents for q in item.questions) + self.shared_questions

    def sha256(self) -> str:
        """SHA-256 of its content (titles, texts, questions, answers, in order), as 64 hex digits."""
        content = [[d.document.title, d.document.text, _plain(d.questions)] for d in self.documents]
        return hashlib.sha256(json.dumps([content, _plain(self.shared_questions)]).encode()).hexdigest()


def load_dataset(source: str | Path, hub_split: str = "validation") -> Dataset:
    """Documents with questions from a file, from the sample that ships, or from the Hugging Face hub by name.

    A file is SQuAD's official JSON (1.1 or 2.0), or JSON lines with ``title``, ``context`` and ``questions``: a list
    of ``question`` and ``answer`` or ``answers``, a string or a list of strings; a question with an empty list of
    ``answers`` is left out and counted. Files of JSON lines may be compressed (``.jsonl.xz``, ``.jsonl.gz``).
    ``squad_sample`` ships with the package, and so does ``lessons``, to train on.
    Other names are ``squad`` and ``squad_v2`` of the hub, of which ``hub_split`` is read. A file of a name takes
    precedence. Identical passages become one document.
    Raises InputError, one line with the place and the field, and MissingExtraError without the hub's package.
    """
    name, path = str(source), Path(source).expanduser()
    notes: tuple[str, ...] = ()
    if path.is_file() or (path.exists() and name not in (SAMPLE, LESSONS_NAME, *HUB_NAMES)):
        (passages, unanswerable), origin, label = read_squad(path), path.name, path.stem
    elif name == SAMPLE:
        with as_file(files("continual_learning") / "data" / SAMPLE / f"{SAMPLE}.jsonl") as shipped:
            (passages, unanswerable), origin, label = read_squad(shipped), shipped.name, SAMPLE
        notes = (_SAMPLE_NOTE,)
    elif name == LESSONS_NAME:
        (passages, unanswerable), origin, label = read_squad(LESSONS), LESSONS.name, LESSONS_NAME
    elif name in HUB_NAMES:
        (passages, unanswerable), origin, label = hub_squad(name, hub_split), f"{HUB_NAMES[name]}:{hub_split}", name
    else:
        raise InputError(
            f"{name}: no such file; expected SQuAD's JSON, JSON lines, {SAMPLE} or {LESSONS_NAME}, which ship with the "
            f"package, or a name on the Hugging Face hub: {', '.join(HUB_NAMES)}"
        )
    joined: dict[str, tuple[Document, list[QuestionAnswer]]] = {}
    for document, questions in passages:
        joined.setdefault(document.id, (document, []))[1].extend(questions)
    documents = tuple(QADocument(d, tuple(questions), d.title) for d, questions in joined.values())
    if unanswerable:
        notes = (*notes, f"unanswerable questions left out: {unanswerable}")
    dataset = Dataset(label, origin, documents, notes=notes)
    if not dataset.questions:
        raise InputError(f"{name}: holds no question with an answer; expected at least one")
    return dataset


def user_dataset(documents: str | Path, qa: str | Path) -> Dataset:
    """A user's own: one document or a folder, and a file of questions (.jsonl, .json, .csv or .tsv; see `qa_files`).

    A row's ``document`` is the file name (with or without suffix), the path in the folder or the title of the one
    document that it is about. Without it the question is about the only document, or about all of them together
    (`Dataset.shared_questions`). What was skipped in a folder is listed in ``notes``. Raises InputError, one line.
    """
    rows = load_qa_rows(qa)
    root = Path(documents).expanduser()
    found, skipped = read_documents(documents)
    found = [d for d in found if not _same_file(d.source, qa)]
    if not found:
        raise InputError(f"{root}: holds no document beside the questions {Path(qa).name}; expected at least one")
    kept = {d.id: d for d in reversed(found)}  # a memory holds a text only once: the first copy represents all
    kept = {d.id: kept[d.id] for d in found}
    left_out = [(d.source, f"the same as {_place(kept[d.id].source, root)}") for d in found if kept[d.id] is not d]
    left_out += [(s.source, s.reason) for s in skipped if not _same_file(s.source, qa)]
    names = _names(found, root)
    questions: dict[str, list[QuestionAnswer]] = {key: [] for key in kept}
    shared: list[QuestionAnswer] = []
    for row in rows:
        if row.document:
            questions[_named(row, names)].append(row.qa)
        elif len(kept) == 1:
            questions[next(iter(kept))].append(row.qa)
        else:
            shared.append(row.qa)
    return Dataset(
        root.resolve().name,
        f"{root.resolve().name} and {Path(qa).name}",
        tuple(QADocument(d, tuple(questions[key])) for key, d in kept.items()),
        shared_questions=tuple(shared),
        notes=tuple(f"{_place(source, root)} was left out: {reason}" for source, reason in left_out),
    )


def split_by_article(dataset: Dataset, seed: int = 0, holdout: float = 0.5) -> tuple[Dataset, Dataset]:
    """Two datasets with no article in common, the learn part and the holdout part, each in its original order.

    ``holdout`` is the share of the articles, above 0 and below 1; each part gets at least one. Which article goes
    where depends on the seed and the names alone. Raises InputError if there are fewer than two articles.
    """
    _check_by_document(dataset, "split")
    if not 0 < holdout < 1:
        raise InputError(f"holdout = {holdout} is not valid; expected a share above 0 and below 1")
    articles = _shuffled({_article(item) for item in dataset.documents}, seed)
    if len(articles) < 2:
        raise InputError(f"{dataset.name}: holds {len(articles)} article; expected at least 2 to split by article")
    out = set(articles[: min(max(round(len(articles) * holdout), 1), len(articles) - 1)])
    learn = tuple(item for item in dataset.documents if _article(item) not in out)
    held = tuple(item for item in dataset.documents if _article(item) in out)
    return (
        replace(dataset, documents=learn, split="learn", seed=seed),
        replace(dataset, documents=held, split="holdout", seed=seed),
    )


def halves(dataset: Dataset) -> tuple[Dataset, Dataset]:
    """The articles in file order, cut in the middle: to match data that others have split this way.

    Raises InputError if there are fewer than two articles.
    """
    _check_by_document(dataset, "split")
    articles = list(dict.fromkeys(_article(item) for item in dataset.documents))
    if len(articles) < 2:
        raise InputError(f"{dataset.name}: holds {len(articles)} article; expected at least 2 to split by article")
    begin = set(articles[: len(articles) // 2])
    first = tuple(item for item in dataset.documents if _article(item) in begin)
    second = tuple(item for item in dataset.documents if _article(item) not in begin)
    return replace(dataset, documents=first, split="first"), replace(dataset, documents=second, split="second")


def sample(
    dataset: Dataset, count: int, seed: int = 0, one_per_article: bool = True, min_questions: int = 3
) -> Dataset:
    """``count`` documents with at least ``min_questions`` questions each, in an order drawn from the seed.

    A smaller sample with the same seed is a prefix of a larger one. Raises InputError if there are too few.
    """
    _check_by_document(dataset, "sampled")
    if count < 1:
        raise InputError(f"count = {count} is not valid; expected at least 1 document")
    fit = {item.document.id: item for item in dataset.documents if len(item.questions) >= min_questions}
    drawn = [fit[document_id] for document_id in _shuffled(fit, seed)]
    if one_per_article:
        first: dict[str, QADocument] = {}
        for item in drawn:
            first.setdefault(_article(item), item)
        drawn = [first[article] for article in _shuffled(first, seed)]
    if len(drawn) < count:
        what = "articles with such a document" if one_per_article else "such documents"
        raise InputError(
            f"{dataset.name}: {count} documents with at least {min_questions} questions were asked for, but there "
            f"are {len(drawn)} {what}; ask for fewer documents, fewer questions, or a larger dataset"
        )
    return replace(dataset, documents=tuple(drawn[:count]), seed=seed)


def sample_evenly(dataset: Dataset, count: int, seed: int = 0, questions: int = 5, min_questions: int = 1) -> Dataset:
    """``count`` documents from all articles in turn, each with its first ``questions`` questions.

    Documents with fewer than ``min_questions`` are passed over. A smaller sample with the same seed is a prefix of a
    larger one. Raises InputError if there are too few.
    """
    fit = sum(len(item.questions) >= min_questions for item in dataset.documents)
    drawn = sample(dataset, max(count, fit), seed, one_per_article=False, min_questions=min_questions).documents
    taken: Counter[str] = Counter()
    turns: list[tuple[int, int]] = []
    for number, item in enumerate(drawn):
        turns.append((taken[_article(item)], number))
        taken[_article(item)] += 1
    chosen = [drawn[number] for _, number in sorted(turns)[:count]]
    cut = tuple(replace(item, questions=item.questions[:questions]) for item in chosen)
    return replace(dataset, documents=cut, seed=seed)


def choose_documents(dataset: Dataset, count: int, split: str, seed: int) -> tuple[Dataset, Dataset]:
    """The documents to learn, from as many articles as possible, and the documents of all other articles.

    ``split``: "learn" or "holdout", drawn by the seed; "first" or "second", the halves in file order; or "all".
    """

    def spread(part: Dataset) -> Dataset:
        return sample(part, count, seed, one_per_article=count <= len({item.article for item in part.documents}))

    if split == "all":
        chosen = spread(dataset)
        learned = {item.article for item in chosen.documents}
        return chosen, replace(dataset, documents=tuple(d for d in dataset.documents if d.article not in learned))
    parts = halves(dataset) if split in ("first", "second") else split_by_article(dataset, seed)
    mine, others = parts if split in ("first", "learn") else parts[::-1]
    return spread(mine), others


def first_questions(dataset: Dataset, count: int) -> Dataset | None:
    """At most one question of each article, ``count`` in all; None if there is none."""
    found: dict[str, QADocument] = {}
    for document in dataset.documents:
        if len(found) < count and document.article not in found and document.questions:
            found[document.article] = replace(document, questions=document.questions[:1])
    return replace(dataset, documents=tuple(found.values())) if found else None


def _plain(questions: Iterable[QuestionAnswer]) -> list[list[object]]:
    return [[q.question, list(q.answers)] for q in questions]


def _article(item: QADocument) -> str:
    return item.article or item.document.id


def _shuffled(keys: Iterable[str], seed: int) -> list[str]:
    """An order that depends on the seed and the keys alone: not on their order, Python's version or the platform."""
    return sorted(keys, key=lambda key: hashlib.sha256(f"{seed}\0{key}".encode()).digest())


def _check_by_document(dataset: Dataset, what: str) -> None:
    if dataset.shared_questions:
        raise InputError(
            f"{dataset.name}: {len(dataset.shared_questions)} questions name no document, so that it cannot be {what}; "
            "give each row of the QA file a 'document'"
        )


def _place(source: str, root: Path) -> str:
    """The path in the folder, with forward slashes; of a single file its name."""
    return Path(os.path.relpath(source, root)).as_posix() if root.is_dir() else Path(source).name


def _same_file(source: str, path: str | Path) -> bool:
    file = _LINE.sub("", source)
    return os.path.exists(file) and os.path.samefile(file, path)


def _names(documents: Sequence[Document], root: Path) -> dict[str, dict[str, str]]:
    """Map every name, in lower case, by which a row may call a document to the ids it names, with their locations."""
    names: dict[str, dict[str, str]] = {}
    for document in documents:
        place = _place(document.source, root)
        file = Path(_LINE.sub("", place))
        for name in {place, Path(place).name, file.as_posix(), file.name, file.stem, document.title} - {""}:
            names.setdefault(name.casefold(), {}).setdefault(document.id, place)
    return names


def _named(row: QARow, names: dict[str, dict[str, str]]) -> str:
    """The id of the document that a row names."""
    wanted = f"{row.at}: field 'document' is {row.document!r}, which names"
    found = names.get(row.document.casefold(), {})
    if len(found) > 1:
        raise InputError(f"{wanted} {len(found)} documents; expected one of {', '.join(list(found.values())[:5])}")
    if not found:
        near = difflib.get_close_matches(row.document.casefold(), names, n=1, cutoff=0.0)[0]
        raise InputError(f"{wanted} no document; the nearest is {next(iter(names[near].values()))!r}")
    return next(iter(found))
