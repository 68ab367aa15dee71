"""Chat models by name: ``ollama:NAME``, ``openai:URL#NAME`` or ``llamacpp:FILE.gguf``."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from continual_learning.chat_models.llama_cpp import LlamaCppModel
from continual_learning.chat_models.ollama_server import OllamaModel
from continual_learning.chat_models.openai_server import OpenAIModel
from continual_learning.chat_models.servers import ServerSettings, without_secrets
from continual_learning.errors import ConfigError

EXPECTED = "ollama:NAME, openai:URL#NAME or llamacpp:FILE.gguf"
OLLAMA_HOST = "http://localhost:11434"
OLLAMA_VARIABLE = "OLLAMA_HOST"
_OLLAMA_PORT = 11434
_RETRIES = 2

NamedModel = OllamaModel | OpenAIModel | LlamaCppModel


@dataclass(frozen=True)
class Connection:
    """How models that are named are reached."""

    num_ctx: int = 4096
    """Context window: tokens of prompt and reply together."""
    timeout: float = 120.0
    """Maximum seconds that a server may take for a reply."""
    host: str | None = None
    """Address of the Ollama server. None: the variable OLLAMA_HOST, else Ollama's default."""
    api_key_variable: str = "OPENAI_API_KEY"
    """Name of the environment variable with the key of the OpenAI-compatible server."""
    section: str = ""
    """Section of these settings in the settings file; messages name what to change."""


def named_model(name: str, connection: Connection) -> NamedModel:
    """The model of this name. A server is sent nothing yet, and a file is read at the first request.

    Raises ConfigError for a name of another form, InputError for a file that cannot be used, and MissingExtraError.
    """
    scheme, colon, rest = name.partition(":")
    makers: dict[str, Callable[[str, Connection], NamedModel]] = {
        "ollama": _ollama,
        "openai": _openai,
        "llamacpp": _llama_cpp,
    }
    if not colon or not rest.strip() or scheme not in makers:
        raise ConfigError(f"speaker {without_secrets(name)!r}; expected {EXPECTED}")
    return makers[scheme](rest.strip(), connection)


def _ollama(name: str, connection: Connection) -> OllamaModel:
    return OllamaModel(_settings(name, connection.host or _ollama_host(), connection))


def _openai(rest: str, connection: Connection) -> OpenAIModel:
    url, _, name = rest.partition("#")
    if not name or not url:
        raise ConfigError(
            f"speaker {without_secrets(f'openai:{rest}')!r}; expected openai:URL#NAME, such as "
            "openai:http://localhost:8000/v1#my-model"
        )
    return OpenAIModel(_settings(name, url, connection), connection.api_key_variable)


def _llama_cpp(file: str, connection: Connection) -> LlamaCppModel:
    setting = _settings(file, "", connection).setting("num_ctx")
    return LlamaCppModel(Path(file), connection.num_ctx, setting)


def _settings(name: str, url: str, connection: Connection) -> ServerSettings:
    return ServerSettings(name, url, connection.num_ctx, connection.timeout, _RETRIES, connection.section)


def _ollama_host() -> str:
    """The address in OLLAMA_HOST, which Ollama's own programs take without a scheme or a port; else its default."""
    given = os.environ.get(OLLAMA_VARIABLE, "").strip()
    if not given or "://" in given:
        return given or OLLAMA_HOST
    host, colon, port = given.rpartition(":")
    return f"http://{given}" if colon and host and port.isdigit() else f"http://{given}:{_OLLAMA_PORT}"
