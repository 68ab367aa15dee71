"""The menu entry of jitrl_full."""

from __future__ import annotations

from continual_learning.strategies.commands import MenuContext, MenuEntry


def _learn_then_ask(menu: MenuContext) -> None:
    """Learn documents, then ask questions with feedback."""
    menu.learn_then_ask("jitrl_full")


MENU = (
    MenuEntry(
        "JitRL",
        "JitRL Full (learn, then ask)",
        "just-in-time reinforcement from a memory of what worked",
        _learn_then_ask,
    ),
)
