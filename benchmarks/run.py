"""Run benchmarks: one experiment gives one result.

    python benchmarks/run.py --list                     what there is, and what is stale
    python benchmarks/run.py squad/quote--default       these
    python benchmarks/run.py stream --data FILE         a whole protocol
    python benchmarks/run.py --stale                    all whose code, options or setting have changed
    python benchmarks/run.py reading --set passages=5 --out FOLDER      a trial, whose results go elsewhere

A result is written as soon as it is measured, so that the same command resumes after an interruption; within squad,
stream and the like every document that was learned is stored, too. A result is stale if the digest of its experiment
and of the code that it runs is not the current one, or was not recorded, or if the copy that is kept here of its base
model has another fingerprint. Then `report.py` writes the tables. ``quote--default@NAME`` is a row of another base.
"""

from __future__ import annotations

import argparse
import gc
import json
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import report
import yaml
from protocols import Bench, protocol_module
from records import FORMAT, HERE, Experiment, Json, experiments, results, write

from continual_learning.evaluation.cache import digest
from continual_learning.evaluation.code_digest import code_digest
from continual_learning.evaluation.machine import machine_facts
from continual_learning.evaluation.sequence import MEASURING
from continual_learning.model.base_model import BaseModel
from continual_learning.model.copies import copies
from continual_learning.model.embedded import EMBEDDED
from continual_learning.strategies.base import strategy_class, strategy_names


def experiment_digest(experiment: Experiment) -> str:
    """SHA-256 of the experiment and of the code that it runs."""
    strategies = [experiment.strategy] if experiment.strategy in strategy_names() else []
    roots = [*MEASURING, protocol_module(experiment.protocol).measure, *map(strategy_class, strategies)]
    return digest({**experiment.content(), "code": code_digest(*roots)})


def state_of(experiment: Experiment, known: Json) -> str:
    """missing, fresh, stale, or unknown if the digest was not recorded."""
    if experiment.name not in known:
        return "missing"
    result = known[experiment.name]
    if result["digest"] is None:
        return "unknown"
    here = fingerprints_here(experiment.model)
    other = bool(here) and result["setting"].get("fingerprint") not in here
    return "stale" if other or result["digest"] != experiment_digest(experiment) else "fresh"


def fingerprints_here(model: str) -> set[object]:
    """Fingerprints of the copies that are kept here of an embedded base; none if there is no copy."""
    return {copy.manifest.get("fingerprint") for copy in copies(model)} if model in EMBEDDED else set()


def chosen(every: dict[str, Experiment], names: Sequence[str]) -> list[Experiment]:
    """Experiments by name or by protocol; all without names. Raises ValueError."""
    found: dict[str, Experiment] = {}
    for name in names:
        matching = {n: e for n, e in every.items() if name in (n, e.protocol)}
        if not matching:
            protocols = ", ".join(sorted({e.protocol for e in every.values()}))
            raise ValueError(f"no experiment {name!r}; expected one that --list names, or a protocol: {protocols}")
        found |= matching
    return list((found if names else every).values())


def changed(chosen: Sequence[Experiment], changes: Sequence[str]) -> list[Experiment]:
    """The experiments with other values of their setting, or of options that they leave at the default.

    ``changes``: ``NAME=VALUE``, the value as YAML. Raises ValueError if no experiment has such a name.
    """
    made = list(chosen)
    for change in changes:
        name, sign, text = change.partition("=")
        value = yaml.safe_load(text) if sign else None
        after = [_with(experiment, name, value) for experiment in made]
        if not sign or after == made:
            raise ValueError(f"--set {change}: changes nothing; expected NAME=VALUE of a setting or an option")
        made = after
    return made


def _with(experiment: Experiment, name: str, value: Any) -> Experiment:
    if name in experiment.setting:
        return replace(experiment, setting={**experiment.setting, name: value})
    takes = experiment.strategy in strategy_names() and name in strategy_class(experiment.strategy).Config.model_fields
    if takes and name not in experiment.options:
        return replace(experiment, options={**experiment.options, name: value})
    return experiment


