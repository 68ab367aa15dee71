"""Writing settings: one value in a file, whose comments and order stay, and a file with all defaults."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import pydantic
import yaml

from continual_learning.errors import ConfigError, StorageError
from continual_learning.settings import aliases
from continual_learning.settings.schema import (
    SECTIONS,
    Settings,
    canonical,
    check_file,
    core_keys,
    from_text,
    local_file,
    strategy_names,
    user_file,
)


def file_to_write(folder: Path | None = None) -> Path:
    """Where `set_value` writes: the working folder's file if there is one, else the user's."""
    local = local_file(folder)
    return local if local.exists() else user_file()


def set_value(key: str, text: str, path: Path | None = None) -> Any:
    """Set one dotted key in a settings file and return the value. The file changes only if all of it is valid.

    Raises ConfigError for an unknown key or a wrong value, StorageError when the file cannot be written.
    """
    path = path or file_to_write()
    try:
        before = path.read_text(encoding="utf-8-sig") if path.exists() else ""
        check_file(before, path)
        value = _parsed(key, text)
        parts = _name_in_file(key, before).split(".")
        after = _edited(before, parts, value)
        check_file(after, path)
        if _lookup(yaml.safe_load(after), parts) != value:
            raise ConfigError(f"{path}: the way {key} is written cannot be changed from here; edit the file by hand")
        _write_atomically(path, after)
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 (at byte {error.start}); save it as UTF-8") from None
    except OSError as error:
        raise StorageError(
            f"{path}: cannot be written: {error.strerror}; check the folder and its permissions"
        ) from None
    return value


def default_yaml() -> str:
    """A settings file with every key at its default, each under its description. Imports every strategy."""
    from continual_learning.strategies.base import strategy_class

    lines = [
        "# Every setting with its default. Copy what you change to continual-learning.yaml in the folder where you",
        "# work, or to the file that `continual-learning config path` names. Written by",
        "# `continual-learning config show --defaults`.",
        "",
        *_described(Settings, "", ""),
    ]
    names = strategy_names()
    tops: dict[str, list[str]] = {name: _described(kind, f"{name}.", "  ") for name, kind in SECTIONS.items()}
    rest: list[str] = []
    for name in names:
        cls = strategy_class(name)
        if name in aliases.STRATEGY_SECTIONS:
            tops.setdefault(name, []).insert(0, f"  # {cls.summary}")
            for field in cls.Config.model_fields:
                section, _, key = aliases.documented(f"strategies.{name}.{field}", names).partition(".")
                tops.setdefault(section, []).extend(_field(cls.Config, field, key, "  "))
        else:
            rest += [f"  # {cls.summary}", f"  {name}:" if cls.Config.model_fields else f"  {name}: {{}}"]
            rest += _described(cls.Config, f"strategies.{name}.", "    ")
    for name in sorted(tops, key=_position):
        lines += ["", f"{name}:", *tops[name]]
    lines += ["", "# Options of the other strategies. A memory keeps those that it was made with.", "strategies:"]
    return "\n".join([*lines, *rest]) + "\n"


def _position(section: str) -> int:
    """Where a section stands in the file: the documented ones in their documented order, then ours."""
    order = ("model", "ttt", "alpha", "tfidf_gate", "ace", "doc2lora")
    return order.index(section) if section in order else len(order)


def _described(model: type[pydantic.BaseModel], prefix: str, indent: str) -> list[str]:
    """The fields of a model, but for sections and `strategies`, each under its description."""
    lines: list[str] = []
    for name in model.model_fields:
        if prefix or name in core_keys():
            lines += _field(model, name, name, indent)
    return lines


def _field(model: type[pydantic.BaseModel], name: str, key: str, indent: str) -> list[str]:
    described = (model.model_fields[name].description or "").splitlines()
    value = model().model_dump(mode="json")[name]
    return [*(f"{indent}# {' '.join(line.split())}" for line in described), f"{indent}{key}: {_flow(value)}"]


def _name_in_file(key: str, text: str) -> str:
    """The name by which a file sets ``key`` already; else the key as it was given."""
    root = yaml.safe_load(text)
    wanted = canonical(key)
    names = [wanted, aliases.documented(wanted, strategy_names())]
    names.append(wanted.removeprefix("strategies."))  # ttt.mini_batch_tokens, between the two
    standing = [name for name in names if canonical(name) == wanted and _has(root, name.split("."))]
    return standing[0] if standing else key


def _has(data: Any, parts: list[str]) -> bool:
    for part in parts:
        if not isinstance(data, dict) or part not in data:
            return False
        data = data[part]
    return True


def _parsed(key: str, text: str) -> Any:
    """The value that ``text`` means for this key, of the type that the setting has."""
    given, key = key, canonical(key)
    section, _, rest = key.partition(".")
    if key in core_keys():
        return from_text(SECTIONS[section], rest, text) if section in SECTIONS else from_text(Settings, key, text)
    name, _, option = rest.partition(".")
    if section == "strategies" and option and name in strategy_names():
        from continual_learning.options import parse_config
        from continual_learning.strategies.base import strategy_class

        model = strategy_class(name).Config
        value = from_text(model, option, text)
        parse_config(model, {option: value}, f"strategy {name!r}")
        # the field's own type, so that 1e-3 is written as a number and not as the text "1e-3"
        return model(**{option: value}).model_dump(mode="json")[option]
    try:
        check_file(_flow(_nested(given.split("."), text)), Path("key"))  # says what is unknown and what is near
    except ConfigError as error:
        raise ConfigError(str(error).removeprefix("key, line 1: ")) from None
    raise ConfigError(f"{given!r} names no setting; expected a key that `continual-learning config show` lists")


def _edited(text: str, parts: list[str], value: Any) -> str:
    """``text`` with the value at ``parts`` replaced, or put in where it belongs."""
    root = yaml.compose(text, yaml.SafeLoader)
    if text and not text.endswith("\n"):
        text += "\n"
    if not isinstance(root, yaml.MappingNode):
        return text + _block(parts, value, 0)
    node: Any = root
    for depth, part in enumerate(parts):
        pair = next((p for p in node.value if p[0].value == part), None)
        if pair is None:
            if node.flow_style:
                merged = _nested_update(yaml.safe_load(_slice(text, node)), parts[depth:], value)
                return _replaced(text, node, _flow(merged))
            if node is root:
                return text + _block(parts, value, 0)
            first = node.value[0][0].start_mark
            at = first.index - first.column
            return text[:at] + _block(parts[depth:], value, first.column) + text[at:]
        key_node, child = pair
        last = depth == len(parts) - 1
        if not last and not isinstance(child, yaml.MappingNode):  # a section with nothing in it
            line_end = text.index("\n", key_node.end_mark.index) + 1
            return text[:line_end] + _block(parts[depth + 1 :], value, key_node.start_mark.column + 2) + text[line_end:]
        at = text.index(":", key_node.end_mark.index) + 1
        if last and not _slice(text, child).strip():  # `key:` with nothing after the colon
            return f"{text[:at]} {_flow(value)}{text[at:]}"
        if last and isinstance(child, yaml.CollectionNode) and not child.flow_style:  # a list, one item a line
            return f"{text[:at]} {_flow(value)}{text[_end(child) :]}"
        node = child
    return _replaced(text, node, _flow(value))


def _slice(text: str, node: Any) -> str:
    return text[node.start_mark.index : node.end_mark.index]


def _replaced(text: str, node: Any, new: str) -> str:
    return text[: node.start_mark.index] + new + text[_end(node) :]


def _end(node: Any) -> int:
    """Index after a node's last character. A block's own end mark lies at the next token, beyond comments."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _end(last[1] if isinstance(last, tuple) else last)
    return int(node.end_mark.index)


