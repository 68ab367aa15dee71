"""What the student should say to a question, and with what probabilities. Computed once, with the frozen base.

Doc-to-LoRA (arXiv 2602.15902, section 3): the base with the document in its prompt is the teacher. Its answer is the
target, or the gold answer if that is known, and the top k of its distribution at every token of the answer are kept.
For a question that the document says nothing about, the base without the document is the teacher.

Shapes: N = tokens of the answer, K = top tokens, V = vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from continual_learning.model.base_model import BaseModel
from continual_learning.model.chat_template import user
from continual_learning.model.fast_decoder import shared_start
from continual_learning.model.generation import generate
from continual_learning.reading.in_prompt import Excerpt, ReadingConfig, reading_prompt
from continual_learning.reading.plain import fitted_prompt
from continual_learning.strategies.methods.doc2lora.context import chat_affixes
from continual_learning.strategies.methods.doc2lora.training.settings import ANSWER_TOKENS, TOP_K, HypernetworkTraining
from continual_learning.training import examples
from continual_learning.types import QuestionAnswer


@dataclass(frozen=True)
class Target:
    """A prompt without the document, and the answer that should follow it."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]
    top_NK: Tensor | None
    """The teacher's likeliest tokens; None if the answer alone counts."""
    top_logprob_NK: Tensor | None
    answer_weight: float
    """Weight of the answer's own tokens, 0 to 1; the teacher's distribution gets the rest."""
    value_at: int = 0
    """Index in the answer of the first token of the value that is asked for; the answer's length if it has none."""

    def to_tensors(self) -> dict[str, Tensor]:
        """As tensors; `from_tensors` is the inverse."""
        found = {
            "prompt": torch.tensor(self.prompt),
            "answer": torch.tensor(self.answer),
            "answer_weight": torch.tensor(self.answer_weight, dtype=torch.float64),
            "value_at": torch.tensor(self.value_at),
        }
        if self.top_NK is not None and self.top_logprob_NK is not None:
            found |= {"top": self.top_NK, "top_logprob": self.top_logprob_NK}
        return found

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor], device: torch.device) -> Target | None:
        """Inverse of `to_tensors`, on a device; None for no tensors, which mean that there is no target."""
        if not tensors:
            return None
        top, logprob = (tensors[n].to(device) if n in tensors else None for n in ("top", "top_logprob"))
        prompt, answer = (tuple(tensors[n].tolist()) for n in ("prompt", "answer"))
        return cls(prompt, answer, top, logprob, float(tensors["answer_weight"]), int(tensors["value_at"]))

    @property
    def ids(self) -> list[int]:
        """What the student reads: all but the answer's last token."""
        return [*self.prompt, *self.answer[:-1]]

    @property
    def tokens(self) -> set[int]:
        """The tokens that its loss names."""
        return {*self.answer, *(() if self.top_NK is None else self.top_NK.flatten().tolist())}


def prompt_ids(base: BaseModel, question: str, document: str | None = None) -> list[int]:
    """Return the prompt for a question as the student gets it, which is how a user's is asked; with a ``document``, as
    the teacher does."""
    if document is None:
        return fitted_prompt(base, (), question, ANSWER_TOKENS)[0]
    if base.chats:
        return base.chat_ids([user(f"{document}\n\n{question}")])
    return reading_prompt(base, ReadingConfig(), [Excerpt(document)], question, ANSWER_TOKENS)[0]


def prompt_start(base: BaseModel) -> tuple[int, ...]:
    """Return what the student's prompts begin with, whatever the question is."""
    if base.chats:
        return chat_affixes(base).before
    return shared_start([prompt_ids(base, question) for question in ("What is it?", "7", "x")])


def reply_ids(base: BaseModel, reply: str) -> list[int]:
    """Return a reply as a model writes it, with the end of its turn."""
    if not base.chats:
        return examples.reply_ids(base, reply)
    ids = base.encode(reply.strip())
    end = [i for i in base.chat_ids([user("x"), {"role": "assistant", "content": "y"}], False) if i in base.stop_ids]
    return [*ids, *end[-1:]]


def relevant_target(
    base: BaseModel, document: str, asked: QuestionAnswer, reply: str, own: bool, settings: HypernetworkTraining
) -> Target | None:
    """Return the target of a question about a document; None if the teacher has no answer or the prompt does not fit.

    ``own``: take the teacher's answer instead of the reply.
    """
    prompt = prompt_ids(base, asked.question)
    with_document = prompt_ids(base, asked.question, document)
    if len(with_document) + ANSWER_TOKENS > base.window:
        return None
    if own:
        answer = list(generate(base, [with_document], ANSWER_TOKENS, one_line=not base.chats)[0].ids)
        weight = 0.0
    else:
        answer = reply_ids(base, reply)[:ANSWER_TOKENS]
        weight = 1 - settings.teacher_weight
    if not answer:
        return None
    value_at = _value_at(base, answer, asked.answers)
    if weight == 1:
        return Target(tuple(prompt), tuple(answer), None, None, 1.0, value_at)
    return Target(tuple(prompt), tuple(answer), *_top(base, with_document, answer, TOP_K), weight, value_at)


def irrelevant_target(base: BaseModel, question: str) -> Target | None:
    """Return the base's own answer to a question, and its distribution: what a document must not change."""
    prompt = prompt_ids(base, question)
    answer = generate(base, [prompt], ANSWER_TOKENS, one_line=not base.chats)[0].ids
    if not answer:
        return None
    return Target(tuple(prompt), tuple(answer), *_top(base, prompt, answer, TOP_K), 0.0)


def _value_at(base: BaseModel, answer: Sequence[int], values: Sequence[str]) -> int:
    """Return the index of the token in which the first value that the answer has begins; its length if it has none."""
    text = base.decode(list(answer)).lower()
    begin = next((at for value in values if (at := text.rfind(value.lower())) >= 0), len(text))
    places = range(len(answer))
    return next((n for n in places if len(base.decode(list(answer[: n + 1]))) > begin), len(answer))


@torch.no_grad()
def _top(base: BaseModel, prompt: Sequence[int], answer: Sequence[int], top_k: int) -> tuple[Tensor, Tensor]:
    ids_1T = torch.tensor([[*prompt, *answer[:-1]]], device=base.device)
    hidden_ND = base.run_from(base.hidden_before(ids_1T, 0), ids_1T, 0)[0, len(prompt) - 1 :]
    logprob_NV = base.logits(hidden_ND).float().log_softmax(-1)
    top = logprob_NV.topk(min(top_k, logprob_NV.shape[-1]), dim=-1)
    return top.indices, top.values
