"""The prompts of the three roles, and the JSON that each must answer with.

Messages follow the reference (ace-agent/ace): generator out: reasoning, bullet_ids, final_answer; reflector out:
reasoning, error_identification, root_cause_analysis, correct_approach, key_insight, bullet_tags; curator out:
operations. A brief reflection is the insight and the tags alone, for models too small to fill the rest.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from continual_learning.chat_models.protocol import Schema
from continual_learning.model.chat_template import Message, user
from continual_learning.reading.in_prompt import EXAMPLES, Excerpt
from continual_learning.reading.passage_block import passage_block
from continual_learning.strategies.methods.ace.patch import TAGS
from continual_learning.strategies.methods.ace.playbook import SECTIONS, Entry

FULL_REFLECTION = ("reasoning", "error_identification", "root_cause_analysis", "correct_approach", "key_insight")
BRIEF_REFLECTION = ("key_insight",)
_ANSWER_CHARS = 160
_MOST_OPERATIONS = 2


def generator_turn(
    instruction: str, entries: Sequence[Entry], excerpts: Sequence[Excerpt], question: str, with_ids: bool = False
) -> str:
    """Return the generator's prompt, with the ids of the entries if it must say which of them it used."""
    lines = [f"[{e.id}] {e.text}" if with_ids else f"- {e.text}" for e in entries]
    strategies = "Strategies:\n" + "\n".join(lines) if lines else ""
    passage = passage_block("\n\n".join(map(str, excerpts)))
    return "\n\n".join(part for part in (instruction, strategies, passage, f"Question: {question}") if part)


def example_turns(instruction: str, shots: int) -> list[Message]:
    """Return worked examples as earlier turns."""
    turns: list[Message] = []
    for example in EXAMPLES[:shots]:
        turns.append(user(generator_turn(instruction, (), [Excerpt(example.passage)], example.question)))
        turns.append({"role": "assistant", "content": example.answer})
    return turns


def generator_schema(ids: Sequence[str], chars: int) -> Schema:
    """Return the schema of reasoning, the entries used, and the answer."""
    fields: dict[str, Any] = {"reasoning": _text(chars)}
    if ids:
        fields["bullet_ids"] = {"type": "array", "items": {"type": "string", "enum": list(ids)}, "maxItems": len(ids)}
    return _object({**fields, "final_answer": _text(_ANSWER_CHARS, 1)})


def reflector_turn(
    question: str, answer: str, reasoning: str, truth: str | None, entries: Sequence[Entry], excerpts: Sequence[Excerpt]
) -> str:
    """Return the reflector's prompt. Without a ``truth`` it only says that none is known."""
    known = f"Right answer: {truth}" if truth is not None else "The right answer is not known."
    parts = [
        "Look at how a question was answered, and say what to do better next time.",
        passage_block("\n\n".join(map(str, excerpts))),
        f"Question: {question}",
        f"Reasoning: {reasoning}" if reasoning else "",
        f"Answer given: {answer or '(none)'}",
        known,
        "Strategies that were used:\n" + "\n".join(f"[{e.id}] {e.text}" for e in entries) if entries else "",
        "Write key_insight: one short rule that would lead to the right answer to questions like this one."
        + (" Tag each strategy that was used as helpful, harmful or neutral." if entries else ""),
    ]
    return "\n\n".join(part for part in parts if part)


def reflector_schema(fields: Sequence[str], ids: Sequence[str], chars: int) -> Schema:
    """Return the schema of a reflection's fields, and a tag for each entry used."""
    shape: dict[str, Any] = {name: _text(chars, 1 if name == "key_insight" else 0) for name in fields}
    if ids:
        item = _object({"id": {"type": "string", "enum": list(ids)}, "tag": {"type": "string", "enum": list(TAGS)}})
        shape["bullet_tags"] = {"type": "array", "items": item, "maxItems": len(ids)}
    return _object(shape)


def curator_turn(question: str, insight: str, entries: Sequence[Entry], statistics: str) -> str:
    """Return the curator's prompt."""
    shown = "\n".join(f"[{e.id}] ({e.section}) helpful={e.helpful} harmful={e.harmful} :: {e.text}" for e in entries)
    parts = [
        "You keep a playbook of short strategies for answering questions. Change it as little as possible: add what "
        "is new, update or merge what says nearly the same, remove what is wrong.",
        f"Playbook ({statistics}):\n{shown or '(no entry on this)'}",
        f"New insight: {insight}",
        f"It came from the question: {question}",
        "Write the operations.",
    ]
    return "\n\n".join(parts)


def curator_schema(ids: Sequence[str], chars: int) -> Schema:
    """Return the schema of operations on the entries shown, each with all the fields that it needs."""
    content = _text(chars, 1)
    one = {"type": "string", "enum": list(ids)}
    kinds = [_operation("ADD", section={"type": "string", "enum": list(SECTIONS)}, content=content)]
    if ids:
        kinds += [_operation("UPDATE", id=one, content=content), _operation("REMOVE", id=one)]
    if len(ids) > 1:
        several = {"type": "array", "items": one, "minItems": 2, "maxItems": len(ids)}
        kinds.append(_operation("MERGE", ids=several, content=content))
    items = kinds[0] if len(kinds) == 1 else {"anyOf": kinds}
    return _object({"operations": {"type": "array", "items": items, "maxItems": _MOST_OPERATIONS}})


def with_schema(turn: str, schema: Schema, in_full: bool) -> str:
    """Return the turn with the format of the reply: the full schema for a server, its fields if it is enforced."""
    if in_full:
        return f"{turn}\n\nReply with JSON of this schema, and nothing else:\n{json.dumps(schema)}"
    return f"{turn}\n\nReply with JSON: {', '.join(schema['properties'])}."


def _operation(kind: str, **fields: Any) -> dict[str, Any]:
    return _object({"type": {"type": "string", "enum": [kind]}, **fields})


def _object(fields: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": fields, "required": list(fields), "additionalProperties": False}


def _text(most: int, least: int = 0) -> dict[str, Any]:
    return {"type": "string", "minLength": least, "maxLength": most}
