"""`config`: settings, and where each comes from."""

from __future__ import annotations

from typing import Annotated

import typer

from continual_learning.cli import options
from continual_learning.cli.output import Output
from continual_learning.errors import UnknownNameError

app = options.group("Settings: show, get, set.")

Key = Annotated[str, typer.Argument(help="Dotted, such as model.name or strategies.ttt.max_seconds.")]


@app.command()
def show(
    everything: Annotated[
        bool, typer.Option("--all", help="Also show the options of every strategy, not only those that are set.")
    ] = False,
    defaults: Annotated[
        bool, typer.Option("--defaults", help="Print a settings file with every default and its meaning.")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Show all settings and where each comes from."""
    from continual_learning.cli.output import plain
    from continual_learning.settings.schema import load_config

    out = Output(as_json)
    if defaults:
        import yaml

        from continual_learning.settings.edit import default_yaml

        text = default_yaml()
        out.result(yaml.safe_load(text))
        out.line(text.removesuffix("\n"))
        return
    found = load_config().items(strategies=everything)
    out.result({"settings": plain(found)})
    out.table(("setting", "value", "from"), [(s.key, s.value, s.origin) for s in found])


@app.command()
def get(key: Key, as_json: options.Json = False) -> None:
    """Show one setting."""
    import difflib

    from continual_learning.cli.output import plain
    from continual_learning.settings.schema import canonical, load_config

    out = Output(as_json)
    key = canonical(key)
    found = {s.key: s for s in load_config().items(strategies=key.startswith("strategies."))}
    if key not in found:
        near = difflib.get_close_matches(key, found, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(found)}"
        raise UnknownNameError(f"no setting {key!r}; {hint}")
    out.result(plain(found[key]))
    out.line(str(found[key].value))


@app.command("set")
def set_(
    key: Key,
    value: Annotated[str, typer.Argument(help="The value; it is checked before anything is written.")],
    as_json: options.Json = False,
) -> None:
    """Write one setting: to continual-learning.yaml in this folder if there is one, else to your own file."""
    from continual_learning.settings.edit import file_to_write, set_value
    from continual_learning.settings.schema import canonical, load_config

    out = Output(as_json)
    path = file_to_write()
    written = set_value(key, value, path)
    out.result({"key": key, "value": written, "file": path})
    out.line(f"{key} = {written} in {path}")
    origin = load_config().origins.get(canonical(key), "")
    if not origin.startswith(str(path)):
        out.note(f"note: {origin} still wins over it")


@app.command("path")
def path_(as_json: options.Json = False) -> None:
    """Show the files that are read, lowest precedence first, and the one that `config set` writes."""
    from continual_learning.settings.edit import file_to_write
    from continual_learning.settings.schema import config_files

    out = Output(as_json)
    files, written = config_files(), file_to_write()
    out.result({"files": [{"path": p, "exists": p.exists(), "written": p == written} for p in files]})
    for path in files:
        state = "read" if path.exists() else "not there"
        out.line(f"{path}  ({state}{'; written by config set' if path == written else ''})")
