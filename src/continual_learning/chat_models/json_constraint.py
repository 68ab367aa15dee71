"""Decoding that can only write JSON of a given schema, valid by construction whatever the model's weights are.

A grammar (llguidance) says at every step which tokens may follow, and all others are masked. That alone would leave a
text that is cut at its limit unfinished, so when no more tokens are left than the longest skeleton of the schema
needs, whatever is open is closed: strings and arrays first, and the grammar leaves no choice about the rest.

Shapes: B = rows of a batch, V = vocabulary.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from copy import copy
from typing import TYPE_CHECKING, Any

import llguidance
import numpy as np
import torch
from torch import Tensor

from continual_learning.chat_models.protocol import Schema
from continual_learning.errors import InputError, UnsupportedModelError
from continual_learning.model.logits_processors import Step

if TYPE_CHECKING:
    from continual_learning.model.base_model import BaseModel

# Compact except for the spaces that small models expect; no endless white space, no line breaks in strings.
_STYLE: Any = {
    "item_separator": ", ",
    "key_separator": ": ",
    "whitespace_flexible": False,
    "json_allowed_escapes": '"\\',
}


class JSONConstraint:
    """A logits processor for `generation.generate`: row ``i`` writes JSON of ``schemas[i]``; None is free text.

    Raises UnsupportedModelError for a tokenizer that grammars do not support, ValueError for an invalid schema.
    """

    def __init__(self, base: BaseModel, schemas: Sequence[Schema | None], limits: Sequence[int]):
        """``limits``: the tokens that each row may write. Raises InputError for one too small for its schema."""
        self._base = base
        self._tokenizer = _grammar_tokenizer(base)
        self._rows = [
            None if schema is None else _Row(self._tokenizer, schema, limit)
            for schema, limit in zip(schemas, limits, strict=True)
        ]
        self._closers = [self._token(text) for text in ("]", "}")]
        self._quote = self._token('"')

    def __call__(self, step: Step) -> Tensor:
        """The logits with minus infinity for every token that the schema does not allow next."""
        logits_BV = step.logits_BV
        allowed_BV = torch.ones(logits_BV.shape, dtype=torch.bool)
        for number, (prompt, ids) in enumerate(zip(step.prompts, step.written, strict=True)):
            row = self._rows[prompt]
            if row is not None:
                allowed_BV[number] = self._allowed(row, ids, logits_BV.shape[1])
        return logits_BV.masked_fill(~allowed_BV.to(logits_BV.device), float("-inf"))

    def _allowed(self, row: _Row, ids: Sequence[int], vocabulary: int) -> Tensor:
        row.consume(ids)
        allowed_V = torch.zeros(vocabulary, dtype=torch.bool)
        if row.matcher.is_stopped():
            allowed_V[sorted(self._base.stop_ids)] = True
            return allowed_V
        bias_V = np.frombuffer(row.matcher.compute_logit_bias(), dtype=np.uint8)
        allowed_V[: len(bias_V)] = torch.from_numpy(bias_V > 0)[:vocabulary]
        if len(ids) >= row.limit - row.reserve:
            inside = in_string(self._base.decode(ids))
            for closer in (self._quote,) if inside else self._closers:
                if allowed_V[closer]:
                    only_V = torch.zeros_like(allowed_V)
                    only_V[closer] = True
                    return only_V
        return allowed_V

    def _token(self, text: str) -> int:
        ids = self._tokenizer.tokenize_str(text)
        if len(ids) != 1:
            raise UnsupportedModelError(
                f"the tokenizer of {self._base.name} has no token for {text!r}, which JSON needs"
            )
        return ids[0]


class _Row:
    """The position of one text in its grammar."""

    def __init__(self, tokenizer: Any, schema: Schema, limit: int):
        grammar = llguidance.LLMatcher.grammar_from_json_schema(dict(schema), overrides=_STYLE)
        self.matcher = llguidance.LLMatcher(tokenizer, grammar)
        if self.matcher.is_error():
            raise ValueError(f"not a JSON schema that can be enforced: {self.matcher.get_error().splitlines()[0]}")
        self.reserve = skeleton_tokens(schema)
        self.limit = limit
        if limit <= self.reserve:
            raise InputError(f"{limit} tokens for a JSON reply; expected more than the {self.reserve} of its skeleton")
        self._consumed = 0

    def consume(self, ids: Sequence[int]) -> None:
        """Take note of the tokens written since the last step."""
        for token in ids[self._consumed :]:
            if not self.matcher.consume_token(token):
                raise AssertionError(f"token {token} was allowed and is refused: {self.matcher.get_error()}")
        self._consumed = len(ids)


def skeleton_tokens(schema: Schema) -> int:
    """A number of tokens that is enough for the longest JSON of this schema with its strings as short as allowed.

    A token is at least a byte, so the bytes of that JSON are enough, plus a few for what is open when it begins.
    """
    return len(json.dumps(_skeleton(schema)).encode()) + 8


def _skeleton(schema: Schema) -> Any:
    if "anyOf" in schema:
        return max((_skeleton(one) for one in schema["anyOf"]), key=lambda value: len(json.dumps(value)))
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return max(schema["enum"], key=len)
    kind = schema["type"]
    if kind == "object":
        return {name: _skeleton(value) for name, value in schema["properties"].items()}
    if kind == "array":
        return [_skeleton(schema["items"])] * max(1, schema.get("minItems", 0))
    if kind == "string":
        return "x" * int(schema.get("minLength", 0))
    raise ValueError(f"a schema of type {kind!r}; expected object, array or string")


def in_string(text: str) -> bool:
    """Whether the beginning of a JSON text ends inside a string."""
    inside = escaped = False
    for character in text:
        if escaped:
            escaped = False
        elif character == "\\":
            escaped = inside
        elif character == '"':
            inside = not inside
    return inside


def _grammar_tokenizer(base: BaseModel) -> Any:
    def make() -> Any:
        if not base.tokenizer.is_fast:
            raise UnsupportedModelError(f"the tokenizer of {base.name} takes no grammar: only fast tokenizers do")
        backend = copy(base.tokenizer.backend_tokenizer)
        backend.no_padding()
        backend.no_truncation()
        stops = sorted(base.stop_ids) or None
        return llguidance.LLTokenizer(backend.to_str(), n_vocab=base.vocab_size, eos_token=stops)

    return base.remember("grammar tokenizer", make)


def schema_tokens(schema: Schema) -> int:
    """A limit for replies of this schema: its skeleton, and a token for every three characters of content."""
    return skeleton_tokens(schema) + _characters(schema) // 3


def _characters(schema: Schema) -> int:
    if "anyOf" in schema:
        return max(map(_characters, schema["anyOf"]))
    if "const" in schema or "enum" in schema:
        return 0
    if schema["type"] == "object":
        return sum(map(_characters, schema["properties"].values()))
    if schema["type"] == "array":
        return int(schema["maxItems"]) * (
            _characters(schema["items"]) + 3 * len(json.dumps(_skeleton(schema["items"])))
        )
    return int(schema["maxLength"])
