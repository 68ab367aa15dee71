"""A model on any server that speaks OpenAI's chat protocol, through the ``openai`` package.

A JSON schema is requested (``response_format``); if the server refuses it, the request is repeated without, and the
reply is checked like any other. The package itself handles timeouts and retries with backoff.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import ModuleType
from typing import Any

from continual_learning.chat_models.protocol import ChatReply, ChatRequest
from continual_learning.chat_models.servers import (
    Finding,
    ServerSettings,
    check_url,
    estimated_tokens,
    is_local,
    key_from,
    proxy_errors,
    without_secrets,
)
from continual_learning.errors import ChatModelError, InputError, MissingExtraError
from continual_learning.model.chat_template import Message

_NO_KEY = "none"
"""Sent to servers that need no key, since the package requires one."""


class OpenAIModel:
    """See `ChatModel`."""

    def __init__(self, settings: ServerSettings, key_variable: str = "OPENAI_API_KEY"):
        """Nothing is sent yet. Raises MissingExtraError without the ``openai`` package, ConfigError for the address."""
        self._settings = settings
        self._package = _package()
        check_url(settings.url, "the base_url")
        self.name = settings.model
        self.window = settings.window
        self._key = key_from(key_variable)
        self._key_variable = key_variable
        with proxy_errors():
            http_client = self._package.DefaultHttpxClient(trust_env=not is_local(settings.url))
        self._client = self._package.OpenAI(
            base_url=settings.url,
            api_key=self._key or _NO_KEY,
            timeout=settings.timeout,
            max_retries=settings.retries,
            http_client=http_client,
        )
        self._takes_schema = True

    def count_tokens(self, messages: Sequence[Message]) -> int:
        """An upper estimate: the tokenizer is on the server."""
        return estimated_tokens(messages)

    def complete(
        self, requests: Sequence[ChatRequest], on_token: Callable[[str], None] | None = None
    ) -> list[ChatReply]:
        """See `ChatModel`."""
        return [self._one(request, on_token) for request in requests]

    def prepare(self) -> None:
        """Raise ChatModelError if no server can be reached.

        What it lists is not looked at: servers of a single model answer under any name, and some list nothing.
        """
        answered = (self._package.APIStatusError, self._package.APIResponseValidationError)
        with self._errors(), suppress(*answered):
            self._client.models.list()

    def check(self) -> list[Finding]:
        """Check whether the server answers and lists the model. Returns problems, never raises."""
        url = without_secrets(self._settings.url)
        try:
            with self._errors():
                known = [str(one.id) for one in self._client.with_options(max_retries=0).models.list()]
        except ChatModelError as error:
            fix = f"start the server, or set {self._settings.setting('base_url')}"
            return [Finding("chat server", False, str(error), fix)]
        if self.name not in known:
            listed = ", ".join(known[:5]) or "no model"
            fix = f"set {self._settings.setting('server_model')} to one of its models"
            return [Finding("chat server", False, f"{self.name} is not at {url}, but {listed}", fix)]
        return [Finding("chat server", True, f"{self.name} at {url}")]

    # -- inside ------------------------------------------------------------------------------------

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
            "max_tokens": request.max_new_tokens,
            "temperature": 0,
        }
        with self._errors():
            if request.schema is not None and self._takes_schema:
                shape = {"name": "reply", "schema": dict(request.schema), "strict": True}
                try:
                    return self._ask(
                        {**given, "response_format": {"type": "json_schema", "json_schema": shape}}, on_token
                    )
                except self._package.BadRequestError as error:
                    if "response_format" not in str(error) and "schema" not in str(error):
                        raise
                    self._takes_schema = False
            return self._ask(given, on_token)

    def _ask(self, given: dict[str, Any], on_token: Callable[[str], None] | None) -> ChatReply:
        started = time.perf_counter()
        if on_token is None:
            made = self._client.chat.completions.create(**given, stream=False)
            if not getattr(made, "choices", None):
                raise ChatModelError(f"the server at {self._url} sent a reply without choices")
            choice = made.choices[0]
            text, reason, usage = choice.message.content or "", choice.finish_reason, made.usage
        else:
            text, reason, usage = self._stream(given, on_token)
        if not reason:
            raise ChatModelError(f"the server at {self._url} broke off its reply after {len(text)} characters")
        read, wrote = (usage.prompt_tokens, usage.completion_tokens) if usage is not None else (0, 0)
        return ChatReply(text.strip(), read, wrote, time.perf_counter() - started, reason == "length")

    def _stream(self, given: dict[str, Any], on_token: Callable[[str], None]) -> tuple[str, str | None, Any]:
        parts: list[str] = []
        reason, usage = None, None
        options = {"include_usage": True}
        for chunk in self._client.chat.completions.create(**given, stream=True, stream_options=options):
            usage = chunk.usage or usage
            for choice in chunk.choices:
                reason = choice.finish_reason or reason
                if choice.delta.content:
                    parts.append(choice.delta.content)
                    on_token(choice.delta.content)
        return "".join(parts), reason, usage

    @contextmanager
    def _errors(self) -> Iterator[None]:
        what = f"the server at {self._url}"
        transport = self._package.APIConnectionError
        try:
            yield
        except self._package.APITimeoutError as error:
            raise ChatModelError(
                f"{what} gave no answer within {self._settings.timeout:g} s; raise {self._settings.setting('timeout')}"
            ) from error
        except transport as error:
            raise ChatModelError(f"{what} cannot be reached or cut the connection; start it and try again") from error
        except self._package.AuthenticationError as error:
            raise ChatModelError(f"{what} refuses the key; set the variable {self._key_variable} to yours") from error
        except self._package.NotFoundError as error:
            raise ChatModelError(f"{what} knows no model {self.name!r} ({self._short(error)})") from error
        except self._package.APIError as error:
            raise ChatModelError(f"{what} refuses: {self._short(error)}") from error
        except ValueError as error:
            raise ChatModelError(f"{what} sent what is not OpenAI's protocol ({self._short(error)})") from error

    def _short(self, error: Exception) -> str:
        return without_secrets(" ".join(str(error).split())[:200], self._key)

    @property
    def _url(self) -> str:
        return without_secrets(self._settings.url)


def _package() -> ModuleType:
    try:
        import openai
    except ImportError:
        raise MissingExtraError(
            "the backend openai needs the package openai; run `pip install 'continual-learning-slm[ace]'`"
        ) from None
    return openai
