"""How much it changes that only tokens in play compete: `python benchmarks/lab/tokens_in_play.py MODEL LESSONS`.

The base's prepared reader reads the last texts of a file of lessons, once with the whole vocabulary and once with the
tokens in play, and is timed for both.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from continual_learning.model.base_model import BaseModel
from continual_learning.reading.answering import ReaderConfig, chosen_reader
from continual_learning.reading.reader import tokens_in_play
from continual_learning.reading.reader.lessons import Lesson, read_lessons
from continual_learning.reading.reader.reader import Reader
from continual_learning.reading.spans import Reading
from continual_learning.text.scoring import token_f1

TEXTS, QUESTIONS = 20, 4


def main(model: str, lessons: Path) -> None:
    """Print F1, spans that differ, differences of probabilities, and seconds a warm answer."""
    base = BaseModel.load(model)
    reader = chosen_reader(base, ReaderConfig())
    assert reader is not None, f"no reader for {model}: `continual-learning model prepare {model} --only reader`"
    texts = read_lessons(lessons)[-TEXTS:]
    runs = {}
    for name, small in (("the whole vocabulary", base.vocab_size), ("tokens in play", 0)):
        tokens_in_play._SMALL = small
        started = time.perf_counter()
        readings = [one for text in texts for one in read(base, reader, text)]
        runs[name] = readings
        seconds = (time.perf_counter() - started) / len(readings)
        wanted = [q.answers for text in texts for q in text.questions[:QUESTIONS]]
        scores = [token_f1(r.spans[0].text if r.spans else "", a) for r, a in zip(readings, wanted, strict=True)]
        print(f"{name}: F1 {sum(scores) / len(scores):.3f} on {len(scores)} questions, {seconds:.2f} s each")
    pairs = list(zip(*runs.values(), strict=True))
    differ = sum(a.spans[:1] != b.spans[:1] and best(a) != best(b) for a, b in pairs)
    apart = sorted(abs(probability(a) - probability(b)) for a, b in pairs)
    unknown = max(abs(a.unknown - b.unknown) for a, b in pairs)
    print(f"{differ} best spans differ; of their probabilities half differ by less than {apart[len(apart) // 2]:.4f},")
    print(f"all by less than {apart[-1]:.4f}; those of 'unknown' by less than {unknown:.4f}")


def read(base: BaseModel, reader: Reader, text: Lesson) -> list[Reading]:
    """What a text says, each question by itself, as people ask them."""
    reader.read(base, text.title, text.text, [text.questions[0].question])  # the text is read once, and stays
    return [reader.read(base, text.title, text.text, [q.question])[0] for q in text.questions[:QUESTIONS]]


def best(reading: Reading) -> str:
    """The likeliest span."""
    return reading.spans[0].text if reading.spans else ""


def probability(reading: Reading) -> float:
    """That of the likeliest span."""
    return reading.spans[0].probability if reading.spans else 0.0


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
