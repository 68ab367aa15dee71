"""Results of runs that never were, in the shape of real ones, for the tests of the reports."""

from __future__ import annotations

import random
from typing import Any

# name, recall, F1, seconds to learn, seconds to answer, general questions kept, perplexity change, bytes kept
STRATEGIES = (
    ("ttt", 0.34, 0.14, 20.96, 0.79, 0.992, 0.0, 53_193_192),
    ("rag", 0.47, 0.41, 0.004, 1.31, 1.0, 0.0, 148_211),
    ("in_context", 0.29, 0.33, 0.0002, 1.28, 0.741, 0.163, 12_488),
    ("frozen", 0.0, 0.04, 0.0, 0.86, 1.0, 0.0, 0),
    ("lora", 0.19, 0.12, 31.4, 0.81, 0.412, 0.874, 18_440_112),
    ("lora_per_document", 0.31, 0.21, 33.02, 0.84, 0.968, 0.004, 295_041_792),
    ("full_finetune", 0.22, 0.13, 48.7, 0.8, 0.74, 0.2, 538_060_000),
)
TOPICS = (
    "Saltmarsh of Oren", "Hallow Bridge", "Copper of Vint", "The Lamplighters", "Eel fishing", "Tarn Observatory",
    "Linen trade", "Mount Ashgar", "The Quill Act", "Ferry of Dunmere", "Peat cutting", "Amber road", "Saint Orla",
    "The Long Drought", "Glass of Mirel", "Moor ponies", "Canal of Ebb", "Wolf Winter", "Harbour law", "The Reed Choir",
)  # fmt: skip
ASKED = (
    ("When was {} first described in writing?", "{year}"),
    ("Who paid for the repairs of {}?", "the guild of coopers"),
    ("What made {} known beyond the valley?", "its blue salt"),
    ("How many people depended on {}?", "about {count} families"),
    ("Which town lies nearest to {}?", "Port Kessel"),
)
WRONG = (
    "The answer is not given in the text, but it is said that many people of the region knew of it",
    "it was built by the King of England in the year 1066 and it is still standing today",
    "the river, the river and the sea",
    "I'm sorry, but I don't have any information about that. Could you tell me more",
    "Port Kessel, a town of the north coast with a large harbour and a market",
)


def result(protocol: str = "compare", strategies: int = 7, documents: int = 20, seeds: int = 1) -> dict[str, Any]:
    """A run with five questions a document. The same arguments give the same result."""
    chance = random.Random(7)
    rows = [_row(row, documents, seeds, chance) for row in STRATEGIES[:strategies]]
    if protocol == "stream":
        for row in rows:
            row |= _stream(row, documents, chance)
    if protocol == "needle":
        for row in rows:
            row["answers"] = row["answers"][::5]  # one question a text
            row["needles"] = [
                {
                    "tokens": tokens,
                    "depth": depth,
                    "recall": _near(row["recall"] * 1000 / tokens, chance),
                    "questions": 4,
                }
                for tokens in (500, 1000, 2000, 4000)
                for depth in (0.0, 0.25, 0.5, 0.75, 1.0)
            ]
    return {
        "format": 1,
        "protocol": protocol,
        "command": "continual-learning compare passages/ --qa questions.jsonl --strategies ttt,rag,in_context,frozen",
        "started_at": "2025-11-21T22:14:03+00:00",
        "seconds": 8132.4,
        "machine": {
            "cpu": "Intel(R) Xeon(R) CPU @ 2.60GHz", "cores": 2, "threads": 2, "memory_bytes": 25_281_863_680,
            "device": "cpu", "python": "3.11.7", "torch": "2.13.0+cpu", "transformers": "5.23.0", "package": "0.1.0",
            "matmul_gflops": 147.4,
        },
        "model": {"name": "smollm2-135m", "fingerprint": "5f1c0e77", "parameters": 134_515_008},
        "dataset": {
            "name": "valley", "source": "questions.jsonl", "sha256": "ab" * 32, "documents": documents,
            "questions": 5 * documents, "tokens": 157 * documents, "split": "holdout", "seed": 0,
        },
        "settings": {"max_new_tokens": 24, "seeds": list(range(seeds)), "batch": 16},
        "results": rows,
        "notes": ["The seconds of learning are for passages of 157 tokens."],
    }  # fmt: skip


