"""The status panel: model, strategy, memory, documents, device memory."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from continual_learning.cli.menu.entry import Menu
from continual_learning.cli.output import clean, size
from continual_learning.errors import ContinualLearningError

if TYPE_CHECKING:
    from collections.abc import Mapping

NARROW = 40


def show(menu: Menu) -> int:
    """Print the panel; on a narrow terminal, its lines alone. Returns its height."""
    console = Console()
    facts = status(menu)
    if console.width < NARROW:
        for name, value in facts.items():
            console.print(Text(f"{name}: {clean(value)}"), no_wrap=True, overflow="ellipsis")
        return len(facts)
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts.items():
        table.add_row(name, Text(clean(value)))
    panel = Panel(table, title="Continual Learning SLM", title_align="left", width=min(console.width, 100))
    console.print(panel)
    return len(console.render_lines(panel))


def status(menu: Menu) -> Mapping[str, str]:
    """What the panel says. What cannot be read is said in its place: the menu is where it can be mended."""
    from continual_learning.cli.session import head_meta, kept_model, stored_names
    from continual_learning.memory.store import Store
    from continual_learning.settings.schema import load_config

    try:
        config = load_config({"memory": menu.chosen_memory})
        settings = config.settings
        stored = stored_names(settings.memory)
        strategy, model = stored or (settings.strategy, config.model_for(settings.strategy))
        base = kept_model()
        loaded = base is not None and base.name == model
        facts = {
            "model": f"{model} ({'loaded' if loaded else 'loaded when it is needed'})",
            "strategy": strategy,
            "memory": settings.memory,
        }
        if stored is None:
            facts["documents"] = "none; the first one that is learned makes the memory"
        else:
            store = Store.open(settings.memory)
            count = len((head_meta(store) or {}).get("documents", ()))
            facts["documents"] = f"{count}, {size(store.head.bytes if store.head else 0)}"
    except ContinualLearningError as error:
        facts = {"problem": " ".join(str(error).split())}
    return {**facts, "device memory": device_memory()}


def device_memory() -> str:
    """Memory in use on the device that models run on."""
    import psutil

    torch = sys.modules.get("torch")  # not imported for this: that takes seconds
    if torch is not None and torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        return f"{torch.cuda.get_device_name()}: {size(total - free)} of {size(total)} in use"
    memory = psutil.virtual_memory()
    mine = psutil.Process().memory_info().rss
    return f"{size(memory.total - memory.available)} of {size(memory.total)} in use, {size(mine)} of it here"
