"""What models on a server have in common: addresses without secrets, retries with backoff, health."""

from __future__ import annotations

import ipaddress
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlsplit

from continual_learning.errors import ChatModelError, ConfigError
from continual_learning.model.chat_template import Message

T = TypeVar("T")

FIRST_PAUSE = 0.5
"""Seconds before the first retry; each later pause is twice as long."""
_BYTES_PER_TOKEN = 3  # tokens are shorter than words, and rarely below three bytes each
TOKENS_PER_TURN = 8
"""An upper estimate of the tokens that a chat template adds to a turn."""
_SECRETS = re.compile(
    r"(?i)\b(?:sk|pk|rk)-[\w-]{12,}|\b(?:gh[pousr]|hf|xox[abp])[_-][\w-]{12,}|\bAKIA[0-9A-Z]{12,}"
    r"|\bbearer\s+[\w.~+/-]{8,}=*|\b(?:api[_-]?key|password|passwd|secret|access[_-]?token)\s*[:=]\s*\S+"
    r"|(?<=://)[^\s/@:]+:[^\s/@]+(?=@)"
)


@dataclass(frozen=True)
class ServerSettings:
    """How a server is used."""

    model: str
    url: str
    window: int
    """Context size to request: tokens of prompt and reply together."""
    timeout: float
    """Timeout: seconds without an answer."""
    retries: int
    """Number of attempts after the first."""
    section: str = ""
    """Where these settings are in the settings file, such as ``strategies.NAME``; messages name what to change."""

    def setting(self, name: str) -> str:
        """The full name of a setting, as the user sets it."""
        return f"{self.section}.{name}" if self.section else name


@dataclass(frozen=True)
class Finding:
    """The result of one check on a server."""

    name: str
    ok: bool
    detail: str
    fix: str = ""
    """The command or setting that fixes it."""


def without_secrets(text: str, *known: str) -> str:
    """The text without anything that looks like a key, a password or a token, and without the ``known`` ones."""
    for secret in known:
        if secret:
            text = text.replace(secret, "[secret]")
    return _SECRETS.sub("[secret]", text)


def check_url(url: str, what: str) -> str:
    """Return the address unchanged. Raises ConfigError if it is not an http address, or carries a password."""
    parts = urlsplit(url)
    if parts.username or parts.password:
        raise ConfigError(f"{what} carries a user or password; expected an address alone, the key in the environment")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"{what} = {url!r}; expected an address such as http://localhost:11434")
    return url


def is_local(url: str) -> bool:
    """Whether an address is one of this machine. A proxy is not asked for it: it would look on its own machine."""
    host = (urlsplit(url).hostname or "").removesuffix(".")
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:  # a name
        return False
    return address.is_loopback or address.is_unspecified


@contextmanager
def proxy_errors() -> Iterator[None]:
    """Report a proxy that httpx cannot use, which it reads from the environment when a client is made."""
    try:
        yield
    except ModuleNotFoundError:
        raise
    except (ImportError, ValueError) as error:
        reason = without_secrets(" ".join(str(error).split()))
        raise ConfigError(
            f"the proxy that HTTP_PROXY, HTTPS_PROXY or ALL_PROXY names cannot be used: {reason} Or unset the variable"
        ) from error


def key_from(variable: str) -> str:
    """The key in an environment variable; empty if there is none."""
    return os.environ.get(variable, "")


def estimated_tokens(messages: Sequence[Message]) -> int:
    """Tokens of a conversation when the tokenizer is not available: too many rather than too few."""
    return sum(len(m["content"].encode()) // _BYTES_PER_TOKEN + TOKENS_PER_TURN for m in messages)


def with_retries(work: Callable[[], T], transient: Callable[[Exception], str | None], retries: int, what: str) -> T:
    """The result of ``work``, retried after a pause if ``transient`` says that its error may be temporary.

    Raises ChatModelError with the last such error; any other error passes through.
    """
    for attempt in range(retries + 1):
        try:
            return work()
        except Exception as error:
            reason = transient(error)
            if reason is None:
                raise
            if attempt == retries:
                tried = f"{attempt + 1} attempts" if attempt else "1 attempt"
                raise ChatModelError(f"{what}: {without_secrets(reason)} ({tried})") from error
        time.sleep(FIRST_PAUSE * 2**attempt)
    raise AssertionError("unreachable")
