"""`memory`: what is kept, and how to undo it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from continual_learning.cli import options
from continual_learning.cli.output import Output, confirmed, plain, size
from continual_learning.errors import ContinualLearningError, InputError, UnknownNameError
from continual_learning.text.words import several

app = options.group("Memories: list, inspect, undo, share.")

Keep = Annotated[int, typer.Option("--keep", metavar="N", help="Number of versions to keep.", min=0)]
DryRun = Annotated[bool, typer.Option("--dry-run", help="List what would be removed, and change nothing.")]


@app.command("list")
def list_(as_json: options.Json = False) -> None:
    """List all memories."""
    from continual_learning.cli.session import head_meta, memory_names
    from continual_learning.memory.store import Store

    out = Output(as_json)
    rows: list[dict[str, Any]] = []
    for name in memory_names():
        store = Store.open(name, create=False)
        row: dict[str, Any] = {"name": name, "bytes": store.bytes_on_disk()}
        try:
            head, meta = store.head, head_meta(store) or {}
            row |= {"strategy": meta.get("strategy"), "model": meta.get("base_name")}
            row |= {"documents": len(meta.get("documents", ())), "versions": len(store.history())}
            row |= {"updated_at": head.created_at if head else None, "problem": None}
        except ContinualLearningError as error:  # one damaged memory must not hide the rest
            row |= dict.fromkeys(("strategy", "model", "documents", "versions", "updated_at"))
            row["problem"] = str(error)
        rows.append(row)
    out.result({"memories": rows})
    if not rows:
        out.line("no memory yet; `continual-learning learn PATH` makes one")
        return
    columns = ("name", "strategy", "model", "documents", "versions", "updated_at")
    out.table((*columns, "size"), [(*(row[c] for c in columns), size(row["bytes"])) for row in rows])
    for row in rows:
        if row["problem"]:
            out.note(f"warning: {row['problem']}")


@app.command()
def show(memory: options.MemoryArgument = None, option: options.Memory = None, as_json: options.Json = False) -> None:
    """Show one memory: its documents, strategy, model and size."""
    from continual_learning.cli.session import head_meta

    out = Output(as_json)
    store = _store(memory, option)
    meta = head_meta(store) or {}
    head = store.head
    facts = {
        "memory": store.name,
        "strategy": meta.get("strategy"),
        "model": meta.get("base_name"),
        "version": head.id if head else None,
        "updated_at": head.created_at if head else None,
        "versions": len(store.history()),
        "bytes": head.bytes if head else 0,
        "bytes_on_disk": store.bytes_on_disk(),
        "folder": store.root,
        "options": meta.get("config", {}),
    }
    documents = list(meta.get("documents", ()))
    out.result({**facts, "documents": documents})
    facts["bytes"], facts["bytes_on_disk"] = size(head.bytes if head else 0), size(store.bytes_on_disk())
    facts["options"] = f"{len(meta.get('config', {}))}; --json shows them"  # ttt has more than fit on a screen
    out.facts(facts)
    out.line()
    show_documents(out, documents)


@app.command()
def history(
    memory: options.MemoryArgument = None, option: options.Memory = None, as_json: options.Json = False
) -> None:
    """All versions of a memory, newest first."""
    out = Output(as_json)
    store = _store(memory, option)
    versions, head = store.history(), store.head
    current = head.id if head else None
    out.result({"memory": store.name, "current": current, "versions": plain(versions)})
    rows = [
        (
            f"{'* ' if v.id == current else '  '}{v.id}",
            v.created_at,
            v.action,
            v.documents,
            size(v.bytes),
            ", ".join(v.checkpoints) or None,
            v.note,
        )
        for v in versions
    ]
    out.table(("  version", "created_at", "action", "documents", "size", "checkpoints", "note"), rows)


@app.command()
def forget(
    document: Annotated[str, typer.Argument(help="The document's id, the start of its id, or its title.")],
    memory: options.Memory = None,
    as_json: options.Json = False,
) -> None:
    """Remove one document, as if it had never been learned."""
    from continual_learning.cli.session import choose, open_learner

    out = Output(as_json)
    choice = choose(memory)
    found = find_document(choice.memory, document)  # before the model is loaded
    learner = open_learner(choice)
    gone = learner.forget(found["id"])
    remaining = len(learner.documents)
    out.result({"memory": choice.memory, "forgotten": found, "documents": remaining, "feedback_forgotten": plain(gone)})
    out.line(
        f"forgot {found['id']} {found['title']!r}; memory {choice.memory!r} holds {several(remaining, 'document')}"
    )
    if gone:
        ids = ", ".join(item.id for item in gone)
        out.line(f"feedback on its answers went with it: {ids}")


@app.command()
def rollback(
    memory: options.MemoryArgument = None,
    to: Annotated[
        str | None,
        typer.Option(
            "--to", metavar="VERSION", help="A version or checkpoint [default: the one before the last change]."
        ),
    ] = None,
    option: options.Memory = None,
    as_json: options.Json = False,
) -> None:
    """Undo the last change; repeated, it goes further back. The history stays, so --to brings anything back."""
    out = Output(as_json)
    store = _store(memory, option)
    version = store.rollback(to)
    out.result({"memory": store.name, "version": plain(version)})
    out.line(f"memory {store.name!r} is at {version.id} ({version.note}) with {several(version.documents, 'document')}")


@app.command()
def clear(memory: options.MemoryArgument = None, option: options.Memory = None, as_json: options.Json = False) -> None:
    """Forget every document. The history stays, so `memory rollback` undoes it."""
    from continual_learning.cli.session import choose, open_learner

    out = Output(as_json)
    choice = choose(one_name(memory, option))
    learner = open_learner(choice)
    count = len(learner.documents)
    learner.clear()
    out.result({"memory": choice.memory, "forgotten": count})
    out.line(f"forgot {count} documents; `continual-learning memory rollback {choice.memory}` brings them back")


@app.command()
def delete(
    memory: options.MemoryArgument = None,
    option: options.Memory = None,
    yes: options.Yes = False,
    as_json: options.Json = False,
) -> None:
    """Delete a whole memory with its history. This cannot be undone."""
    out = Output(as_json)
    name = one_name(memory, option)
    if name is None:
        raise InputError(
            "no memory was named; expected the name of the one to delete, see continual-learning memory list"
        )
    store = _store(name, None)
    freed = store.bytes_on_disk()
    if not yes and not confirmed(f"delete memory {store.name!r} with all {len(store.history())} versions?"):
        out.result({"memory": store.name, "deleted": False, "bytes": 0})
        out.line("nothing was deleted")
        return
    store.delete()
    out.result({"memory": store.name, "deleted": True, "bytes": freed})
    out.line(f"deleted memory {store.name!r} ({size(freed)})")


@app.command()
def export(
    file: Annotated[Path, typer.Argument(help="The file to write.")],
    memory: options.Memory = None,
    version: Annotated[
        str | None, typer.Option("--version", help="A version or checkpoint [default: current].")
    ] = None,
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
) -> None:
    """Write one version of a memory to a single file, to keep or to share."""
    out = Output(as_json)
    store = _store(memory, None)
    path = store.export(file, version, overwrite)
    out.result({"memory": store.name, "file": path, "bytes": path.stat().st_size})
    out.line(f"wrote {path} ({size(path.stat().st_size)})")


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="A file that `memory export` wrote.")],
    memory: options.Memory = None,
    as_json: options.Json = False,
) -> None:
    """Import a memory: as a new one, or as a new version of one with the same strategy and model."""
    from continual_learning.cli.session import memory_name
    from continual_learning.memory.store import Store

    out = Output(as_json)
    store = Store.open(memory_name(memory))
    version = store.import_(file)
    out.result({"memory": store.name, "version": plain(version)})
    out.line(f"memory {store.name!r} is at {version.id} with {several(version.documents, 'document')}")


@app.command()
def cleanup(
    memory: options.MemoryArgument = None,
    option: options.Memory = None,
    keep: Keep = 10,
    dry_run: DryRun = False,
    as_json: options.Json = False,
) -> None:
    """Remove old versions; the current one and those with a checkpoint stay."""
    out = Output(as_json)
    store = _store(memory, option)
    report = store.cleanup(keep=keep, dry_run=dry_run)
    out.result({"memory": store.name, **plain(report)})
    verb = "would remove" if dry_run else "removed"
    out.line(f"{verb} {len(report.versions)} versions, {len(report.objects)} objects, {size(report.bytes)}")


def show_documents(out: Output, documents: list[dict[str, Any]]) -> None:
    """A table of document records."""
    if not documents:
        out.line("no document yet")
        return
    columns = ("id", "title", "tokens", "learned_at", "source")
    out.table(columns, [tuple(document[c] for c in columns) for document in documents])


def find_document(memory: str, wanted: str) -> dict[str, Any]:
    """The record of the document with this id, start of an id, or title. Raises UnknownNameError."""
    from continual_learning.cli.session import head_meta, open_store

    documents: list[dict[str, Any]] = list((head_meta(open_store(memory)) or {}).get("documents", ()))
    exact = [d for d in documents if d["id"] == wanted]
    found = exact or [d for d in documents if wanted and (d["id"].startswith(wanted) or d["title"] == wanted)]
    if len(found) == 1:
        return found[0]
    named = ", ".join(f"{d['id']} {d['title']!r}" for d in (found or documents)[:5]) or "none"
    more = f" and {len(found or documents) - 5} more" if len(found or documents) > 5 else ""
    if found:
        raise UnknownNameError(f"document {wanted!r} is not one but {len(found)}: {named}{more}; give the whole id")
    raise UnknownNameError(f"no document {wanted!r} in memory {memory!r}; it holds: {named}{more}")


def one_name(argument: str | None, option: str | None) -> str | None:
    """The memory's name, given in either of two ways; None if in neither. Raises InputError for two names."""
    if argument is not None and option is not None and argument != option:
        raise InputError(f"two memories are named, {argument!r} and --memory {option!r}; expected one of them")
    return argument if argument is not None else option


def _store(argument: str | None, option: str | None) -> Any:
    from continual_learning.cli.session import open_store

    return open_store(one_name(argument, option))
