"""Every setting is read by code: each is changed, and something that a user can see changes with it.

Options of strategies are changed by their type (`candidates`), with no entry needed. Where a tiny random model shows
nothing of an option, its value must be read while a document is learned and questions are answered. An option that
matters only together with others, or only at certain values, has an entry in `BESIDE` or `VALUES`. All other settings
have an entry in `EFFECTS`. What needs a server, a screen or a trained model is tested where `ELSEWHERE` says.
A setting without an effect fails, and so does one that belongs to no strategy and has no entry.
"""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from document_makers import html, sitemap
from generations import watch_generations
from sites import Site
from tiny_models import make_tiny

from continual_learning.documents import Document
from continual_learning.errors import ContinualLearningError
from continual_learning.model.base_model import BaseModel
from continual_learning.options import StrategyConfig
from continual_learning.settings import aliases
from continual_learning.settings.schema import canonical, core_keys, load_config, strategy_names
from continual_learning.strategies.base import make_strategy, strategy_class
from continual_learning.strategies.gate import Retention
from continual_learning.strategies.methods.nested.config import ONE_LEVEL
from continual_learning.types import QuestionAnswer

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent.parent
DOCUMENTS = [
    Document(
        "Comb jellies eat plankton near the harbour of Lund, which has a wall. They have eight rows of cilia.",
        "Sea animals",
    ),
    Document("The lazy dog jumps over the house of Otto Brand. Nobody saw it before June 1920.", "Dog"),
]
QUESTIONS = [
    "What do comb jellies eat near the harbour of Lund?",
    "What do comb jellies eat in the museum of Vienna, where the emperor kept a glass whale?",
    "What is the capital of France?",
]
QA = [
    QuestionAnswer("What do comb jellies eat?", ("plankton",)),
    QuestionAnswer("What has a wall in Lund?", ("the harbour",)),
]

