"""Chat with Model, Ask a Question."""

from __future__ import annotations

from continual_learning.cli.menu import prompts
from continual_learning.cli.menu.entry import Entry, Menu, flags


def chat(menu: Menu) -> None:
    """Talk until /quit or Ctrl-C."""
    if there_is_a_memory(menu):
        menu.run("chat", "--memory", menu.memory)


def ask(menu: Menu) -> None:
    """One question."""
    if there_is_a_memory(menu):
        menu.run("ask", prompts.text("Question"), "--memory", menu.memory)


def there_is_a_memory(menu: Menu) -> bool:
    """Whether the present memory is on disk. If not, those who want to talk to the base get an empty one."""
    from continual_learning.cli.session import stored_names

    if stored_names(menu.memory) is not None:
        return True
    if not prompts.confirm(f"Memory {menu.memory} holds nothing yet. Talk to the base model alone?", default=True):
        return False
    return menu.run("memory", "new", menu.memory, *flags(strategy=menu.strategies.get(menu.memory))) == 0


ENTRIES = (
    Entry("Chat with Model", "talk in turns with the model and its memory", chat),
    Entry("Ask a Question", "one question to the memory", ask),
)
