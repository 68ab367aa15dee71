"""Generator, reflector and curator: one chat model in three roles, in batches, with what each cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from continual_learning.chat_models import ChatModel, ChatReply, ChatRequest, JSONRequest, JSONResult, ask_json
from continual_learning.chat_models.json_constraint import schema_tokens
from continual_learning.chat_models.protocol import Schema
from continual_learning.errors import InputError
from continual_learning.model.chat_template import Message, user
from continual_learning.reading.in_prompt import Excerpt
from continual_learning.retrieval import Relevance
from continual_learning.strategies.methods.ace import prompts
from continual_learning.strategies.methods.ace.config import ACEConfig
from continual_learning.strategies.methods.ace.memory import Task
from continual_learning.strategies.methods.ace.patch import TAGS, Operation
from continual_learning.strategies.methods.ace.playbook import Entry, Origin, Playbook
from continual_learning.strategies.methods.ace.refine import PLAYBOOK_TOKENS, playbook_tokens
from continual_learning.strategies.methods.ace.selection import select
from continual_learning.types import TokenCallback

ANSWER_TOKENS = 24
"""Maximum tokens of an answer while learning: the questions of the benchmarks are answered with fewer."""
INSTRUCTION = "Answer the question with a few words from the passage."
SHOTS = 2
"""Worked examples before a plain answer, as for the strategies that put a passage into the prompt."""
INSIGHT_CHARS = 200
"""Maximum characters of each field of a reflection, and of an entry the curator writes: a sentence or two."""

Lookup = Callable[[str], Sequence[Excerpt]]
"""Returns the excerpts for a question, the best last."""


@dataclass
class Cost:
    """What a role has cost so far."""

    calls: int = 0
    prompt_tokens: int = 0
    tokens: int = 0
    seconds: float = 0.0
    repaired: int = 0
    """Replies whose JSON had to be repaired."""
    retried: int = 0
    """Replies that were asked for again."""
    failed: int = 0
    """Replies that could not be used at all."""

    def add(self, reply: ChatReply) -> None:
        """Count one reply."""
        self.calls += 1
        self.prompt_tokens += reply.prompt_tokens
        self.tokens += reply.tokens
        self.seconds += reply.seconds


@dataclass(frozen=True)
class Attempt:
    """An answer, and what was put before the question."""

    task: Task
    answer: str
    shown: tuple[Entry, ...] = ()
    used: tuple[str, ...] = ()
    """Ids of the entries that it used: those it names, or all that were shown."""
    excerpts: tuple[Excerpt, ...] = ()
    reasoning: str = ""
    tokens: int = 0
    seconds: float = 0.0
    notes: tuple[str, ...] = ()
    error: str = ""
    """Why there is no answer; empty if there is one."""
    probability: float | None = None
    """Geometric mean of the probabilities of what was generated for it, reasoning included; None if not reported."""


@dataclass(frozen=True)
class Reflection:
    """What the reflector concluded from an attempt."""

    insight: str
    tags: tuple[tuple[str, str], ...] = ()
    error: str = ""
    """Why there is no reflection; empty if there is one."""


@dataclass
class Roles:
    """One model in three roles over one set of documents.

    Answers are cached by prompt: at temperature 0 they are the same, and most prompts of a loop are those of the loop
    before.
    """

    model: ChatModel
    config: ACEConfig
    lookup: Lookup
    count_tokens: Callable[[str], int]
    """Counts with the base's tokenizer: budgets of a memory must not depend on which server is used."""
    relevance: Relevance = field(default_factory=Relevance.default)
    costs: dict[str, Cost] = field(default_factory=lambda: {r: Cost() for r in ("generator", "reflector", "curator")})
    answers: dict[Any, ChatReply] = field(default_factory=dict)
    """Replies of the generator by limit and prompt."""

    # -- generator -------------------------------------------------------------------------------

    def generate(self, playbook: Playbook, tasks: Sequence[Task], hints: Sequence[str] = ()) -> list[Attempt]:
        """Answer every question with the playbook's entries for it. ``hints``: a reflection for each, if given."""
        excerpts = [tuple(self.lookup(task.qa.question)) for task in tasks]
        # As for a user: questions that the memory is not about are left to the base alone.
        shown = [
            self.entries(playbook, task.qa.question) if found or self.config.on_server else ()
            for task, found in zip(tasks, excerpts, strict=True)
        ]
        given = list(hints) or [""] * len(tasks)
        return self.attempts(tasks, shown, excerpts, ANSWER_TOKENS, hints=given)

    def entries(self, playbook: Playbook, question: str) -> tuple[Entry, ...]:
        """Return the entries that are put before a question."""
        chosen = select(playbook, question, self.config, self.relevance, self.count_tokens)
        return tuple(entry for entry, _ in chosen)

    def attempts(
        self,
        tasks: Sequence[Task],
        shown: Sequence[tuple[Entry, ...]],
        excerpts: Sequence[tuple[Excerpt, ...]],
        limit: int,
        history: Sequence[Message] = (),
        on_token: TokenCallback | None = None,
        hints: Sequence[str] = (),
    ) -> list[Attempt]:
        """Answer every question from these entries and excerpts, in at most ``limit`` tokens."""
        prepared = [
            self._prepared(task, entries, found, limit, history, hint)
            for task, entries, found, hint in zip(tasks, shown, excerpts, hints or [""] * len(tasks), strict=True)
        ]
        if self.config.generator == "json":
            return self._json_attempts(prepared, limit, on_token)
        requests = [ChatRequest(tuple(p.messages), limit) for p in prepared]
        keys = [(limit, tuple((m["role"], m["content"]) for m in p.messages)) for p in prepared]
        new = {key: request for key, request in zip(keys, requests, strict=True) if key not in self.answers}
        if new or on_token is not None:
            wanted = new or {keys[0]: requests[0]}
            for key, reply in zip(wanted, self.model.complete(list(wanted.values()), on_token), strict=True):
                self.answers[key] = reply
                self.costs["generator"].add(reply)
        made = []
        for p, key in zip(prepared, keys, strict=True):
            reply = self.answers[key]
            used = tuple(e.id for e in p.entries)
            made.append(
                Attempt(
                    p.task,
                    reply.text,
                    p.entries,
                    used,
                    p.excerpts,
                    "",
                    reply.tokens,
                    reply.seconds,
                    p.notes,
                    probability=reply.probability,
                )
            )
        return made

    def _json_attempts(
        self, prepared: Sequence[_Prepared], limit: int, on_token: TokenCallback | None
    ) -> list[Attempt]:
        requests = []
        for p in prepared:
            schema = self._generator_schema(p.entries)
            requests.append(JSONRequest(tuple(p.messages), schema_tokens(schema), schema, _read_answer(p.entries)))
        made = []
        for p, result in zip(prepared, self._asked("generator", requests), strict=True):
            seconds, tokens = sum(r.seconds for r in result.replies), sum(r.tokens for r in result.replies)
            if result.value is None:
                notes = (*p.notes, f"the model gave no answer in JSON: {result.error}")
                made.append(Attempt(p.task, "", p.entries, (), p.excerpts, "", tokens, seconds, notes, result.error))
                continue
            reasoning, used, text = result.value
            if on_token is not None:
                on_token(text)
            probability = result.replies[-1].probability  # the reply that was valid JSON
            made.append(
                Attempt(
                    p.task,
                    text,
                    p.entries,
                    used,
                    p.excerpts,
                    reasoning,
                    tokens,
                    seconds,
                    p.notes,
                    probability=probability,
                )
            )
        return made

    def _prepared(
        self,
        task: Task,
        entries: tuple[Entry, ...],
        excerpts: tuple[Excerpt, ...],
        limit: int,
        history: Sequence[Message],
        hint: str,
    ) -> _Prepared:
        """Return a prompt that fits; what goes first are examples, then oldest turns, last entries, first excerpts."""
        config, question = self.config, task.qa.question
        json_wanted = config.generator == "json"
        instruction = INSTRUCTION if excerpts or entries else ""
        shots = 0 if json_wanted or not instruction else SHOTS
        for turns, held, read, examples in _leaner(list(history), entries, excerpts, shots):
            turn = prompts.generator_turn(instruction, held, read, question, json_wanted)
            turn = f"{turn}\n\nHint: {hint}" if hint else turn
            if json_wanted:
                schema = self._generator_schema(held)
                turn, limit = prompts.with_schema(turn, schema, config.on_server), schema_tokens(schema)
            messages = [*prompts.example_turns(instruction, examples), *turns, user(turn)]
            if self.model.count_tokens(messages) + limit <= self.model.window:
                notes = []
                if len(turns) < len(history):
                    notes.append(
                        f"the oldest {len(history) - len(turns)} turns did not fit into the window of "
                        f"{self.model.window} tokens"
                    )
                if len(read) < len(excerpts):
                    left = len(excerpts) - len(read)
                    notes.append(f"{left} of {len(excerpts)} excerpts did not fit into the window")
                return _Prepared(task, messages, held, read, tuple(notes))
        needed = self.model.count_tokens([user(question)]) + limit
        raise InputError(
            f"the question and its answer take {needed} tokens and more; expected at most the window of "
            f"{self.model.window}; shorten the question"
        )

    def _generator_schema(self, entries: Sequence[Entry]) -> Schema:
        return prompts.generator_schema([e.id for e in entries], INSIGHT_CHARS)

    # -- reflector -------------------------------------------------------------------------------

    def reflect(self, attempts: Sequence[Attempt]) -> list[Reflection]:
        """Say what to do better for each attempt. The right answer is shown only if the attempt's task has one."""
        requests = []
        for attempt in attempts:
            used = tuple(e for e in attempt.shown if e.id in attempt.used)
            schema = prompts.reflector_schema(self._fields, [e.id for e in used], INSIGHT_CHARS)
            truth = attempt.task.qa.answers[0] if attempt.task.labelled else None
            requests.append(self._fitted(_ReflectorTurn(attempt, truth, used), schema, _read_reflection(used)))
        results = self._asked("reflector", requests)
        return [r.value if r.value is not None else Reflection("", error=r.error) for r in results]

    @property
    def _fields(self) -> tuple[str, ...]:
        return prompts.FULL_REFLECTION if self.config.on_server else prompts.BRIEF_REFLECTION

    # -- curator ---------------------------------------------------------------------------------

    def curate(
        self, playbook: Playbook, insights: Sequence[tuple[Attempt, str]], loop: int
    ) -> list[tuple[tuple[Operation, ...], str]]:
        """Return, for each insight, the operations that put it into the playbook, or why there are none."""
        size = playbook_tokens(playbook, self.count_tokens)
        statistics = (
            f"{len(playbook)} of at most {self.config.max_strategies} entries, {size} of at most "
            f"{PLAYBOOK_TOKENS} tokens"
        )
        requests = []
        for attempt, insight in insights:
            question = attempt.task.qa.question
            near = self.entries(playbook, question)
            every = tuple(playbook.entries.values()) if self.config.on_server else near
            origin = Origin(attempt.task.document, question, loop)
            for shown in (every, near, ()):
                schema = prompts.curator_schema([e.id for e in shown], INSIGHT_CHARS)
                turn = prompts.curator_turn(question, insight, shown, statistics)
                messages = (user(prompts.with_schema(turn, schema, self.config.on_server)),)
                request = JSONRequest(messages, schema_tokens(schema), schema, _read_operations(origin))
                if self.model.count_tokens(messages) + request.max_new_tokens <= self.model.window:
                    break
            requests.append(request)
        results = self._asked("curator", requests)
        return [(r.value, "") if r.value is not None else ((), r.error) for r in results]

    # -- inside ----------------------------------------------------------------------------------

    def _fitted(
        self, turn: _ReflectorTurn, schema: Schema, read: Callable[[Any], Reflection]
    ) -> JSONRequest[Reflection]:
        """Return the request that fits: with all excerpts, the nearest, or none."""
        limit = schema_tokens(schema)
        excerpts = turn.attempt.excerpts
        for kept in (excerpts, excerpts[-1:], ()):
            text = prompts.with_schema(turn.text(kept), schema, self.config.on_server)
            messages = (user(text),)
            if self.model.count_tokens(messages) + limit <= self.model.window:
                break
        return JSONRequest(messages, limit, schema, read)

    def _asked(self, role: str, requests: Sequence[JSONRequest[Any]]) -> list[JSONResult[Any]]:
        """Ask for JSON and count what it cost. A request that does not fit into the window fails on its own."""
        window = self.model.window
        sizes = [self.model.count_tokens(r.messages) + r.max_new_tokens for r in requests]
        fits = [r for r, size in zip(requests, sizes, strict=True) if size <= window]
        results = iter(ask_json(self.model, fits) if fits else ())
        found: list[JSONResult[Any]] = []
        cost = self.costs[role]
        for size in sizes:
            if size <= window:
                result = next(results)
            else:
                result = JSONResult(None, f"prompt and reply take {size} tokens; the window has {window}", ())
            for reply in result.replies:
                cost.add(reply)
            cost.retried += max(0, len(result.replies) - 1)
            cost.repaired += result.repaired
            cost.failed += bool(result.error)
            found.append(result)
        return found