# What makes a random model learn in a moment, for each strategy that trains.
FEW: dict[str, Any] = {"passes": 1, "questions_per_fragment": 1, "guard": False}
QUICK: dict[str, dict[str, Any]] = {
    "ttt": {"neurons": 4, "passes": 1, "guard": False, "calibration_samples": 8},
    "doc2lora": {"mode": "simulated", "guard": False},
    "lora": FEW,
    "lora_per_document": FEW,
    "full_finetune": FEW,
    "nested": {"steps": (1, 1, 1)},
    "ace": {"loops": 1},
    "replay": FEW,
}
# Options that matter only beside others: by strategy and name, or by name for every strategy that has it.
GUARD: dict[str, Any] = {"guard": True}
BESIDE: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("min_recall_gain", "max_perplexity_rise", "min_general_kept", "probes"), GUARD),
    **{
        key: {"chunk_tokens": 20, "overlap_tokens": 0}
        for key in ("top_k", "overlap_tokens", "chunk_tokens", "min_score")
    },
    "alpha_decay": {"alpha_initial": 0.9},
    # Adam's first step is the same however long the gradient is.
    "alpha_initial": {"passes": 4},
    "alpha_min": {"passes": 4},
    "ttt.last_block": {"first_block": 2},
    "quote_tokens": {"reader": None},
    "hypernetwork": {"mode": "doc"},
    "doc2lora.simulated": {"mode": "doc"},
    "ace.api_key_variable": {"backend": "openai", "base_url": "http://127.0.0.1:9/v1"},
    "jitrl_full.share": {"policy": "interpolation"},
    "nested.weights": ONE_LEVEL,
    "nested.embeddings": {**ONE_LEVEL, "weights": "full"},
    "nested.top_k": {"temperature": 3.0},
    "nested.top_p": {"temperature": 3.0},
}
# Values that show the effect, where those of `candidates` do not, or not as fast.
VALUES: dict[str, list[Any]] = {
    "ttt.study_model_url": ["http://127.0.0.1:9/v1"],
    "max_seconds": [1e-6],
    "nested.periods": [(0, 10, 20)],
    "nested.learning_rates": [(1e-2, 1e-2, 1e-2)],
    "nested.steps": [(2, 2, 2)],
    "nested.optimizers": [("m3", "sgd", "sgd")],
    "nested.replay": [(0.0, 0.0, 0.0)],
    "nested.top_k": [1],
    "nested.top_p": [1e-6],
    "quote.quote_tokens": [4],
    "mini_batch_tokens": [40],
    "ttt.last_block": [3],
    "chunk_tokens": [40, 16],
    "clip_norm": [1e-4],
    "passage_tokens": [16],
    "max_tokens": [16],
}
# Options that matter only when there is an earlier document.
SECOND = {"replay_ratio", "top_k", "alpha_decay"}
# Settings whose effect needs more than a tiny model and this file, with the test that shows it: they are left out here.
_NESTED, _SERVER = "tests/test_nested_session.py::test_", "tests/chat_models/test_ollama_server.py::test_"
ELSEWHERE: dict[str, str] = {
    "nested.context_window": _NESTED + "the_window_bounds_the_prompt",
    "nested.adapt_every_turn": _NESTED + "when_and_what_to_learn",
    "nested.adapt_every_n_turns": _NESTED + "when_and_what_to_learn",
    "nested.adapt_user_only": _NESTED + "when_and_what_to_learn",
    "nested.cumulative_context": _NESTED + "when_and_what_to_learn",
    "nested.auto_reset_threshold": _NESTED + "automatic_reset_and_save",
    "nested.auto_save_every_n": _NESTED + "automatic_reset_and_save",
    "strategies.ace.num_ctx": _SERVER + "no_window_larger_than_the_models",
    "strategies.ace.timeout": _SERVER + "a_slow_answer",
    "strategies.ace.playbook_dir": "tests/cli/test_documented_settings.py::test_playbooks_are_saved_in_their_folder",
    "strategies.doc2lora.base_model": "tests/cli/test_documented_settings.py::test_the_base_of_doc2lora_is_its_own",
    **{
        f"strategies.{name}.reader": "tests/reading/test_answering.py::test_a_strategy_answers_with_the_reader"
        for name in ("ttt", "quote", "rag", "in_context", "jitrl_mvp")
    },
    "strategies.ttt.passages_together": "tests/strategies/test_ttt.py::test_so_many_passages_run_together",
    "strategies.ttt.start": "tests/training/test_start.py::test_ttt_begins_at_the_start",
    "strategies.jitrl_full.search": "tests/strategies/test_jitrl_full.py::test_faiss_finds_what_exact_search_finds",
    "strategies.jitrl_mvp.encoder": "tests/retrieval/test_dense.py::test_an_encoder_is_asked_for_vectors",
    "strategies.jitrl_full.encoder": "tests/retrieval/test_dense.py::test_an_encoder_is_asked_for_vectors",
    "nested.checkpoint_dir": "tests/cli/test_cli_nested.py::test_weights_are_saved_in_the_folder_that_is_set",
    "strategies.ace.host": "tests/strategies/test_ace_end_to_end.py::test_the_roles_on_every_backend",
    "strategies.ace.base_url": "tests/strategies/test_ace_end_to_end.py::test_the_roles_on_every_backend",
    "strategies.ace.server_model": "tests/strategies/test_ace_end_to_end.py::test_the_roles_on_every_backend",
}

_SPEAKER = "tests/cli/test_cli_speaker.py::test_"
ELSEWHERE |= {
    "speaker.model": _SPEAKER + "a_speaker_in_the_settings",
    "speaker.num_ctx": _SPEAKER + "a_speaker_in_the_settings",
    "speaker.timeout": _SPEAKER + "a_speaker_in_the_settings",
    "speaker.host": _SPEAKER + "a_speaker_in_the_settings",
    "speaker.api_key_variable": _SPEAKER + "a_speaker_in_the_settings",
}

Seen = list[Any]


