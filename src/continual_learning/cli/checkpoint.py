"""`checkpoint`: versions of a memory with a name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from continual_learning.cli import options
from continual_learning.cli.output import Output, plain, size
from continual_learning.errors import InputError, UnknownNameError

if TYPE_CHECKING:
    from continual_learning.memory.store import Store, Version
    from continual_learning.strategies.base import Strategy

app = options.group("Checkpoints: named versions of a memory.")

Name = Annotated[str, typer.Argument(help="Name of the checkpoint.")]
Memory = Annotated[
    str | None,
    typer.Option(
        "--memory", "-m",
        help="Name of the memory [default: the setting `memory`], or its folder, such as ./nested_checkpoints.",
    ),
]  # fmt: skip


@app.command()
def save(
    name: Name, memory: Memory = None, overwrite: options.Overwrite = False, as_json: options.Json = False
) -> None:
    """Name the current version."""
    out = Output(as_json)
    store = _open(memory)
    version = store.checkpoint(name, overwrite)
    out.result({"memory": store.name, "checkpoint": name, "version": plain(version)})
    out.line(f"checkpoint {name!r} of memory {store.name!r} is version {version.id}")


@app.command()
def load(name: Name, memory: Memory = None, as_json: options.Json = False) -> None:
    """Make a checkpoint the current version. `memory rollback` undoes that."""
    out = Output(as_json)
    store = _open(memory)
    version = store.save(store.load(_checkpoint(store, name).id), "load", name)
    out.result({"memory": store.name, "checkpoint": name, "version": plain(version)})
    out.line(f"memory {store.name!r} is at {version.id}, with the {version.documents} documents of checkpoint {name!r}")


@app.command("list")
def list_(memory: Memory = None, as_json: options.Json = False) -> None:
    """All checkpoints of a memory."""
    out = Output(as_json)
    store = _open(memory)
    found = store.checkpoints()
    out.result({"memory": store.name, "checkpoints": [{"name": n, "version": plain(v)} for n, v in found.items()]})
    if not found:
        out.line(f"memory {store.name!r} has no checkpoint; `continual-learning checkpoint save NAME` makes one")
        return
    rows = [(name, v.id, v.created_at, v.documents, size(v.bytes)) for name, v in found.items()]
    out.table(("name", "version", "created_at", "documents", "size"), rows)


@app.command()
def info(name: Name, memory: Memory = None, as_json: options.Json = False) -> None:
    """One checkpoint: its version and its documents."""
    from continual_learning.cli.memory import show_documents

    out = Output(as_json)
    store = _open(memory)
    version = _checkpoint(store, name)
    meta = store.meta(version.id)
    facts = {"memory": store.name, "checkpoint": name, "strategy": meta["strategy"], "model": meta["base_name"]}
    out.result({**facts, "version": plain(version), "documents": meta["documents"]})
    out.facts({**facts, "version": version.id, "created_at": version.created_at, "size": size(version.bytes)})
    out.line()
    show_documents(out, meta["documents"])


@app.command()
def compare(
    first: Annotated[str, typer.Argument(metavar="A", help="A checkpoint or version.")],
    second: Annotated[str, typer.Argument(metavar="B", help="Another one.")],
    memory: Memory = None,
    as_json: options.Json = False,
) -> None:
    """Compare two checkpoints or versions: their documents and weights."""
    out = Output(as_json)
    store = _open(memory)
    found = store.diff(first, second)
    levels = _strategy_of(store, first).compare(store.load(first), store.load(second))
    out.result({"memory": store.name, **found, "levels": levels})
    changed = {name: part for name, part in found["parts"].items() if part["status"] != "same"}
    for verb in ("added", "removed"):
        for document in found["documents"][verb]:
            out.line(f"{verb}  {document['id']}  {document['title']}")
    if not changed:
        out.line(f"{first} and {second} hold the same weights")
        return
    if levels:
        rows = [
            (
                level["level"],
                _rounded(level["distance"]),
                _rounded(level["cosine"]),
                ", ".join(f"{w['weight']} ({w['distance']:.3g})" for w in level["most_changed"]),
            )
            for level in levels
        ]
        out.table(("level", "distance", "cosine", "most changed"), rows)
        return
    columns = ("status", "tensors", "tensors_changed", "l2", "cosine")
    rows = [(name, *(_rounded(part[c]) for c in columns)) for name, part in changed.items()]
    out.table(("part", *columns), rows)


@app.command()
def export(
    name: Name,
    file: Annotated[Path, typer.Argument(help="The file to write; with the suffix .safetensors, the weights alone.")],
    memory: Memory = None,
    peft: Annotated[
        bool,
        typer.Option("--peft", help="Write a folder with a PEFT adapter (only for memories that are adapters)."),
    ] = False,
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
) -> None:
    """Write a checkpoint to one file that `memory import` reads (safetensors and JSON), or its weights alone."""
    from continual_learning.memory.store.archive import write_tensors

    out = Output(as_json)
    store = _open(memory)
    version = _checkpoint(store, name).id
    if peft:
        if file.exists() and not overwrite:
            raise InputError(f"{file} exists already; give another name, or --overwrite")
        folder = _strategy_of(store, version).write_peft(store.load(version), file)
        out.result({"memory": store.name, "checkpoint": name, "folder": folder})
        out.line(f"wrote {folder}, which peft.PeftModel.from_pretrained reads")
        return
    if file.suffix == ".safetensors":
        path = write_tensors(store.load(version), file, overwrite)
    else:
        path = store.export(file, version, overwrite)
    out.result({"memory": store.name, "checkpoint": name, "file": path, "bytes": path.stat().st_size})
    out.line(f"wrote {path} ({size(path.stat().st_size)})")


@app.command()
def delete(name: Name, memory: Memory = None, as_json: options.Json = False) -> None:
    """Remove a checkpoint's name. Its version stays until `memory cleanup`."""
    out = Output(as_json)
    store = _open(memory)
    store.delete_checkpoint(name)
    out.result({"memory": store.name, "deleted": [name]})
    out.line(f"removed checkpoint {name!r} of memory {store.name!r}")


