"""Fit the weights of `retrieval.parts`: which part of a passage a question asks for.

    python benchmarks/lab/fit_parts.py DATA [--part-tokens 12] [--room 24]

Uses only the passages of the first half of the articles, and only the tokenizer of the model. Prints the share of
questions whose gold answer is in the chosen window, cross-validated by article, and the weights.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

from continual_learning.documents.shipped import background_texts
from continual_learning.model.base_model import BaseModel
from continual_learning.retrieval import parts
from continual_learning.retrieval.routing import Rarity
from continual_learning.text.scoring import contains_answer

FOLDS = 4


def examples(data: Path, part_tokens: int, room: int) -> list[tuple[str, torch.Tensor, torch.Tensor]]:
    """For each question: its article, the features of every window [W, F], and which hold the gold answer [W]."""
    rows = [json.loads(line) for line in data.read_text("utf-8").splitlines()]
    articles = list(dict.fromkeys(row["title"] for row in rows))
    first_half = set(articles[: len(articles) // 2])
    base = BaseModel.load()
    rarity = Rarity.of(background_texts())

    def count(text: str) -> int:
        return len(base.encode(text))

    found = []
    for row in rows:
        if row["title"] not in first_half:
            continue
        cut = parts.cut_parts(row["context"], count, part_tokens)
        keys = parts.part_keys(parts.part_index(cut))
        texts = [" ".join(cut[i].text for i in numbers) for numbers in parts.windows(cut, room)]
        texts = [base.decode(base.encode(text)[:room]) for text in texts]
        for question in row["questions"]:
            features = parts.window_features(keys, question["question"], rarity, room)
            right = [float(contains_answer(text, [question["answer"]])) for text in texts]
            found.append((row["title"], torch.tensor([list(f.values()) for f in features]), torch.tensor(right)))
    return found


def fit(chosen: list[tuple[str, torch.Tensor, torch.Tensor]], steps: int = 400) -> torch.Tensor:
    """Weights [F] that raise the log-probability of the windows that hold the answer."""
    usable = [(features, right) for _, features, right in chosen if right.sum() > 0]
    most, width = max(len(f) for f, _ in usable), usable[0][0].shape[1]
    features_QWF = torch.zeros(len(usable), most, width)
    right_QW = torch.zeros(len(usable), most)
    blocked_QW = torch.full((len(usable), most), -1e9)
    for q, (features, right) in enumerate(usable):
        features_QWF[q, : len(features)], right_QW[q, : len(right)] = features, right
        blocked_QW[q, : len(features)] = 0
    weights_F = torch.zeros(width, requires_grad=True)
    optimizer = torch.optim.Adam([weights_F], lr=0.05)
    for _ in range(steps):
        log_share_QW = (features_QWF @ weights_F + blocked_QW).log_softmax(-1)
        wanted_Q = torch.logsumexp(log_share_QW.masked_fill(right_QW == 0, -1e9), -1)
        loss = -wanted_Q.mean() + 1e-3 * weights_F.square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return weights_F.detach()


def share_right(weights_F: torch.Tensor, chosen: list[tuple[str, torch.Tensor, torch.Tensor]]) -> float:
    """Share of questions for which the best window holds the gold answer."""
    return sum(float(right[int((features @ weights_F).argmax())]) for _, features, right in chosen) / len(chosen)


def main() -> None:
    """Cross-validate, fit on all questions, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--part-tokens", type=int, default=12)
    parser.add_argument("--room", type=int, default=24)
    options = parser.parse_args()
    found = examples(options.data, options.part_tokens, options.room)
    articles = list(dict.fromkeys(article for article, _, _ in found))
    right = 0.0
    for fold in range(FOLDS):
        held_out = set(articles[fold::FOLDS])
        validation = [e for e in found if e[0] in held_out]
        right += share_right(fit([e for e in found if e[0] not in held_out]), validation) * len(validation)
    print(f"{len(found)} questions of {len(articles)} articles; window holds the answer, {FOLDS}-fold: ", end="")
    print(f"{right / len(found):.3f}")
    for name, weight in zip(parts.WEIGHTS, fit(found).tolist(), strict=True):
        print(f'    "{name}": {weight:.2f},')


if __name__ == "__main__":
    main()
