"""Conversations as text: by the tokenizer's chat template, else as a plain question-and-answer transcript."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypedDict

import jinja2

from continual_learning.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from continual_learning.model.tokenizer import Tokenizer

ROLES = ("system", "user", "assistant")

_QUESTION = "Question: "
# Replaces a special token's name in a message; the number is its place in `ChatFormat.shielded`'s words.
SHIELD = re.compile("\ue000(\\d+)\ue001")


class Message(TypedDict):
    """One turn of a conversation."""

    role: str
    """``system``, ``user`` or ``assistant``."""
    content: str


class ChatFormat:
    """How one tokenizer writes a conversation, and how it ends a turn."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase | Tokenizer):
        self._tokenizer: Any = tokenizer
        self.has_template = bool(getattr(tokenizer, "chat_template", None))

    def render(self, messages: Sequence[Message], add_generation_prompt: bool = True, system: bool = True) -> str:
        """The conversation as text. ``system=False`` leaves out the system prompt that a template adds by itself.

        Raises InputError for no messages, an unknown role, or a conversation that the template refuses.
        """
        if not messages:
            raise InputError("a conversation of 0 messages; expected at least one")
        for message in messages:
            if message["role"] not in ROLES:
                raise InputError(f"message with role {message['role']!r}; expected one of {', '.join(ROLES)}")
        if not self.has_template:
            return _transcript(messages, add_generation_prompt)
        text = self._apply(messages, add_generation_prompt)
        if not system and messages[0]["role"] != "system":
            prefix, kept = self._default_system
            if prefix and text.startswith(prefix):
                text = kept + text.removeprefix(prefix)
        return text

    def shielded(self, messages: Sequence[Message]) -> tuple[list[Message], list[str]]:
        """The messages with special tokens' names replaced by `SHIELD` marks, and the names.

        Words of a user or a document are not part of the template: ``<|im_end|>`` among them ends no turn.
        """
        words = list(self._special_words)
        found: list[Message] = []

        def mark(written: re.Match[str]) -> str:
            words.append(written[0])
            return f"\ue000{len(words) - 1}\ue001"

        for message in messages:
            content = SHIELD.sub(mark, message["content"])  # what looks like a mark is none of ours
            for number, word in enumerate(self._special_words):
                content = content.replace(word, f"\ue000{number}\ue001")
            found.append({"role": message["role"], "content": content})
        return found, words

    @cached_property
    def _special_words(self) -> tuple[str, ...]:
        """Names of all special tokens, longest first, also of those that the tokenizer has no use for by itself."""
        added = (str(token) for token in self._tokenizer.added_tokens_decoder.values() if token.special)
        return tuple(sorted({*self._tokenizer.all_special_tokens, *added}, key=lambda word: (-len(word), word)))

    @property
    def stop_text(self) -> str | None:
        """Text that ends an answer if no token does: the next question of a plain transcript."""
        return None if self.has_template else f"\n{_QUESTION.strip()}"

    @cached_property
    def end_of_turn(self) -> int | None:
        """The special token that the template writes after an assistant's words, or None."""
        if not self.has_template:
            return None
        words = "words of the assistant"
        text = self._apply([{"role": "user", "content": "words"}, {"role": "assistant", "content": words}], False)
        ids = self._tokenizer(text.rpartition(words)[2], add_special_tokens=False)["input_ids"]
        special = {i for i, token in self._tokenizer.added_tokens_decoder.items() if token.special}
        return ids[0] if ids and ids[0] in special else None

    @cached_property
    def _default_system(self) -> tuple[str, str]:
        """What the template puts before the first user turn, and the part of it that must stay (a bos token).

        Found by comparing the first user turn of a conversation with a later one.
        """
        user: Message = {"role": "user", "content": "words"}
        assistant: Message = {"role": "assistant", "content": "words"}
        first, earlier = self._apply([user], False), self._apply([user, assistant], False)
        later = self._apply([user, assistant, user], False)
        turn = later.removeprefix(earlier)
        if turn == later or not turn or not first.endswith(turn):
            return "", ""  # turns differ in form, so what precedes them cannot be determined
        prefix = first.removesuffix(turn)
        bos = str(self._tokenizer.bos_token or "")
        return prefix, bos if bos and prefix.startswith(bos) and not turn.startswith(bos) else ""

    def _apply(self, messages: Sequence[Message], add_generation_prompt: bool) -> str:
        # enable_thinking: reasoning models would spend a short answer's tokens on thinking; others ignore it.
        options: dict[str, Any] = {
            "tokenize": False,
            "add_generation_prompt": add_generation_prompt,
            "enable_thinking": False,
        }
        turns = [{"role": m["role"], "content": m["content"]} for m in messages]
        try:
            return str(self._tokenizer.apply_chat_template(turns, **options))
        except jinja2.TemplateError as error:
            # Gemma's template knows no system role; its makers put such words into the first user turn.
            if len(turns) > 1 and turns[0]["role"] == "system" and turns[1]["role"] == "user":
                joined: Message = {"role": "user", "content": f"{turns[0]['content']}\n\n{turns[1]['content']}"}
                return self._apply([joined, *messages[2:]], add_generation_prompt)
            roles = ", ".join(turn["role"] for turn in turns)
            raise InputError(f"the model's chat template refuses a conversation of {roles}: {error}") from error


def _transcript(messages: Sequence[Message], add_generation_prompt: bool) -> str:
    gap = {"system": "\n\n", "user": "\n", "assistant": "\n\n"}
    text = "".join(_label(m) + m["content"] + gap[m["role"]] for m in messages)
    return text + "Answer:" if add_generation_prompt else text.rstrip("\n")


def _label(message: Message) -> str:
    """What precedes a turn of a transcript; nothing if its last paragraph is a question that says so itself."""
    asks = message["content"].rpartition("\n\n")[2].startswith(_QUESTION)
    return {"system": "", "user": "" if asks else _QUESTION, "assistant": "Answer: "}[message["role"]]


def user(text: str) -> Message:
    """A user's turn."""
    return {"role": "user", "content": text}
