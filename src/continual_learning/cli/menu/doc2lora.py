"""Doc-to-LoRA: learn, ask, switch mode."""

from __future__ import annotations

from continual_learning.cli.menu import prompts
from continual_learning.cli.menu.documents import learn
from continual_learning.cli.menu.engines import ask_in_turn
from continual_learning.cli.menu.entry import Entry, Menu

STRATEGY = "doc2lora"
KEY = f"strategies.{STRATEGY}.mode"
MODES = {
    "doc": "doc: documents become adapters",
    "text": "text: descriptions of tasks become adapters",
    "simulated": "simulated: random weights, to see the steps and nothing more",
}


def learn_document(menu: Menu) -> None:
    """A document, or in mode text a description, into an adapter."""
    source = prompts.path("Description of a task" if _mode() == "text" else "Document")
    learn(menu, source, menu.memory_of(STRATEGY), "--set", f"mode={_mode()}", strategy=STRATEGY)


def ask(menu: Menu) -> None:
    """Questions to the adapted model until an empty one."""
    ask_in_turn(menu, menu.memory_of(STRATEGY))


def switch_mode(menu: Menu) -> None:
    """Another mode, kept in the settings; says what that mode still needs."""
    mode = prompts.select("Mode", MODES, default=_mode())
    if menu.run("config", "set", KEY, mode) != 0:
        return
    if _mode() != mode:
        menu.say(f"the setting doc2lora.simulated goes before mode {mode}; set it to false")
    elif lacking := _lacking():
        menu.say(f"mode {mode} cannot learn yet: {lacking}")


def _options() -> dict[str, object]:
    from continual_learning.settings.schema import load_config
    from continual_learning.strategies.base import make_strategy

    return make_strategy(STRATEGY, load_config().strategy_options(STRATEGY)).config.model_dump(mode="json")


def _mode() -> str:
    return str(_options()["mode"])


def _lacking() -> str | None:
    from continual_learning.settings.schema import load_config
    from continual_learning.strategies.methods.doc2lora.generators import missing

    options = _options()
    source = options["hypernetwork"]
    return missing(load_config().model_for(STRATEGY, options), options["mode"], None if source is None else str(source))  # type: ignore[arg-type]


ENTRIES = (
    Entry("Doc-to-LoRA Learn", "a document into an adapter, in one pass", learn_document),
    Entry("Doc-to-LoRA Ask", "questions to the adapted model", ask),
    Entry("Doc-to-LoRA Switch Mode", "documents, descriptions, or simulated", switch_mode),
)
