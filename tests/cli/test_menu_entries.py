"""Every entry of the menu, at a terminal: one walk through all of them, in one process on a tiny random model."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from continual_learning.settings.schema import strategy_names

if os.name != "posix":
    pytest.skip("needs a pseudo-terminal", allow_module_level=True)

from menu_terminal import CTRL_C, DOWN, ENTER, MENU, SPACE, Terminal

from continual_learning.cli.menu.app import EXIT, entries

pytestmark = pytest.mark.slow

PROGRAM = """
import sys, time
from continual_learning.cli.main import main
from continual_learning.strategies.baselines.in_context import InContext
at_once = InContext.learn
def learn(self, base, state, document, *more, **others):
    if "takes its time" in document.text:
        print("working", flush=True)
        time.sleep(60)
    return at_once(self, base, state, document, *more, **others)
InContext.learn = learn
sys.modules["pypdf"] = None
sys.exit(main([]))
"""
"""The menu, with a document that can be interrupted, and without the library that reads PDF files."""
UNEXPECTED = ("error: ", "Traceback", "Usage:")
OUTER = "--outer inner_steps=1 --outer passages_per_step=1 --outer validation_passages=1 --set neurons=4"
"""What makes an outer loop short."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The working folder: documents and questions."""
    here = tmp_path_factory.mktemp("here")
    (here / "jellies.txt").write_text("Comb jellies eat plankton. They swim with rows of cilia.")
    (here / "slow.txt").write_text("This one takes its time.")
    (here / "many").mkdir()
    (here / "many" / "one.txt").write_text("The cat lives in the house.")
    (here / "many" / "two.md").write_text("# Paris\nParis is the capital of France.")
    (here / "paper.pdf").write_bytes(b"%PDF-1.4\n")
    articles = [
        {
            "title": town,
            "context": f"The lazy dog lives in {town}.",
            "questions": [{"question": "Where?", "answer": town}],
        }
        for town in ("Lund", "Paris")
    ]
    (here / "articles.jsonl").write_text("".join(json.dumps(article) + "\n" for article in articles))
    return here


