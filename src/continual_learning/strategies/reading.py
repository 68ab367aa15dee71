"""Strategies that read a text for an answer: the base class of those that keep texts or recite them.

a question about a whole document, a list, a count, yes or no, or two facts    `reading.wholes`, from the `library`
any other                                                                      the strategy's own `answer_spans`
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

from continual_learning.memory.state import State
from continual_learning.model.base_model import BaseModel, Message
from continual_learning.reading.answering import ReaderConfig, chosen_reader
from continual_learning.reading.wholes.answering import answers, splits, takes
from continual_learning.reading.wholes.library import Library
from continual_learning.retrieval.relevance import holds_much
from continual_learning.strategies.base import Strategy
from continual_learning.types import UNAFFECTED, Answer, TokenCallback

ReaderConfigT = TypeVar("ReaderConfigT", bound=ReaderConfig)


class ReadingStrategy(Strategy[ReaderConfigT]):
    """A strategy whose answers are read. Its settings have ``reader``; with None, nothing here is in effect."""

    @abstractmethod
    def library(self, base: BaseModel, state: State) -> Library | None:
        """The documents as whole texts; None without a reader."""

    @abstractmethod
    def answer_spans(
        self,
        base: BaseModel,
        state: State,
        questions: Sequence[str],
        max_new_tokens: int,
        on_token: TokenCallback | None = None,
        history: Sequence[Message] = (),
    ) -> list[Answer]:
        """Answer every question, in order, from what its words find, or with the base; as `answer` otherwise."""

    @abstractmethod
    def finds(self, base: BaseModel, state: State, text: str) -> bool:
        """Whether the words of ``text`` find anything to read."""

    def span_key(self, base: BaseModel, state: State, question: str) -> Hashable | None:
        """`answer_key` of what `answer_spans` answers."""
        return None if self.finds(base, state, question) else UNAFFECTED

    @property
    def reads(self) -> bool:
        """Whether the settings name a reader."""
        return self.config.reader is not None

    def measured_f1(self, base: BaseModel) -> Mapping[str, float]:
        """The F1 with a reader if ``base`` has one, else that of reading in the prompt."""
        return self.cost.f1 if chosen_reader(base, self.config) else self.cost.f1_without_reader

    def answer(
        self,
        base: BaseModel,
        state: State,
        questions: Sequence[str],
        max_new_tokens: int = 64,
        on_token: TokenCallback | None = None,
        history: Sequence[Message] = (),
    ) -> list[Answer]:
        """Answer every question, in order: from the library, or by `answer_spans`."""

        def spans(questions: Sequence[str], on_token: TokenCallback | None, history: Sequence[Message]) -> list[Answer]:
            return self.answer_spans(base, state, questions, max_new_tokens, on_token, history)

        library = self.library(base, state)
        if library is None:
            return spans(questions, on_token, history)
        return answers(base, library, questions, spans, max_new_tokens, on_token, history)

    def affects(self, base: BaseModel, state: State, text: str) -> bool:
        """Whether the words of ``text`` find anything to read, or it is answered from the library."""
        if self.finds(base, state, text):
            return True
        library = self.library(base, state)
        return library is not None and takes(library, text)

    def answer_key(self, base: BaseModel, state: State, question: str) -> Hashable | None:
        """The key of what `answer_spans` reads; nothing is known about an answer from the library."""
        library = self.library(base, state)
        if library is not None and (splits(question) or takes(library, question)):
            return None
        found = self.span_key(base, state, question)
        # among many documents what is read may be left alone (`reading.answering`)
        many = self.reads and holds_much(state)
        return ("among many", found) if many and found is not None and found != UNAFFECTED else found
