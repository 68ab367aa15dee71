"""Settings: defaults, then the user's file, the working folder's file, the environment, and flags, last wins.

A file is YAML (``configs/default.yaml`` shows every key). A variable is ``CONTINUAL_LEARNING_`` and the key
with ``__`` for each dot: ``CONTINUAL_LEARNING_MODEL__NAME``. Options of a strategy live under
``strategies.<name>`` (some have a documented name too: `settings.aliases`) and are validated by that strategy's own
Config when it is used, because finding it imports torch; everything else is validated on loading. An unknown key is
refused with its place in the file and the nearest name.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import platformdirs
import pydantic
import yaml

from continual_learning.documents.limits import Limits
from continual_learning.errors import ConfigError
from continual_learning.io.paths import ACCEPT_LICENCE_VARIABLE, HOME_VARIABLE, data_home
from continual_learning.options import StrategyConfig
from continual_learning.settings import aliases
from continual_learning.strategies.choosing import AutoConfig
from continual_learning.strategies.registry import AUTO
from continual_learning.strategies.registry import strategy_names as strategy_names  # noqa: PLC0414 - exported

PREFIX = "CONTINUAL_LEARNING_"
NOT_SETTINGS = {HOME_VARIABLE, ACCEPT_LICENCE_VARIABLE, PREFIX + "DEBUG"}
"""Variables with the prefix that are not settings."""
LOCAL_NAME = "continual-learning.yaml"
DEFAULT = "default"
IMPLIED = "implied by the options that are set"
"""Origin of an option that another one determines, such as the server, by the server's model."""


