"""Model Info, Learning History, checkpoints, Switch Memory."""

from __future__ import annotations

from continual_learning.cli.menu import prompts
from continual_learning.cli.menu.entry import Entry, Menu

NEW = ""


def model_info(menu: Menu) -> None:
    """Layers, parameters, alpha, and whether the gates are calibrated."""
    menu.run("model", "info", "--memory", menu.memory)


def learning_history(menu: Menu) -> None:
    """Each document: file, tokens, final loss, time."""
    menu.run("memory", "documents", menu.memory)


def save_checkpoint(menu: Menu) -> None:
    """Name the present version."""
    name = prompts.text("Name of the checkpoint")
    overwrite: list[str] = []
    if name in _checkpoints(menu):
        if not prompts.confirm(f"Checkpoint {name} is there. Replace it?"):
            return
        overwrite = ["--overwrite"]
    menu.run("checkpoint", "save", name, "--memory", menu.memory, *overwrite)


def load_checkpoint(menu: Menu) -> None:
    """Make a checkpoint the present version."""
    found = _checkpoints(menu)
    if not found:
        list_checkpoints(menu)
        return
    name = prompts.select("Which checkpoint?", found)
    menu.run("checkpoint", "load", name, "--memory", menu.memory)


def list_checkpoints(menu: Menu) -> None:
    """All of them."""
    menu.run("checkpoint", "list", "--memory", menu.memory)


def switch_memory(menu: Menu) -> None:
    """Another memory for the entries, until the menu is left."""
    from continual_learning.cli.session import memory_names
    from continual_learning.settings.schema import load_config, strategy_names
    from continual_learning.strategies.registry import AUTO

    names = memory_names()
    choices = {name: name for name in names} | {NEW: "a new one"}
    name = prompts.select("Which memory?", choices, default=menu.memory if menu.memory in names else None)
    if name == NEW:
        name = prompts.text("Its name")
        if name not in names:
            known = {AUTO: f"{AUTO} (chosen by the first documents it learns)"} | {s: s for s in strategy_names()}
            preset = load_config().settings.strategy
            strategy = prompts.select("How does it learn?", known, default=preset if preset in known else None)
            if strategy != AUTO and menu.run("memory", "new", name, "--strategy", strategy) != 0:
                return
            menu.strategies[name] = strategy
    menu.chosen_memory = name
    menu.say(f"memory {name!r} from here on; `continual-learning config set memory {name}` makes it the usual one")


def _checkpoints(menu: Menu) -> dict[str, str]:
    """Name to a line about it; empty where the memory is not there yet."""
    from continual_learning.cli.session import memory_names
    from continual_learning.memory.store import Store

    if menu.memory not in memory_names():
        return {}
    found = Store.open(menu.memory, create=False).checkpoints()
    return {name: f"{name} ({v.created_at}, {v.documents} documents)" for name, v in found.items()}


ENTRIES = (
    Entry("Model Info", "layers, parameters, alpha, and whether the gates are calibrated", model_info),
    Entry("Learning History", "each document with its tokens, final loss and time", learning_history),
    Entry("Save Checkpoint", "name the present version of the memory", save_checkpoint),
    Entry("Load Checkpoint", "go back to a named version", load_checkpoint),
    Entry("List Checkpoints", "the named versions of the memory", list_checkpoints),
    Entry("Switch Memory", "work with another memory, or begin one", switch_memory),
)
