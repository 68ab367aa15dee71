"""Nested learning: a chat whose weights remember, in levels that are each updated at a pace of their own.

After Nested Learning (Behrouz et al. 2025): parameters are ordered by how often they are updated. Level 0 is the
pretrained model, which never changes; level 1 changes with every turn, the others whenever their period of tokens is
over (`learning`). Levels are changes to the MLPs of the last fifth of the blocks; they start at zero (`levels`), so
any supported pretrained model can be given them. The training examples of a turn are question-answer pairs made from
it by rule (`material`, `restate`).

    config.py      the settings
    levels.py      weights of the levels, in place in the base
    optimisers.py  SGD, AdamW, Muon and M3, with a persistent state
    material.py    the training examples of a turn
    learning.py    one turn: which levels are due, and their updates
    memory.py      layout of levels, and of what they wait for, in a state
    export.py      levels as a PEFT adapter, and how far two memories are apart
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, ClassVar

from continual_learning.documents import Document
from continual_learning.errors import DivergedError, MismatchError
from continual_learning.memory.state import DocumentRecord, State
from continual_learning.model.base_model import BaseModel, Message
from continual_learning.model.sampling import sampler
from continual_learning.reading.plain import fitted_prompt, generate_answers
from continual_learning.retrieval.routing import Router, default_rarity, passage_keys
from continual_learning.strategies.base import Cost, Strategy, Variant, plain_report
from continual_learning.strategies.methods.nested.config import ONE_LEVEL, PUBLIC_PROGRAM, SEED, NestedConfig
from continual_learning.strategies.methods.nested.export import level_differences, write_peft
from continual_learning.strategies.methods.nested.learning import TurnReport, learn_turn
from continual_learning.strategies.methods.nested.levels import (
    fast_blocks,
    keeps_transposed,
    levels_in_place,
    new_levels,
)
from continual_learning.strategies.methods.nested.memory import (
    Memory,
    Turn,
    memory_json,
    memory_tensors,
    read_memory,
    turn_keys,
)
from continual_learning.strategies.methods.nested.restate import is_personal
from continual_learning.text.chunking import passages
from continual_learning.training.examples import cut_to_tokens
from continual_learning.types import Answer, LearnReport, Progress, ProgressCallback, QuestionAnswer, TokenCallback

PASSAGE_TOKENS = 120
"""A longer turn or document is learned as several turns of at most this many tokens, each about one mini-batch."""
MAX_TOKENS = 4096
"""Documents longer than this are truncated, with a warning."""
# If one of these changes, what was learned can no longer be read.
_FIXED = ("periods", "weights", "slow_ratio", "embeddings", "optimizers")


class Nested(Strategy[NestedConfig]):
    """Fast and slow weights that learn during a conversation."""

    summary = "fast and slow weights, each updated at a pace of its own (nested learning)"
    Config = NestedConfig
    learns_what_is_said = True
    variants: ClassVar[Mapping[str, Variant]] = {
        # The public program's weights and steps. It learns each turn's words in the chat format; the program itself
        # learns the window of the last messages, including its own, instead of the turn.
        "public": Variant("public settings", PUBLIC_PROGRAM),
        "without_replay": Variant("one level, no replay", {**ONE_LEVEL, "replay": (0.0,)}),
        "one": Variant("one level", ONE_LEVEL),
        "ungated": Variant("several levels, no gate", {"gate": "always"}, takes_options=True),
        "several": Variant("several levels", {}, takes_options=True),
    }
    cost = Cost(
        learn_token=0.1,
        memory_bytes=8.5e6,
        f1={"smollm2-135m": 0.052, "gemma3-270m": 0.077},
        general_kept=0.98,
    )

    def __init__(self, config: NestedConfig):
        super().__init__(config)
        self._router = Router(default_rarity())

    @property
    def token_limit(self) -> int | None:
        """Maximum tokens of a document that are learned."""
        return MAX_TOKENS

    def learn(
        self,
        base: BaseModel,
        state: State,
        document: Document,
        qa: Sequence[QuestionAnswer] = (),
        progress: ProgressCallback | None = None,
    ) -> tuple[State, LearnReport]:
        """Learn a turn, or a document turn by turn. If the loss diverges, the last good weights are restored.

        ``qa`` is not used. Raises MismatchError for a memory that was begun with other levels.
        """
        self.check_settings(state)
        text, tokens, left_out = cut_to_tokens(base, document.text, MAX_TOKENS)
        parts = passages(text, lambda t: len(base.encode(t)), PASSAGE_TOKENS)
        memory = self._memory(base, state)
        earlier = len(memory.turns)
        reports: list[TurnReport] = []
        for number, part in enumerate(parts):
            if progress:
                progress(Progress("learn", number, len(parts), f"turn {number + 1} of {len(parts)}"))
            memory.turns.append(Turn(part, document.title, len(base.encode(part))))
            try:
                seed = f"{SEED}:{document.sha256}:{number}"
                reports.append(learn_turn(base, self.config, memory, seed))
            except DivergedError as error:
                return state, plain_report(document, False, f"not kept: {error}")
        details = {
            "loss_before": sum(r.loss_before for r in reports) / len(reports),
            "loss_after": sum(r.loss_after for r in reports) / len(reports),
            "updates": [asdict(u) for r in reports for u in r.updates],
        }
        record = DocumentRecord.of(document, tokens, details)
        keys = {name: t for name, t in state.tensors.items() if name.endswith(".key")}
        keys |= turn_keys(memory.turns[earlier:], earlier)
        tensors = {**keys, **memory_tensors(memory)}
        texts = {**state.meta.extra.get("texts", {}), document.id: document.text}
        extra = {
            **state.meta.extra,
            "nested": {**memory_json(memory), "transposed": keeps_transposed(base)},
            "texts": texts,
        }
        after = State(tensors, replace(state.meta, documents=(*state.meta.documents, record), extra=extra))
        return after, self._report(document, state, after, tokens, left_out, reports)

    def answer(
        self,
        base: BaseModel,
        state: State,
        questions: Sequence[str],
        max_new_tokens: int = 64,
        on_token: TokenCallback | None = None,
        history: Sequence[Message] = (),
    ) -> list[Answer]:
        """Answer questions that the gate lets through with the levels in place, the others with the base alone."""
        opened = [self._opens(state, question, history) for question in questions]
        answers: dict[int, Answer] = {}
        for with_levels in (True, False):
            chosen = [i for i, found in enumerate(opened) if found == with_levels]
            asked = [questions[i] for i in chosen]
            if not asked:
                continue
            # Training questions have no system prompt; the base's own answers have the one that it came with.
            fitted = [fitted_prompt(base, history, q, max_new_tokens, system=not with_levels) for q in asked]
            prompts, notes = [ids for ids, _ in fitted], [note for _, note in fitted]
            config = self.config
            choose = sampler(config.temperature, config.top_k, config.top_p, f"{SEED}:{asked}")
            with self._in_place(base, state) if with_levels else nullcontext():
                made = generate_answers(base, asked, prompts, max_new_tokens, on_token, notes, choose=choose)
            answers.update(zip(chosen, made, strict=True))
        return [answers[i] for i in range(len(questions))]

    @contextmanager
    def adapted(self, base: BaseModel, state: State, text: str) -> Iterator[None]:
        """The base with the levels, if the gate opens for ``text``."""
        if not self._opens(state, text):
            yield
            return
        with self._in_place(base, state):
            yield

    def affects(self, base: BaseModel, state: State, text: str) -> bool:
        """Whether the gate opens. An answer that is sampled at random is not the base's own either."""
        return self.config.temperature > 0 or self._opens(state, text)

    def involves(self, base: BaseModel, state: State, question: str, history: Sequence[Message] = ()) -> bool:
        """Whether the gate opens; what is sampled without the levels is the base's own."""
        return self._opens(state, question, history)

    def forget(self, base: BaseModel, state: State, document_id: str) -> State:
        """Learn everything else again, in the same order: exact, and as slow as learning it the first time."""
        left = super().forget(base, state, document_id).meta.documents
        texts = state.meta.extra["texts"]
        extra = {name: value for name, value in state.meta.extra.items() if name not in ("nested", "texts")}
        new = State({}, replace(state.meta, documents=(), extra=extra))
        for record in left:
            new, report = self.learn(base, new, Document(texts[record.id], record.title, record.source))
            if not report.accepted:
                raise DivergedError(f"{record.id} could not be learned again without {document_id}: {report.reason}")
        dated = [replace(n, learned_at=o.learned_at) for n, o in zip(new.meta.documents, left, strict=True)]
        return new.with_documents(tuple(dated), new.tensors)

    def describe(self, base: BaseModel, state: State) -> dict[str, Any]:
        """Levels, their blocks and sizes, and what each waits for."""
        memory = self._memory(base, state)
        return {
            "blocks": base.block_count,
            "fast_blocks": list(fast_blocks(base, self.config.slow_ratio)),
            "modified_blocks": list(fast_blocks(base, self.config.slow_ratio)),
            "levels": [
                {
                    "period": self.config.periods[i],
                    "optimizer": self.config.optimizers[i],
                    "parameters": sum(t.numel() for t in level.values()),
                    "updates": memory.updates[i],
                    "waiting_tokens": sum(memory.turns[n].tokens for n in memory.waiting[i]),
                }
                for i, level in enumerate(memory.levels)
            ],
            "turns": len(memory.turns),
        }

    def compare(self, a: State, b: State) -> list[dict[str, Any]]:
        """Return, for each level, distance and cosine of the changes that it makes, and which weights differ most."""
        return level_differences(a, b)

    def changes(self, state: State) -> list[dict[str, Any]]:
        """Return, for each document, the levels it updated, how far these moved, and the loss before and after."""
        texts = state.meta.extra.get("texts", {})
        rows = []
        for record in state.meta.documents:
            updates = record.details.get("updates", [])
            rows.append(
                {
                    "text": texts.get(record.id, record.title),
                    "levels": sorted({u["level"] + 1 for u in updates}),
                    "distance": sum(u["distance"] ** 2 for u in updates) ** 0.5,
                    "loss_before": record.details.get("loss_before"),
                    "loss_after": record.details.get("loss_after"),
                }
            )
        return rows

    def write_peft(self, state: State, folder: Path) -> Path:
        """Write all levels as one adapter, without rounding. It is always in place, since an adapter has no gate."""
        return write_peft(state, folder)

    # -- inside ----------------------------------------------------------------------------------

    @contextmanager
    def _in_place(self, base: BaseModel, state: State) -> Iterator[None]:
        self.check_settings(state)
        memory = self._memory(base, state)
        with levels_in_place(base, self.config, memory.levels):
            yield

    def _memory(self, base: BaseModel, state: State) -> Memory:
        begun = "nested" in state.meta.extra
        return read_memory(state, () if begun else new_levels(base, self.config))

    def _opens(self, state: State, text: str, history: Sequence[Message] = ()) -> bool:
        if not state.meta.documents:
            return False
        if self.config.gate == "always" or is_personal(text):
            return True
        return self._router.route(passage_keys(state), text, history) is not None

    def check_settings(self, state: State) -> None:
        """Raise MismatchError if the memory was begun with other levels."""
        if not state.meta.documents:
            return
        now = self.config.model_dump(mode="json")
        for name in _FIXED:
            begun = state.meta.config.get(name, now[name])
            if begun != now[name]:
                raise MismatchError(
                    f"{name} = {now[name]!r}, but this memory was begun with {begun!r}; "
                    f"leave {name} as it was, or clear the memory"
                )

    def _report(
        self,
        document: Document,
        before: State,
        after: State,
        tokens: int,
        left_out: int,
        reports: Sequence[TurnReport],
    ) -> LearnReport:
        updates = [u for r in reports for u in r.updates]
        if updates:
            levels = ", ".join(str(n + 1) for n in sorted({u.level for u in updates}))
            first, last = reports[0].loss_before, reports[-1].loss_after
            reason = f"learned in level {levels}; loss {first:.2f} to {last:.2f}"
        else:
            waiting = after.meta.extra["nested"]["waiting"][0]
            held = sum(after.meta.extra["nested"]["turns"][i][2] for i in waiting)
            reason = f"kept for later: {held} of the {self.config.periods[0]} tokens that level 1 waits for"
        warnings = []
        if left_out:
            warnings.append(
                f"the last {left_out} of {tokens + left_out} tokens were left out; learn them as another document of "
                f"at most {MAX_TOKENS} tokens"
            )
        grown = len(after.meta.extra["texts"][document.id].encode()) + after.bytes - before.bytes
        return LearnReport(
            accepted=True,
            reason=reason,
            document_id=document.id,
            title=document.title,
            tokens=tokens,
            seconds=0.0,
            bytes=grown,
            tokens_left_out=left_out,
            loss=reports[-1].loss_after,
            warnings=tuple(warnings),
        )
