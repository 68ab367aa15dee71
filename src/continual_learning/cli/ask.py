"""`ask`: questions to a memory."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from continual_learning.cli import options
from continual_learning.cli.output import Output, percent, plain
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
Candidates = Annotated[
    int,
    typer.Option(
        "--candidates", metavar="N", min=0, help="List N other answers with their probabilities, if there are any."
    ),
]
_MOST_TITLES = 3


def ask(
    question: Question = None,
    memory: options.Memory = None,
    strategy: options.Strategy = None,
    model: options.Model = None,
    settings: options.Set = None,
    max_new_tokens: options.MaxNewTokens = None,
    file: File = None,
    candidates: Candidates = 0,
    as_json: options.Json = False,
) -> None:
    """Ask one question, or many. A single answer is shown as it is written, on a terminal."""
    from continual_learning.cli.session import choose, open_learner

    out = Output(as_json)
    questions = _questions(question, file)
    choice = choose(memory, strategy, model, settings or (), max_new_tokens)
    limit = choice.config.settings.max_new_tokens
    learner = open_learner(choice)
    note_if_empty(out, learner, choice.memory)
    if len(questions) == 1 and out.terminal:
        answers = [learner.ask(questions[0], max_new_tokens=limit, on_token=out.token)]
        out.line()
        show_candidates(out, answers[0], candidates)
        notes_of(out, answers[0])
    else:
        answers = learner.ask(questions, max_new_tokens=limit)
        many = len(answers) > 1
        for answer in answers:
            if many:
                out.line(f"Q: {answer.question}")
            out.line(f"A: {answer.text}" if many else answer.text)
            show_candidates(out, answer, candidates)
            if many:
                out.line()
            notes_of(out, answer)
    out.result({**choice.names, "answers": plain(answers)})


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


def show_candidates(out: Output, answer: Answer, count: int) -> None:
    """Write up to ``count`` other answers with their probabilities, best first."""
    for other in answer.alternatives[:count]:
        out.line(f"  {percent(other.probability):>4}  {other.text}")
    if count and not answer.alternatives:
        out.note("note: no other answers are known: this one was generated and not chosen among several")


def notes_of(out: Output, answer: Answer) -> None:
    """Write where an answer is from, and the notes that come with it, to standard error."""
    out.dim(f"from: {provenance(answer)}")
    for text in answer.notes:
        out.note(f"note: {text}")


def provenance(answer: Answer) -> str:
    """Source, origin and confidence of an answer: ``Handover notes (memory, confidence 71%)``."""
    named = [source.title or source.document_id for source in answer.sources]
    if answer.sources and answer.sources[0].quote:
        named = named[:1]  # the passage that was quoted; the others were read, too
    named = list(dict.fromkeys(named))
    if len(named) > _MOST_TITLES:
        named = [*named[:_MOST_TITLES], f"{len(named) - _MOST_TITLES} more"]
    where = ", ".join(named) or ("the memory" if answer.origin == "memory" else "the model itself")
    sure = percent(answer.confidence)
    return f"{where} ({answer.origin}{f', confidence {sure}' if sure else ''})"
