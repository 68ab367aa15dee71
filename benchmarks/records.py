"""Experiments (what to measure) and results (what was measured): one small file each.

experiments/<protocol>/_protocol.yaml              title and text of its table; setting: shared by its experiments
experiments/<protocol>/<strategy>--<variant>.yaml  label, options of the strategy, setting
experiments/<protocol>/<strategy>--<variant>@<model>.yaml  the same on another base: what differs, or nothing
results/<protocol>/<strategy>--<variant>.json      the summary, at most 20 kB; schema in `check`
answers/<protocol>/<strategy>--<variant>.json.gz   all answers; not in git
"""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
FORMAT = 1
MOST_BYTES = 20_000
MODEL = "smollm2-135m"
"""The base model of an experiment whose name has none."""
Json = dict[str, Any]

_FIELDS: dict[str, tuple[type, ...]] = {
    "format": (int,),
    "protocol": (str,),
    "strategy": (str,),
    "variant": (str,),
    "label": (str,),
    "model": (str,),
    "date": (str,),  # ISO 8601, UTC
    "commit": (str,),  # the version of the code that was measured, or that recorded the measurement
    "digest": (str, type(None)),  # digest of the experiment and the code that it ran; None: not recorded
    "command": (str,),
    "seconds": (float, int, type(None)),
    "machine": (dict, str, type(None)),
    "setting": (dict,),
    "figures": (dict,),
    "notes": (list,),
}


@dataclass(frozen=True)
class Experiment:
    """One row to measure."""

    protocol: str
    strategy: str
    variant: str = "default"
    label: str = ""
    """The label of its row."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Options of the strategy that differ from their defaults."""
    setting: Mapping[str, Any] = field(default_factory=dict)
    """Setting of the protocol: documents, split, seeds and the like."""
    model: str = MODEL
    """The base model."""

    @property
    def name(self) -> str:
        """The name of its files, and its name on the command line: `row_name`."""
        return row_name(self.protocol, self.strategy, self.variant, self.model)

    def content(self) -> Json:
        """What the digest of its result covers, in addition to code."""
        model = {} if self.model == MODEL else {"model": self.model}
        return {"name": self.name, **model, "options": dict(self.options), "setting": dict(self.setting)}


def row_name(protocol: str, strategy: str, variant: str, model: str) -> str:
    """``protocol/strategy--variant``, with ``@model`` for any base but the default one."""
    return f"{protocol}/{strategy}--{variant}" + ("" if model == MODEL else f"@{Path(model).name}")


def experiments(folder: Path = HERE / "experiments") -> dict[str, Experiment]:
    """All experiments by name, sorted."""
    found = {}
    for path in sorted(folder.glob("*/[!_]*.yaml")):
        shared = protocol_facts(path.parent.name, folder)["setting"]
        stem, _, model = path.stem.partition("@")
        own = _yaml(path)
        if unknown := own.keys() - {"label", "options", "setting"}:
            raise ValueError(f"{path}: key {min(unknown)!r}; expected label, options or setting")
        strategy, dashes, variant = stem.partition("--")
        if not dashes:
            raise ValueError(f"{path}: expected a name such as quote--default.yaml")
        like = _yaml(path.with_name(f"{stem}.yaml")) if model else {}
        experiment = Experiment(
            path.parent.name,
            strategy,
            variant,
            own.get("label", like.get("label", strategy)),
            {**like.get("options", {}), **own.get("options", {})},
            {**shared, **like.get("setting", {}), **own.get("setting", {})},
            model or MODEL,
        )
        found[experiment.name] = experiment
    return found


def protocol_facts(protocol: str, folder: Path = HERE / "experiments") -> Json:
    """``title`` and ``about`` of its table, and ``setting``, which its experiments share."""
    return {"setting": {}, **_yaml(folder / protocol / "_protocol.yaml")}


def results(protocol: str = "*", folder: Path = HERE / "results") -> dict[str, Json]:
    """Results by name, each checked."""
    found = {}
    for path in sorted(folder.glob(f"{protocol}/*.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        check(result, path)
        found[f"{path.parent.name}/{path.stem}"] = result
    return found


def check(result: Mapping[str, Any], path: Path) -> None:
    """Raise ValueError, one line, if a result does not follow the schema or is too large."""
    if missing := _FIELDS.keys() ^ result.keys():
        raise ValueError(f"{path}: field {min(missing)!r}; expected exactly {', '.join(_FIELDS)}")
    for name, types in _FIELDS.items():
        if not isinstance(result[name], types):
            raise ValueError(f"{path}: {name} = {result[name]!r}; expected {' or '.join(t.__name__ for t in types)}")
    name = _name(result)
    if name != f"{path.parent.name}/{path.stem}":
        raise ValueError(f"{path}: holds {name}")
    if path.exists() and path.stat().st_size > MOST_BYTES:
        raise ValueError(f"{path}: {path.stat().st_size} bytes; expected at most {MOST_BYTES}: answers go to answers/")


def write(result: Json, answers: Any, results: Path = HERE / "results", answers_to: Path = HERE / "answers") -> Path:
    """Write a result, and its answers to a file of their own. Returns the result's file."""
    stem = Path(_name(result))
    path = results / stem.with_name(f"{stem.name}.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(_rounded(result), indent=1, ensure_ascii=False) + "\n"
    if len(text.encode()) > MOST_BYTES:
        raise ValueError(f"{path}: {len(text.encode())} bytes; expected at most {MOST_BYTES}: answers go to answers/")
    check(result, path)
    partial = path.with_suffix(".part")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
    if answers:
        to = answers_to / stem.with_name(f"{stem.name}.json.gz")
        to.parent.mkdir(parents=True, exist_ok=True)
        with gzip.open(to, "wt", encoding="utf-8") as file:
            json.dump(answers, file, ensure_ascii=False)
    return path


def _name(result: Mapping[str, Any]) -> str:
    return row_name(result["protocol"], result["strategy"], result["variant"], result["model"])


def _rounded(value: Any) -> Any:
    """Round floats to eight significant digits: no measurement here has more."""
    if isinstance(value, float):
        return float(f"{value:.8g}") if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _rounded(each) for key, each in value.items()}
    return [_rounded(each) for each in value] if isinstance(value, list | tuple) else value


def _yaml(path: Path) -> Json:
    return (yaml.safe_load(path.read_text(encoding="utf-8")) or {}) if path.exists() else {}