@dataclass(frozen=True)
class _Prepared:
    task: Task
    messages: list[Message]
    entries: tuple[Entry, ...]
    excerpts: tuple[Excerpt, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _ReflectorTurn:
    attempt: Attempt
    truth: str | None
    used: tuple[Entry, ...]

    def text(self, excerpts: Sequence[Excerpt]) -> str:
        question = self.attempt.task.qa.question
        return prompts.reflector_turn(
            question, self.attempt.answer, self.attempt.reasoning, self.truth, self.used, excerpts
        )


def _leaner(
    turns: list[Message], entries: tuple[Entry, ...], excerpts: tuple[Excerpt, ...], shots: int
) -> Iterator[tuple[list[Message], tuple[Entry, ...], tuple[Excerpt, ...], int]]:
    """Yield what may be in a prompt, from everything to nothing."""
    yield turns, entries, excerpts, shots
    while shots:
        shots -= 1
        yield turns, entries, excerpts, shots
    while turns:
        turns = turns[1:]
        yield turns, entries, excerpts, 0
    while entries:
        entries = entries[:-1]
        yield turns, entries, excerpts, 0
    while excerpts:
        excerpts = excerpts[1:]
        yield turns, entries, excerpts, 0


def _read_answer(entries: Sequence[Entry]) -> Callable[[Any], tuple[str, tuple[str, ...], str]]:
    ids = {e.id for e in entries}

    def read(data: Any) -> tuple[str, tuple[str, ...], str]:
        text = _string(data, "final_answer")
        if not text:
            raise ValueError("final_answer is empty")
        used = _list(data, "bullet_ids") if ids else []
        return _string(data, "reasoning"), tuple(dict.fromkeys(i for i in used if i in ids)), text

    return read


def _read_reflection(entries: Sequence[Entry]) -> Callable[[Any], Reflection]:
    ids = {e.id for e in entries}

    def read(data: Any) -> Reflection:
        insight = _string(data, "key_insight")
        if not insight:
            raise ValueError("key_insight is empty")
        tags: dict[str, str] = {}
        for item in _list(data, "bullet_tags") if ids else []:
            entry, tag = _string(item, "id"), _string(item, "tag")
            if tag not in TAGS:
                raise ValueError(f"tag {tag!r}; expected one of {', '.join(TAGS)}")
            if entry in ids:
                tags.setdefault(entry, tag)
        return Reflection(insight, tuple(tags.items()))

    return read


def _read_operations(origin: Origin) -> Callable[[Any], tuple[Operation, ...]]:
    def read(data: Any) -> tuple[Operation, ...]:
        found = []
        for item in _list(data, "operations"):
            kind = _string(item, "type").upper()
            ids = tuple(str(i) for i in item["ids"]) if isinstance(item.get("ids"), list) else ()
            if not ids and item.get("id") and kind != "ADD":
                ids = (str(item["id"]),)
            section, content = str(item.get("section") or ""), str(item.get("content") or "")
            found.append(Operation(kind, ids, section, content, str(item.get("tag") or ""), origin))
        return tuple(found)

    return read


def _string(data: Any, name: str) -> str:
    value = data.get(name) if isinstance(data, dict) else None
    if not isinstance(value, str):
        raise ValueError(f"field {name!r} is missing or no string")
    return value.strip()


def _list(data: Any, name: str) -> list[Any]:
    value = data.get(name) if isinstance(data, dict) else None
    if not isinstance(value, list):
        raise ValueError(f"field {name!r} is missing or no list")
    return value