def run(experiment: Experiment, bench: Bench, command: str) -> tuple[Json, Any]:
    """The result of an experiment, and its answers."""
    started, now = time.perf_counter(), datetime.now(UTC).isoformat(timespec="seconds")
    figures, setting, answers = protocol_module(experiment.protocol).measure(experiment, bench)
    return {
        "format": FORMAT,
        "protocol": experiment.protocol,
        "strategy": experiment.strategy,
        "variant": experiment.variant,
        "label": experiment.label,
        "model": bench.base.name,
        "date": now,
        "commit": _commit(),
        "digest": experiment_digest(experiment),
        "command": command,
        "seconds": time.perf_counter() - started,
        "machine": machine_facts(bench.base),
        "setting": {**experiment.setting, "fingerprint": bench.base.fingerprint, **setting},
        "figures": figures,
        "notes": figures.pop("notes", []),
    }, answers


def _commit() -> str:
    """The current commit, with a plus sign if files differ from it."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=HERE, capture_output=True, text=True, check=False).stdout.strip()

    return (git("rev-parse", "--short=7", "HEAD") or "unknown") + ("+" if git("status", "--porcelain", "-uno") else "")


def main(words: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="experiments or protocols [default: all]")
    parser.add_argument("--list", action="store_true", help="show experiments and whether their results are stale")
    parser.add_argument("--stale", action="store_true", help="only those whose result is missing, stale or unknown")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output, nothing else")
    parser.add_argument("--data", type=Path, default=Path("squad_dev_open.jsonl"), help="SQuAD's development file")
    parser.add_argument("--model", help="another base for all of them, as a trial: names end in @MODEL; needs --out")
    parser.add_argument("--out", type=Path, default=HERE, help="folder with results/ and answers/")
    parser.add_argument(
        "--set",
        dest="changes",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="another value of a setting, or of an option that the experiment leaves at its default; needs --out",
    )
    given = parser.parse_args(words)
    trial = f"--set {given.changes[0]}" if given.changes else f"--model {given.model}" if given.model else ""
    if trial and given.out == HERE:
        parser.error(f"{trial}: such results are not those of the experiments; give --out FOLDER")
    try:
        every = experiments()
        if given.model:
            on_it = [replace(one, model=given.model) for name, one in every.items() if "@" not in name]
            every = {one.name: one for one in on_it}
        todo = changed(chosen(every, given.names), given.changes)
        known = results(folder=given.out / "results")
    except ValueError as error:
        parser.error(str(error))
    if given.list or given.stale:
        states = {e.name: state_of(e, known) for e in todo}
        if given.list:
            rows = [{"name": n, "state": s, "date": known.get(n, {}).get("date")} for n, s in states.items()]
            lines = "\n".join(f"{row['state']:8} {(row['date'] or '')[:10]:10} {row['name']}" for row in rows)
            print(json.dumps(rows, indent=1) if given.json else lines)
            return 0
        todo = [e for e in todo if states[e.name] != "fresh"]
    elif not given.names:
        parser.error("no experiment; expected names, --stale or --list")
    written = _run_all(todo, given)
    if given.json:
        print(json.dumps(written, indent=1, ensure_ascii=False))
    if given.out == HERE:
        report.write_tables()
    return 0


def _run_all(todo: Sequence[Experiment], given: argparse.Namespace) -> list[Json]:
    base: BaseModel | None = None
    written = []
    order = list(dict.fromkeys(experiment.model for experiment in todo))  # so that each base is loaded once
    for number, experiment in enumerate(sorted(todo, key=lambda e: order.index(e.model)), start=1):
        print(f"{number}/{len(todo)} {experiment.name}", file=sys.stderr, flush=True)
        if base is None or base.name != experiment.model:
            base = None  # two may not fit
            gc.collect()
            base = BaseModel.load(experiment.model)
        command = shlex.join(["python", "benchmarks/run.py", experiment.name, "--data", given.data.name])
        result, answers = run(experiment, Bench(base, given.data), command)
        path = write(result, answers, given.out / "results", given.out / "answers")
        written.append(result)
        print(f"  {result['seconds']:.0f} s; wrote {path}", file=sys.stderr, flush=True)
    return written


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("interrupted; what was measured is kept: the same command with --stale goes on")
