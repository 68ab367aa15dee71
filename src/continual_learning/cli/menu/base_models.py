"""List, Inspect, Pull, Prepare and Remove a Model."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from continual_learning.cli.menu import prompts
from continual_learning.cli.menu.entry import Entry, Menu

if TYPE_CHECKING:
    from continual_learning.model.inventory import ModelFiles

OTHER = ""
HOW = {"--quick": "quick: minutes", "": "in full: hours, and better"}


def list_models(menu: Menu) -> None:
    """What is on this machine."""
    menu.run("model", "list")


def inspect_model(menu: Menu) -> None:
    """Facts about a base."""
    menu.run("model", "info", _which(menu, "Which model?", lambda model: model.installed))


def pull_model(menu: Menu) -> None:
    """Fetch a base, after its terms if it comes under some."""
    menu.run("model", "pull", _which(menu, "Which model?", lambda model: model.kind == "embedded"))


def prepare_model(menu: Menu) -> None:
    """Train what a base needs once. The command says how long it takes, and asks."""
    name = _which(menu, "For which model?", lambda model: model.installed)
    how = prompts.select("How?", HOW)
    menu.run("model", "prepare", name, *([how] if how else []))


def remove_model(menu: Menu) -> None:
    """Delete our copies of a base, and what was prepared for it. The command says what, and asks."""

    def kept(model: ModelFiles) -> bool:
        return bool(model.copy or model.prepared) or (model.kind == "embedded" and model.installed)

    menu.run("model", "remove", _which(menu, "Which model?", kept))


def _which(menu: Menu, question: str, fits: Callable[[ModelFiles], bool]) -> str:
    """One of the models on this machine that fit, or another by its name."""
    from continual_learning.model.inventory import means, models

    chosen = menu.config().settings.model.name
    found = [model for model in models(chosen) if fits(model)]
    names = {model.name: model.name for model in found} | {OTHER: "another: a GGUF file, a folder, a name of the hub"}
    preset = next((model.name for model in found if means(chosen, model)), None)
    return prompts.select(question, names, default=preset) or prompts.text("Its name or path")


ENTRIES = (
    Entry("List Models", "what is on this machine, its size and licence, what was prepared for it", list_models),
    Entry("Inspect a Model", "architecture, sizes, whether it chats, what was prepared for it", inspect_model),
    Entry("Pull a Model", "fetch it into the data folder", pull_model),
    Entry("Prepare a Model", "train what it needs once: a reader, a hypernetwork, a start", prepare_model),
    Entry("Remove a Model", "delete our copies, never your folder or file", remove_model),
)
