"""Run Benchmarks, View Forgetting Metrics."""

from __future__ import annotations

from continual_learning.cli.menu import prompts
from continual_learning.cli.menu.entry import Entry, Menu, flags

BENCHMARKS = {
    "needle": "needle: a made-up fact in texts of several lengths",
    "squad": "squad: each document learned alone, then asked about",
    "stream": "stream: documents one after another in one memory",
    "scale": "scale: the same questions in memories of several sizes",
    "forgetting": "forgetting: general questions and unrelated text",
}
DATA = "empty: the SQuAD sample that ships; or a SQuAD file, .jsonl with title, context and questions, squad of the hub"


def run_benchmark(menu: Menu) -> None:
    """One protocol with some strategies."""
    which = prompts.select("Which benchmark?", BENCHMARKS)
    arguments = ["benchmark", which]
    if which == "needle":
        lengths = prompts.text("Lengths in tokens", "250,500,1000")
        arguments += ["--tokens", lengths, "--documents", str(prompts.number("Documents of each length", 5))]
    elif which == "scale":
        data = prompts.text(f"Data ({DATA})", required=False)
        sizes = prompts.text("Documents in a memory, each size a multiple of the one before", "1,4,20")
        arguments += [*flags(data=data or None), "--sizes", sizes]
    else:
        data = prompts.text(f"Data ({DATA})", required=False)
        arguments += [*flags(data=data or None), "--documents", str(prompts.number("Documents", 8))]
    strategies = choose_strategies(["frozen", "in_context", "rag", "ttt"])
    report = prompts.text("Write a report to (.html, .md, .csv, .json; empty: none)", required=False)
    menu.run(*arguments, "--strategies", ",".join(strategies), *flags(report=report or None))


def view_forgetting(menu: Menu) -> None:
    """What the present memory did to all else."""
    menu.run("memory", "forgetting", menu.memory)


def choose_strategies(checked: list[str] | None = None) -> list[str]:
    """Some of all strategies; all of them are marked unless ``checked`` says which."""
    from continual_learning.settings.schema import strategy_names

    names = strategy_names()
    return prompts.several("Strategies", names, names if checked is None else checked)


ENTRIES = (
    Entry("Run Benchmarks", "compare strategies on many documents", run_benchmark),
    Entry(
        "View Forgetting Metrics",
        "the forgetting ratio, general questions and perplexity, before and after",
        view_forgetting,
    ),
)
