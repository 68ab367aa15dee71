"""Doc-to-LoRA: a hypernetwork reads a document and writes a LoRA adapter, in one pass and without training.

    h = activations of the frozen base on a chunk of the document
    (A, B) = hypernetwork(h)      W' = W + multiplier * sum over chunks and documents of B^T A

Charakorn et al. 2026, arXiv 2602.15902. Each document has its own matrices, and those of several documents add up,
so forgetting a document means deleting its matrices. The method's published weakness is that an internalised document
also disturbs unrelated answers. Here the words of a question select the documents whose adapters are put in place
(`routing`), and a question about none of them is answered by the unchanged base. In mode text the document is the
description of a task (Text-to-LoRA, arXiv 2506.06105) that applies to every question: it has no routing keys and is
always in place, and its results come with controls. Mode simulated tries out the steps with random weights. It runs
only when asked for, and every report and answer says so.

    config.py        sizes of a hypernetwork, and the base it was made for
    hypernetwork.py  activations of a document in, LoRA matrices out (the published Perceiver)
    linear.py        the same with linear maps and keys: the generator that ships with the package
    checkpoint.py    checkpoint files: the published format, read without executing it, and safetensors
    hub.py           where the published hypernetworks are
    context.py       a document as chunks of tokens, and the base's activations on them
    adapter.py       LoRA on the base through PEFT, installed and exported
    text_to_lora.py  the same from the description of a task (Text-to-LoRA)
    controls.py      whether that description matters
    generators.py    the modes doc, text and simulated behind one function
    engine.py        the class for users: learn, generate, clear, export
    training/        training a hypernetwork
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from pydantic import Field, StrictBool, model_validator
from torch import Tensor

from continual_learning.documents import Document
from continual_learning.io.files import storage_errors
from continual_learning.memory.state import DocumentRecord, State
from continual_learning.model.base_model import BaseModel, Message
from continual_learning.model.published_names import adapter_metadata
from continual_learning.options import StrategyConfig
from continual_learning.reading.plain import plain_answers
from continual_learning.retrieval.routing import (
    ROUTE_EVIDENCE,
    ROUTE_THRESHOLD,
    Router,
    answer_by_route,
    default_rarity,
    document_titles,
    key_tensors,
    passage_keys,
)
from continual_learning.strategies.base import Cost, Strategy, plain_report
from continual_learning.strategies.gate import LIMITS, guarded
from continual_learning.strategies.methods.doc2lora.adapter import (
    in_place,
    installed,
    module_path,
    transposed,
    write_peft_files,
)
from continual_learning.strategies.methods.doc2lora.controls import description_controls
from continual_learning.strategies.methods.doc2lora.generated_lora import Adapter, LowRank, Place, concatenated
from continual_learning.strategies.methods.doc2lora.generators import (
    SIMULATED,
    AdapterGenerator,
    Internalised,
    Mode,
    make_generator,
    missing,
)
from continual_learning.text.chunking import passages
from continual_learning.types import (
    UNAFFECTED,
    Answer,
    LearnReport,
    Progress,
    ProgressCallback,
    QuestionAnswer,
    Source,
    TokenCallback,
)

_COMMON = "common/"  # name prefix of what a hypernetwork adds once, however many documents it wrote adapters for
_NETWORK = "network"  # key in a document's details: the part of the state that it shares with others of its network
_PASSAGE_TOKENS = 200  # of a passage with its own key: a single key for a long document would match any question
_SEED = 0  # for simulated weights and random descriptions, so that the same memory results each time


class Doc2LoRAConfig(StrategyConfig):
    """Settings of the doc2lora strategy."""

    mode: Mode = "doc"
    """doc: learns documents; text: learns task descriptions; simulated: random weights, only to try out the steps."""
    simulated: StrictBool = False
    """True selects mode simulated, whatever `mode` says."""
    base_model: str | None = Field(None, min_length=1)
    """Base model for new memories of this strategy, overriding `model.name`. None: `model.name`."""
    hypernetwork: str | None = None
    """File, folder or hub name of the hypernetwork. None: the one that ships for the base, else the one that `model
    prepare` made, else its published one."""
    lora_rank: int | None = Field(None, ge=1)
    """Rank the hypernetwork must give each chunk, checked on loading; for a simulated one, its rank. None: any."""
    chunk_tokens: int = Field(1024, ge=1)
    """Maximum number of document tokens read at a time; longer documents are cut into equal chunks."""
    routing: bool = True
    """Put a document's adapter in place only for questions about it; otherwise, put all in place for every question."""
    guard: bool = True
    """Check after learning, and keep the previous memory if a limit is exceeded."""

    RETIRED: ClassVar[Mapping[str, object]] = {
        "seed": _SEED,
        "control": "none",
        "route_threshold": ROUTE_THRESHOLD,
        "route_evidence": ROUTE_EVIDENCE,
        "open_documents": 1,
        "min_recall_gain": LIMITS.min_recall_gain,
        "max_perplexity_rise": LIMITS.max_perplexity_rise,
        "min_general_kept": LIMITS.min_general_kept,
    }
    """Retired options that older memories may carry, each with the value that matches what the strategy does now."""

    @model_validator(mode="before")
    @classmethod
    def _either_name_simulates(cls, given: dict[str, Any]) -> dict[str, Any]:
        if given.get("simulated") is True or given.get("mode") == "simulated":
            return {**given, "mode": "simulated", "simulated": True}
        return given


