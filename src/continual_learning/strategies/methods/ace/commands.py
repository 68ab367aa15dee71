"""The commands `ace …` show, save, change and learn the playbook of a memory whose strategy is ace."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from continual_learning.errors import InputError
from continual_learning.strategies.commands import (
    Command,
    CommandContext,
    CommandOutput,
    Json,
    MaxNewTokens,
    Memory,
    MenuContext,
    MenuEntry,
    Model,
    Overwrite,
    Set,
)

if TYPE_CHECKING:
    from continual_learning.memory.store import Store
    from continual_learning.strategies.methods.ace.loops import LearnResult
    from continual_learning.strategies.methods.ace.memory import Task
    from continual_learning.strategies.methods.ace.playbook import Playbook

NAME = "ace"
_OTHER = ""
"""The choice of a file in the menu, which no playbook is called."""
GROUPS = {NAME: "The playbook of an ace memory: show, save, load, list, compare, edit, learn, ask."}

Version = Annotated[str | None, typer.Option("--version", help="A version or checkpoint [default: the current one].")]
Section = Annotated[str, typer.Option("--section", help="Section: general, strategies, facts or pitfalls.")]


def show(
    cli: CommandContext,
    memory: Memory = None,
    version: Version = None,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print Markdown, as `ace save ./FILE.md` writes.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show all entries, with their helpful and harmful counts and where they came from."""
    out = cli.output(as_json)
    store = _store(cli, memory)
    playbook = _playbook(store, version)
    out.result({"memory": store.name, "playbook": playbook.to_json()})
    if markdown:
        out.line(playbook.markdown())
        return
    rows = [
        (e.id, e.section, e.helpful, e.harmful, "yes" if e.used_step else "no", e.text, _from(e.origins))
        for e in playbook.entries.values()
    ]
    if rows:
        out.table(("id", "section", "helpful", "harmful", "used", "text", "from"), rows)
    out.line(f"memory {store.name!r}: {len(playbook)} entries, {len(playbook.log)} patches in the log")


