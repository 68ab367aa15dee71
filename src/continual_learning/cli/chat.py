"""`chat`: a conversation with a memory."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from continual_learning.cli import options
from continual_learning.cli.ask import note_if_empty, notes_of
from continual_learning.cli.output import Output, plain

if TYPE_CHECKING:
    from continual_learning.types import Answer

HELP = "/clear forgets the conversation (not the memory), /help shows this, /quit or Ctrl-D ends"


def chat(
    memory: options.Memory = None,
    strategy: options.Strategy = None,
    model: options.Model = None,
    settings: options.Set = None,
    max_new_tokens: options.MaxNewTokens = None,
    speaker: options.Speaker = None,
    as_json: options.Json = False,
) -> None:
    """Talk with a memory: at the prompt, or with one turn per line from standard input."""
    from continual_learning.cli.session import choose, open_learner

    out = Output(as_json)
    choice = choose(memory, strategy, model, settings or (), max_new_tokens, speaker=speaker)
    limit = choice.config.settings.max_new_tokens
    interactive = sys.stdin.isatty()
    turns: list[Answer] = []
    learner = open_learner(choice, speaks=True)
    note_if_empty(out, learner, choice.memory)
    conversation = learner.chat(limit)
    if interactive:
        out.note(f"{choice.memory} ({choice.strategy}, {choice.model}); {HELP}")
    for line in _lines(interactive):
        if line in ("/quit", "/exit"):
            break
        if line == "/clear":
            conversation.clear_history()
            out.note("the conversation is cleared")
        elif line == "/help":
            out.note(HELP)
        elif line.startswith("/"):
            out.note(f"no command {line.split()[0]!r}; {HELP}")
        elif line:
            try:
                answer = conversation.say(line, out.token if out.terminal else None)
            except KeyboardInterrupt:
                if not interactive:
                    raise
                out.note("\nstopped; this turn is not kept")
                continue
            turns.append(answer)
            out.line("" if out.terminal else answer.text)
            sys.stdout.flush()
            notes_of(out, answer)
    out.result({**choice.names, "turns": plain(turns)})


def _lines(interactive: bool) -> Iterator[str]:
    if not interactive:
        for line in sys.stdin:
            yield line.strip()
        return
    with contextlib.suppress(ImportError):  # line editing and history, where the platform has them
        import readline  # noqa: F401
    while True:
        try:
            if sys.stdout.isatty():
                line = input("> ")
            else:  # the prompt is not part of the result
                print("> ", end="", file=sys.stderr, flush=True)
                line = input()
        except EOFError:
            print(file=sys.stderr)
            return
        yield line.strip()