def _flow(value: Any) -> str:
    if isinstance(value, str) and "\n" in value:
        return json.dumps(value, ensure_ascii=False)  # on one line; YAML reads it alike
    return yaml.safe_dump(value, default_flow_style=True, width=10_000, sort_keys=False).removesuffix("...\n").strip()


def _block(parts: list[str], value: Any, column: int) -> str:
    lines = [f"{' ' * (column + 2 * i)}{part}:" for i, part in enumerate(parts)]
    return "\n".join(lines) + f" {_flow(value)}\n"


def _nested(parts: list[str], value: Any) -> Any:
    return {parts[0]: _nested(parts[1:], value)} if parts else value


def _nested_update(data: dict[str, Any], parts: list[str], value: Any) -> dict[str, Any]:
    inner = value if len(parts) == 1 else _nested_update(data.get(parts[0]) or {}, parts[1:], value)
    return {**data, parts[0]: inner}


def _lookup(data: Any, parts: list[str]) -> Any:
    for part in parts:
        data = data.get(part) if isinstance(data, dict) else None
    return data


def _write_atomically(path: Path, text: str) -> None:
    path = Path(os.path.realpath(path))  # a linked file stays a link
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, aside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            os.chmod(aside, path.stat().st_mode & 0o777)
        else:
            os.chmod(aside, 0o644)
        os.replace(aside, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(aside)
        raise