@pytest.fixture(scope="module")
def environment(tiny_llama_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return {
        "CONTINUAL_LEARNING_HOME": str(tmp_path_factory.mktemp("home")),
        "CONTINUAL_LEARNING_MODEL__NAME": str(tiny_llama_dir),
        "CONTINUAL_LEARNING_STRATEGY": "in_context",
        "CONTINUAL_LEARNING_MAX_NEW_TOKENS": "4",
        "CONTINUAL_LEARNING_STRATEGIES__DOC2LORA__GUARD": "false",  # a random adapter is nothing to keep
        "OMP_NUM_THREADS": "1",
    }


@pytest.fixture
def menu(folder: Path, environment: dict[str, str]) -> Iterator[Terminal]:
    """The menu, in one process."""
    terminal = Terminal(folder, environment, columns=180, arguments=["-c", PROGRAM])
    yield terminal
    terminal.close()


Step = Callable[[Terminal, Path, dict[str, str]], None]
STEPS: list[Step] = []


def step(function: Step) -> Step:
    """A part of the one walk through the menu: later ones find the memories of earlier ones."""
    STEPS.append(function)
    return function


def settled(found: str) -> str:
    """What an entry showed, in which nothing may be a surprise."""
    assert not [words for words in UNEXPECTED if words in found], found
    return found


def learn(menu: Terminal, entry: str, prompt: str, path: str, *more: str) -> str:
    menu.choose(entry)
    menu.answer(prompt, path)
    for _ in more:
        menu.answer("questions and answers", "")
    return settled(menu.done())


@step
def the_panel_says_what_there_is(menu: Terminal, here: Path, environment: dict[str, str]) -> None:
    shown = menu.text()
    for fact in ("model", "strategy", "memory", "documents", "device memory", "in_context", "default", "GB in use"):
        assert fact in shown
    assert all(entry.title in shown for _, group in entries() for entry in group) and EXIT in shown


@step
def ask_without_a_memory_talks_to_the_base(menu: Terminal, here: Path, environment: dict[str, str]) -> None:
    menu.choose("Ask a Question")
    menu.answer("Talk to the base model alone?", "y")
    menu.answer("? Question", "What do comb jellies eat?")
    shown = settled(menu.done())
    assert "$ continual-learning ask 'What do comb jellies eat?' --memory default" in shown
    assert "holds no document yet; the base model answers" in shown


@step
def learn_from_document_and_the_history(menu: Terminal, here: Path, environment: dict[str, str]) -> None:
    assert "1 of 1 document learned" in learn(menu, "Learn from Document", "Document, a file", "jellies.txt", "qa")
    assert "loaded)" in menu.text() and "1, " in menu.below()  # the panel: one document, so many bytes
    menu.choose("Learning History")
    shown = settled(menu.done())
    row = next(line for line in shown.splitlines() if line.startswith("jellies.txt"))
    assert all(head in shown for head in ("file", "tokens", "final loss", "seconds", "learned_at"))
    assert row.split()[1] == "jellies" and row.split()[2].isdigit()


@step
def a_path_that_is_not_there_is_refused_at_the_prompt(menu: Terminal, here: Path, environment: dict[str, str]) -> None:
    menu.choose("Learn from Document")
    menu.answer("Document, a file", "nowhere.txt")
    menu.wait_prompt("there is no such file or folder")
    menu.send(CTRL_C)
    menu.wait("back to the menu", MENU)


@step
def learn_from_directory(menu: Terminal, here: Path, environment: dict[str, str]) -> None:
    assert "2 of 2 documents learned" in learn(menu, "Learn from Directory", "Folder", "many")


@step
def ask_and_chat_with_documents(menu: Terminal, here: Path, environment: dict[str, str]) -> None:
    menu.choose("Ask a Question")
    menu.answer("? Question", "What do comb jellies eat?")
    assert "from: jellies" in settled(menu.done())
    menu.choose("Chat with Model")
    menu.wait("/quit", "\n>")
    menu.send("Hello there" + ENTER)
    menu.wait("from: ", "\n>")
    menu.send("/clear" + ENTER)
    menu.wait("the conversation is cleared", "\n>")
    menu.send("/quit" + ENTER)
    settled(menu.done())


@step
def ctrl_c_in_a_chat_comes_back(menu: Terminal, here: Path, environment: dict[str, str]) -> None:
    menu.choose("Chat with Model")
    menu.wait("/quit", "\n>")
    menu.send(CTRL_C)
    assert "interrupted" in settled(menu.done())


@step
def ctrl_c_while_learning_comes_back_and_keeps_the_memory_as_it_was(
    menu: Terminal, here: Path, environment: dict[str, str]
) -> None:
    menu.choose("Learn from Document")
    menu.answer("Document, a file", "slow.txt")
    menu.answer("questions and answers", "")
    menu.wait("working")
    menu.send(CTRL_C)
    assert "interrupted; the memory is as it was" in settled(menu.done())
    menu.choose("Learning History")
    assert "slow.txt" not in settled(menu.done())


@step
def checkpoints(menu: Terminal, here: Path, environment: dict[str, str]) -> None:
    menu.choose("Load Checkpoint")
    assert "has no checkpoint" in settled(menu.done())
    menu.choose("Save Checkpoint")
    menu.answer("Name of the checkpoint", "before-lunch")
    assert "checkpoint 'before-lunch'" in settled(menu.done())
    menu.choose("Save Checkpoint")
    menu.answer("Name of the checkpoint", "before-lunch")
    menu.answer("Replace it?", "y")
    assert "--overwrite" in settled(menu.done())
    menu.choose("List Checkpoints")
    assert "before-lunch" in settled(menu.done()).split("--memory default")[1]
    menu.choose("Load Checkpoint")
    menu.answer("Which checkpoint?", "before")
    assert "with the 3 documents of checkpoint 'before-lunch'" in settled(menu.done())


@step
def model_info(menu: Terminal, here: Path, environment: dict[str, str]) -> None:
    menu.choose("Model Info")
    shown = settled(menu.done())
    facts = dict(line.split(maxsplit=1) for line in shown.splitlines()[1:] if len(line.split(maxsplit=1)) == 2)
    assert (facts["layers_total"], facts["layers_modified"], facts["layers_frozen"]) == ("4", "0", "4")
    assert int(facts["parameters"]) > 0 and facts["trainable_parameters"] == "0"
    assert {"alpha", "gates_calibrated"} <= set(facts)


@step
def base_models(menu: Terminal, here: Path, environment: dict[str, str]) -> None:
    name = Path(environment["CONTINUAL_LEARNING_MODEL__NAME"]).name
    menu.choose("List Models")
    assert name in settled(menu.done())
    menu.choose("Inspect a Model")
    menu.answer("Which model?", name)
    assert "fingerprint" in settled(menu.done())
    menu.choose("Prepare a Model")
    menu.answer("For which model?", name)
    menu.answer("How?", "quick")
    menu.answer("[y/N]", "n")
    shown = settled(menu.done())
    assert "--quick" in shown and "tokens a second" in shown and "nothing was made" in shown
    for entry in ("Pull a Model", "Remove a Model"):
        menu.choose(entry)
        menu.answer("Which model?", "another")
        menu.wait("Its name or path")
        menu.send(CTRL_C)
        menu.wait("back to the menu")


@step
def forgetting_metrics(menu: Terminal, here: Path, environment: dict[str, str]) -> None:
    menu.choose("View Forgetting Metrics")
    shown = settled(menu.done())
    assert "general questions kept" in shown and "unrelated perplexity" in shown and "forgetting ratio" in shown


def mark(menu: Terminal, strategy: str, marked: int) -> None:
    """Mark one strategy alone. ``marked``: how many are marked beforehand."""
    menu.wait("Strategies")
    everything = marked == len(strategy_names())
    menu.send(("a" if everything else "aa") + DOWN * strategy_names().index(strategy) + SPACE + ENTER)


@step
def benchmark(menu: Terminal, here: Path, environment: dict[str, str]) -> None:
    menu.choose("Run Benchmarks")
    menu.answer("Which benchmark?", "needle")
    menu.answer("Lengths in tokens", "\x15" + "60")  # Ctrl-U clears what stands there
    menu.answer("Documents of each length", "\x15" + "1")
    mark(menu, "frozen", 4)
    menu.answer("Write a report to", "needle.md")
    shown = settled(menu.done())
    assert "benchmark needle --tokens 60 --documents 1 --strategies frozen --report needle.md" in shown
    assert "recall" in shown and "wrote needle.md" in shown
    assert "continual-learning benchmark needle --tokens 60" in (here / "needle.md").read_text()


@step
def benchmark_of_several_sizes(menu: Terminal, here: Path, environment: dict[str, str]) -> None:
    menu.choose("Run Benchmarks")
    menu.answer("Which benchmark?", "scale")
    menu.answer("Data", "")
    menu.answer("Documents in a memory", "\x15" + "1,2")
    mark(menu, "frozen", 4)
    menu.answer("Write a report to", "")
    shown = settled(menu.done())
    assert "benchmark scale --sizes 1,2 --strategies frozen" in shown and "memories of 2: F1" in shown


@step
def compare_with_questions_by_hand(menu: Terminal, here: Path, environment: dict[str, str]) -> None:
    menu.choose("Compare All Engines")
    menu.answer("Document", "jellies.txt")
    menu.answer("empty: type them", "")
    menu.answer("Question 1", "What do comb jellies eat?")
    menu.answer("Its answer", "plankton")
    menu.answer("Question 2", "")
    menu.answer("Keep them in", "")
    mark(menu, "frozen", len(strategy_names()))
    shown = settled(menu.done())
    assert "--qa jellies.qa.jsonl --strategies frozen" in shown and "recall" in shown
    row = json.loads((here / "jellies.qa.jsonl").read_text())
    assert row == {"question": "What do comb jellies eat?", "answer": "plankton"}


@step
def doc2lora_switches_mode_learns_and_answers(menu: Terminal, here: Path, environment: dict[str, str]) -> None:
    menu.choose("Doc-to-LoRA Switch Mode")
    menu.answer("Mode", "text:")
    assert "mode text cannot learn yet: no text hypernetwork for the base" in settled(menu.done())
    menu.choose("Doc-to-LoRA Switch Mode")
    menu.answer("Mode", "simulated")
    assert "cannot learn yet" not in settled(menu.done())
    shown = learn(menu, "Doc-to-LoRA Learn", "Document", "jellies.txt")
    assert "--memory doc2lora --strategy doc2lora --set mode=simulated" in shown
    assert "1 of 1 document learned" in shown
    menu.choose("Doc-to-LoRA Ask")
    menu.answer("Question (empty: back)", "What do they eat?")
    menu.answer("Question (empty: back)", "")
    assert "$ continual-learning ask 'What do they eat?' --memory doc2lora" in settled(menu.done())


@step
def jitrl(menu: Terminal, here: Path, environment: dict[str, str]) -> None:
    for which in ("MVP", "Full"):
        memory = f"jitrl_{which.lower()}"
        menu.choose(f"JitRL {which}")
        menu.answer("Document to learn", "jellies.txt")
        menu.answer("Question (empty: back)", "What do comb jellies eat?")
        menu.answer("Was it right?", "wrong")
        menu.answer("The right answer", "plankton")
        menu.answer("Question (empty: back)", "")
        shown = settled(menu.done())
        assert f"memory '{memory}' ({memory}, " in shown and "1 of 1 document learned" in shown
        assert f"$ continual-learning feedback correct plankton --memory {memory}" in shown
        assert "What do comb jellies eat? — should be: plankton" in shown


@step
def ace(menu: Terminal, here: Path, environment: dict[str, str]) -> None:
    shown = learn(menu, "ACE Learn Document", "Document", "jellies.txt", "qa")
    assert "learn jellies.txt --memory ace --strategy ace" in shown and "1 of 1 document learned" in shown
    menu.choose("ACE Ask")
    menu.answer("Question (empty: back)", "What do comb jellies eat?")
    menu.answer("Question (empty: back)", "")
    assert "from: jellies" in settled(menu.done())
    menu.choose("ACE Save Playbook")
    menu.answer("Name of the playbook", "")
    assert "wrote 0 entries of memory 'ace' to playbooks/playbook.json" in settled(menu.done())
    assert json.loads((here / "playbooks" / "playbook.json").read_text())["entries"] == []
    menu.choose("ACE List Playbooks")
    assert "playbook" in settled(menu.done())
    menu.choose("ACE Load Playbook")
    menu.answer("Playbook", "playbook: 0 entries")
    assert "memory 'ace' has the 0 entries of playbooks/playbook.json" in settled(menu.done())


@step
def nested_chat_learns_and_ctrl_c_twice_comes_back(menu: Terminal, here: Path, environment: dict[str, str]) -> None:
    menu.choose("Nested Chat")
    menu.wait("$ continual-learning nested --memory nested", "what you say is learned", "\n>")
    menu.send("My dog is called Biko." + ENTER)
    menu.wait("adapted: ", "\n>")
    menu.send("half a line" + CTRL_C)
    menu.settle()
    menu.send(CTRL_C)
    menu.wait("Ctrl-C once more, or /quit")
    menu.send(CTRL_C)
    assert "what was learned is not saved" in settled(menu.done())


@step
def outer_loop(menu: Terminal, here: Path, environment: dict[str, str]) -> None:
    menu.choose("Run Outer Loop")
    menu.answer("Documents with questions", "articles.jsonl")
    menu.answer("Folder of the run", "")
    menu.answer("Steps in all", "\x15" + "1")
    menu.answer("More options", OUTER)
    menu.answer("Let new ttt memories begin there?", "y")
    shown = settled(menu.done())
    start = here / "outer-loop" / "start.safetensors"
    assert "1 of 1 steps" in shown and start.exists() and f"strategies.ttt.start = {start} in" in shown
    file = Path(environment["CONTINUAL_LEARNING_HOME"]) / "config.yaml"
    assert f"start: {start}" in file.read_text()


@step
def what_is_missing_is_said_with_how_to_get_it(menu: Terminal, here: Path, environment: dict[str, str]) -> None:
    menu.choose("Learn from Document")
    menu.answer("Document, a file", "paper.pdf")
    menu.answer("questions and answers", "")
    shown = menu.done()
    assert "needs pypdf, which is not installed" in shown
    assert "pip install 'continual-learning-slm[documents]'" in shown


@step
def configure_refuses_asks_again_and_writes(menu: Terminal, here: Path, environment: dict[str, str]) -> None:
    file = Path(environment["CONTINUAL_LEARNING_HOME"]) / "config.yaml"
    file.write_text("# mine\n" + (file.read_text() if file.exists() else ""))
    menu.choose("Configure")
    menu.answer("Which settings?", "strategy in_context")
    menu.wait("Which setting?")
    assert "shots = " in menu.below()
    menu.send("shots" + ENTER)
    menu.answer("New value", "minus one")
    menu.wait("error: ", "New value")
    menu.send("1" + ENTER)
    menu.wait("strategies.in_context.shots = 1 in", "Which setting?")
    menu.send(CTRL_C)
    menu.wait(MENU)
    text = file.read_text()
    assert text.startswith("# mine\n") and "shots: 1" in text


@step
def configure_offers_the_values_there_are(menu: Terminal, here: Path, environment: dict[str, str]) -> None:
    menu.choose("Configure")
    menu.answer("Which settings?", "model")
    menu.answer("Which setting?", "precision")
    menu.answer("New value", "int8")
    menu.wait("model.precision = int8 in", "Which setting?")
    menu.send("back" + ENTER)
    menu.wait("settings are kept in", "Which settings?")
    menu.send("back" + ENTER)
    settled(menu.done())


@step
def switch_to_a_new_memory(menu: Terminal, here: Path, environment: dict[str, str]) -> None:
    menu.choose("Switch Memory")
    menu.answer("Which memory?", "a new one")
    menu.answer("Its name", "other")
    menu.answer("How does it learn?", "frozen")
    assert "memory 'other' from here on" in settled(menu.done())
    assert "other" in menu.text()[-3000:]
    menu.choose("List Checkpoints")
    assert "memory 'other' has no checkpoint" in settled(menu.done())


@step
def a_new_memory_whose_strategy_its_first_document_decides(
    menu: Terminal, here: Path, environment: dict[str, str]
) -> None:
    menu.choose("Switch Memory")
    menu.answer("Which memory?", "a new one")
    menu.answer("Its name", "chosen")
    menu.answer("How does it learn?", "auto")
    assert "memory 'chosen' from here on" in settled(menu.done())
    said = learn(menu, "Learn from Document", "Document, a file", "jellies.txt", "qa")
    assert "--memory chosen --strategy auto" in said and "strategy auto: jitrl_mvp for 1 document of" in said


@step
def every_entry_was_chosen(menu: Terminal, here: Path, environment: dict[str, str]) -> None:
    titles = [entry.title for _, group in entries() for entry in group]
    assert [title for title in titles if not any(title.startswith(name) for name in menu.chosen)] == []


@step
def leave(menu: Terminal, here: Path, environment: dict[str, str]) -> None:
    menu.send(EXIT + ENTER)
    assert menu.ended() == 0


def test_every_entry_of_the_menu(menu: Terminal, folder: Path, environment: dict[str, str]) -> None:
    for each in STEPS:
        print(each.__name__)  # shown if it fails
        if each is not leave:
            menu.wait(MENU)
        each(menu, folder, environment)