# -- options of strategies -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    """A tiny model in whose window worked examples and documents fit."""
    folder = make_tiny("llama", tmp_path_factory.mktemp("wide"), max_position_embeddings=1536)
    return BaseModel.load(str(folder), device="cpu")


def observe(name: str, options: dict[str, Any], base: BaseModel, field: str, read: set[str] | None = None) -> Seen:
    """All that can be seen of learning a document or two and answering questions with these options.

    ``read`` takes the names of the options whose values are read on the way.
    """
    seen: Seen = []
    monkeypatch = pytest.MonkeyPatch()
    calls = watch_generations(monkeypatch)
    try:
        strategy = make_strategy(name, options)
        if read is not None:
            strategy = strategy_class(name)(recording(strategy.config, read))
        state = strategy.init(base)
        for document in DOCUMENTS[: 2 if field in SECOND else 1]:
            state, report = strategy.learn(base, state, document, QA if labelled(name, field) else ())
            seen += [
                state.digest(),
                report.accepted,
                report.reason,
                report.bytes,
                report.tokens_left_out,
                report.warnings,
            ]
            seen += [report.recall_before, report.recall_after, report.general_kept, report.perplexity_change]
        for answer in strategy.answer(base, state, QUESTIONS, max_new_tokens=4):
            seen += [answer.text, answer.sources]
        seen.append([strategy.affects(base, state, question) for question in QUESTIONS])
    except ContinualLearningError as error:
        seen.append(f"{type(error).__name__}: {error}")
    finally:
        monkeypatch.undo()
    return [*seen, [call.prompts for call in calls]]


def labelled(name: str, field: str) -> bool:
    """Whether questions with answers come with the documents: ace learns a playbook from those alone."""
    return field == "min_recall_gain" or (name == "ace" and field != "self_reflection")


def recording(config: StrategyConfig, read: set[str]) -> StrategyConfig:
    """The same settings, which note in ``read`` whose values are asked for."""
    fields = set(type(config).model_fields)

    def note(self: StrategyConfig, name: str) -> Any:
        if name in fields:
            read.add(name)
        return object.__getattribute__(self, name)

    kind = type("Recording", (type(config),), {"__getattribute__": note, "__doc__": "Notes what is read."})
    made = kind(**config.model_dump())
    read.clear()  # of what the validators look at, nothing counts
    return made


def candidates(annotation: Any, default: Any) -> Iterator[Any]:
    """Other values of a type."""
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        for kind in inner:
            if kind is not type(None):
                yield from candidates(kind, default)
    elif origin is Literal:
        yield from (value for value in inner if value != default)
    elif annotation is bool:
        yield not default
    elif annotation is int:
        yield from (value for value in (1, 2, (default or 0) + 1, (default or 8) * 2, 16, 0) if value != default)
    elif annotation is float:
        yield from (
            value for value in (0.5, 0.0, 1.0, (default or 0.1) / 4, (default or 1) * 4, 1e-4) if value != default
        )
    elif annotation in (str, Path):
        yield from (value for value in ("another", "/nowhere/at/all") if value != default)


def fields() -> list[tuple[str, str]]:
    every = [(name, field) for name in strategy_names() for field in strategy_class(name).Config.model_fields]
    return [(name, field) for name, field in every if f"strategies.{name}.{field}" not in ELSEWHERE]


@pytest.fixture(scope="module")
def before() -> dict[str, Seen]:
    """What was seen with the options as they are, by strategy and options beside."""
    return {}


@pytest.fixture(autouse=True)
def _measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """A random model knows nothing that it could forget: the check after learning is told these figures."""
    monkeypatch.setattr("continual_learning.strategies.gate.retention", lambda *_: Retention(0.7, 0.2))
    monkeypatch.setattr("continual_learning.strategies.methods.ace.roles.INSIGHT_CHARS", 20)
    monkeypatch.setattr("continual_learning.strategies.methods.ace.roles.ANSWER_TOKENS", 4)
    monkeypatch.setattr("continual_learning.strategies.methods.ace._RETRIES", 0)
    monkeypatch.setattr("continual_learning.strategies.methods.nested.learning.MAX_LOSS_RISE", 50.0)