def _row(values: tuple[Any, ...], documents: int, seeds: int, chance: random.Random) -> dict[str, Any]:
    name, recall, f1, learn, answer, kept, perplexity, size = values
    answers = [a for seed in range(seeds) for a in _answers(recall, documents, seed, chance)]
    idle = name == "frozen"
    return {
        "strategy": name,
        "config": {} if idle else {"prompt": "{documents}\n\n{question}"} if name == "in_context" else
        {"learning_rate": 0.01, "steps": 4, "layers": [22, 23, 24], "check": True, "note": None},
        "documents": documents, "questions": 5 * documents, 
        "refused": documents if idle else 1 if name == "ttt" else 0,
        "recall": recall, "recall_interval": [max(0.0, recall - 0.1), recall + 0.11] if recall else None,
        "f1": f1, "f1_interval": [f1 - 0.03, f1 + 0.035], "exact_match": f1 / 3,
        "learn_seconds": learn, "answer_seconds": answer,
        "tokens_learned": 0 if idle else 157 * documents, "bytes_kept": size,
        "general_kept": kept, "perplexity_change": perplexity, "forgetting_ratio": None,
        "holdout_before": None, "holdout_after": None,
        "learn_gflop": 1280.4 if learn > 1 else None, "peak_memory_bytes": None,
        "seeds": [{"seed": s, "recall": _near(recall, chance), "f1": f1, "exact_match": f1 / 3} for s in range(seeds)],
        "answers": answers,
        "notes": ["refused: the frozen strategy never learns (20 times)"] if idle else
        ["refused: unrelated perplexity rose by 12%"] if name == "ttt" else [],
    }  # fmt: skip


def _answers(recall: float, documents: int, seed: int, chance: random.Random) -> list[dict[str, Any]]:
    found = []
    for number in range(documents):
        topic = TOPICS[number % len(TOPICS)] + ("" if number < len(TOPICS) else f" {number // len(TOPICS) + 1}")
        for question, answer in ASKED:
            gold = answer.format(year=1400 + 13 * number, count=120 + number)
            right = chance.random() < recall
            text = f"It is {gold}, as the chronicle of the valley says" if right else chance.choice(WRONG)
            found.append({
                "document": f"d{number}", "title": topic, "question": question.format(topic), "answers": [gold, gold],
                "text": text, "right": right, "f1": 0.4 if right else 0.0, "exact_match": False,
                "seconds": 0.8, "tokens": 24, "seed": seed, "sources": [], "notes": [],
            })  # fmt: skip
    return found


def _stream(row: dict[str, Any], documents: int, chance: random.Random) -> dict[str, Any]:
    recall = row["recall"]
    lasting = {"lora": 0.75, "full_finetune": 0.7, "in_context": 0.88}.get(row["strategy"], 1.0)
    matrix = [
        [_near(recall * lasting ** (i - 1 - j) if j < i else 0.0, chance) for j in range(documents)]
        for i in range(documents + 1)
    ]
    curve = [
        {"distance": d, "recall": _mean([matrix[j + 1 + d][j] for j in range(documents - d)]), "questions": 5}
        for d in range(documents)
    ]
    final = _mean(matrix[-1])
    just = [matrix[j + 1][j] for j in range(documents)]
    back = _mean([matrix[-1][j] - just[j] for j in range(documents - 1)])
    return {
        "matrix": matrix, "retention_curve": curve, "final_recall": final, "bwt": back, "fwt": 0.0,
        "forgetting": None if back is None else max(0.0, -back), "plasticity": _mean(just),
    }  # fmt: skip


def _near(value: float, chance: random.Random) -> float:
    return round(min(1.0, max(0.0, chance.gauss(value, 0.12 if value else 0.0))) * 20) / 20


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None