@app.command()
def cleanup(
    memory: Memory = None,
    keep: Annotated[int, typer.Option("--keep", metavar="N", help="Number of checkpoints to keep.", min=0)] = 10,
    dry_run: Annotated[
        bool, typer.Option("--dry-run/--remove", help="List what would be removed and change nothing, or remove it.")
    ] = True,
    as_json: options.Json = False,
) -> None:
    """Remove all but the newest checkpoints. Their versions stay until `memory cleanup`."""
    out = Output(as_json)
    store = _open(memory)
    newest = sorted(store.checkpoints().items(), key=lambda item: item[1].id, reverse=True)
    old = [name for name, _ in newest[keep:]]
    if not dry_run:
        for name in old:
            store.delete_checkpoint(name)
    out.result({"memory": store.name, "deleted": old, "dry_run": dry_run})
    done = "would remove" if dry_run else "removed"
    out.line(f"{done} {len(old)} checkpoints{': ' if old else ''}{', '.join(old)}")
    if dry_run and old:
        out.note("nothing was changed; --remove removes them")


def _open(memory: str | None) -> Store:
    """The store of a memory by its name, or by its folder."""
    from continual_learning.cli.session import open_store
    from continual_learning.memory.store import Store

    if memory is None or not {"/", os.sep} & set(memory):
        return open_store(memory)
    store = Store(Path(memory).expanduser())
    if not store.exists:
        raise UnknownNameError(f"no memory in {memory!r}; expected the folder of one, such as nested.checkpoint_dir")
    return store


def _checkpoint(store: Store, name: str) -> Version:
    found = store.checkpoints()
    if name not in found:
        known = ", ".join(found) or "none"
        raise UnknownNameError(f"memory {store.name!r} has no checkpoint {name!r}; it has: {known}")
    return found[name]


def _strategy_of(store: Store, ref: str) -> Strategy[Any]:
    """The strategy that made a version, with its settings."""
    from continual_learning.options import current_options
    from continual_learning.strategies.base import make_strategy, strategy_class

    meta = store.meta(ref)
    model = strategy_class(meta["strategy"]).Config
    return make_strategy(meta["strategy"], current_options(model, meta["config"], f"memory {store.name!r}"))


def _rounded(value: object) -> object:
    return f"{value:.4g}" if isinstance(value, float) else value