@pytest.mark.parametrize(("name", "field"), fields(), ids=str)
def test_every_option_of_a_strategy_has_an_effect(
    name: str, field: str, wide: BaseModel, before: dict[str, Seen]
) -> None:
    known = strategy_class(name).Config.model_fields
    beside = {**QUICK.get(name, {}), **BESIDE.get(f"{name}.{field}", BESIDE.get(field, {}))}
    base = {key: value for key, value in beside.items() if key in known}
    default = base.get(field, known[field].get_default())
    key = f"{name} {field in SECOND} {labelled(name, field)} {sorted(base.items(), key=str)}"
    if key not in before:
        before[key] = observe(name, base, wide, field)
    tried = []
    for value in VALUES.get(f"{name}.{field}", VALUES.get(field, list(candidates(known[field].annotation, default)))):
        found = observe(name, {**base, field: value}, wide, field)
        if isinstance(found[0], str) and found[0].startswith("ConfigError"):
            continue  # no value of this option
        if found != before[key]:
            return
        tried.append(value)
    read: set[str] = set()
    observe(name, base, wide, field, read)
    if field in read:
        return  # by learning or answering, though a tiny random model shows nothing of it
    raise AssertionError(
        f"strategies.{name}.{field}: changed from {default!r} to {tried}, and nothing could be seen to change; "
        "either no code reads it, or it needs an entry in BESIDE, VALUES or ELSEWHERE of this file"
    )


def test_an_option_that_no_code_reads_would_be_found(wide: BaseModel, monkeypatch: pytest.MonkeyPatch) -> None:
    from continual_learning.strategies.baselines.in_context import InContext, InContextConfig

    class WithIdle(InContextConfig):
        idle: int = 0

    monkeypatch.setattr(InContext, "Config", WithIdle)
    with pytest.raises(AssertionError, match=r"in_context\.idle"):
        test_every_option_of_a_strategy_has_an_effect("in_context", "idle", wide, {})


# -- settings that are no strategy's own -----------------------------------------------------------


class Desk:
    """A user in an empty folder with a settings file, the tiny model and a web site."""

    def __init__(self, cli: Any, base: BaseModel, site: Site, monkeypatch: pytest.MonkeyPatch):
        self.cli, self.base, self.site, self.monkeypatch = cli, base, site, monkeypatch
        self.loaded: list[Any] = []
        self.slept: list[float] = []
        monkeypatch.setattr("continual_learning.model.base_model.BaseModel.load", self._load)
        monkeypatch.setattr("time.sleep", self.slept.append)
        self.settings: dict[str, Any] = {}

    def _load(self, *arguments: Any) -> BaseModel:
        self.loaded.append(arguments)
        return self.base

    def set(self, key: str, value: Any) -> None:
        section, _, rest = key.rpartition(".")
        (self.settings.setdefault(section, {}) if section else self.settings)[rest] = value
        Path("continual-learning.yaml").write_text(yaml.safe_dump(self.settings))


def learning(desk: Desk) -> Any:
    """A document is learned and a question asked: names, how the model was loaded, the answer's length."""
    Path("a.txt").write_text("Comb jellies eat plankton.")
    made = desk.cli("learn", "a.txt", "--json").json
    asked = desk.cli("ask", "What?", "--json").json
    return [made["memory"], made["strategy"], desk.loaded, [a["tokens"] for a in asked["answers"]]]


def reading(path: str) -> Callable[[Desk], Any]:
    """A page of the site is read: what came of it, and how long was waited between pages."""

    def read(desk: Desk) -> Any:
        site = desk.site
        pages = [site.put(f"/{n}.html", html(f"Page {n} is about the sea and all that lives in it.")) for n in "ab"]
        site.put("/sitemap.xml", sitemap(*pages), "text/xml")
        site.redirect("/moved", "/a.html")

        def slow(handler: Any) -> None:
            import threading

            threading.Event().wait(0.5)
            handler.send_response(200)
            handler.send_header("Content-Type", "text/plain")
            handler.end_headers()
            handler.wfile.write(b"slow")

        site.pages["/slow"] = slow
        found = desk.cli("documents", "show", site.url + path, "--json").json
        return [found["documents"], found["skipped"], list(desk.slept)]

    return read


