"""Configure: view and edit any setting."""

from __future__ import annotations

import types
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin

from continual_learning.cli.menu import prompts
from continual_learning.cli.menu.entry import Entry, Menu

if TYPE_CHECKING:
    import pydantic

    from continual_learning.settings.schema import Setting

BACK = ""
GENERAL = "general"


def configure(menu: Menu) -> None:
    """A section, one of its settings, a new value; until the user goes back."""
    from continual_learning.cli.output import plain
    from continual_learning.settings.edit import file_to_write

    section, key = GENERAL, None
    while section := prompts.select("Which settings?", _sections(), default=section):
        while key := _choose_setting(section, key):
            setting = next(s for s in _settings(section) if s.key == key)
            described = describe(key)
            menu.say(f"{key} = {plain(setting.value)} (from {setting.origin})")
            if described:
                menu.say(described)
            _edit(menu, setting)
            key = setting.key
        menu.say(f"settings are kept in {file_to_write()}")


def _edit(menu: Menu, setting: Setting) -> None:
    """Ask until the value is valid; the old one stays until then."""
    known = choices(setting.key)
    while True:
        if known:
            now = str(setting.value)
            value = prompts.select("New value", {v: v for v in known}, default=now if now in known else None)
        else:
            value = prompts.text("New value (empty: leave it)", required=False)
        if not value or menu.run("config", "set", setting.key, value) == 0:
            return


def _sections() -> dict[str, str]:
    from continual_learning.settings.schema import core_keys, strategy_names

    named = sorted({key.partition(".")[0] for key in core_keys() if "." in key})
    return {
        GENERAL: "general",
        **{name: name for name in named},
        **{f"strategies.{name}": f"strategy {name}" for name in strategy_names()},
        BACK: "back",
    }


def _settings(section: str) -> list[Setting]:
    from continual_learning.settings.schema import load_config

    found = load_config().items(strategies=section.startswith("strategies."))
    if section == GENERAL:
        return [s for s in found if "." not in s.key]
    return [s for s in found if s.key.startswith(f"{section}.")]


def _choose_setting(section: str, last: str | None) -> str:
    found = _settings(section)
    prefix = "" if section == GENERAL else f"{section}."
    titles = {s.key: f"{s.key.removeprefix(prefix)} = {s.value}" for s in found}
    return prompts.select("Which setting?", {**titles, BACK: "back"}, default=last if last in titles else None)


def describe(key: str) -> str:
    """What a setting means, in a line; empty where nothing is said."""
    field = _field(key)
    return " ".join((field.description or "").split()) if field is not None else ""


def choices(key: str) -> list[str]:
    """The values of a setting that takes only these; empty for all others."""
    if key == "strategy":
        from continual_learning.settings.schema import strategy_names
        from continual_learning.strategies.registry import AUTO

        return [AUTO, *strategy_names()]
    field = _field(key)
    return [] if field is None else _values(field.annotation)


def _values(annotation: Any) -> list[str]:
    if annotation is bool:
        return ["true", "false"]
    if get_origin(annotation) is Literal:
        return [str(value) for value in get_args(annotation)]
    if get_origin(annotation) in (Union, types.UnionType):
        parts = [_values(part) for part in get_args(annotation) if part is not type(None)]
        if parts and all(parts):
            return [value for part in parts for value in part] + ["null"]
    return []


def _field(key: str) -> pydantic.fields.FieldInfo | None:
    from continual_learning.settings.schema import Settings

    parts = key.split(".")
    model: Any = Settings
    if parts[0] == "strategies":
        from continual_learning.strategies.base import strategy_class

        model, parts = strategy_class(parts[1]).Config, parts[2:]
    field = None
    for part in parts:
        field = getattr(model, "model_fields", {}).get(part)
        model = field.annotation if field is not None else None
    return field


ENTRIES = (Entry("Configure", "view and edit any setting", configure),)