class Doc2LoRA(Strategy[Doc2LoRAConfig]):
    """Keeps one adapter per document; the words of a question decide which are used."""

    summary = "a hypernetwork writes documents into LoRA adapters in one pass (Doc-to-LoRA)"
    Config = Doc2LoRAConfig
    cost = Cost(
        learn_token=0.02,
        document_bytes=1.8e6,
        memory_bytes=6.1e6,
        keeps_text=False,
        f1={"smollm2-135m": 0.146, "gemma3-270m": 0.082},
    )

    def __init__(self, config: Doc2LoRAConfig):
        super().__init__(config)
        self._router = Router(default_rarity())

    def learn(
        self,
        base: BaseModel,
        state: State,
        document: Document,
        qa: Sequence[QuestionAnswer] = (),
        progress: ProgressCallback | None = None,
    ) -> tuple[State, LearnReport]:
        """Internalise the document, check the result, and keep it or reject it.

        The document is refused if there is no hypernetwork for this base. Raises ModelNotFoundError, ModelError and
        MismatchError if the configured hypernetwork cannot be fetched, read or used with this base.
        """
        started = time.perf_counter()
        config = self.config
        if reason := missing(base.name, config.mode, config.hypernetwork, base.fingerprint):
            return state, plain_report(document, False, reason)
        generator = make_generator(base, config.mode, config.hypernetwork, config.chunk_tokens, _SEED, config.lora_rank)

        def on_chunk(done: int, total: int) -> None:
            if progress:
                progress(Progress("internalise", done, total, f"chunk {done}/{total}"))

        text = f"{document.title}\n{document.text}" if document.title and config.mode != "text" else document.text
        made = generator.internalise(base, text, on_chunk)
        warnings, details = self._findings(base, generator, document, made, qa)
        tensors, network = _tensors(document, made)
        if network:
            details[_NETWORK] = network
        if config.mode != "text":
            parts = passages(document.text, lambda t: len(base.encode(t)), _PASSAGE_TOKENS)
            tensors |= key_tensors(document.id, document.title, parts)
        report = LearnReport(
            accepted=True,
            reason="learned; not checked, since guard is off",
            document_id=document.id,
            title=document.title,
            tokens=len(base.encode(document.text)),
            seconds=0.0,
            bytes=sum(t.numel() * t.element_size() for name, t in tensors.items() if name not in state.tensors),
            timings={"internalise": time.perf_counter() - started},
            warnings=warnings,
        )
        record = DocumentRecord.of(document, report.tokens, details)
        candidate = state.with_documents((*state.meta.documents, record), {**state.tensors, **tensors})
        if config.guard:
            report = guarded(base, self, state, candidate, report, qa, progress)
        if config.mode == "simulated":
            report = replace(report, reason=f"{SIMULATED}; {report.reason}")
        return (candidate if report.accepted else state), report

    def lacks(self, base: BaseModel) -> str:
        """A hypernetwork, unless the settings name one or there is one for ``base``."""
        return missing(base.name, self.config.mode, self.config.hypernetwork, base.fingerprint) or ""

    def answer(
        self,
        base: BaseModel,
        state: State,
        questions: Sequence[str],
        max_new_tokens: int = 64,
        on_token: TokenCallback | None = None,
        history: Sequence[Message] = (),
    ) -> list[Answer]:
        """Answer each question with the adapters of the documents that it opens, which become the answer's sources."""
        routes = [self._opened(state, question, history) for question in questions]

        def answered(opened: tuple[str, ...], asked: list[str]) -> list[Answer]:
            with installed(base, state_adapter(state, opened)):
                return plain_answers(base, asked, max_new_tokens, on_token, history)

        answers = answer_by_route(questions, [tuple(route) for route in routes], answered)
        titles = document_titles(state)
        notes = (SIMULATED,) if _simulated(state) else ()
        return [
            replace(
                answer,
                sources=tuple(Source(document_id, titles[document_id], score) for document_id, score in route.items()),
                notes=(*answer.notes, *notes),
            )
            for answer, route in zip(answers, routes, strict=True)
        ]

    def forget(self, base: BaseModel, state: State, document_id: str) -> State:
        """Return the state without that document; what a network's documents share goes with the last of them."""
        left = super().forget(base, state, document_id)
        unused = {d.details.get(_NETWORK) for d in state.meta.documents}
        unused -= {d.details.get(_NETWORK) for d in left.meta.documents}
        return State({n: t for n, t in left.tensors.items() if n.partition("/")[0] not in unused}, left.meta)

    @contextmanager
    def adapted(self, base: BaseModel, state: State, text: str) -> Iterator[None]:
        """The base with the adapters that ``text`` opens."""
        with installed(base, state_adapter(state, tuple(self._opened(state, text)))):
            yield

    def affects(self, base: BaseModel, state: State, text: str) -> bool:
        """Whether ``text`` opens an adapter."""
        return bool(self._opened(state, text))

    def answer_key(self, base: BaseModel, state: State, question: str) -> Hashable | None:
        """The documents that the question opens: their adapters never change."""
        return tuple(self._opened(state, question)) or UNAFFECTED

    def describe(self, base: BaseModel, state: State) -> dict[str, Any]:
        """Mode, hypernetwork and the size of what is learned. Loads nothing."""
        adapter = state_adapter(state)
        ranks = [low_rank.rank for low_rank in adapter.values()]
        return {
            "modified_blocks": sorted({block for block, _ in adapter}),
            "mode": self.config.mode,
            "hypernetwork": self.config.hypernetwork,
            "missing": missing(base.name, self.config.mode, self.config.hypernetwork, base.fingerprint),
            "simulated": _simulated(state) or self.config.mode == "simulated",
            "rank": max(ranks, default=0),
            "adapted_matrices": len(ranks),
        }

    def write_peft(self, state: State, folder: Path) -> Path:
        """Write all documents as one adapter. It is always in place, since an adapter has no routing."""
        modules: dict[str, str] = {}
        for record in state.meta.documents:
            modules |= record.details["modules"]
        columns = any(record.details["transposed"] for record in state.meta.documents)
        changes: dict[str, list[LowRank]] = {}
        for place, low_rank in state_adapter(state).items():
            changes.setdefault(modules[_place(place)], []).append(low_rank)
        by_path = {path: concatenated(several) for path, several in changes.items()}
        metadata = adapter_metadata(state.meta.base_name, state.meta.base_fingerprint)
        with storage_errors(f"adapter {folder.name!r}"):
            return write_peft_files(metadata, by_path, columns, folder)

    def _opened(self, state: State, text: str, history: Sequence[Message] = ()) -> dict[str, float]:
        """Return the documents whose adapters ``text`` puts in place, in the order learned, with their coverage of it.

        A task description has no keys and is opened for every text.
        """
        if not self.config.routing:
            return {d.id: 1.0 for d in state.meta.documents}
        keys = passage_keys(state)
        found = {document_id for document_id, _ in keys}
        scores = {d.id: 1.0 for d in state.meta.documents if d.id not in found}
        if route := self._router.route(keys, text, history, document_titles(state)):
            (document_id, _), coverage = route
            scores[document_id] = coverage
        return {d.id: scores[d.id] for d in state.meta.documents if d.id in scores}

    def _findings(
        self,
        base: BaseModel,
        generator: AdapterGenerator,
        document: Document,
        made: Internalised,
        qa: Sequence[QuestionAnswer],
    ) -> tuple[tuple[str, ...], dict[str, Any]]:
        """Return warnings, and the details that the memory records about the document."""
        details: dict[str, Any] = {
            "mode": self.config.mode,
            "hypernetwork": self.config.hypernetwork,
            "chunks": made.chunks,
            "rank": max(low_rank.rank for low_rank in made.adapter.values()),
            "modules": {_place(place): module_path(base, *place) for place in made.whole},
            "transposed": transposed(base, made.whole),
        }
        if self.config.mode != "text":
            return made.warnings, details
        if not qa:
            unknown = "no questions were given: whether the description matters more than random words is not known"
            return (*made.warnings, unknown), details
        controls = description_controls(base, generator, document.text, qa, _SEED)
        return (*made.warnings, controls.summary()), {**details, "controls": controls.to_json()}