def choosing(desk: Desk) -> Any:
    """A strategy is chosen for two documents: which, what rules the others out, and what they take in all."""
    Path("a.txt").write_text("Comb jellies eat plankton.")
    Path("b.txt").write_text("They have eight rows of cilia.")
    desk.monkeypatch.setattr("continual_learning.app.estimate.matmul_gflops", lambda _device: 60.0)
    found = desk.cli("learn", "a.txt", "b.txt", "--dry-run", "--json").json
    return [(s["strategy"], s["total_seconds"], s["ruled_out"]) for s in found["strategies"]]


EFFECTS: dict[str, tuple[Any, Callable[[Desk], Any]]] = {
    "model.name": ("another", learning),
    "model.device": ("cpu", learning),
    "model.dtype": ("float32", learning),
    "model.precision": ("int8", learning),
    "model.frozen_weights": ("int8", learning),
    "strategy": ("rag", learning),
    "auto.uses": (100, choosing),
    "auto.keep_text": (False, choosing),
    "auto.seconds": (1e-9, choosing),
    "memory": ("another", learning),
    "max_new_tokens": (1, learning),
    "documents.max_bytes": (10, reading("/a.html")),
    "documents.timeout": (0.1, reading("/slow")),
    "documents.max_redirects": (0, reading("/moved")),
    "documents.max_pages": (1, reading("/sitemap.xml")),
    "documents.pause": (0.25, reading("/sitemap.xml")),
    "documents.allow_private": (True, reading("/a.html")),
}


@pytest.fixture
def desk(cli: Any, tiny_base: BaseModel, site: Site, monkeypatch: pytest.MonkeyPatch) -> Desk:
    return Desk(cli, tiny_base, site, monkeypatch)


@pytest.mark.parametrize("key", [key for key in core_keys() if key not in ELSEWHERE])
def test_every_other_setting_has_an_effect(key: str, desk: Desk) -> None:
    assert key in EFFECTS, f"{key}: no entry in EFFECTS or ELSEWHERE says what changes with it"
    value, look = EFFECTS[key]
    assert value != {s.key: s.value for s in load_config().items()}[key]
    desk.set("strategy", "in_context")
    if key != "documents.allow_private":
        desk.set("documents.allow_private", True)
    first = look(desk)
    desk.loaded, desk.slept[:] = [], []
    desk.set(key, value)
    if look is learning and key != "memory":
        desk.cli("memory", "delete", "default", "--yes")
    assert look(desk) != first


# -- documented names ------------------------------------------------------------------------------


def test_the_table_of_documented_names_is_true() -> None:
    rows = re.findall(
        r"^\| `(\S+)` \| .* \| `(\S+)` \| (.*) \|$", (ROOT / "docs/configuration.md").read_text(), re.MULTILINE
    )
    config = load_config(environ={}, folder=Path("/nonexistent"))
    values = {s.key: s.value for s in config.items(strategies=True)}
    assert {row[0] for row in rows} >= set(aliases.RENAMED)
    for key, here, default in rows:
        assert here == canonical(key)
        value = values[here]
        if value is None:
            assert not default[0].isdigit(), key  # in words: to the end
        elif isinstance(value, bool):
            assert default == str(value).lower(), key
        else:
            assert (float(default) if isinstance(value, int | float) else default) == value, key


def test_renamed_keys_lead_to_options_that_there_are() -> None:
    for key in aliases.renamed(strategy_names()).values():
        _, strategy, option = key.split(".")
        assert option in strategy_class(strategy).Config.model_fields, key
    assert not set(aliases.STRATEGY_SECTIONS) & {key.partition(".")[0] for key in core_keys()}
