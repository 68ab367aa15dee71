"""Writes the lessons of the reader that ships, from open sets: `python benchmarks/lab/reader_lessons.py FOLDER OUT`.

FOLDER holds the files named below, JSON lines with `title`, `context`, `questions`. Left out are the second half of
SQuAD's development articles, FairytaleQA and COVID-QA, which are reported.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path
from typing import Any

HELD_OUT_ARTICLES = 2
# File and number of texts: more of them have few questions each, and cost more than they teach.
OTHERS = {
    "nq_passages": 2_445,
    "quoref_sample": 350,
    "tatqa_text": 423,
    "2wiki_train_sample": 250,
    "boolq_sample": 800,
    "narrativeqa_summaries_sample": 135,
}


def main(folder: Path, out: Path) -> None:
    """Write the lessons; those to calibrate with come last."""
    rng = random.Random(0)
    development = _rows(folder / "squad_dev_open.jsonl")
    titles = list(dict.fromkeys(row["title"] for row in development))
    learned = titles[: len(titles) // 2]
    held_out = set(learned[-HELD_OUT_ARTICLES:])
    rows = [row for row in development if row["title"] in learned and row["title"] not in held_out]
    rows += _rows(folder / "squad_train_sample.jsonl")
    for name, count in OTHERS.items():
        found = _rows(folder / f"{name}.jsonl")
        rng.shuffle(found)
        for row in found[:count]:
            if name == "2wiki_train_sample":
                row["title"] = ""  # it names both articles, and so the way to the answer
                row["context"] += f"\n{rng.choice(row['distractors'])}" if row["distractors"] else ""
            rows.append(row)
    rows += [row for row in development if row["title"] in held_out]
    with out.open("w", encoding="utf-8") as file:
        for row in rows:
            kept = {"title": row["title"], "context": row["context"], "questions": row["questions"]}
            file.write(json.dumps(kept, ensure_ascii=False) + "\n")
    print(f"{len(rows)} texts, {sum(len(row['questions']) for row in rows)} questions")


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