def save(
    cli: CommandContext,
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME_OR_FILE",
            help="A name: NAME.json in ace.playbook_dir. Or a path that ends in .json, or in .md for people.",
        ),
    ],
    memory: Memory = None,
    version: Version = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Save the playbook under a name, or to a file."""
    from continual_learning.strategies.methods.ace.library import new_file, write

    out = cli.output(as_json)
    folder = folder_of(cli)
    new_file(name, folder)  # a bad name is reported before anything is opened
    store = _store(cli, memory)
    playbook = _playbook(store, version)
    file = write(playbook, name, folder, overwrite)
    out.result({"memory": store.name, "file": file, "entries": len(playbook)})
    out.line(f"wrote {len(playbook)} entries of memory {store.name!r} to {file}")


def load(
    cli: CommandContext,
    name: Annotated[
        str, typer.Argument(metavar="NAME_OR_FILE", help="What `ace save` wrote: a name of `ace list`, or a file.")
    ],
    memory: Memory = None,
    model: Model = None,
    as_json: Json = False,
) -> None:
    """Replace the playbook by a saved one, as a new version. A memory that does not exist is created."""
    from continual_learning.strategies.methods.ace.library import found, read

    out = cli.output(as_json)
    file = found(name, folder_of(cli))
    given = read(file)
    changed = _change(cli, memory, given.loaded_over, "load", file.name, model)
    playbook = _playbook(_store(cli, changed), None)
    out.result({"memory": changed, "entries": len(playbook), "next_number": playbook.next_number})
    out.line(f"memory {changed!r} has the {len(playbook)} entries of {file}; `memory rollback {changed}` undoes it")


def list_saved(cli: CommandContext, as_json: Json = False) -> None:
    """List the playbooks in the folder that ace.playbook_dir names, by name."""
    from continual_learning.strategies.methods.ace.library import listed

    out = cli.output(as_json)
    folder = folder_of(cli)
    playbooks = listed(folder)
    out.result({"folder": folder, "playbooks": playbooks})
    if playbooks:
        rows = [(p.name, "no playbook" if p.entries is None else p.entries, p.saved_at) for p in playbooks]
        out.table(("name", "entries", "saved_at"), rows)
    else:
        out.line(f"no playbook in {folder} yet; continual-learning ace save NAME saves one there")
    for one in playbooks:
        if one.problem:
            out.note(f"warning: {one.problem}")


def diff(
    cli: CommandContext,
    before: Annotated[str, typer.Argument(help="A version, a checkpoint, or a saved playbook as NAME.json.")],
    after: Annotated[str | None, typer.Argument(help="Another [default: the current version].")] = None,
    memory: Memory = None,
    as_json: Json = False,
) -> None:
    """Show what changed from one playbook to another."""
    from continual_learning.strategies.methods.ace.playbook import difference

    out = cli.output(as_json)
    first, second = _referred(cli, memory, before), _referred(cli, memory, after)
    found = difference(first, second)
    out.result({"before": before, "after": after or "current", **found})
    for sign, entries in (("-", found["removed"]), ("+", found["added"])):
        for entry in entries:
            out.line(f"{sign} [{entry['id']}] {entry['text']}")
    for entry_id, fields in found["changed"].items():
        out.line(f"~ [{entry_id}] " + "; ".join(f"{name}: {old} → {new}" for name, (old, new) in fields.items()))
    if not any(found.values()):
        out.line("no difference")


def edit(
    cli: CommandContext,
    entries: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="The entries to change.")] = None,
    text: Annotated[str | None, typer.Option("--text", help="New text; without an ID, a new entry.")] = None,
    section: Section = "",
    remove: Annotated[bool, typer.Option("--remove", help="Remove the entries.")] = False,
    tag: Annotated[str | None, typer.Option("--tag", help="Count the entries once more: helpful or harmful.")] = None,
    memory: Memory = None,
    as_json: Json = False,
) -> None:
    """Add, update, merge (several IDs with --text), remove or tag entries by hand, as one patch in the log."""
    from continual_learning.strategies.methods.ace.patch import Operation, apply_all, operation_json

    out = cli.output(as_json)
    ids = tuple(entries or ())
    if (text is not None) + remove + (tag is not None) != 1:
        raise InputError("expected exactly one of --text, --remove and --tag: see continual-learning ace edit --help")
    if text is not None:
        kind = ("ADD", "UPDATE", "MERGE")[min(len(ids), 2)]
        operations = [Operation(kind, ids, section or ("strategies" if not ids else ""), text)]
    else:
        if not ids:
            raise InputError("no entry is named; expected ids such as str-00001, see continual-learning ace show")
        kind = "REMOVE" if remove else "TAG"
        operations = [Operation(kind, (one,), tag=tag or "") for one in ids]
    name = _change(cli, memory, lambda playbook: apply_all(playbook, operations).playbook, "edit", kind.lower())
    playbook = _playbook(_store(cli, name), None)
    out.result({"memory": name, "operations": [operation_json(o) for o in operations], "entries": len(playbook)})
    out.line(f"memory {name!r}: {kind} applied, {len(playbook)} entries; `ace undo` takes it back")


def undo(cli: CommandContext, memory: Memory = None, as_json: Json = False) -> None:
    """Undo the last patch of the playbook: an edit, or one batch of learning."""
    from continual_learning.strategies.methods.ace.patch import undo as undo_patch

    out = cli.output(as_json)
    name = _change(cli, memory, undo_patch, "undo", "the last patch")
    playbook = _playbook(_store(cli, name), None)
    out.result({"memory": name, "entries": len(playbook), "patches_left": len(playbook.log)})
    out.line(f"memory {name!r}: undone, {len(playbook)} entries, {len(playbook.log)} patches are left in the log")


def learn(
    cli: CommandContext,
    qa: Annotated[
        Path, typer.Option("--qa", metavar="FILE", help="Questions with answers (.jsonl, .json, .csv, .tsv).")
    ],
    mode: Annotated[
        Literal["offline", "online", "evaluate"],
        typer.Option("--mode", help="Several passes; each batch first answered, then learned; or only graded."),
    ] = "offline",
    held_out: Annotated[
        Path | None, typer.Option("--held-out", metavar="FILE", help="Questions to judge by, never learned from.")
    ] = None,
    self_reflection: Annotated[
        bool, typer.Option("--self-reflection", help="Ignore the answers in --qa; needs --mode online and --held-out.")
    ] = False,
    memory: Memory = None,
    settings: Set = None,
    as_json: Json = False,
) -> None:
    """Learn the playbook from questions about a memory's documents. The exit code is 0 even if nothing changed."""
    from continual_learning.documents.qa_files import load_qa, load_questions
    from continual_learning.strategies.methods.ace.memory import Task
    from continual_learning.types import QuestionAnswer

    out = cli.output(as_json)
    choice = cli.choose(memory, None, None, settings or ())
    _check_strategy(choice.memory, choice.strategy)
    if self_reflection:
        tasks = [Task(QuestionAnswer(question, ())) for question in load_questions(qa)]
    else:
        tasks = [Task(one) for one in load_qa(qa)]
    judged_by = [Task(one) for one in load_qa(held_out)] if held_out is not None else []
    if mode == "evaluate":
        _evaluate(cli, out, choice, tasks)
        return
    if self_reflection and (mode != "online" or not judged_by):
        raise InputError(f"--self-reflection with --mode {mode}; expected --mode online and --held-out FILE")
    learner = cli.learner(choice)
    with cli.progress_bar(NAME) as progress:
        result = _learn(learner, tasks, judged_by, mode, progress)
    _show_result(cli, out, choice, result)


