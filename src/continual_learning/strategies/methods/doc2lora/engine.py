"""Doc2LoRAEngine: Doc-to-LoRA on any causal language model, without a store, in the form users of the method know.

engine = Doc2LoRAEngine(model=model, tokenizer=tokenizer, mode="doc", hypernetwork="SakanaAI/doc-to-lora")
engine.learn(text)
engine.generate("What does the text say?")
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from continual_learning.documents import Document
from continual_learning.errors import ConfigError, UnknownNameError
from continual_learning.model.base_model import BaseModel
from continual_learning.reading.plain import plain_answers
from continual_learning.strategies.methods.doc2lora.adapter import adapter_bytes, export_peft, in_place, installed
from continual_learning.strategies.methods.doc2lora.generated_lora import Adapter
from continual_learning.strategies.methods.doc2lora.generators import (
    MODES,
    SIMULATED,
    AdapterGenerator,
    DescriptionGenerator,
    DocumentGenerator,
    Internalised,
    Mode,
    make_generator,
)
from continual_learning.strategies.methods.doc2lora.network import DocumentHypernetwork
from continual_learning.strategies.methods.doc2lora.text_to_lora import TextToLoRA
from continual_learning.types import Answer, LearnReport

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class EngineDocument:
    """One text that the engine holds."""

    id: str
    title: str
    mode: Mode
    """The mode it was learned in."""
    tokens: int
    """Number of tokens, counted by the model's tokenizer."""
    chunks: int
    rank: int
    """Rank of its change to each matrix."""


