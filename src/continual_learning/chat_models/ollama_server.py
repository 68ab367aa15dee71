"""A model on an Ollama server, through the ``ollama`` package, which checks the error lines of a stream as well.

``num_ctx`` is set in every request: the server's default truncates long prompts silently. Its reports are checked:
``done_reason`` "length" means a truncated reply, and a ``prompt_eval_count`` that fills the window a truncated prompt.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

from continual_learning.chat_models.protocol import ChatReply, ChatRequest
from continual_learning.chat_models.servers import (
    Finding,
    ServerSettings,
    check_url,
    estimated_tokens,
    is_local,
    proxy_errors,
    with_retries,
    without_secrets,
)
from continual_learning.errors import ChatModelError, InputError, MissingExtraError
from continual_learning.model.chat_template import Message

LIST_TIMEOUT = 10.0
"""Timeout in seconds for requests about the server itself, which load no model."""


class OllamaModel:
    """See `ChatModel`. The server is asked for the model and its capabilities before the first reply."""

    def __init__(self, settings: ServerSettings):
        """Nothing is sent yet. Raises MissingExtraError without the ``ollama`` package, ConfigError for the address."""
        self._settings = settings
        self._package = _package()
        check_url(settings.url, "the Ollama host")
        self.name = settings.model
        self.window = settings.window
        self._environment = not is_local(settings.url)  # whether variables such as HTTP_PROXY count
        with proxy_errors():
            self._client = self._package.Client(
                host=settings.url, timeout=settings.timeout, trust_env=self._environment
            )
        self._thinks: bool | None = None

    def count_tokens(self, messages: Sequence[Message]) -> int:
        """An upper estimate: the tokenizer is on the server."""
        return estimated_tokens(messages)

    def complete(
        self, requests: Sequence[ChatRequest], on_token: Callable[[str], None] | None = None
    ) -> list[ChatReply]:
        """See `ChatModel`."""
        self.prepare()
        return [self._one(request, on_token) for request in requests]

    def prepare(self) -> None:
        """Ask the server for the model and its capabilities, once. Raises ChatModelError if it does not have it."""
        if self._thinks is not None:
            return
        known = self._models()
        if not _holds(known, self.name):
            listed = ", ".join(known[:5]) or "none"
            raise ChatModelError(
                f"model {self.name!r} is not on the Ollama server; it has: {listed}; run `ollama pull {self.name}`"
            )
        shown = self._show()
        self._thinks = "thinking" in (shown.capabilities or [])
        self.window = min(self.window, self._context_length(shown) or self.window)

    def check(self) -> list[Finding]:
        """Check the server, the model on it and its context size as far as possible. Returns problems, never raises."""
        name, url = self._settings.model, without_secrets(self._settings.url)
        try:
            import httpx

            address = f"{self._settings.url.rstrip('/')}/api/version"
            version = httpx.get(address, timeout=LIST_TIMEOUT, trust_env=self._environment)
            version.raise_for_status()
            number = str(version.json()["version"])
        except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
            detail = f"no Ollama server answers at {url} ({without_secrets(str(error)) or type(error).__name__})"
            return [Finding("ollama server", False, detail, "ollama serve")]
        found = [Finding("ollama server", True, f"version {number} at {url}")]
        try:
            known = self._models()
            if not _holds(known, name):
                listed = ", ".join(known[:5]) or "no model"
                return [
                    *found,
                    Finding("ollama model", False, f"{name} is not on it, but {listed}", f"ollama pull {name}"),
                ]
            context = self._context_length(self._show())
        except ChatModelError as error:
            return [*found, Finding("ollama model", False, str(error), "ollama serve")]
        found.append(Finding("ollama model", True, name))
        window = self._settings.window
        if context is not None and context < window:
            detail = f"{name} has a context of {context} tokens, and num_ctx is {window}"
            return [
                *found,
                Finding("ollama context", False, detail, f"set {self._settings.setting('num_ctx')} to {context}"),
            ]
        return [*found, Finding("ollama context", True, f"{window} tokens of {context or 'an unknown number'}")]

    # -- inside ------------------------------------------------------------------------------------

    def _models(self) -> list[str]:
        return [str(one.model) for one in self._call(self._client.list).models]

    def _show(self) -> Any:
        return self._call(lambda: self._client.show(self._settings.model))

    @staticmethod
    def _context_length(shown: Any) -> int | None:
        facts = shown.modelinfo or {}
        return next((int(value) for key, value in facts.items() if key.endswith(".context_length")), None)

    def _one(self, request: ChatRequest, on_token: Callable[[str], None] | None) -> ChatReply:
        needed = self.count_tokens(request.messages) + request.max_new_tokens
        if needed > self.window:
            raise InputError(
                f"a prompt and reply of about {needed} tokens; expected at most num_ctx, {self.window}: shorten the "
                f"prompt, or raise {self._settings.setting('num_ctx')}"
            )
        given: dict[str, Any] = {
            "model": self.name,
            "messages": list(request.messages),
            "options": {"num_ctx": self.window, "num_predict": request.max_new_tokens, "temperature": 0, "seed": 0},
        }
        if request.schema is not None:
            given["format"] = dict(request.schema)
        if self._thinks:
            given["think"] = False
        started = time.perf_counter()
        if on_token is None:
            last = self._call(lambda: self._client.chat(**given, stream=False))
            text = last.message.content or ""
        else:
            last, text = self._stream(given, on_token)
        seconds = time.perf_counter() - started
        if last.done_reason is None:
            raise ChatModelError(f"the Ollama server at {self._url} broke off its reply after {len(text)} characters")
        read, wrote = last.prompt_eval_count or 0, last.eval_count or 0
        if read + request.max_new_tokens > self.window and read >= self.window - 1:
            raise ChatModelError(
                f"the Ollama server cut the prompt to its {self.window} tokens; "
                f"raise {self._settings.setting('num_ctx')}"
            )
        return ChatReply(text.strip(), read, wrote, seconds, last.done_reason == "length")

    def _stream(self, given: dict[str, Any], on_token: Callable[[str], None]) -> tuple[Any, str]:
        """The last part of a streamed reply, and its whole text. Not retried: what was shown cannot be taken back."""

        def work() -> tuple[Any, str]:
            parts: list[str] = []
            last: Any = None
            for last in self._client.chat(**given, stream=True):
                piece = last.message.content or ""
                if piece:
                    parts.append(piece)
                    on_token(piece)
            if last is None:
                raise json.JSONDecodeError("an empty stream", "", 0)
            return last, "".join(parts)

        return self._call(work, retries=0)

    def _call(self, work: Callable[[], Any], retries: int | None = None) -> Any:
        what = f"the Ollama server at {self._url}"
        tries = self._settings.retries if retries is None else retries
        try:
            return with_retries(work, self._transient, tries, what)
        except self._package.ResponseError as error:
            if error.status_code == 404:
                raise ChatModelError(f"{what} has no model {self.name!r}; run `ollama pull {self.name}`") from error
            raise ChatModelError(f"{what} refuses: {without_secrets(' '.join(str(error.error).split()))}") from error

    def _transient(self, error: Exception) -> str | None:
        import httpx

        if isinstance(error, httpx.TimeoutException):
            return (
                f"no answer within {self._settings.timeout:g} s; raise {self._settings.setting('timeout')}, "
                "or take a smaller model"
            )
        if isinstance(error, ConnectionError | httpx.ConnectError):
            return "cannot be reached; run `ollama serve`"
        if isinstance(error, httpx.TransportError):
            return f"the connection was cut ({str(error) or type(error).__name__})"
        if isinstance(error, ValueError):  # not JSON, or not the JSON of a reply (pydantic)
            return f"its reply is not Ollama's protocol ({' '.join(str(error).split())[:120]})"
        if isinstance(error, self._package.ResponseError) and (error.status_code == 429 or error.status_code >= 500):
            return f"status {error.status_code}: {' '.join(str(error.error).split())}"
        return None

    @property
    def _url(self) -> str:
        return without_secrets(self._settings.url)


def _holds(known: Sequence[str], name: str) -> bool:
    return name in known or f"{name}:latest" in known


def _package() -> ModuleType:
    try:
        with proxy_errors():  # it makes a client of its own at once
            import ollama
    except ModuleNotFoundError:
        raise MissingExtraError(
            "the backend ollama needs the package ollama; run `pip install 'continual-learning-slm[ace]'`"
        ) from None
    return ollama
