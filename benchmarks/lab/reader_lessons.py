"""Writes the lessons of the reader that ships, from open sets: `python benchmarks/lab/reader_lessons.py FOLDER OUT`.

FOLDER holds the files named below, JSON lines with `title`, `context`, `questions`. Left out are the second half of
SQuAD's development articles, FairytaleQA and COVID-QA, which are reported. Held out to calibrate with, at the end of
OUT: two of SQuAD's articles, and texts that take reading (Quoref), as confidence is wanted on more than one kind.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path
from typing import Any

from continual_learning.text.scoring import token_f1
from continual_learning.text.span_edges import span_edges

HELD_OUT_ARTICLES, HELD_OUT_QUOREF = 2, 150
# File and number of texts: more of them have few questions each, and cost more than they teach.
OTHERS = {
    "nq_passages": 700,
    "quoref_sample": 350,
    "tatqa_text": 423,
    "2wiki_train_sample": 250,
    "narrativeqa_summaries_sample": 135,
}
# F1 of a span with an answer that the text does not hold word for word; below it, the question is left out.
NEAR_ENOUGH = 0.5
LONGEST = 160  # characters of a span


def main(folder: Path, out: Path) -> None:
    """Write the lessons; those to calibrate with come last."""
    rng = random.Random(0)
    development = _rows(folder / "squad_dev_open.jsonl")
    titles = list(dict.fromkeys(row["title"] for row in development))
    learned = titles[: len(titles) // 2]
    held_out = set(learned[-HELD_OUT_ARTICLES:])
    rows = [row for row in development if row["title"] in learned and row["title"] not in held_out]
    rows += _rows(folder / "squad_train_sample.jsonl")
    tried: list[dict[str, Any]] = []
    for name, count in OTHERS.items():
        found = _rows(folder / f"{name}.jsonl")
        rng.shuffle(found)
        if name == "quoref_sample":
            tried = found[count : count + HELD_OUT_QUOREF]
        for row in found[:count]:
            if name == "2wiki_train_sample":
                row["title"] = ""  # it names both articles, and so the way to the answer
                row["context"] += f"\n{rng.choice(row['distractors'])}" if row["distractors"] else ""
            if name == "narrativeqa_summaries_sample":
                row["questions"] = [kept for one in row["questions"] if (kept := _with_spans(one, row["context"]))]
            rows.append(row)
    rows += tried + [row for row in development if row["title"] in held_out]
    with out.open("w", encoding="utf-8") as file:
        for row in rows:
            kept = {"title": row["title"], "context": row["context"], "questions": row["questions"]}
            if kept["questions"]:
                file.write(json.dumps(kept, ensure_ascii=False) + "\n")
    print(f"{len(rows)} texts, {sum(len(row['questions']) for row in rows)} questions")


def _with_spans(question: dict[str, Any], text: str) -> dict[str, Any] | None:
    """The question with answers that the text holds: the nearest span if people worded theirs freely."""
    answers = question["answers"]
    if any(answer in text for answer in answers):
        return question
    starts, ends = span_edges(text)
    spans = (text[s:e] for s in starts for e in ends if s < e <= s + LONGEST)
    score, _, span = max(((token_f1(span, answers), -len(span), span) for span in spans), default=(0.0, 0, ""))
    return {**question, "answers": [span]} if score >= NEAR_ENOUGH else None


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
