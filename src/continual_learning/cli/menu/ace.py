"""ACE: a playbook that grows with what is learned."""

from __future__ import annotations

from pathlib import Path

from continual_learning.cli.ace import placed
from continual_learning.cli.menu import prompts
from continual_learning.cli.menu.documents import learn
from continual_learning.cli.menu.engines import ask_in_turn
from continual_learning.cli.menu.entry import Entry, Menu

STRATEGY = "ace"


def learn_document(menu: Menu) -> None:
    """A document, with questions and answers if there are some."""
    document = prompts.path("Document")
    qa = prompts.path("File with questions and answers (empty: none)", required=False)
    learn(menu, document, menu.memory_of(STRATEGY), strategy=STRATEGY, qa=qa)


def ask(menu: Menu) -> None:
    """Questions to the playbook until an empty one."""
    ask_in_turn(menu, menu.memory_of(STRATEGY))


def save_playbook(menu: Menu) -> None:
    """The playbook into a file."""
    file = str(Path(prompts.text("Write the playbook to", "playbook.json")).expanduser())
    overwrite: list[str] = []
    if placed(Path(file)).exists():
        if not prompts.confirm(f"{file} is there. Replace it?"):
            return
        overwrite = ["--overwrite"]
    menu.run("ace", "save", file, "--memory", menu.memory_of(STRATEGY), *overwrite)


def load_playbook(menu: Menu) -> None:
    """A playbook from a file."""
    menu.run("ace", "load", prompts.path("Playbook"), "--memory", menu.memory_of(STRATEGY))


ENTRIES = (
    Entry("ACE Learn Document", "a document into the playbook, questions optional", learn_document),
    Entry("ACE Ask", "questions to the playbook", ask),
    Entry("ACE Save Playbook", "the playbook into a file", save_playbook),
    Entry("ACE Load Playbook", "a playbook from a file", load_playbook),
)
