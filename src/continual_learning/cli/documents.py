"""`documents`: what a source holds, and pages of documentation as a file to learn from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from continual_learning.cli import options
from continual_learning.cli.output import Output, plain, progress_bar

if TYPE_CHECKING:
    from continual_learning.documents import Document, Limits, Skipped

app = options.group("Documents: what a file, a page or a site holds, and pages as a file to learn from.")

Sources = Annotated[
    list[str],
    typer.Argument(metavar="SOURCE", help="Files, folders, URLs, sitemaps, the name of a list, or its YAML file."),
]


@app.command()
def fetch(
    sources: Sources,
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="FILE", help="File to write the chunks to, as JSON lines.", dir_okay=False
        ),
    ] = Path("documents.jsonl"),
    words: Annotated[
        int, typer.Option("--words", metavar="N", help="Maximum words per chunk; 0 keeps documents whole.", min=0)
    ] = 150,
    allow_private: options.AllowPrivate = False,
    as_json: options.Json = False,
) -> None:
    """Fetch and parse sources, cut them by sentences, and save them for `learn`. Exit code 2 if none can be read."""
    from continual_learning.documents.lists import chunk, save_json_lines

    out = Output(as_json)
    documents, skipped = _gather(out, sources, options.limits(allow_private))
    if not documents:
        first = f"{skipped[0].source}: {skipped[0].reason}" if skipped else "the list is empty"
        from continual_learning.errors import DocumentError

        raise DocumentError(f"none of {len(skipped)} sources can be read; {first}")
    chunks = [piece for d in documents for piece in (chunk(d, words) if words else [d])]
    count = save_json_lines(chunks, output)
    rows = _rows(documents)
    out.result({"file": output, "chunks": count, "documents": rows, "skipped": plain(skipped)})
    out.table(("document", "words", "source"), [(r["title"], r["words"], r["source"]) for r in rows])
    out.line(f"{count} chunks of {len(documents)} documents in {output}; next: continual-learning learn {output}")


@app.command()
def show(
    sources: Sources,
    text: Annotated[bool, typer.Option("--text", help="Also show the whole text of each document.")] = False,
    allow_private: options.AllowPrivate = False,
    as_json: options.Json = False,
) -> None:
    """Show what would be learned from sources, and what would be skipped and why. Nothing is written."""
    out = Output(as_json)
    documents, skipped = _gather(out, sources, options.limits(allow_private))
    rows = _rows(documents)
    for row, document in zip(rows, documents, strict=True):
        if text:
            row["text"] = document.text
            out.line(f"# {document.title}  ({document.source})\n\n{document.text}\n")
    out.result({"documents": rows, "skipped": plain(skipped)})
    if not text:
        out.table(("document", "words", "id", "source"), [(r["title"], r["words"], r["id"], r["source"]) for r in rows])
    if not documents:
        raise typer.Exit(1)


@app.command()
def lists(as_json: options.Json = False) -> None:
    """Show the lists of sources that come with the package."""
    from continual_learning.documents.lists import load_list, shipped_lists

    out = Output(as_json)
    found = [load_list(name) for name in shipped_lists()]
    out.result({"lists": plain(found)})
    out.table(("list", "title", "sources"), [(f.name, f.title, len(f.sources)) for f in found])


def _gather(out: Output, sources: list[str], limits: Limits) -> tuple[list[Document], list[Skipped]]:
    """The documents of all sources, lists included. What cannot be read is reported and skipped."""
    from continual_learning.documents.lists import gather, load_list, shipped_lists

    places: list[str] = []
    for source in sources:
        names_list = source in shipped_lists() and not Path(source).exists()
        # A YAML file is source code too; `learn` reads it as such, here it is a list.
        places += load_list(source).sources if names_list or source.endswith((".yaml", ".yml")) else [source]
    with progress_bar("documents") as progress:
        documents, skipped = gather(places, limits, progress)
    for item in skipped:
        out.note(f"skipped {item.source}: {item.reason}")
    return documents, skipped


def _rows(documents: list[Document]) -> list[dict[str, Any]]:
    return [{"id": d.id, "title": d.title, "words": len(d.text.split()), "source": d.source} for d in documents]
