"""The `openai` package against a server on the loopback."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
from chat_servers import Script, openai_server

from continual_learning.chat_models import ChatRequest, OpenAIModel, ServerSettings
from continual_learning.errors import ChatModelError, ConfigError, InputError, MissingExtraError
from continual_learning.model.chat_template import user

SCHEMA = {"type": "object", "properties": {"n": {"type": "string", "maxLength": 5}}}
KEY = "sk-very-secret-key-123456"


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, Script]]:
    script = Script(models=("small",))
    with openai_server(script) as url:
        yield url, script


@pytest.fixture
def script(server: tuple[str, Script], monkeypatch: pytest.MonkeyPatch) -> Script:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    server[1].__dict__.update(Script(models=("small",)).__dict__)
    return server[1]


def model(url: str, name: str = "small", window: int = 4096, timeout: float = 5.0, retries: int = 0) -> OpenAIModel:
    return OpenAIModel(ServerSettings(name, url, window, timeout, retries, "strategies.ace"))


def ask(one: OpenAIModel, text: str = "What?", **given: object) -> str:
    return one.complete([ChatRequest((user(text),), 20)], **given)[0].text  # type: ignore[arg-type]


def test_a_reply_and_what_was_asked_for(server: tuple[str, Script], script: Script) -> None:
    [reply] = model(server[0]).complete([ChatRequest((user("What do they eat?"),), 20, SCHEMA)])
    assert (reply.text, reply.prompt_tokens, reply.tokens, reply.truncated) == ("plankton", 7, 3, False)
    [body] = script.requests
    assert body["response_format"]["json_schema"]["schema"] == SCHEMA
    assert (body["max_tokens"], body["temperature"]) == (20, 0)
    assert script.headers[0]["authorization"] == f"Bearer {KEY}"


def test_a_server_that_takes_no_schema_is_asked_without(server: tuple[str, Script], script: Script) -> None:
    script.faults = ["no-schema"]
    one = model(server[0])
    for _ in range(2):
        assert one.complete([ChatRequest((user("a"),), 20, SCHEMA)])[0].text == "plankton"
    assert ["response_format" in body for body in script.requests] == [True, False, False]


def test_proxies_are_for_other_machines(
    server: tuple[str, Script], script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    assert ask(model(server[0])) == "plankton"
    monkeypatch.setenv("ALL_PROXY", "gopher://127.0.0.1:9")
    assert ask(model(server[0])) == "plankton"
    with pytest.raises(ConfigError, match=r"ALL_PROXY names cannot be used: .*gopher"):
        model("http://openai.example")


def test_streaming(server: tuple[str, Script], script: Script) -> None:
    pieces: list[str] = []
    assert ask(model(server[0]), on_token=pieces.append) == "".join(pieces) == "plankton"


def test_a_stream_that_just_ends(server: tuple[str, Script], script: Script) -> None:
    script.faults = ["unended"]
    with pytest.raises(ChatModelError, match="broke off its reply after 8 characters"):
        ask(model(server[0]), on_token=lambda text: None)


def test_busy_is_tried_again(server: tuple[str, Script], script: Script) -> None:
    script.faults = ["busy"]
    assert ask(model(server[0], retries=1)) == "plankton"


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("busy", "refuses: Error code: 503"),
        ("cut", "cannot be reached or cut the connection"),
        ("garbage", "sent a reply without choices"),
        ("slow", "gave no answer within 0.3 s"),
    ],
)
def test_failures(server: tuple[str, Script], script: Script, fault: str, message: str) -> None:
    script.faults = [fault]
    with pytest.raises(ChatModelError, match=message):
        ask(model(server[0], timeout=0.3))


def test_a_refused_key_is_not_told(server: tuple[str, Script], script: Script) -> None:
    script.faults = ["refuse"]
    with pytest.raises(ChatModelError, match="set the variable OPENAI_API_KEY") as caught:
        ask(model(server[0]))
    assert KEY not in str(caught.value)


def test_a_reply_cut_at_its_limit(server: tuple[str, Script], script: Script) -> None:
    script.faults = ["length"]
    assert model(server[0]).complete([ChatRequest((user("a"),), 20)])[0].truncated


def test_an_unknown_model_and_a_prompt_too_long(server: tuple[str, Script], script: Script) -> None:
    with pytest.raises(ChatModelError, match="knows no model 'large'"):
        ask(model(server[0], "large"))
    with pytest.raises(InputError, match="expected at most num_ctx, 256"):
        ask(model(server[0], window=256), "word " * 300)


def test_health(server: tuple[str, Script], script: Script) -> None:
    assert model(server[0]).check()[0].ok
    assert "small" in model(server[0], "large").check()[0].detail
    assert not model("http://127.0.0.1:9/v1").check()[0].ok


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'continual-learning-slm\[ace\]'"):
        model("http://localhost:1/v1")
