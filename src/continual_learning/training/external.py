"""Study material that another model wrote about a passage: from a file, or from a model that the user names.

A file is JSON lines: ``title``, ``context`` (the passage) and any of ``qa``, ``rewrites`` and ``implications``, with
any ending (``qa_7b``); each holds a text as such models write it, or a list of several. Other fields, ``questions``
among them, are not read. A model is any that speaks OpenAI's chat completions, Ollama among them.

Question-and-answer pairs of which the passage holds less than half of the answer's content words are dropped.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from continual_learning.documents import json_object
from continual_learning.documents.qa_files import read_text, short_repr
from continual_learning.errors import DocumentError, InputError, LearningError
from continual_learning.text.words import content_stems, words

KEY_VARIABLE = "OPENAI_API_KEY"
_KINDS = ("qa", "rewrites", "implications")
_PAIR = re.compile(
    r"Question(?:\s*\d+)?\s*:\s*(?P<question>.+?)\s*Answer(?:\s*\d+)?\s*:\s*(?P<answer>.+?)"
    r"(?=\s*Question(?:\s*\d+)?\s*:|\Z)",
    re.DOTALL | re.IGNORECASE,
)
_LIST_MARK = re.compile(r"^\s*(?:\d+[.)]|[-*•])\s+")
_SHORTEST = 4
"""Words of a statement: what is shorter is a heading."""
_SECONDS = 300.0
_REQUESTS: Mapping[str, str] = {
    "qa": "Write 12 questions that the passage answers, each with its answer in a few words of the passage. Write "
    "`Question: …` and `Answer: …` on lines of their own, nothing else.",
    "rewrites": "Rewrite the passage in three different ways, one a line, keeping every fact, name, number and date.",
    "implications": "List the facts that the passage states or implies, one a line, each a full sentence that names "
    "what it is about.",
}


@dataclass(frozen=True)
class BorrowedStudy:
    """What is studied beside one's own material."""

    questions: tuple[tuple[str, str], ...] = ()
    """Questions with their answers."""
    statements: tuple[str, ...] = ()
    """Sentences and rewrites."""


def study_from_file(path: Path, passage: str) -> BorrowedStudy:
    """What a file says about a passage: that of every line whose ``context`` holds it or is held by it.

    Raises InputError for a file that cannot be used, with the line and the field.
    """
    wanted = _plain(passage)
    samples: dict[str, list[str]] = {kind: [] for kind in _KINDS}
    for number, line in enumerate(read_text(path, (".jsonl",)).split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json_object(line, number)
        except DocumentError as error:
            raise InputError(f"{path}, {error}") from None
        context = row.get("context")
        if not isinstance(context, str) or not context.strip():
            raise InputError(f"{path}, line {number}: field 'context' is {short_repr(context)}; expected the passage")
        here = _plain(context)
        if wanted in here or here in wanted:
            for kind in _KINDS:
                samples[kind] += _samples(row, kind, f"{path}, line {number}")
    return _parsed(samples, passage)


def study_from_model(model: str, url: str, passage: str, title: str) -> BorrowedStudy:
    """What a larger model writes about a passage, asked at ``url`` + ``/chat/completions``.

    The key, if the address wants one, is read from OPENAI_API_KEY. Raises LearningError when the model does not answer.
    """
    about = f"Title: {title}\n\n{passage}" if title else passage
    key = os.environ.get(KEY_VARIABLE)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    samples: dict[str, list[str]] = {}
    with httpx.Client(timeout=_SECONDS, headers=headers) as client:
        for kind, request in _REQUESTS.items():
            body = {
                "model": model,
                "messages": [{"role": "user", "content": f"{about}\n\n{request}"}],
                "temperature": 0,
                "seed": 0,
            }
            samples[kind] = [_completion(client, f"{url.rstrip('/')}/chat/completions", body)]
    return _parsed(samples, passage)


def _completion(client: httpx.Client, address: str, body: dict[str, Any]) -> str:
    try:
        response = client.post(address, json=body)
        response.raise_for_status()
        content = response.json()["choices"][0]["message"]["content"]
    except httpx.HTTPStatusError as error:
        said = " ".join(error.response.text.split())[:120]
        raise LearningError(
            f"study_model {body['model']!r} at {address} answered {error.response.status_code} ({said}); check the "
            f"model's name, and {KEY_VARIABLE} if the address wants a key"
        ) from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise LearningError(
            f"study_model {body['model']!r} at {address} cannot be reached ({error}); start it (`ollama serve`), or "
            "set study_model_url"
        ) from None
    except (ValueError, KeyError, IndexError, TypeError):
        raise LearningError(
            f"study_model {body['model']!r} at {address} answered in another form; expected OpenAI's chat completions"
        ) from None
    return str(content or "")


def _samples(row: Mapping[str, Any], kind: str, at: str) -> list[str]:
    found: list[str] = []
    for name, value in row.items():
        if name == kind or name.startswith(f"{kind}_"):
            values = [value] if isinstance(value, str) else value
            if not isinstance(values, list) or not all(isinstance(v, str) for v in values):
                raise InputError(f"{at}: field {name!r} is {short_repr(value)}; expected a string or a list of them")
            found += values
    return found


def _parsed(samples: Mapping[str, Sequence[str]], passage: str) -> BorrowedStudy:
    questions = [pair for text in samples["qa"] for pair in parse_questions(text, passage)]
    statements = [s for kind in ("rewrites", "implications") for text in samples[kind] for s in parse_statements(text)]
    return BorrowedStudy(tuple(dict.fromkeys(questions)), tuple(dict.fromkeys(statements)))


def parse_questions(text: str, passage: str) -> list[tuple[str, str]]:
    """Pairs from ``Question: … Answer: …``, numbered or not; the first ``Question:`` may be missing.

    Only those whose answer the passage bears out.
    """
    text = text.replace("**", "").strip()
    if text[:8].lower() != "question":
        text = f"Question: {text}"
    known = content_stems(passage)
    pairs = []
    for match in _PAIR.finditer(text):
        question, answer = (" ".join(match[name].split()) for name in ("question", "answer"))
        stems = content_stems(answer)
        if stems and 2 * len(stems & known) >= len(stems):
            pairs.append((question, answer))
    return pairs


def parse_statements(text: str) -> list[str]:
    """The lines of a list or of several paragraphs, without marks; headings and remarks to the reader are left out."""
    found = []
    for line in text.replace("**", "").splitlines():
        statement = " ".join(_LIST_MARK.sub("", line).split())
        if len(words(statement)) >= _SHORTEST and not statement.endswith((":", "?", "!")):
            found.append(statement)
    return found


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()
