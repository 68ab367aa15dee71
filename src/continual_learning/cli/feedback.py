"""`feedback`: say whether the last answer of a memory was good or bad, or correct it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from continual_learning.cli import options
from continual_learning.cli.output import Output, plain
from continual_learning.errors import InputError

if TYPE_CHECKING:
    from continual_learning.app.feedback import Feedback, FeedbackMemory

app = options.group("Say how good the last answer of a memory was; list it, take it back, let it fade.")

_SHOWN = 60


@app.command("good")
def good(memory: options.Memory = None, as_json: options.Json = False) -> None:
    """The last answer was good: prefer it when the same or a similar question is asked again."""
    _give(memory, 1.0, None, as_json)


@app.command("bad")
def bad(memory: options.Memory = None, as_json: options.Json = False) -> None:
    """The last answer was bad: avoid it when the same or a similar question is asked again."""
    _give(memory, -1.0, None, as_json)


@app.command("correct")
def correct(
    answer: Annotated[str, typer.Argument(metavar="ANSWER", help="What the last answer should have been.")],
    memory: options.Memory = None,
    as_json: options.Json = False,
) -> None:
    """Correct the last answer: say what it should have been."""
    _give(memory, None, answer, as_json)


@app.command("list")
def list_(memory: options.Memory = None, as_json: options.Json = False) -> None:
    """Show all feedback of a memory, oldest first."""
    from continual_learning.app.feedback import FeedbackMemory
    from continual_learning.cli.session import head_meta, memory_name, open_store

    out = Output(as_json)
    meta = head_meta(open_store(memory))
    kept = FeedbackMemory.in_extra(meta["extra"] if meta else {})
    names = {"memory": memory_name(memory), "half_life_days": kept.half_life_days}
    out.result({**names, "feedback": plain(kept.items)})
    if not kept.items:
        out.line("no feedback yet; `continual-learning feedback good` says that the last answer was good")
        return
    rows = [(f.id, _short(f.question), _short(f.answer), f.reward, _short(f.correction or "")) for f in kept.items]
    out.table(("id", "question", "answer", "reward", "correction"), rows)
    if kept.half_life_days is not None:
        out.line(f"counts half after {kept.half_life_days:g} days")


@app.command("undo")
def undo(
    feedback_id: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="Id of the feedback [default: the last].")
    ] = None,
    memory: options.Memory = None,
    as_json: options.Json = False,
) -> None:
    """Take back one feedback."""
    before, after = _change(memory, lambda kept: kept.without(feedback_id), "undo")
    [gone] = [item for item in before.items if item not in after.items]
    out = Output(as_json)
    out.line(f"{gone.id} is taken back")
    out.result({"undone": plain(gone)})


@app.command("fade")
def fade(
    days: Annotated[str, typer.Argument(metavar="DAYS|never", help="Number of days after which feedback counts half.")],
    memory: options.Memory = None,
    as_json: options.Json = False,
) -> None:
    """Let feedback fade with its age, or never."""
    half_life = _days(days)
    _change(memory, lambda kept: kept.fading(half_life), f"half-life {days}")
    out = Output(as_json)
    out.line("feedback does not fade" if half_life is None else f"feedback counts half after {half_life:g} days")
    out.result({"half_life_days": half_life})


def _days(text: str) -> float | None:
    if text == "never":
        return None
    try:
        return float(text)
    except ValueError:
        raise InputError(f"{text!r} days; expected a number above 0, or never") from None


def _give(memory: str | None, reward: float | None, correction: str | None, as_json: bool) -> None:
    from continual_learning.cli.session import open_store
    from continual_learning.memory.store.last_answer import read_last_answer

    last = read_last_answer(open_store(memory).root)
    if last is None:
        raise InputError(
            "no answer to give feedback on: this memory has answered nothing yet; `continual-learning ask`"
        )
    _, after = _change(memory, lambda kept: kept.add(last.question, last.text, reward, correction, last.documents), "")
    _show(Output(as_json), after.items[-1])


def _show(out: Output, given: Feedback) -> None:
    judged = "should be" if given.correction else ("good" if given.reward > 0 else "bad")
    said = f"{judged}: {given.correction or given.answer}"
    out.line(f"{given.id}: {_short(given.question)} — {_short(said)}")
    out.result({"feedback": plain(given)})


def _change(
    memory: str | None, change: Callable[[FeedbackMemory], FeedbackMemory], note: str
) -> tuple[FeedbackMemory, FeedbackMemory]:
    """Write a version with changed feedback, without loading the base model; returns the feedback before and after."""
    from continual_learning.app.feedback import FeedbackMemory
    from continual_learning.cli.session import open_store

    store = open_store(memory)
    with store.lock():
        state = store.load()
        before = FeedbackMemory.of(state)
        after = change(before)
        store.save(after.in_state(state), "feedback", note or after.items[-1].id)
    return before, after


def _short(text: str) -> str:
    one_line = " ".join(text.split())
    return one_line if len(one_line) <= _SHOWN else f"{one_line[: _SHOWN - 1]}…"