def state_adapter(state: State, documents: Sequence[str] | None = None) -> Adapter:
    """Return the sum of these documents' adapters, in the order given; None: of all documents, in the order learned.

    What the documents of one hypernetwork have in common is included once.
    """
    parts = state.parts
    known = {document.id: document.details.get(_NETWORK) for document in state.meta.documents}
    chosen = known if documents is None else documents
    return in_place([_adapters(parts[name], parts.get(known[name] or "", {})) for name in chosen])


def _adapters(own: dict[str, Tensor], network: dict[str, Tensor]) -> tuple[Adapter, Adapter]:
    """Return a document's own adapter, and the adapter that its network adds once."""
    common = {name.removeprefix(_COMMON): tensor for name, tensor in network.items() if name.startswith(_COMMON)}
    return _adapter({**network, **own}), _adapter(common)


def _adapter(tensors: dict[str, Tensor]) -> Adapter:
    adapter: Adapter = {}
    for name, B_RO in tensors.items():
        place, _, half = name.rpartition(".")
        if half == "B" and not place.startswith(_COMMON):
            block, _, module = place.partition(".")
            A_RI = tensors[f"{place}.A"].float()
            # The A of a document with K chunks is its network's own A, repeated K times.
            adapter[int(block), module] = LowRank(A_RI.repeat(len(B_RO) // len(A_RI), 1), B_RO.float())
    return adapter


def _place(place: Place) -> str:
    """Return the name of a place in a state."""
    return f"{place[0]:03d}.{place[1]}"


def _tensors(document: Document, made: Internalised) -> tuple[dict[str, Tensor], str | None]:
    """Return the tensors to keep, and the name of the part that documents of one network share, if they share anything.

    Tensors are kept in fp16: that takes half the memory, and the stored values are exactly those used and exported.
    """
    own = {
        f"{_place(place)}.{half}": matrix
        for place, low_rank in made.adapter.items()
        for half, matrix in zip("AB", low_rank, strict=True)
        if half == "B" or place not in made.basis
    }
    shared = {f"{_place(place)}.A": A_RI for place, A_RI in made.basis.items()} | {
        f"{_COMMON}{_place(place)}.{half}": matrix
        for place, low_rank in made.common.items()
        for half, matrix in zip("AB", low_rank, strict=True)
    }
    if not shared:
        return _kept(document.id, own), None
    mark = hashlib.sha256()
    for name, tensor in sorted(_kept("", shared).items()):
        mark.update(name.encode() + tensor.view(-1).view(torch.uint8).numpy().tobytes())
    name = f"network-{mark.hexdigest()[:16]}"
    return _kept(document.id, own) | _kept(name, shared), name


def _kept(part: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{part}/{n}": t.detach().to("cpu", torch.float16).contiguous() for n, t in tensors.items()}


def _simulated(state: State) -> bool:
    return any(d.details.get("mode") == "simulated" for d in state.meta.documents)
