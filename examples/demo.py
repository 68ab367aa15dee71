"""Learn a document that the model cannot know, and ask about it before and after.

Tidewick is an invented town: every right answer comes from the memory. When the questions are asked, the
document is in the weights alone; the model's window holds nothing but the question.
"""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as ProgressBar
from rich.table import Table

from continual_learning import Answer, Learner
from continual_learning.documents import read_documents
from continual_learning.documents.qa_files import load_qa
from continual_learning.documents.shipped import general_questions, unrelated_texts
from continual_learning.errors import ContinualLearningError
from continual_learning.text.scoring import contains_answer
from continual_learning.types import LearnReport, Progress, ProgressCallback, QuestionAnswer

HERE = Path(__file__).parent
MAX_NEW_TOKENS = 24


@dataclass(frozen=True)
class Measured:
    """What the model says at one moment."""

    answers: list[Answer]
    right: list[bool]
    general_right: list[bool]
    perplexity: float
    seconds_asking: float
    seconds_checking: float


def measure(learner: Learner, questions: list[QuestionAnswer]) -> Measured:
    """Ask about the document, then about what the model should know anyway."""
    start = time.perf_counter()
    answers, right = ask(learner, questions)
    asked = time.perf_counter()
    _, general_right = ask(learner, general_questions())
    perplexity = learner.perplexity(unrelated_texts())
    return Measured(answers, right, general_right, perplexity, asked - start, time.perf_counter() - asked)


def ask(learner: Learner, questions: list[QuestionAnswer]) -> tuple[list[Answer], list[bool]]:
    """The answers, and whether each holds one that counts as right."""
    answers = learner.ask([q.question for q in questions], max_new_tokens=MAX_NEW_TOKENS)
    return answers, [contains_answer(a.claim, q.answers) for a, q in zip(answers, questions, strict=True)]


@contextmanager
def progress_bar(console: Console) -> Iterator[ProgressCallback]:
    """A bar on a terminal, nothing elsewhere."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with ProgressBar(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("learning", total=None)

        def show(progress: Progress) -> None:
            bar.update(task, description=progress.stage, completed=progress.done, total=progress.total)

        yield show


def answer_table(questions: list[QuestionAnswer], before: Measured, after: Measured) -> Table:
    """One row a question; right answers are green, and marked for those who see no colour."""

    def cell(answer: Answer, right: bool) -> str:
        text = escape(" ".join(answer.text.split()))
        return f"[green]✓ {text}[/green]" if right else text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("Question", ratio=3)
    table.add_column("Before", ratio=4, style="dim")
    table.add_column("After", ratio=4)
    table.add_column("Expected", ratio=2)
    for i, question in enumerate(questions):
        row = (cell(before.answers[i], before.right[i]), cell(after.answers[i], after.right[i]))
        table.add_row(escape(question.question), *row, escape(question.answers[0]))
    return table


def kept_lines(before: Measured, after: Measured, report: LearnReport) -> Iterator[str]:
    """What the document brought, and what it cost."""
    total, known = len(before.right), sum(before.general_right)
    still = sum(b and a for b, a in zip(before.general_right, after.general_right, strict=True))
    change = after.perplexity / before.perplexity - 1
    yield f"Recall before            {sum(before.right)} of {total} ({sum(before.right) / total:.0%})"
    yield f"Recall after             {sum(after.right)} of {total} ({sum(after.right) / total:.0%})"
    yield f"General questions kept   {still} of {known} that it had right ({still / max(known, 1):.0%})"
    yield f"Unrelated perplexity     {before.perplexity:.2f} before, {after.perplexity:.2f} after ({change:+.1%})"
    yield f"Memory                   {report.bytes:,} bytes for {report.tokens} tokens"


def time_table(parts: dict[str, float], report: LearnReport) -> Table:
    """Where the time went: the parts of learning are indented below it."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("Where the time went")
    table.add_column("Seconds", justify="right")
    for name, seconds in parts.items():
        table.add_row(name, f"{seconds:.1f}")
        if name == "learning":
            for part, part_seconds in sorted(report.timings.items(), key=lambda item: -item[1]):
                table.add_row(f"  {escape(part)}", f"{part_seconds:.1f}", style="dim")
    table.add_row("total", f"{sum(parts.values()):.1f}", style="bold")
    return table


def demo(model: str, console: Console) -> int:
    """Run it and print it. Returns the exit code: 1 if nothing was learned."""
    [document], _ = read_documents(HERE / "tidewick.md")
    questions = load_qa(HERE / "tidewick.qa.jsonl")

    console.print(f"Loading {model} …")
    start = time.perf_counter()
    learner = Learner.open(model=model, strategy="ttt")
    loading = time.perf_counter() - start

    console.print(f"Asking {len(questions)} questions about {document.title}, which it has never read …")
    before = measure(learner, questions)

    console.print(f"Learning {document.title} …")
    start = time.perf_counter()
    with progress_bar(console) as show:
        report = learner.learn(document.text, title=document.title, progress=show)
    learning = time.perf_counter() - start
    for warning in report.warnings:
        console.print(f"Note: {escape(warning)}")
    if not report.accepted:
        print(f"Nothing was learned: {report.reason}", file=sys.stderr)
        return 1

    console.print("Asking again, with the document gone …")
    after = measure(learner, questions)

    console.print(answer_table(questions, before, after))
    for line in kept_lines(before, after, report):
        console.print(line, highlight=False)
    parts = {
        "loading the model": loading,
        "learning": learning,
        "asking, before and after": before.seconds_asking + after.seconds_asking,
        "checking what was kept, before and after": before.seconds_checking + after.seconds_checking,
    }
    console.print(time_table(parts, report))
    if sum(after.right) <= sum(before.right):
        found = f"recall was {sum(before.right)} of {len(questions)} before and {sum(after.right)} after"
        print(f"Nothing was learned: {found}", file=sys.stderr)
        return 1
    return 0


def main() -> int:
    """The demo on the embedded model."""
    # The model may say anything, and not every terminal can show it.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    # Without a terminal there is no width to ask for, and 80 columns are too narrow for the table.
    console = Console(width=None if sys.stdout.isatty() else 140)
    try:
        return demo("smollm2-135m", console)
    except ContinualLearningError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
