"""A model in a GGUF file, run in this process by llama.cpp through the ``llama-cpp-python`` package."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from continual_learning.chat_models.protocol import ChatReply, ChatRequest
from continual_learning.chat_models.servers import TOKENS_PER_TURN
from continual_learning.errors import ChatModelError, InputError, MissingExtraError, first_line
from continual_learning.model.chat_template import Message

_MAGIC = b"GGUF"
_TEMPLATE = "tokenizer.chat_template"


class LlamaCppModel:
    """See `ChatModel`. The file is read before the first reply; the chat template is the file's own."""

    def __init__(self, file: Path, window: int, setting: str = "num_ctx"):
        """Check the file's first bytes. ``window`` is in tokens; ``setting`` is the name of the setting it comes from.

        Raises InputError for a file that is missing or no GGUF file, MissingExtraError without ``llama-cpp-python``.
        """
        self._file = _checked(file)
        self._package = _package()
        self._setting = setting
        self._model: Any = None
        self.name = self._file.name
        self.window = window

    def prepare(self) -> None:
        """Read the file, once. Raises ChatModelError if llama.cpp cannot, InputError for a model that does not chat."""
        if self._model is not None:
            return
        try:
            self._model = self._package.Llama(
                model_path=str(self._file),
                n_ctx=self.window,
                n_threads=torch.get_num_threads(),
                n_threads_batch=torch.get_num_threads(),
                seed=0,
                verbose=False,
            )
        except (ValueError, RuntimeError, OSError) as error:
            raise ChatModelError(
                f"{self._file}: llama.cpp cannot load it ({first_line(error)}); expected a whole GGUF file of a chat "
                f"model, and memory for it and {self.window} tokens: else lower {self._setting}"
            ) from error
        if _TEMPLATE not in self._model.metadata:  # llama.cpp would write Llama 2's turns, which the model never saw
            self._model = None
            raise InputError(
                f"{self._file}: no chat template in it, so this is a base model; expected a chat model, often named "
                "-instruct or -it"
            )
        trained = [int(value) for key, value in self._model.metadata.items() if key.endswith(".context_length")]
        self.window = min(self.window, *trained) if trained else self.window

    def count_tokens(self, messages: Sequence[Message]) -> int:
        """Tokens of all contents, and an upper estimate for what the chat template adds to each."""
        self.prepare()
        encoded = (self._model.tokenize(m["content"].encode(), add_bos=False, special=False) for m in messages)
        return sum(len(ids) + TOKENS_PER_TURN for ids in encoded)

    def complete(
        self, requests: Sequence[ChatRequest], on_token: Callable[[str], None] | None = None
    ) -> list[ChatReply]:
        """See `ChatModel`."""
        self.prepare()
        return [self._one(request, on_token) for request in requests]

    # -- inside ------------------------------------------------------------------------------------

    def _one(self, request: ChatRequest, on_token: Callable[[str], None] | None) -> ChatReply:
        needed = self.count_tokens(request.messages) + request.max_new_tokens
        if needed > self.window:
            raise InputError(
                f"a prompt and reply of about {needed} tokens; expected at most {self.window}, the context of "
                f"{self.name}: shorten the prompt, or raise {self._setting}"
            )
        given: dict[str, Any] = {
            "messages": [dict(message) for message in request.messages],
            "max_tokens": request.max_new_tokens,
            "temperature": 0.0,
        }
        if request.schema is not None:
            given["response_format"] = {"type": "json_object", "schema": dict(request.schema)}
        started = time.perf_counter()
        parts: list[str] = []
        reason = None
        try:
            for chunk in self._model.create_chat_completion(**given, stream=True):
                [choice] = chunk["choices"]
                reason = choice["finish_reason"] or reason
                piece = choice["delta"].get("content")
                if piece:
                    parts.append(piece)
                    if on_token is not None:
                        on_token(piece)
        except (ValueError, RuntimeError) as error:
            raise ChatModelError(f"{self.name}: llama.cpp gave up ({first_line(error)})") from error
        text = "".join(parts)
        # The pieces of a stream are tokens, those within a character aside.
        wrote = len(self._model.tokenize(text.encode(), add_bos=False, special=False)) if text else 0
        read = max(self._model.n_tokens - wrote, 0)
        return ChatReply(text.strip(), read, wrote, time.perf_counter() - started, reason == "length")


def _checked(file: Path) -> Path:
    path = file.expanduser()
    try:
        with path.open("rb") as opened:
            begins = opened.read(len(_MAGIC))
    except FileNotFoundError:
        raise InputError(f"{file}: no such file; expected a chat model as a .gguf file") from None
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror}); expected a chat model as a .gguf file") from None
    if begins != _MAGIC:
        raise InputError(f"{file}: no GGUF file, it begins with {begins!r}; expected a chat model as a .gguf file")
    return path


def _package() -> ModuleType:
    try:
        import llama_cpp
    except ModuleNotFoundError:
        raise MissingExtraError(
            "llama.cpp needs the package llama-cpp-python; run `pip install 'continual-learning-slm[llamacpp]'`"
        ) from None
    package: ModuleType = llama_cpp
    return package
