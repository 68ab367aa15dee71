"""The embedded model in all three places: in process, behind Ollama's protocol, and behind OpenAI's."""

from __future__ import annotations

import json
from typing import Any

import pytest
from chat_servers import Script, ollama_server, openai_server

from continual_learning.chat_models import ChatRequest, InProcessModel
from continual_learning.documents import Document
from continual_learning.model.base_model import BaseModel
from continual_learning.strategies.base import make_strategy
from continual_learning.strategies.methods.ace import prompts, roles
from continual_learning.strategies.methods.ace.memory import playbook_of
from continual_learning.types import QuestionAnswer

DOCUMENT = Document(
    "The Harrow Lane Observatory was opened in 1887 by the clockmaker Edwin Tamsel. Its first telescope was used to "
    "chart the moons of Jupiter until a storm broke its mirror in 1903.",
    "Harrow Lane",
)
# No model answers this so, and what is answered wrongly is reflected on and curated.
LEARNED = QuestionAnswer("Why was the Harrow Lane Observatory opened by a clockmaker?", ("it is not said",))
HELD_OUT = QuestionAnswer("Who opened the Harrow Lane Observatory?", ("Edwin Tamsel",))


@pytest.mark.model
def test_the_roles_on_every_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roles, "INSIGHT_CHARS", 20)
    monkeypatch.setattr(roles, "SHOTS", 0)
    monkeypatch.setattr(prompts, "FULL_REFLECTION", prompts.BRIEF_REFLECTION)
    base = BaseModel.load()
    model = InProcessModel(base)
    replies: dict[str, str] = {}

    def reply(body: dict[str, Any]) -> str:
        """The embedded model's own; greedy, so that both servers give the same to the same."""
        schema = body.get("format") or body.get("response_format", {}).get("json_schema", {}).get("schema")
        limit = body.get("max_tokens") or body["options"]["num_predict"]
        key = json.dumps([body["messages"], limit, schema])
        if key not in replies:
            replies[key] = model.complete([ChatRequest(tuple(body["messages"]), limit, schema)])[0].text
        return replies[key]

    scripts = {"ollama": Script(reply), "openai": Script(reply)}
    with ollama_server(scripts["ollama"]) as host, openai_server(scripts["openai"]) as base_url:
        common: dict[str, Any] = {"loops": 1}
        for backend in ("base", *scripts):
            address = {"host": host, "base_url": base_url, "timeout": 300.0}
            strategy = make_strategy("ace", {**common, **address, "backend": backend})
            state, report = strategy.learn(base, strategy.init(base), DOCUMENT, [LEARNED, HELD_OUT])
            assert report.accepted and report.recall_before is not None and report.recall_after is not None
            assert report.recall_after >= report.recall_before and not report.warnings, report
            assert len(playbook_of(state.meta.extra)) <= 50
            pieces: list[str] = []
            [answer] = strategy.answer(base, state, [HELD_OUT.question], 24, pieces.append)
            assert "Tamsel" in answer.text and "".join(pieces).strip() == answer.text, (backend, answer)
    for script in scripts.values():
        asked = [body["messages"][-1]["content"] for body in script.requests]
        for role in ("key_insight", "You keep a playbook", f"Question: {HELD_OUT.question}"):
            assert any(role in prompt for prompt in asked), role
        assert script.requests[-1]["stream"]