class _Section(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(
        extra="forbid", frozen=True, validate_default=True, use_attribute_docstrings=True
    )


class ModelSettings(_Section):
    """The base model."""

    name: Annotated[str, pydantic.Field(min_length=1)] = "smollm2-135m"
    """The embedded model, a Hugging Face name, or a local folder."""
    device: Annotated[str, pydantic.Field(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")] = "auto"
    """auto, cpu, cuda, cuda:N or mps. auto is cuda if there is one, else cpu."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """auto, float32, bfloat16 or float16. auto is float32 on a CPU and bfloat16 on a GPU that supports it."""
    precision: Literal["full", "int8", "int4"] = "full"
    """full, int8 or int4. int8 and int4 answer faster on a CPU, from weights rounded to 8 or 4 bits; the embedded model
    has 4-bit weights already. Learning is not affected."""
    frozen_weights: Literal["full", "int8", "nf4"] = "full"
    """full, int8 or nf4: what the base's own weights are held in, for learning and answering. int8 and nf4 take 8 and
    4.25 bits a weight instead of 16 or 32, for a model that would not fit. What is learned stays in float32, in a
    memory that belongs to the base with these weights."""


class NestedSettings(_Section):
    """The chat of `continual-learning nested`. How its weights learn is set under ``strategies.nested``."""

    context_window: Annotated[int, pydantic.Field(ge=0)] = 4
    """Turns of the conversation that stay in the prompt; with 0 everything is answered from the weights."""
    adapt_every_turn: bool = True
    """Learn from the conversation as it goes; otherwise only what `/learn` reads."""
    adapt_every_n_turns: Annotated[int, pydantic.Field(ge=1)] = 1
    """Learn after this many turns, everything said since the last time."""
    adapt_user_only: bool = True
    """Learn only the user's words; otherwise the model's as well."""
    cumulative_context: bool = False
    """Learn the whole context window each time, rather than only what is new in it."""
    auto_reset_threshold: Annotated[int, pydantic.Field(ge=0)] = 0
    """Reset the weights after this many turns; 0: never."""
    auto_save_every_n: Annotated[int, pydantic.Field(ge=0)] = 0
    """Save the weights after this many turns; 0: only on `/save`."""
    checkpoint_dir: str | None = None
    """Folder for the saved weights; none: keep them in a memory like any other."""


class SpeakerSettings(_Section):
    """Another model that words the answers of `ask`, `chat` and `serve`."""

    model: Annotated[str, pydantic.Field(min_length=1)] | None = None
    """ollama:NAME, openai:URL#NAME or llamacpp:FILE.gguf; none: the base and its memory answer by themselves."""
    num_ctx: Annotated[int, pydantic.Field(ge=256)] = 4096
    """Context window of the speaker: tokens of prompt and reply together."""
    timeout: Annotated[float, pydantic.Field(gt=0)] = 120.0
    """Maximum seconds that a server may take for a reply."""
    host: Annotated[str, pydantic.Field(min_length=1)] | None = None
    """Address of the Ollama server. None: the variable OLLAMA_HOST, else http://localhost:11434."""
    api_key_variable: Annotated[str, pydantic.Field(pattern=r"^[A-Z_][A-Z0-9_]*$")] = "OPENAI_API_KEY"
    """Name of the environment variable with the key of an OpenAI-compatible server; the key itself is never stored."""


SECTIONS: dict[str, type[pydantic.BaseModel]] = {
    "model": ModelSettings,
    "documents": Limits,
    "auto": AutoConfig,
    "nested": NestedSettings,
    "speaker": SpeakerSettings,
}
"""Groups of settings, by the first part of their keys."""


class Settings(_Section):
    """All settings other than the options of strategies."""

    model: ModelSettings = ModelSettings()
    strategy: Annotated[str, pydantic.Field(min_length=1)] = "ttt"
    """How a new memory learns: a strategy, or auto, which chooses one by the first documents. An existing memory keeps
    its own."""
    memory: Annotated[str, pydantic.Field(min_length=1)] = "default"
    """The memory that commands use if none is named."""
    max_new_tokens: Annotated[int, pydantic.Field(ge=1, le=8192)] = 64
    """Maximum tokens per answer."""
    documents: Limits = Limits()
    """Limits on files and pages that are read."""
    auto: AutoConfig = AutoConfig()
    nested: NestedSettings = NestedSettings()
    speaker: SpeakerSettings = SpeakerSettings()
    strategies: dict[str, dict[str, Any]] = {}
    """Options of each strategy, by its name."""


@dataclass(frozen=True)
class Setting:
    """One value and where it came from."""

    key: str
    """Dotted: ``model.name``, ``strategies.ttt.alpha``."""
    value: Any
    origin: str
    """``default``, a file with its line, a variable, a flag, or `IMPLIED`."""


@dataclass(frozen=True)
class Config:
    """Validated settings with the origin of each value."""

    settings: Settings
    origins: Mapping[str, str]
    """Map from key to origin, for every value that is not a default."""
    texts: frozenset[str] = frozenset()
    """Keys whose value came as text, from the environment or a flag."""

    def explicit(self, key: str) -> bool:
        """Whether the user set this key anywhere."""
        return key in self.origins

    def model_for(self, strategy: str, options: Mapping[str, Any] | None = None) -> str:
        """Name of the base model for a new memory.

        This is the option ``base_model`` of a strategy that has one, if set, else ``model.name``; a flag for
        ``model.name`` takes precedence over both. ``options`` are the strategy's; None means those of the settings.
        """
        known = self.settings.strategies.get(strategy, {}) if options is None else options
        given = known.get("base_model")
        if given is None or self.origins.get("model.name", "").startswith("--"):
            return self.settings.model.name
        return str(given)

    def strategy_options(self, name: str, flags: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Options of one strategy that differ from their defaults, validated by its Config.

        ``flags`` are texts that take precedence over the settings. Imports the strategy. Raises ConfigError or
        UnknownNameError.
        """
        from continual_learning.options import parse_config
        from continual_learning.strategies.base import strategy_class

        model: type[StrategyConfig]
        options: dict[str, Any] = {}
        origins: dict[str, str] = {}
        if name == AUTO:
            model = AutoConfig
            for key, value in self.settings.auto.model_dump().items():
                if self.explicit(f"{AUTO}.{key}"):
                    options[key], origins[key] = value, self.origins[f"{AUTO}.{key}"]
        else:
            model = strategy_class(name).Config
            for key, value in self.settings.strategies.get(name, {}).items():
                full = f"strategies.{name}.{key}"
                options[key] = from_text(model, key, value) if full in self.texts else value
                origins[key] = self.origins[full]
        for key, text in (flags or {}).items():
            options[key] = from_text(model, key, text)
            origins[key] = f"--set {key}={text}"
        what = f"strategy {name!r}"
        try:
            parse_config(model, options, what)
        except ConfigError:
            for key, value in options.items():  # find out which option it is and where it was set
                parse_config(model, {key: value}, f"{origins[key]}: {what}")
            raise
        return options

    def items(self, strategies: bool = False) -> list[Setting]:
        """Every setting with its origin; with ``strategies``, every option of every strategy (imports torch)."""
        found = []
        for key in core_keys():
            value: Any = self.settings
            for part in key.split("."):
                value = getattr(value, part)
            found.append(Setting(key, value, self.origins.get(key, DEFAULT)))
        options = dict(self.settings.strategies)
        if strategies or options:
            from continual_learning.strategies.base import strategy_class

            for name in strategy_names() if strategies else sorted(options):
                cls = strategy_class(name).Config
                default = cls().model_dump(mode="json")
                for option, value in cls(**self.strategy_options(name)).model_dump(mode="json").items():
                    key = f"strategies.{name}.{option}"
                    origin = self.origins.get(key, DEFAULT if value == default[option] else IMPLIED)
                    if strategies or origin != DEFAULT:
                        found.append(Setting(key, value, origin))
        return found


@dataclass(frozen=True)
class _Entry:
    value: Any
    origin: str
    text: bool = False


def core_keys() -> list[str]:
    """Dotted names of all settings other than the options of strategies."""
    keys: list[str] = []
    for name in Settings.model_fields:
        if name in SECTIONS:
            keys += [f"{name}.{field}" for field in SECTIONS[name].model_fields]
        elif name != "strategies":
            keys.append(name)
    return keys


def canonical(key: str) -> str:
    """The name that `config show` uses for a setting, given that name or its documented one."""
    return aliases.canonical(key, strategy_names())


def user_file() -> Path:
    """The user's own file: in ``CONTINUAL_LEARNING_HOME`` if set, else the platform's config folder."""
    if os.environ.get(HOME_VARIABLE):
        return data_home() / "config.yaml"
    return platformdirs.user_config_path("continual-learning", appauthor=False) / "config.yaml"


def local_file(folder: Path | None = None) -> Path:
    """The settings file of a working folder."""
    return (folder or Path.cwd()) / LOCAL_NAME


def config_files(folder: Path | None = None) -> list[Path]:
    """The files to look for, lowest precedence first."""
    return [user_file(), local_file(folder)]


def load_config(
    flags: Mapping[str, Any] | None = None,
    folder: Path | None = None,
    environ: Mapping[str, str] | None = None,
    variables: Mapping[str, tuple[str, str]] | None = None,
) -> Config:
    """Read and validate all settings. ``flags`` maps dotted keys to values; None means that the flag is not given.

    ``variables`` maps dotted keys to a text and the environment variable it comes from, for names of other programs.

    Raises ConfigError, one line: where, the value, what was expected.
    """
    entries: dict[str, _Entry] = {}
    for path in config_files(folder):
        entries |= _read_file(path)
    entries |= _read_environment(os.environ if environ is None else environ)
    for key, (text, variable) in (variables or {}).items():
        entries[key] = _Entry(text, f"variable {variable}", True)
    for key, value in (flags or {}).items():
        if value is not None:
            entries[key] = _Entry(value, f"--{key.split('.')[0].replace('_', '-')}", isinstance(value, str))
    return _validated(entries)


def parse_assignments(assignments: list[str]) -> dict[str, str]:
    """``["key=value", …]`` as given to ``--set``. Raises ConfigError for one without a name or ``=``."""
    found = {}
    for text in assignments:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"--set {text!r}: expected KEY=VALUE, such as --set max_seconds=20")
        found[key.strip()] = value.strip()
    return found


def check_file(text: str, path: Path) -> Config:
    """Validate the text of a settings file, options of strategies included. Raises ConfigError."""
    config = _validated(_parse_file(text, path))
    for name in config.settings.strategies:
        config.strategy_options(name)
    return config


def _validated(entries: Mapping[str, _Entry]) -> Config:
    nested: dict[str, Any] = {**{name: {} for name in SECTIONS}, "strategies": {}}
    for key, entry in entries.items():
        section, _, rest = key.partition(".")
        value = _core_from_text(key, entry.value) if entry.text else entry.value
        if section in SECTIONS:
            nested[section][rest] = value
        elif section == "strategies":
            name, _, option = rest.partition(".")
            nested["strategies"].setdefault(name, {})[option] = value
        else:
            nested[key] = value
    try:
        settings = Settings.model_validate(nested)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{entries[key].origin}: {key} = {first['input']!r} is not valid: {first['msg']}") from None
    strategy = entries.get("strategy")
    known = [AUTO, *strategy_names()]
    if strategy is not None and settings.strategy not in known:
        raise _unknown(strategy.origin, "strategy", settings.strategy, known)
    texts = frozenset(key for key, entry in entries.items() if entry.text)
    return Config(settings, {key: entry.origin for key, entry in entries.items()}, texts)


def _read_file(path: Path) -> dict[str, _Entry]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return {}
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 (at byte {error.start}); save it as UTF-8") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}; check its permissions") from None
    return _parse_file(text, path)


def _parse_file(text: str, path: Path) -> dict[str, _Entry]:
    try:
        root = yaml.compose(text, yaml.SafeLoader)
        data = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"{path}{line}: not YAML ({error.problem}); expected `key: value` lines") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # such as a 13th month, or a thousand brackets
        raise ConfigError(f"{path}: not YAML ({' '.join(str(error).split())}); expected `key: value` lines") from None
    if data is None:
        return {}
    entries: dict[str, _Entry] = {}
    for name, value, number in _flat(root, data, path, ()):
        key, origin = canonical(name), f"{path}, line {number}"
        if key in entries:
            raise ConfigError(f"{origin}: {name} is set already, in {entries[key].origin}; keep one of the two names")
        entries[key] = _Entry(value, origin)
    return entries


def _flat(node: Any, data: Any, path: Path, above: tuple[str, ...]) -> Iterator[tuple[str, Any, int]]:
    """Leaves of a settings file: dotted key, value, line. Refuses unknown keys and keys given twice."""
    where = f"{path}, line {node.start_mark.line + 1}"
    name = ".".join(above)
    if not isinstance(data, dict):
        if data is None and above:
            return  # an empty section
        raise ConfigError(f"{where}: {name or 'the file'} is {data!r}; expected `key: value` lines")
    seen = set()
    for key_node, value_node in node.value:
        where = f"{path}, line {key_node.start_mark.line + 1}"
        part = str(key_node.value)
        if part in seen:
            raise ConfigError(f"{where}: {'.'.join((*above, part))} appears here a second time; keep one of them")
        seen.add(part)
        if part not in data:
            raise ConfigError(f"{where}: {part!r} is not a name of a setting; expected {', '.join(_names(above))}")
        _check_name(where, above, part)
        key = (*above, part)
        if _is_section(key):
            yield from _flat(value_node, data[part], path, key)
        elif data[part] is not None or canonical(".".join(key)).startswith("strategies."):
            # elsewhere an empty value means the default
            yield ".".join(key), data[part], key_node.start_mark.line + 1


def _read_environment(environ: Mapping[str, str]) -> dict[str, _Entry]:
    entries = {}
    for variable in sorted(environ):
        if not variable.startswith(PREFIX) or variable in NOT_SETTINGS or not environ[variable]:
            continue
        parts = tuple(variable.removeprefix(PREFIX).lower().split("__"))
        for depth, part in enumerate(parts):
            _check_name(f"variable {variable}", parts[:depth], part)
        key = canonical(".".join(parts))
        if _is_section(parts) or (key.startswith("strategies.") and key.count(".") != 2):
            example = "STRATEGIES__<STRATEGY>" if parts[0] == "strategies" else variable.removeprefix(PREFIX)
            expected = f"{PREFIX}MODEL__NAME" if key == "model" else f"{PREFIX}{example}__<OPTION>"
            raise ConfigError(f"variable {variable}: names a section, not a setting; expected one like {expected}")
        entries[key] = _Entry(environ[variable], f"variable {variable}", True)
    return entries


def _is_section(key: tuple[str, ...]) -> bool:
    """Whether a name is a section, not a setting."""
    if key[0] == "strategies":
        return len(key) < 3
    return len(key) == 1 and (key[0] in SECTIONS or key[0] in aliases.names_below("", strategy_names()))


def _check_name(where: str, above: tuple[str, ...], part: str) -> None:
    if above and canonical(".".join((*above, part))).startswith("strategies.") and above != ("strategies",):
        return  # an option: the strategy's Config will check it
    known = _names(above)
    if part not in known:
        raise _unknown(where, "strategy" if above == ("strategies",) else "setting", ".".join((*above, part)), known)


def _names(above: tuple[str, ...]) -> list[str]:
    if above == ("strategies",):
        return strategy_names()
    if len(above) > 1:
        return []
    if not above:
        return [*Settings.model_fields, *aliases.names_below("", strategy_names())]
    own = SECTIONS[above[0]].model_fields if above[0] in SECTIONS else {}
    return [*own, *aliases.names_below(above[0], strategy_names())]


def _unknown(where: str, kind: str, name: str, known: list[str]) -> ConfigError:
    near = difflib.get_close_matches(name.split(".")[-1], known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(known) or 'none'}"
    return ConfigError(f"{where}: no {kind} {name!r}; {hint}")


def _core_from_text(key: str, value: Any) -> Any:
    section, _, rest = key.partition(".")
    if section == "strategies":
        return value  # parsed when the strategy's Config is available
    return from_text(SECTIONS[section], rest, value) if section in SECTIONS else from_text(Settings, key, value)


def from_text(model: type[pydantic.BaseModel], key: str, text: str) -> Any:
    """Convert text from a flag or a variable to the field's type: read as YAML if that fits, else taken verbatim."""
    field = model.model_fields.get(key)
    if field is None:
        return text  # refused later, with its name
    try:
        value = yaml.safe_load(text)
        annotation: Any = field.annotation
        pydantic.TypeAdapter(annotation).validate_python(value)
    except (yaml.YAMLError, pydantic.ValidationError):
        return text
    return text if isinstance(value, bool) and annotation in (int, float) else value