class Doc2LoRAEngine:
    """Turns texts into LoRA adapters in one pass, and answers with all of them in place.

    The model is put into eval mode and its parameters no longer require gradients; its weights are never written to.
    What is learned lives in this object; `export` writes it for PEFT. Not thread-safe.
    """

    def __init__(
        self,
        model: PreTrainedModel | BaseModel | str,
        tokenizer: PreTrainedTokenizerBase | None = None,
        mode: Mode = "doc",
        hypernetwork: str | Path | DocumentHypernetwork | TextToLoRA | None = None,
        chunk_tokens: int = 1024,
        seed: int = 0,
    ):
        """Take a loaded ``model`` with its ``tokenizer``, or what `BaseModel.load` takes.

        ``hypernetwork`` is a loaded one, a file, a folder or a name on the hub; None: the published one for this model,
        if there is one. It is looked up when something is learned. ``chunk_tokens`` is the maximum number of document
        tokens read at a time; ``seed`` seeds the weights of the simulated mode. Raises ConfigError for an unknown mode,
        a chunk length below 1 or a model without a tokenizer, and whatever `BaseModel` raises.
        """
        if chunk_tokens < 1:
            raise ConfigError(f"chunk_tokens = {chunk_tokens}; expected at least 1")
        self.base = _base(model, tokenizer)
        self.chunk_tokens = chunk_tokens
        self._hypernetwork = hypernetwork
        self._seed = seed
        self._learned: dict[str, tuple[EngineDocument, Internalised]] = {}
        self._generator: AdapterGenerator | None = None
        self.set_mode(mode)

    def set_mode(self, mode: Mode) -> None:
        """Choose how the next texts are learned: ``doc``, ``text`` or ``simulated``. What was learned before stays."""
        if mode not in MODES:
            raise ConfigError(f"mode {mode!r}; expected one of {', '.join(MODES)}")
        self.mode: Mode = mode
        self._generator = None

    def learn(self, text: str, title: str = "") -> LearnReport:
        """Learn a text: a document, or in mode text the description of a task.

        Anything the user should know, such as that a text is longer than those the hypernetwork was trained on, is in
        the report's ``warnings`` and is also issued as Python warnings. A text that is already held is refused. Raises
        ModelNotFoundError if there is no trained hypernetwork, ModelError or MismatchError if it cannot be used,
        DocumentError for a text without words.
        """
        started = time.perf_counter()
        document = Document(text, title)
        if document.id in self._learned:
            reason = "this engine holds the document already"
            return LearnReport(False, reason, document.id, title, 0, time.perf_counter() - started, 0)
        made = self._made().internalise(self.base, document.text)
        rank = max(low_rank.rank for low_rank in made.adapter.values())
        record = EngineDocument(document.id, title, self.mode, made.tokens, made.chunks, rank)
        self._learned[document.id] = (record, made)
        notes = (*made.warnings, *([SIMULATED] if self.mode == "simulated" else []))
        for note in notes:
            warnings.warn(note, UserWarning, stacklevel=2)
        return LearnReport(
            accepted=True,
            reason=SIMULATED if self.mode == "simulated" else f"learned as LoRA of rank {rank}; not checked",
            document_id=document.id,
            title=title,
            tokens=made.tokens,
            seconds=time.perf_counter() - started,
            bytes=adapter_bytes(made.whole),
            warnings=notes,
        )

    def generate(self, question: str, max_new_tokens: int = 64) -> str:
        """Return the greedy answer with everything learned in place. Warns if any of that is simulated."""
        answer = self.answer(question, max_new_tokens)
        for note in answer.notes:
            warnings.warn(note, UserWarning, stacklevel=2)
        return answer.text

    def answer(self, question: str, max_new_tokens: int = 64) -> Answer:
        """As `generate`, and return tokens, seconds and notes too."""
        with self.installed():
            [answer] = plain_answers(self.base, [question], max_new_tokens)
        simulated = (SIMULATED,) if any(d.mode == "simulated" for d in self.documents) else ()
        return replace(answer, notes=(*answer.notes, *simulated), origin="memory" if self.documents else "model")

    @contextmanager
    def installed(self) -> Iterator[BaseModel]:
        """Yield the base with everything learned in place, for direct calls of ``base.model``."""
        with installed(self.base, self.adapter):
            yield self.base

    @property
    def adapter(self) -> Adapter:
        """The sum of everything learned; empty at first."""
        return in_place([(made.adapter, made.common) for _, made in self._learned.values()])

    @property
    def documents(self) -> tuple[EngineDocument, ...]:
        """Everything learned, in order."""
        return tuple(document for document, _ in self._learned.values())

    def remove(self, document_id: str) -> None:
        """Remove a document as if it had never been learned. Raises UnknownNameError if it is not there."""
        if document_id not in self._learned:
            known = ", ".join(self._learned) or "none"
            raise UnknownNameError(f"no document {document_id!r} in this engine; it holds: {known}")
        del self._learned[document_id]

    def clear(self) -> None:
        """Forget everything."""
        self._learned.clear()

    def export(self, folder: str | Path) -> Path:
        """Write everything learned as a PEFT adapter. Raises InputError if nothing has been learned."""
        return export_peft(self.base, self.adapter, folder)

    def _made(self) -> AdapterGenerator:
        if self._generator is None:
            self._generator = self._make()
        return self._generator

    def _make(self) -> AdapterGenerator:
        given = self._hypernetwork
        if self.mode == "simulated" or given is None or isinstance(given, str | Path):
            source = str(given) if isinstance(given, str | Path) else None
            return make_generator(self.base, self.mode, source, self.chunk_tokens, self._seed)
        if self.mode == "doc" and isinstance(given, DocumentHypernetwork):
            return DocumentGenerator(self.base, given.to(self.base.device), self.chunk_tokens)
        if self.mode == "text" and isinstance(given, TextToLoRA):
            return DescriptionGenerator(self.base, given.to(self.base.device))
        raise ConfigError(
            f"mode {self.mode!r} with a {type(given).__name__}; expected a Hypernetwork for doc, a TextToLoRA for text"
        )


def _base(model: PreTrainedModel | BaseModel | str, tokenizer: PreTrainedTokenizerBase | None) -> BaseModel:
    if isinstance(model, BaseModel):
        return model
    if isinstance(model, str):
        return BaseModel.load(model)
    if tokenizer is None:
        raise ConfigError(
            f"a {type(model).__name__} without a tokenizer; expected Doc2LoRAEngine(model=…, tokenizer=…)"
        )
    return BaseModel(str(model.config.name_or_path or type(model).__name__), model, tokenizer)
