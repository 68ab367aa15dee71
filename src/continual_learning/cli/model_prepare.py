"""`model prepare`: what is trained once for a base."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Annotated, Any

import typer

from continual_learning.cli import options
from continual_learning.cli.output import Output, confirmed, progress_bar, size

if TYPE_CHECKING:
    from continual_learning.app.preparing import Item, Plan

Name = Annotated[
    str | None,
    typer.Argument(metavar="[MODEL]", help="Name, GGUF file or folder [default: the setting `model.name`]."),
]
Quick = Annotated[bool, typer.Option("--quick", help="In minutes instead of hours; answers are less good.")]
Only = Annotated[
    list[str] | None,
    typer.Option("--only", metavar="NAME", help="Make this alone: reader, hypernetwork or start; may be repeated."),
]
Anew = Annotated[
    bool, typer.Option("--overwrite", help="Also make anew what was made before, and begin unfinished runs anew.")
]
_WORDS = {
    "ships": "ships with the package",
    "ready": "is there",
    "quick": "is there, made quickly",
    "begun": "was begun",
    "missing": "-",
}


def prepare(
    model: Name = None,
    quick: Quick = False,
    only: Only = None,
    yes: options.Yes = False,
    overwrite: Anew = False,
    as_json: options.Json = False,
) -> None:
    """Train what is trained once for a base: the reader, and what strategies need. An interrupted run is resumed.

    Says first what there is, what it will make, how long that takes and how large it is, and asks. The same is made by
    the `train` commands that it names with --json.
    """
    from continual_learning.app.preparing import make, plan
    from continual_learning.cli.session import load_base
    from continual_learning.model.prepared import NOTICE, prepared_folder
    from continual_learning.settings.schema import load_config

    out = Output(as_json)
    place = load_config({"model.name": model}).settings.model
    base = load_base(place.name, place.model_copy(update={"precision": "full"}))
    planned = plan(base, quick, only or (), overwrite)
    _show(out, base.name, planned)
    taken: dict[str, float] = {}
    if planned.wanted:
        names = " and ".join(item.name for item in planned.wanted)
        if not yes and not confirmed(f"make {names} for {base.name}, in about {duration(planned.seconds)}?"):
            out.line("nothing was made")
        else:
            with contextlib.ExitStack() as bars:

                def progress(item: Item) -> Any:
                    bars.close()
                    out.line(f"{item.name}: {item.path}")
                    return bars.enter_context(progress_bar(item.name))

                try:
                    taken = make(base, planned, overwrite, progress)
                except KeyboardInterrupt:
                    raise KeyboardInterrupt("what was learned is kept: the same command resumes from there") from None
    folder = prepared_folder(base.fingerprint)
    notice = folder / NOTICE
    out.result(
        {
            "name": base.name,
            "fingerprint": base.fingerprint,
            "folder": folder,
            "notice": notice if notice.exists() else None,
            "quick": quick,
            "tokens_per_second": planned.speed,
            "items": [
                {
                    "name": item.name,
                    "serves": item.serves,
                    "state": item.state,
                    "made": item.name in taken,
                    "seconds": taken.get(item.name),
                    "estimated_seconds": item.seconds if item.wanted else None,
                    "bytes": item.bytes if item.wanted else None,
                    "path": item.path,
                    "command": ["continual-learning", *item.command],
                }
                for item in planned.items
            ],
        }
    )
    for name, seconds in taken.items():
        out.line(f"{name}: made in {duration(seconds)}; it is used from now on")
    if taken and notice.exists():
        out.line(f"what is passed on with these files: {notice}")


def _show(out: Output, name: str, planned: Plan) -> None:
    out.table(
        ("", "for", "state", "takes about", "size"),
        [
            (
                item.name,
                item.serves,
                _WORDS[item.state],
                duration(item.seconds) if item.wanted else None,
                size(item.bytes) if item.wanted else None,
            )
            for item in planned.items
        ],
    )
    if not planned.wanted:
        out.line(f"nothing to make for {name}; --overwrite makes anew what does not ship")
        return
    out.line(
        f"estimated from how fast {name} reads here now, {planned.speed:.0f} tokens a second; Ctrl-C keeps what was "
        "learned until a minute ago, and the same command resumes from there"
    )


def duration(seconds: float) -> str:
    """Seconds in readable form: ``40 s``, ``12 min``, ``2.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5_400 else f"{seconds / 3600:.1f} h"
