"""Writing settings: one value in a file, keeping its comments and order, or a file with all defaults."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import tempfile
from pathlib import Path
from typing import Any

import pydantic
import yaml
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq

from continual_learning.errors import ConfigError, StorageError
from continual_learning.io.files import is_stream
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
        after = _edited(before, key, parts, value, path)
        check_file(after, path)
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
    """The position of a section in the file: the documented ones in their documented order, then ours."""
    order = ("model", "ttt", "alpha", "tfidf_gate", "ace", "doc2lora")
    return order.index(section) if section in order else len(order)


def _described(model: type[pydantic.BaseModel], prefix: str, indent: str) -> list[str]:
    """The fields of a model, except sections and `strategies`, each under its description."""
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
    """The name by which a file already sets ``key``; otherwise the key as given."""
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
    """``text`` as a value of this key's type."""
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
        check_file(_flow(_nested(given.split("."), text)), Path("key"))  # reports the unknown name and the nearest one
    except ConfigError as error:
        raise ConfigError(str(error).removeprefix("key, line 1: ")) from None
    raise ConfigError(f"{given!r} names no setting; expected a key that `continual-learning config show` lists")


def _edited(text: str, key: str, parts: list[str], value: Any, path: Path) -> str:
    """``text`` with ``value`` at ``parts``; everything else, comments included, is unchanged."""
    before = yaml.safe_load(text)
    wanted = _merged(before or {}, parts, value)
    if before is None:  # empty, or only comments, which belong to no key
        start = text if not text or text.endswith("\n") else text + "\n"
        return start + _dumped(_nested(parts, _node(value)), text)
    data = _round_trip(text).load(text)
    _put(data, parts, _node(value))
    after = _dumped(data, text)
    if yaml.safe_load(after) != wanted:  # for instance an alias, by which the value also appears elsewhere
        raise ConfigError(f"{path}: the way {key} is written cannot be changed from here; edit the file by hand")
    return after


def _put(data: CommentedMap, parts: list[str], value: Any) -> None:
    """Set the value at ``parts`` of a mapping that keeps its comments."""
    for depth, part in enumerate(parts[:-1]):
        if data.get(part) is None:  # no such section, or an empty one
            value, parts = _nested(parts[depth + 1 :], value), parts[: depth + 1]
            break
        data = data[part]
    last = parts[-1]
    if last in data:
        behind = _comment_behind(data[last])
        data[last] = value
        if behind is not None:
            data.ca.items[last] = [None, None, behind, None]
    elif len(parts) == 1 or data.fa.flow_style():
        data[last] = value
    else:  # at the front: what follows the last key of a section may be a comment on the next section
        data.insert(0, last, value)


def _comment_behind(value: Any) -> Any:
    """The comment attached to the last item of a list or section, which includes any comment before the next key."""
    if not isinstance(value, CommentedSeq | CommentedMap) or not value:
        return None
    last = len(value) - 1 if isinstance(value, CommentedSeq) else list(value)[-1]
    return next((token for token in reversed(value.ca.items.get(last) or ()) if token is not None), None)


def _round_trip(text: str) -> YAML:
    """A reader and writer that keeps comments, quotes and the indentation of ``text``."""
    section = re.search(r"^( +)[^\s#-]", text, re.MULTILINE)
    items = re.search(r"^( *)[^\s#-][^\n]*:[^\n]*\n(?:\s*#[^\n]*\n)*\1( *)- ", text, re.MULTILINE)
    offset = len(items[2]) if items else 0
    editor = YAML()
    editor.preserve_quotes = True
    editor.width = 10_000
    editor.indent(mapping=len(section[1]) if section else 2, sequence=offset + 2, offset=offset)
    editor.representer.add_representer(type(None), lambda r, _: r.represent_scalar("tag:yaml.org,2002:null", "null"))
    return editor


def _node(value: Any) -> Any:
    """The value as written to a file for YAML 1.1 readers: quoted if they would misread it."""
    editor = YAML()
    editor.preserve_quotes = True
    return editor.load(_flow(value))


def _dumped(data: Any, text: str) -> str:
    stream = io.StringIO()
    _round_trip(text).dump(data, stream)
    return stream.getvalue()


def _flow(value: Any) -> str:
    if isinstance(value, str) and "\n" in value:
        return json.dumps(value, ensure_ascii=False)  # on one line; YAML reads it the same way
    return yaml.safe_dump(value, default_flow_style=True, width=10_000, sort_keys=False).removesuffix("...\n").strip()


def _nested(parts: list[str], value: Any) -> Any:
    return {parts[0]: _nested(parts[1:], value)} if parts else value


def _merged(data: dict[str, Any], parts: list[str], value: Any) -> dict[str, Any]:
    inner = value if len(parts) == 1 else _merged(data.get(parts[0]) or {}, parts[1:], value)
    return {**data, parts[0]: inner}


def _write_atomically(path: Path, text: str) -> None:
    if is_stream(path):  # such as /dev/null: a file must not take its place
        path.write_text(text, encoding="utf-8")
        return
    path = Path(os.path.realpath(path))  # a symbolic link stays a link
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
