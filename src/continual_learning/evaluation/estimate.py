"""How long a run will take: from what earlier runs on this machine took, else from figures of a known machine."""

from __future__ import annotations

from dataclasses import dataclass, field

# Seconds at 60 GFLOP/s (one thread) with the embedded model, for strategies that were never run here: of passages of
# about 160 tokens and answers of at most 24 (benchmarks/results/squad; the trained baselines and ace are rough).
_REFERENCE_GFLOPS, _REFERENCE_PARAMETERS = 60.0, 134.5e6
_LEARN_SECONDS_PER_TOKEN = {
    "ttt": 0.08, "jitrl_full": 0.005, "nested": 0.1, "doc2lora": 0.02, "ace": 0.5,
    "lora": 0.35, "lora_per_document": 0.35, "full_finetune": 0.6, "replay": 0.7,
}  # fmt: skip
_ANSWER_SECONDS = {"quote": 0.03, "rag": 1.25, "in_context": 1.25, "jitrl_mvp": 1.25, "ace": 1.25}
_PLAIN_ANSWER_SECONDS = 0.6
_RETENTION_QUESTIONS = 55
"""The general questions, and the unrelated texts counted as questions."""


@dataclass
class Speed:
    """What was measured of one strategy: sums, so that a mean can be taken at any time."""

    learn_seconds: float = 0.0
    learn_tokens: int = 0
    answer_seconds: float = 0.0
    answers: int = 0


@dataclass
class Estimate:
    """Seconds that work will take. ``gflops`` is the machine's matmul speed, ``parameters`` the base's size."""

    gflops: float
    parameters: int
    speeds: dict[str, Speed] = field(default_factory=dict)
    """By strategy; filled by `learned` and `answered`."""

    def learned(self, strategy: str, tokens: int, seconds: float) -> None:
        """Take note of a document that was learned."""
        speed = self.speeds.setdefault(strategy, Speed())
        speed.learn_seconds += seconds
        speed.learn_tokens += tokens

    def answered(self, strategy: str, questions: int, seconds: float) -> None:
        """Take note of questions that were answered."""
        speed = self.speeds.setdefault(strategy, Speed())
        speed.answer_seconds += seconds
        speed.answers += questions

    def learn(self, strategy: str, tokens: int) -> float:
        """Seconds to learn so many tokens."""
        speed = self.speeds.get(strategy, Speed())
        if speed.learn_tokens:
            return tokens * speed.learn_seconds / speed.learn_tokens
        return tokens * _LEARN_SECONDS_PER_TOKEN.get(strategy, 0.0) * self._scale

    def answer(self, strategy: str, questions: int) -> float:
        """Seconds to answer so many questions."""
        speed = self.speeds.get(strategy, Speed())
        if speed.answers:
            return questions * speed.answer_seconds / speed.answers
        return questions * _ANSWER_SECONDS.get(strategy, _PLAIN_ANSWER_SECONDS) * self._scale

    def retention(self, strategy: str) -> float:
        """Seconds to find out what was kept: an upper bound, for a memory that touches few questions asks few."""
        return self.answer(strategy, _RETENTION_QUESTIONS)

    @property
    def _scale(self) -> float:
        return (_REFERENCE_GFLOPS / self.gflops) * (self.parameters / _REFERENCE_PARAMETERS)


def duration(seconds: float) -> str:
    """Seconds for people: ``40 s``, ``12 min``, ``2 h 5 min``."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