def ask(
    cli: CommandContext,
    question: Annotated[str, typer.Argument(help="The question.")],
    memory: Memory = None,
    settings: Set = None,
    max_new_tokens: MaxNewTokens = None,
    as_json: Json = False,
) -> None:
    """Ask one question, and show the entries and excerpts that were put before it."""
    out = cli.output(as_json)
    if not question.strip():
        raise InputError("the question is empty; expected some words")
    choice = cli.choose(memory, None, None, settings or (), max_new_tokens)
    _check_strategy(choice.memory, choice.strategy)
    learner = cli.learner(choice)
    limit = choice.config.settings.max_new_tokens
    answer = learner.ask(question.strip(), limit, out.token if out.terminal else None)
    out.result({**choice.names, "answer": cli.plain(answer)})
    out.line("" if out.terminal else answer.text)
    for source in answer.sources:
        out.line(f"  {source.title or source.document_id} ({source.score:.2f}): {source.quote}")
    cli.answer_notes(out, answer)


def _learn(learner: Any, tasks: list[Task], judged_by: list[Task], mode: str, progress: Any) -> LearnResult:
    """Run one loop over the whole memory, and keep its result as a new version if the playbook changed."""
    from continual_learning.strategies.methods.ace.loops import offline, online
    from continual_learning.strategies.methods.ace.memory import playbook_of, split, with_playbook

    results = []

    def change(state: Any) -> Any:
        roles = learner.strategy.roles(learner.base, state)
        playbook = playbook_of(state.meta.extra)
        if mode == "online":
            result = online(roles, playbook, tasks, judged_by, progress)
        else:
            train, validation = (tasks, judged_by) if judged_by else split(tasks)
            result = offline(roles, playbook, train, validation, progress)
        results.append(result)
        return state if result.playbook is playbook else with_playbook(state, result.playbook)

    learner.revise(change, "learn", f"playbook, {mode}, {len(tasks)} questions")
    return results[0]


def _evaluate(cli: CommandContext, out: CommandOutput, choice: Any, tasks: list[Task]) -> None:
    from continual_learning.strategies.methods.ace import ACE
    from continual_learning.strategies.methods.ace.loops import evaluate
    from continual_learning.strategies.methods.ace.memory import playbook_of

    learner = cli.learner(choice)
    assert isinstance(learner.strategy, ACE)
    roles = learner.strategy.roles(learner.base, learner.state)
    score = evaluate(roles, playbook_of(learner.state.meta.extra), tasks)
    cost = roles.costs["generator"]
    out.result(
        {**choice.names, "questions": len(tasks), "recall": score.recall, "f1": score.f1, "cost": cli.plain(cost)}
    )
    out.line(
        f"{len(tasks)} questions: recall {cli.percent(score.recall)}, F1 {cli.percent(score.f1)}; nothing was learned"
    )


def _show_result(cli: CommandContext, out: CommandOutput, choice: Any, result: LearnResult) -> None:
    out.result(
        {
            **choice.names,
            "loops": cli.plain(result.reports),
            "entries": len(result.playbook),
            "recall_before": result.before.recall if result.before else None,
            "recall_after": result.after.recall if result.after else None,
            "stopped": result.stopped,
        }
    )
    rows = []
    for r in result.reports:
        tokens = sum(int(c["prompt_tokens"] + c["tokens"]) for c in r.costs.values())
        held = cli.percent(r.validation)
        kept = "yes" if r.kept else "no"
        rows.append(
            (
                r.loop,
                cli.percent(r.recall),
                held,
                kept,
                r.entries,
                r.rejected,
                len(r.failures),
                tokens,
                f"{r.seconds:.1f}",
            )
        )
    columns = ("loop", "recall", "held out", "kept", "entries", "rejected", "failed", "tokens", "seconds")
    out.table(columns, rows)
    for failure in result.failures:
        out.note(f"warning: {failure}")
    before, after = (None if s is None else cli.percent(s.recall) for s in (result.before, result.after))
    held = f"; held-out recall {before} before, {after} after" if before is not None else ""
    out.line(f"{result.stopped}; the playbook has {len(result.playbook)} entries{held}")


