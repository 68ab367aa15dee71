"""The `ollama` package against a server on the loopback: what goes right, and what may go wrong."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
from chat_servers import Script, ollama_server

from continual_learning.chat_models import ChatRequest, OllamaModel, ServerSettings, servers
from continual_learning.errors import ChatModelError, ConfigError, InputError, MissingExtraError
from continual_learning.model.chat_template import user

NAME = "qwen3.5:9b"
SCHEMA = {"type": "object", "properties": {"n": {"type": "string", "maxLength": 5}}}


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, Script]]:
    script = Script()
    with ollama_server(script) as url:
        yield url, script


@pytest.fixture
def script(server: tuple[str, Script], monkeypatch: pytest.MonkeyPatch) -> Script:
    monkeypatch.setattr(servers, "FIRST_PAUSE", 0.01)
    fresh = Script()
    server[1].__dict__.update(fresh.__dict__)
    return server[1]


def model(url: str, name: str = NAME, window: int = 4096, timeout: float = 5.0, retries: int = 1) -> OllamaModel:
    return OllamaModel(ServerSettings(name, url, window, timeout, retries, "strategies.ace"))


def ask(one: OllamaModel, text: str = "What?", **given: object) -> str:
    return one.complete([ChatRequest((user(text),), 20)], **given)[0].text  # type: ignore[arg-type]


def test_a_reply_and_what_was_asked_for(server: tuple[str, Script], script: Script) -> None:
    script.capabilities = ("completion", "thinking")
    [reply] = model(server[0]).complete([ChatRequest((user("What do they eat?"),), 20, SCHEMA)])
    assert (reply.text, reply.prompt_tokens, reply.tokens, reply.truncated) == ("plankton", 7, 3, False)
    [body] = script.requests
    assert body["options"] == {"num_ctx": 4096, "num_predict": 20, "temperature": 0, "seed": 0}
    assert body["format"] == SCHEMA and body["think"] is False and body["stream"] is False


def test_no_window_larger_than_the_models(server: tuple[str, Script], script: Script) -> None:
    script.context = 2048
    one = model(server[0])
    ask(one)
    assert one.window == script.requests[0]["options"]["num_ctx"] == 2048 and "think" not in script.requests[0]


def test_streaming(server: tuple[str, Script], script: Script) -> None:
    pieces: list[str] = []
    assert ask(model(server[0]), on_token=pieces.append) == "plankton"
    assert pieces == ["plan", "kton"]


def test_an_error_inside_a_stream_that_came_with_200(server: tuple[str, Script], script: Script) -> None:
    script.faults = ["stream-error"]
    with pytest.raises(ChatModelError, match="out of memory"):
        ask(model(server[0]), on_token=lambda text: None)


def test_a_stream_that_just_ends(server: tuple[str, Script], script: Script) -> None:
    script.faults = ["unended"]
    with pytest.raises(ChatModelError, match="broke off its reply after 8 characters"):
        ask(model(server[0]), on_token=lambda text: None)


def test_a_missing_model_names_the_command(server: tuple[str, Script], script: Script) -> None:
    with pytest.raises(ChatModelError, match=r"it has: qwen3.5:9b; run `ollama pull phi9`"):
        ask(model(server[0], "phi9"))


def test_a_model_that_goes_missing_later(server: tuple[str, Script], script: Script) -> None:
    one = model(server[0])
    ask(one)
    script.models = ()
    with pytest.raises(ChatModelError, match=r"run `ollama pull qwen3.5:9b`"):
        ask(one)


@pytest.mark.parametrize("fault", ["cut", "garbage", "busy"])
def test_what_may_pass_is_tried_again(server: tuple[str, Script], script: Script, fault: str) -> None:
    script.faults = [fault]
    assert ask(model(server[0])) == "plankton"
    assert len(script.requests) == 2


@pytest.mark.parametrize(
    ("fault", "message"),
    [("cut", "the connection was cut"), ("garbage", "not Ollama's protocol"), ("busy", "status 503: server busy")],
)
def test_what_does_not_pass_is_an_error(server: tuple[str, Script], script: Script, fault: str, message: str) -> None:
    script.faults = [fault, fault]
    with pytest.raises(ChatModelError, match=rf"{message}.*\(2 attempts\)"):
        ask(model(server[0]))


def test_a_slow_answer(server: tuple[str, Script], script: Script) -> None:
    one = model(server[0], timeout=0.2, retries=0)
    script.faults = ["slow"]
    with pytest.raises(ChatModelError, match=r"no answer within 0.2 s; raise strategies.ace.timeout"):
        ask(one)


def test_a_refusal_is_not_tried_again_and_tells_no_secret(server: tuple[str, Script], script: Script) -> None:
    script.faults = ["refuse"]
    with pytest.raises(ChatModelError, match=r"refuses: bad request with key \[secret\]"):
        ask(model(server[0]))
    assert len(script.requests) == 1


def test_a_reply_cut_at_its_limit(server: tuple[str, Script], script: Script) -> None:
    script.faults = ["length"]
    assert model(server[0]).complete([ChatRequest((user("a"),), 20)])[0].truncated


def test_a_prompt_cut_by_the_server(server: tuple[str, Script], script: Script) -> None:
    script.faults = ["full"]
    with pytest.raises(ChatModelError, match=r"cut the prompt to its 4096 tokens; raise strategies.ace.num_ctx"):
        ask(model(server[0]))


def test_a_prompt_that_does_not_fit_is_not_sent(server: tuple[str, Script], script: Script) -> None:
    with pytest.raises(InputError, match="expected at most num_ctx, 256"):
        ask(model(server[0], window=256), "word " * 300)
    assert not script.requests


def test_no_server() -> None:
    one = model("http://127.0.0.1:9", retries=0)
    with pytest.raises(ChatModelError, match="cannot be reached; run `ollama serve`"):
        ask(one)
    [finding] = one.check()
    assert not finding.ok and finding.fix == "ollama serve"


def test_health(server: tuple[str, Script], script: Script) -> None:
    assert [f.ok for f in model(server[0]).check()] == [True, True, True]
    missing = model(server[0], "phi9").check()[-1]
    assert not missing.ok and missing.fix == "ollama pull phi9"
    script.context = 2048
    small = model(server[0]).check()[-1]
    assert not small.ok and small.fix == "set strategies.ace.num_ctx to 2048"


def test_a_proxy_is_not_asked_for_a_server_of_this_machine(
    server: tuple[str, Script], script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    assert ask(model(server[0])) == "plankton"
    assert [f.ok for f in model(server[0]).check()] == [True, True, True]
    with pytest.raises(ChatModelError, match="cannot be reached"):
        ask(model("http://ollama.example", retries=0))


@pytest.mark.parametrize(
    ("url", "local"),
    [
        ("http://localhost:11434", True),
        ("http://ollama.localhost./v1", True),
        ("http://127.0.0.2", True),
        ("http://[::1]:80", True),
        ("http://0.0.0.0:11434", True),
        ("http://192.168.1.2", False),
        ("http://localhost.example.org", False),
    ],
)
def test_what_is_an_address_of_this_machine(url: str, local: bool) -> None:
    assert servers.is_local(url) is local


def test_a_proxy_that_cannot_be_used_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "gopher://127.0.0.1:9")
    for name in [name for name in sys.modules if name.partition(".")[0] == "ollama"]:
        monkeypatch.delitem(sys.modules, name)  # the package makes a client when it is imported
    with pytest.raises(ConfigError, match=r"ALL_PROXY names cannot be used: .*gopher"):
        model("http://ollama.example")


def test_addresses_carry_no_password() -> None:
    with pytest.raises(ConfigError, match="carries a user or password"):
        model("http://me:hunter2@localhost:11434")
    with pytest.raises(ConfigError, match="expected an address such as"):
        model("localhost:11434")


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ollama", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'continual-learning-slm\[ace\]'"):
        model("http://localhost:11434")
