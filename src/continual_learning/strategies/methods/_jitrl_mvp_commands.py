"""The menu entry of jitrl_mvp."""

from __future__ import annotations

from continual_learning.strategies.commands import MenuContext, MenuEntry


def _learn_then_ask(menu: MenuContext) -> None:
    """Learn documents, then ask questions with feedback."""
    menu.learn_then_ask("jitrl_mvp")


MENU = (
    MenuEntry(
        "JitRL",
        "JitRL MVP (learn, then ask)",
        "retrieve passages, and move the logits towards quoting them",
        _learn_then_ask,
    ),
)
