"""JitRL MVP and Full (learn, then ask); Compare All Engines."""

from __future__ import annotations

import json
from pathlib import Path

from continual_learning.cli.menu import prompts
from continual_learning.cli.menu.documents import learn
from continual_learning.cli.menu.entry import Entry, Menu
from continual_learning.cli.menu.measure import choose_strategies

VERDICTS = {"": "go on", "good": "good", "bad": "bad", "correct": "wrong, and this is right: …"}


def learn_then_ask(menu: Menu, strategy: str) -> None:
    """Documents into a memory of this strategy, then questions to it until an empty one."""
    from continual_learning.cli.session import stored_names

    memory = menu.memory_of(strategy)
    known = stored_names(memory) is not None
    wish = f"Document to learn (empty: ask what {memory} knows)" if known else "Document to learn"
    source = prompts.path(wish, required=not known)
    if source and learn(menu, source, memory, strategy=strategy) != 0:
        return
    ask_in_turn(menu, memory, feedback=True)


def ask_in_turn(menu: Menu, memory: str, feedback: bool = False) -> None:
    """Questions to a memory until an empty one. ``feedback``: after each answer, what it was worth."""
    while question := prompts.text("Question (empty: back)", required=False):
        if menu.run("ask", question, "--memory", memory) == 0 and feedback:
            _feedback(menu, memory)


def _feedback(menu: Menu, memory: str) -> None:
    verdict = prompts.select("Was it right?", VERDICTS)
    if verdict == "correct":
        menu.run("feedback", verdict, prompts.text("The right answer"), "--memory", memory)
    elif verdict:
        menu.run("feedback", verdict, "--memory", memory)


def compare_all(menu: Menu) -> None:
    """The same document and questions for every strategy."""
    document = prompts.path("Document")
    file = prompts.path("File with questions and answers (empty: type them)", required=False)
    file = file or type_questions(Path(document))
    menu.run("compare", document, "--qa", file, "--strategies", ",".join(choose_strategies()))


def type_questions(document: Path) -> str:
    """Questions and answers by hand, written to a QA file; its path."""
    rows: list[dict[str, str]] = []
    while question := prompts.text(f"Question {len(rows) + 1} (empty: that is all)", required=not rows):
        rows.append({"question": question, "answer": prompts.text("Its answer")})
    place = Path(prompts.text("Keep them in", f"{document.stem}.qa.jsonl", check=_new_file)).expanduser()
    place.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return str(place)


def _new_file(given: str) -> bool | str:
    place = Path(given).expanduser()
    if place.suffix != ".jsonl":
        return f"{given}: expected a name that ends in .jsonl"
    if place.exists():
        return f"{given} is there already; expected another name"
    return True if place.parent.is_dir() else f"{place.parent}: there is no such folder"


COMPARE = (Entry("Compare All Engines", "one document, the same questions, every strategy", compare_all),)
