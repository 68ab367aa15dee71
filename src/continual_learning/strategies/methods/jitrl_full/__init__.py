"""JitRL with hidden states: a memory of what came next, which moves the logits while the model writes.

For every position of a document the store keeps the model's hidden state and the token that came next (Khandelwal et
al. 2020, arXiv 1911.00172, section 2); while generating, the current hidden state retrieves neighbours, their outcomes
estimate Q, and the logits move by the closed form z' = z + beta A under a KL limit (arXiv 2601.18510). The prompt holds
the question alone.

A question's last hidden state differs from the one at the place of its answer, so the neighbours of the first token
are restricted in two stages: retrieval finds the sentences that the question is about, and a rule finds the places in
them where an answer is likely to begin (`retrieval.spans`). From the second token on, hidden states find the place.
What was tried to bring the two together, with figures: benchmarks/LOG.md.

    config.py  the settings
    memory.py  the tensors, and reading a document into them
    policy.py  from neighbours to logits
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from continual_learning.documents import Document
from continual_learning.memory.state import DocumentRecord, State
from continual_learning.model.base_model import BaseModel, Message
from continual_learning.reading.plain import fitted_prompt, generate_answers, plain_answers
from continual_learning.retrieval.chunk_store import cut, kept_chunks, with_chunks, without_chunks
from continual_learning.retrieval.datastore import ExactNeighbours
from continual_learning.retrieval.passages import Found, QuestionFinder
from continual_learning.strategies.base import Cost, Strategy, plain_report
from continual_learning.strategies.methods.jitrl_full.config import PASSAGE_TOKENS, JitRLFullConfig
from continual_learning.strategies.methods.jitrl_full.memory import positions_of, read_document, sentence_numbers
from continual_learning.strategies.methods.jitrl_full.policy import AnswerSteer, Moved, ReadingSteer, Routed
from continual_learning.text.chunking import sentences
from continual_learning.types import UNAFFECTED, Answer, LearnReport, ProgressCallback, QuestionAnswer, TokenCallback


class JitRLFull(Strategy[JitRLFullConfig]):
    """Keeps hidden states and what came next, and answers with only the question in the prompt."""

    summary = "remembers what came next at every position and moves the logits towards it (JitRL)"
    Config = JitRLFullConfig
    cost = Cost(
        learn_token=0.005,
        token_bytes=1170,
        f1={"smollm2-135m": 0.151, "gemma3-270m": 0.206},
    )

    def __init__(self, config: JitRLFullConfig):
        super().__init__(config)
        limits = (config.top_k, config.min_coverage, config.min_evidence)
        self._finder = QuestionFinder(config.retriever, config.encoder, *limits)

    def learn(
        self,
        base: BaseModel,
        state: State,
        document: Document,
        qa: Sequence[QuestionAnswer] = (),
        progress: ProgressCallback | None = None,
    ) -> tuple[State, LearnReport]:
        """Read the document once and keep the hidden states. The oldest documents are dropped if there is no room."""
        passages = cut(base, document.text, PASSAGE_TOKENS, 0)
        new = read_document(base, document.id, passages)
        count = len(new[f"{document.id}/tokens"])
        if count > self.config.max_positions:
            reason = f"{count} positions; expected at most max_positions = {self.config.max_positions}: raise it"
            return state, plain_report(document, False, reason)
        kept, dropped = self._with_room(base, state, count)
        tokens = len(base.encode(document.text))
        kept = with_chunks(kept, DocumentRecord.of(document, tokens, {"positions": count}), passages)
        after = State({**kept.tensors, **new}, kept.meta)
        size = sum(t.numel() * t.element_size() for t in new.values())
        return after, plain_report(document, True, f"{count} positions are kept", tokens, size, dropped)

    def answer(
        self,
        base: BaseModel,
        state: State,
        questions: Sequence[str],
        max_new_tokens: int = 64,
        on_token: TokenCallback | None = None,
        history: Sequence[Message] = (),
    ) -> list[Answer]:
        """Answer each question with the neighbours that its route leads to; if there are none, with the base alone."""
        answers, _ = self._answer(base, state, questions, max_new_tokens, on_token, history)
        return answers

    def moved(
        self, base: BaseModel, state: State, question: str, max_new_tokens: int = 64
    ) -> tuple[Answer, list[Moved]]:
        """Return an answer with the steps at which the memory changed the token, and the neighbours that changed it."""
        answers, moved = self._answer(base, state, [question], max_new_tokens)
        return answers[0], moved[0]

    @contextmanager
    def adapted(self, base: BaseModel, state: State, text: str) -> Iterator[None]:
        """The base with what came next in the documents that ``text`` is about."""
        about = self._documents_about(base, state, text)
        if not about:
            yield
            return
        positions = positions_of(state, about)
        with base.steered(ReadingSteer(positions, ExactNeighbours(positions.keys_ND), self.config)):
            yield

    def affects(self, base: BaseModel, state: State, text: str) -> bool:
        """Whether ``text`` is about anything in the memory."""
        return bool(self._documents_about(base, state, text))

    def answer_key(self, base: BaseModel, state: State, question: str) -> Hashable | None:
        """The sentences that the question leads to, and their scores."""
        found = self._finder.find(base, state, question)
        return (found.sentences, found.chunks) if found else UNAFFECTED

    def forget(self, base: BaseModel, state: State, document_id: str) -> State:
        """Drop the document's positions and passages."""
        return without_chunks(super().forget(base, state, document_id), document_id)

    def describe(self, base: BaseModel, state: State) -> dict[str, Any]:
        """How much is stored."""
        return {
            "positions": sum(d.details["positions"] for d in state.meta.documents),
            "max_positions": self.config.max_positions,
            "max_kl": self.config.max_kl,
        }

    # -- routing -----------------------------------------------------------------------------------

    def _documents_about(self, base: BaseModel, state: State, text: str) -> list[str]:
        """Return the documents that the text as a whole, or one of its sentences, leads to, in the memory's order."""
        asked = dict.fromkeys([text, *sentences(text)])
        found = [self._finder.find(base, state, part) for part in asked]
        about = {key[0] for one in found if one for key, _, _ in one.chunks}
        return [d.id for d in state.meta.documents if d.id in about]

    def _routed(self, base: BaseModel, state: State, found: Found, room: int) -> Routed:
        chunks = kept_chunks(state)
        numbers = {key[0]: sentence_numbers(chunks[key[0]]) for key, _, _ in found.chunks}
        positions = positions_of(state, list(numbers))
        routes: dict[int, float] = {}
        starts: dict[int, float] = {}
        first = {place: row for row, place in reversed(list(enumerate(positions.places)))}
        for weight, sentence in found.weighted(self.config.sentences):
            place = (sentence.chunk[0], numbers[sentence.chunk[0]][sentence.chunk[1], sentence.number])
            begin, end = first[place], first[place[0], place[1] + 1]
            for row in range(begin, end + 1):  # an answer ends at the state after the sentence
                routes[row] = max(weight, routes.get(row, 0.0))
            words = sentence.text.split()
            spaced = [f" {word}" if n or place[1] else word for n, word in enumerate(words)]
            sizes = [len(base.encode(word)) for word in spaced]
            for number, value in found.starts(words, sizes, room).items():
                row = begin + sum(sizes[:number])
                if row < end:
                    starts[row] = max(weight * value, starts.get(row, 0.0))
        rows = sorted(routes)
        chosen = positions.at(rows)
        routes_N = torch.tensor([routes[row] for row in rows])
        starts_N = torch.tensor([starts.get(row, 0.0) for row in rows])
        return Routed(chosen, ExactNeighbours(chosen.keys_ND), routes_N, starts_N)

    # -- inside ------------------------------------------------------------------------------------

    def _answer(
        self,
        base: BaseModel,
        state: State,
        questions: Sequence[str],
        max_new_tokens: int,
        on_token: TokenCallback | None = None,
        history: Sequence[Message] = (),
    ) -> tuple[list[Answer], list[list[Moved]]]:
        found = [self._finder.find(base, state, question, history) for question in questions]
        about = [(i, one) for i, one in enumerate(found) if one is not None]
        others = [i for i, one in enumerate(found) if one is None]
        answers: dict[int, Answer] = {}
        moved: dict[int, list[Moved]] = {}
        if about:
            asked = [questions[i] for i, _ in about]
            fitted = [fitted_prompt(base, history, question, max_new_tokens) for question in asked]
            routed = [self._routed(base, state, one, max_new_tokens) for _, one in about]
            steer = AnswerSteer(routed, self.config, min(base.stop_ids, default=None))
            prompts, notes = [ids for ids, _ in fitted], [note for _, note in fitted]
            sources = [one.sources() for _, one in about]
            made = generate_answers(base, asked, prompts, max_new_tokens, on_token, notes, sources, steer)
            for (i, _), answer, steps in zip(about, made, steer.moved, strict=True):
                answers[i], moved[i] = answer, steps
        if others:
            made = plain_answers(base, [questions[i] for i in others], max_new_tokens, on_token, history)
            answers.update(zip(others, made, strict=True))
        return [answers[i] for i in range(len(questions))], [moved.get(i, []) for i in range(len(questions))]

    def _with_room(self, base: BaseModel, state: State, count: int) -> tuple[State, tuple[str, ...]]:
        """Return the state without as many of its oldest documents as ``count`` new positions require, and warnings."""
        warnings = []
        while sum(d.details["positions"] for d in state.meta.documents) + count > self.config.max_positions:
            oldest = state.meta.documents[0]
            state = self.forget(base, state, oldest.id)
            limit = self.config.max_positions
            warnings.append(f"{oldest.title or oldest.id} was dropped: the memory is full (max_positions = {limit})")
        return state, tuple(warnings)
