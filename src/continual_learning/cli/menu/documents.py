"""Learn from Document, Learn from Directory."""

from __future__ import annotations

from continual_learning.cli.menu import prompts
from continual_learning.cli.menu.entry import Entry, Menu, flags


def learn_document(menu: Menu) -> None:
    """One file, with questions of its own if there are some."""
    document = prompts.path("Document, a file or a URL")
    qa = prompts.path("File with questions and answers (empty: none)", required=False)
    learn(menu, document, menu.memory, qa=qa)


def learn_directory(menu: Menu) -> None:
    """All files of a folder and of those in it."""
    learn(menu, prompts.path("Folder", folders=True), menu.memory)


def learn(menu: Menu, source: str, memory: str, *more: str, strategy: str | None = None, qa: str = "") -> int:
    """`learn` into a memory. ``strategy`` is for one that is not there yet."""
    strategy = strategy or menu.strategies.get(memory)
    return menu.run("learn", source, *flags(memory=memory, strategy=strategy, qa=qa or None), *more)


ENTRIES = (
    Entry("Learn from Document", "one document into the memory", learn_document),
    Entry("Learn from Directory", "every document of a folder into the memory", learn_directory),
)
