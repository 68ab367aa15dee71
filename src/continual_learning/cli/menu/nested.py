"""Nested chat: fast and slow weights that learn from the conversation."""

from __future__ import annotations

from continual_learning.cli.menu.entry import Entry, Menu


def nested_chat(menu: Menu) -> None:
    """The conversation, until /quit, Ctrl-D, or Ctrl-C twice."""
    menu.run("nested", "--memory", menu.memory_of("nested"))


ENTRIES = (Entry("Nested Chat", "a conversation that the weights learn from", nested_chat),)
