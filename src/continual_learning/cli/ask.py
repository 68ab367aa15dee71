"""`ask`: questions to a memory."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from continual_learning.cli import options
from continual_learning.cli.output import Output, plain
from continual_learning.errors import InputError

if TYPE_CHECKING:
    from continual_learning.app.learner import Learner
    from continual_learning.types import Answer

Question = Annotated[
    str | None,
    typer.Argument(metavar="[QUESTION]", help="The question, or - to read one question per line from stdin."),
]
File = Annotated[
    Path | None,
    typer.Option(
        "--file", "-f", metavar="FILE", help="File of questions: .txt with one per line, or .jsonl, .json, .csv, .tsv."
    ),
]


def ask(
    question: Question = None,
    memory: options.Memory = None,
    strategy: options.Strategy = None,
    model: options.Model = None,
    settings: options.Set = None,
    max_new_tokens: options.MaxNewTokens = None,
    speaker: options.Speaker = None,
    file: File = None,
    as_json: options.Json = False,
) -> None:
    """Ask one question, or many. A single answer is shown as it is written, on a terminal."""
    from continual_learning.cli.session import choose, open_learner

    out = Output(as_json)
    questions = _questions(question, file)
    choice = choose(memory, strategy, model, settings or (), max_new_tokens, speaker=speaker)
    limit = choice.config.settings.max_new_tokens
    learner = open_learner(choice, speaks=True)
    note_if_empty(out, learner, choice.memory)
    if len(questions) == 1 and out.terminal:
        answers = [learner.ask(questions[0], max_new_tokens=limit, on_token=out.token)]
        out.line()
    else:
        answers = learner.ask(questions, max_new_tokens=limit)
        for answer in answers:
            if len(answers) > 1:
                out.line(f"Q: {answer.question}")
            out.line(f"A: {answer.text}\n" if len(answers) > 1 else answer.text)
    out.result({**choice.names, "answers": plain(answers)})
    for answer in answers:
        notes_of(out, answer)


def _questions(question: str | None, file: Path | None) -> list[str]:
    from continual_learning.documents.qa_files import load_questions, question_lines

    if (question is None) == (file is None):
        given = "both QUESTION and --file were" if question is not None else "neither QUESTION nor --file was"
        raise InputError(f"{given} given; expected one of them, such as continual-learning ask 'What is a comb jelly?'")
    if file is not None:
        return load_questions(file)
    assert question is not None
    if question != "-":
        if not question.strip():
            raise InputError("the question is empty; expected some words, or - to read standard input")
        return [question.strip()]
    found = question_lines(sys.stdin.read())
    if not found:
        raise InputError("standard input holds no question; expected one a line")
    return found


def note_if_empty(out: Output, learner: Learner, memory: str) -> None:
    """Write a note if the base model alone will answer, since nothing has been learned."""
    if not learner.documents:
        out.note(f"note: memory {memory!r} holds no document yet; the base model answers")


def notes_of(out: Output, answer: Answer) -> None:
    """Write the notes that come with an answer to standard error."""
    for text in answer.notes:
        out.note(f"note: {text}")
    if answer.sources and out.terminal:
        named = ", ".join(f"{s.title or s.document_id} ({s.score:.2f})" for s in answer.sources)
        out.note(f"from: {named}")