def _change(
    cli: CommandContext,
    memory: str | None,
    change: Callable[[Playbook], Playbook],
    action: str,
    note: str,
    model: str | None = None,
) -> str:
    """Change the playbook of a memory as a new version, and return its name. Loads a model only to create a memory."""
    from continual_learning.strategies.methods.ace.memory import playbook_of, with_playbook

    if action == "load":
        choice = cli.choose(memory, None, model, must_exist=False)
        if not choice.exists:
            learner = cli.learner(cli.choose(choice.memory, NAME, model, must_exist=False))
            learner.revise(lambda state: with_playbook(state, change(playbook_of(state.meta.extra))), action, note)
            return choice.memory
    store = _store(cli, memory)
    with store.lock():
        state = store.load()
        store.save(with_playbook(state, change(playbook_of(state.meta.extra))), action, note)
    return store.name


def _store(cli: CommandContext, memory: str | None) -> Store:
    store = cli.store(memory)
    _check_strategy(store.name, str((store.meta() if store.head is not None else {}).get("strategy")))
    return store


def _check_strategy(memory: str, strategy: str) -> None:
    if strategy != NAME:
        step = "name another with --memory, or make one: continual-learning learn PATH --strategy ace --memory NAME"
        raise InputError(f"memory {memory!r} was made with strategy {strategy!r}, which has no playbook; {step}")


def _playbook(store: Store, version: str | None) -> Playbook:
    from continual_learning.strategies.methods.ace.memory import playbook_of

    return playbook_of(store.meta(version).get("extra", {}))


def _referred(cli: CommandContext, memory: str | None, ref: str | None) -> Playbook:
    """Return the playbook that a version, a checkpoint or a file holds; None: that of the current version."""
    from continual_learning.strategies.methods.ace.library import found, read

    if ref is not None and ref.endswith(".json"):
        return read(found(ref, folder_of(cli)))
    return _playbook(_store(cli, memory), ref)


def folder_of(cli: CommandContext | MenuContext) -> Path:
    """Return the folder of playbooks that the settings name."""
    from continual_learning.strategies.methods.ace import library

    return library.folder_of(cli.config().settings.strategies.get(NAME, {}))


def _from(origins: Any) -> str | None:
    first = next((o for o in origins if o.question), None)
    return None if first is None else f"{first.question} (loop {first.loop})"


def _menu_learn(menu: MenuContext) -> None:
    """Learn a document, with questions and answers if there are any."""
    document = menu.prompts.path("Document")
    qa = menu.prompts.path("File with questions and answers (empty: none)", required=False)
    menu.learn(document, menu.memory_of(NAME), strategy=NAME, qa=qa)


def _menu_ask(menu: MenuContext) -> None:
    """Ask the playbook questions until an empty one."""
    menu.ask_in_turn(menu.memory_of(NAME))


def _menu_save(menu: MenuContext) -> None:
    """Save the playbook under a name."""
    from continual_learning.strategies.methods.ace.library import new_file

    def check(name: str) -> bool | str:
        try:
            new_file(name, folder)
        except InputError as error:
            return str(error)
        return True

    folder = folder_of(menu)
    name = menu.prompts.text(f"Name of the playbook in {folder}, or a file", "playbook", check=check)
    overwrite: list[str] = []
    if new_file(name, folder).exists():
        if not menu.prompts.confirm(f"{name} is there. Replace it?"):
            return
        overwrite = ["--overwrite"]
    menu.run(NAME, "save", name, "--memory", menu.memory_of(NAME), *overwrite)


def _menu_load(menu: MenuContext) -> None:
    """Load a playbook by name, or from a file."""
    from continual_learning.strategies.methods.ace.library import listed

    saved = {
        p.name: f"{p.name}: {p.entries} entries, saved {p.saved_at}" for p in listed(folder_of(menu)) if not p.problem
    }
    chosen = menu.prompts.select("Playbook", {**saved, _OTHER: "another file"}) if saved else _OTHER
    if chosen == _OTHER:
        path = Path(menu.prompts.path("File of the playbook"))
        chosen = str(path) if len(path.parts) > 1 else f"./{path}"
    menu.run(NAME, "load", chosen, "--memory", menu.memory_of(NAME))


def _menu_list(menu: MenuContext) -> None:
    """List the saved playbooks."""
    menu.run(NAME, "list")


COMMANDS = (
    *(Command(f"{NAME} {run.__name__}", run) for run in (show, save, load)),
    Command(f"{NAME} list", list_saved),
    *(Command(f"{NAME} {run.__name__}", run) for run in (diff, edit, undo, learn, ask)),
)
MENU = (
    MenuEntry("ACE", "ACE Learn Document", "a document into the playbook, questions optional", _menu_learn),
    MenuEntry("ACE", "ACE Ask", "questions to the playbook", _menu_ask),
    MenuEntry("ACE", "ACE Save Playbook", "the playbook, under a name or into a file", _menu_save),
    MenuEntry("ACE", "ACE Load Playbook", "a playbook by name, or from a file", _menu_load),
    MenuEntry("ACE", "ACE List Playbooks", "the saved playbooks", _menu_list),
)
