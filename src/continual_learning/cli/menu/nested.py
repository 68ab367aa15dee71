"""Nested chat: fast and slow weights that learn from the conversation."""

from __future__ import annotations

from continual_learning.cli.menu.entry import Entry, Menu, has_option

COMMAND = "nested"
STRATEGY = "nested"


def nested_chat(menu: Menu) -> None:
    """The conversation, until /quit or Ctrl-C."""
    memory = ["--memory", menu.memory_of(STRATEGY)] if has_option(COMMAND, "--memory") else []
    menu.run(COMMAND, *memory)


ENTRIES = (Entry("Nested Chat", "a conversation that the weights learn from", nested_chat, COMMAND, STRATEGY),)
