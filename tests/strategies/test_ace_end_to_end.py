"""The embedded model in all three places: in process, behind Ollama's protocol, and behind OpenAI's."""

from __future__ import annotations

from typing import Any

import pytest
from chat_servers import Script, ollama_server, openai_server

from continual_learning.base import BaseModel
from continual_learning.chat_models import ChatRequest, InProcessModel
from continual_learning.documents import Document
from continual_learning.strategies.ace.memory import playbook_of
from continual_learning.strategy import QuestionAnswer, make_strategy

TEXT = (
    "The Harrow Lane Observatory was opened in 1887 by the clockmaker Edwin Tamsel. Its first telescope was used to "
    "chart the moons of Jupiter until a storm broke its mirror in 1903."
)
QA = [
    QuestionAnswer("Who opened the Harrow Lane Observatory?", ("Edwin Tamsel",)),
    QuestionAnswer("What broke the mirror of the Harrow Lane telescope?", ("a storm",)),
    QuestionAnswer("Why was the Harrow Lane Observatory opened by a clockmaker?", ("it is not said",)),
    QuestionAnswer("When did the storm break the Harrow Lane mirror?", ("1903",)),
]


@pytest.mark.model
def test_the_roles_on_every_backend() -> None:
    base = BaseModel.load()
    model = InProcessModel(base)

    def reply(body: dict[str, Any]) -> str:
        schema = body.get("format") or body.get("response_format", {}).get("json_schema", {}).get("schema")
        limit = body.get("max_tokens") or body["options"]["num_predict"]
        return model.complete([ChatRequest(tuple(body["messages"]), limit, schema)])[0].text

    document = Document(TEXT, "Harrow Lane")
    answers = []
    scripts = Script(reply), Script(reply)
    with ollama_server(scripts[0]) as host, openai_server(scripts[1]) as base_url:
        common: dict[str, Any] = {
            "loops": 1,
            "insight_chars": 40,
            "shots": 0,
            "host": host,
            "base_url": base_url,
            "timeout": 300.0,
        }
        for backend in ("base", "ollama", "openai"):
            strategy = make_strategy("ace", {**common, "backend": backend, "reflection": "brief"})
            state, report = strategy.learn(base, strategy.init(base), document, QA)
            assert report.accepted and report.recall_before is not None and report.recall_after is not None
            assert report.recall_after >= report.recall_before and not report.warnings, report
            assert len(playbook_of(state.meta.extra)) <= 50
            answers.append(strategy.answer(base, state, [QA[0].question], 24)[0].text)
    assert all("Tamsel" in answer for answer in answers), answers
    assert all(any("key_insight" in str(body) for body in script.requests) for script in scripts)
