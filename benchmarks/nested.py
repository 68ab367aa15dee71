"""Nested learning: what a turn costs, what a conversation leaves in the weights, and 500 turns unattended.

    python benchmarks/nested.py --out benchmarks

Run again, it goes on where it stopped: what nested.json holds already is not measured again (`--again` does). Parts in
order of worth, with minutes on one slow core: cost 3 (with each number of `--threads`), conversation-40 25 (40 turns,
all rows), endurance 35 (500 turns), needle 20, conversation-100 40, repository 25, transfer 20, conversation-20 15.

After every row nested.json is written, and the tables, into the block "nested" of README.md in the same folder. How
busy other work kept the machine is measured too, since it makes all seconds longer.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import psutil
import torch
from blocks import write_block

from continual_learning.app.learning_chat import NestedSession
from continual_learning.datasets.base import Dataset
from continual_learning.datasets.conversation import conversation_dataset
from continual_learning.datasets.repository import repository_dataset
from continual_learning.datasets.transfer import transfer_dataset
from continual_learning.documents import Document
from continual_learning.documents.shipped import background_texts, unrelated_texts
from continual_learning.evaluation.cache import digest, source_digest
from continual_learning.evaluation.contender import Contender
from continual_learning.evaluation.machine import machine_facts
from continual_learning.evaluation.nested_rows import ROWS, nested_rows
from continual_learning.evaluation.protocols import Settings, benchmark_needle, benchmark_together
from continual_learning.evaluation.summary import Done, summarise, with_distances
from continual_learning.io.paths import data_home
from continual_learning.memory.state import State
from continual_learning.memory.store import Store
from continual_learning.model.base_model import BaseModel
from continual_learning.settings.schema import NestedSettings
from continual_learning.strategies.base import make_strategy
from continual_learning.text.chunking import sentences
from continual_learning.text.scoring import contains_answer
from continual_learning.types import Progress

PARTS = ("cost", "conversation-40", "endurance", "needle", "conversation-100", "repository", "transfer",
         "conversation-20")  # fmt: skip
ANSWER_TOKENS = 24
TURN_TOKENS, COST_TURNS, WARM_UP = 60, 18, 2
FACTS = {20: 10, 40: 20, 100: 24}
ENDURANCE_TURNS, SAVE_EVERY, REPLY_TOKENS, WINDOW = 500, 25, 4, 1
TALK_WORDS = 10

Json = dict[str, Any]


def note(text: str) -> None:
    """A line on standard error."""
    print(text, file=sys.stderr, flush=True)


def progress_notes(seconds: float = 30.0) -> Callable[[Progress], None]:
    """A progress callback that writes a line now and then."""
    last = [0.0]

    def show(step: Progress) -> None:
        if step.stage == "plan" or time.perf_counter() - last[0] > seconds:
            last[0] = time.perf_counter()
            note(f"  {step.done}% {step.stage}: {step.message}")

    return show


class OtherWork:
    """Cores that other processes kept busy while the ``with`` block ran, on average; None where it cannot be told."""

    def __init__(self) -> None:
        self.cores: float | None = None

    def __enter__(self) -> OtherWork:
        self._started = time.perf_counter(), _busy_seconds(), time.process_time()
        return self

    def __exit__(self, *exception: object) -> None:
        elapsed, all_work, own = (
            now - then
            for now, then in zip(
                (time.perf_counter(), _busy_seconds(), time.process_time()), self._started, strict=True
            )
        )
        self.cores = max(0.0, all_work - own) / elapsed if all_work > 0 and elapsed > 0 else None


def _busy_seconds() -> float:
    """Processor time that was not idle, all cores, since the machine started."""
    times = psutil.cpu_times()
    return float(times.user + times.system + getattr(times, "nice", 0.0))


# -- what a turn costs -----------------------------------------------------------------------------------


def cost(base: BaseModel, turns: int = COST_TURNS, tokens: int = TURN_TOKENS) -> Json:
    """Seconds of adaptation, saving and loading, and the size of a checkpoint, after turns of so many tokens."""
    texts = background_texts()  # 30 to 60 words each, so that two are long enough
    long = [base.encode(f"{one} {other}") for one, other in zip(texts[::2], texts[1::2], strict=True)]
    with tempfile.TemporaryDirectory() as folder:
        session = _session(base, Path(folder) / "talk")
        rows = []
        for number, ids in enumerate(long[:turns]):
            before = time.process_time()
            state, report = session.strategy.learn(base, session.state, Document(base.decode(ids[:tokens])))
            session.state, processor = state, time.process_time() - before
            levels = sorted({u["level"] + 1 for u in state.meta.documents[-1].details["updates"]})
            rows.append({"tokens": report.tokens, "seconds": report.seconds, "processor_seconds": processor,
                         "levels": levels, "kept": report.accepted})  # fmt: skip
            note(f"  turn {number + 1}/{turns}: {report.seconds:.2f} s, {processor:.2f} of processors, levels {levels}")
    counted = [row["seconds"] for row in rows[WARM_UP:]]
    by_levels: dict[str, list[float]] = {}
    for row in rows[WARM_UP:]:
        by_levels.setdefault(" ".join(map(str, row["levels"])), []).append(row["seconds"])
    return {
        "threads": torch.get_num_threads(),
        "turns": rows,
        "seconds_mean": statistics.fmean(counted),
        "seconds_median": statistics.median(counted),
        "seconds_worst": max(counted),
        "processor_seconds_mean": statistics.fmean(row["processor_seconds"] for row in rows[WARM_UP:]),
        "processor_seconds_worst": max(row["processor_seconds"] for row in rows[WARM_UP:]),
        "seconds_by_levels": {name: statistics.fmean(found) for name, found in by_levels.items()},
        **checkpoint(base, session.state),
    }


def checkpoint(base: BaseModel, state: State, times: int = 3) -> Json:
    """The slowest of several times saving and loading, and the bytes on disk."""
    saved, loaded, size = 0.0, 0.0, 0
    for _ in range(times):  # into a store of its own each: what is on disk already is not written again
        with tempfile.TemporaryDirectory() as folder:
            session = _session(base, Path(folder) / "memory", state.meta.config)
            session.state = state
            saved = max(saved, _seconds(lambda session=session: session.save("kept")))
            loaded = max(loaded, _seconds(lambda session=session: session.load("kept")))
            size = sum(p.stat().st_size for p in session.store.root.rglob("*") if p.is_file())
    return {"save_seconds": saved, "load_seconds": loaded, "checkpoint_bytes": size}


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _session(base: BaseModel, folder: Path, options: Json | None = None) -> NestedSession:
    settings = NestedSettings(context_window=WINDOW)
    return NestedSession(base, make_strategy("nested", options), Store(folder), settings, REPLY_TOKENS)


# -- many turns unattended -------------------------------------------------------------------------------


def endurance_script(turns: int) -> Dataset:
    """Facts, as in the conversation, among the first words of sentences of shipped texts, all different."""
    told = conversation_dataset("report", turns, min(24, turns))
    whole = [s for text in [*background_texts(), *unrelated_texts()] for s in sentences(text)]
    found = [f"{' '.join(s.rstrip('.').split()[:TALK_WORDS])}." for s in whole]
    talk = iter(dict.fromkeys(found))
    documents = [d if d.questions else _said(d, next(talk)) for d in told.documents]
    return Dataset("endurance", told.source, tuple(documents))


def _said(item: Any, text: str) -> Any:
    return type(item)(Document(text, "", item.document.source), ())


def endurance(base: BaseModel, folder: Path, turns: int = ENDURANCE_TURNS, options: Json | None = None) -> Json:
    """A session of so many turns, saved every few, which a new call goes on with; then its facts, with no history.

    Each turn is learned and answered, with one earlier turn in the prompt. Memory is the resident set of this process
    after the turn.
    """
    script, log = endurance_script(turns), folder / "turns.json"
    session = _session(base, folder / "memory", options)
    rows: list[Json] = []
    if log.exists():
        rows = json.loads(log.read_text(encoding="utf-8"))
        session.load(f"turn-{len(rows)}", with_history=True)
        note(f"  going on after turn {len(rows)}")
    _drop_checkpoints(session.store, f"turn-{len(rows)}")
    run = 1 + max((row["run"] for row in rows), default=0)
    process = psutil.Process()
    for number in range(len(rows), turns):
        turn = session.say(script.documents[number].document.text)
        report = turn.adaptation
        details = session.state.meta.documents[-1].details if report.accepted else {}
        rows.append(
            {
                "run": run,
                "kept": report.accepted,
                "reason": "" if report.accepted else report.reason,
                "tokens": report.tokens,
                "levels": sorted({u["level"] + 1 for u in details.get("updates", ())}),
                "loss_before": details.get("loss_before"),
                "loss_after": details.get("loss_after"),
                "seconds": report.seconds,
                "rss_bytes": process.memory_info().rss,
                "state_bytes": session.state.bytes,
            }
        )
        if (number + 1) % SAVE_EVERY == 0 or number + 1 == turns:
            seconds = _seconds(lambda n=number: session.save(f"turn-{n + 1}"))
            log.write_text(json.dumps(rows), encoding="utf-8")
            _drop_checkpoints(session.store, f"turn-{number + 1}")
            note(f"  turn {number + 1}/{turns}: {statistics.fmean(r['seconds'] for r in rows[-SAVE_EVERY:]):.1f} s a "
                 f"turn, {rows[-1]['rss_bytes'] / 1e6:.0f} MB, saved in {seconds:.2f} s")  # fmt: skip
    asked = [(number, d.questions[0]) for number, d in enumerate(script.documents) if d.questions]
    answers = session.strategy.answer(base, session.state, [q.question for _, q in asked], ANSWER_TOKENS)
    facts = [
        {"turn": number + 1, "question": q.question, "answers": list(q.answers), "said": answer.text,
         "right": contains_answer(answer.text, q.answers)}
        for (number, q), answer in zip(asked, answers, strict=True)
    ]  # fmt: skip
    return {**endurance_figures(rows), **checkpoint(base, session.state), "facts": facts, "turns": rows}


def _drop_checkpoints(store: Store, but: str) -> None:
    for name in set(store.checkpoints()) - {but}:
        store.delete_checkpoint(name)
    store.cleanup(keep=1, dry_run=False)


def endurance_figures(rows: Sequence[Json]) -> Json:
    """Means, guard events, and the memory of the longest run without a restart.

    The allocator keeps tens of MB for a while that no tensor holds, so the least of every few turns is what counts:
    its slope over the second half, and where the run began once everything was loaded.
    """
    runs = [[row for row in rows if row["run"] == run] for run in sorted({row["run"] for row in rows})]
    longest = max(runs, key=len)
    held = [min(row["rss_bytes"] for row in longest[i : i + SAVE_EVERY]) for i in range(0, len(longest), SAVE_EVERY)]
    losses = [row["loss_after"] for row in rows if row["loss_after"] is not None]
    quarter = max(1, len(losses) // 4)
    return {
        "count": len(rows),
        "kept": sum(row["kept"] for row in rows),
        "guard_events": [{"turn": i + 1, "reason": row["reason"]} for i, row in enumerate(rows) if not row["kept"]],
        "restarts": len(runs) - 1,
        "seconds_mean": statistics.fmean(row["seconds"] for row in rows),
        "seconds_worst": max(row["seconds"] for row in rows),
        "loss_after_first_quarter": statistics.fmean(losses[:quarter]),
        "loss_after_last_quarter": statistics.fmean(losses[-quarter:]),
        "rss_bytes_start": held[min(1, len(held) - 1)],
        "rss_bytes_end": held[-1],
        "rss_bytes_most": max(row["rss_bytes"] for row in longest),
        "rss_bytes_per_100_turns": 100 / SAVE_EVERY * _slope(held[len(held) // 2 :]),
        "state_bytes_end": rows[-1]["state_bytes"],
    }


def _slope(values: Sequence[float]) -> float:
    """Least squares, a step."""
    return statistics.linear_regression(range(len(values)), values).slope if len(values) > 1 else 0.0


# -- what is answered --------------------------------------------------------------------------------------


def with_turns(done: Sequence[Done]) -> Json:
    """`with_distances`, and the seconds of every turn."""
    seconds = [step["learn"]["seconds"] for d in done for step in d.steps[1:]]
    return {**with_distances(done), "turn_seconds": seconds, "turn_seconds_worst": max(seconds)}


def use_case(part: str, row: Contender, base: BaseModel) -> Json:
    """One row of one use case: what `benchmark` prints of it."""
    how, show = Settings(max_new_tokens=ANSWER_TOKENS, retention_documents=0, count_flops=False), progress_notes()
    if part == "needle":
        result = benchmark_needle([row], base, (250, 500), 5, how, show)
    else:
        summary: Callable[[Sequence[Done]], Json] = summarise
        name, _, size = part.partition("-")
        if name == "conversation":
            dataset, summary = conversation_dataset("report", int(size), FACTS[int(size)]), with_turns
        elif name == "repository":
            dataset = repository_dataset(Path(str(files("continual_learning") / "retrieval")))
        else:
            dataset = transfer_dataset()
        result = benchmark_together(name, dataset, [row], base, how, show, summary)
    found: Json = result["results"][0]
    return {"dataset": result["dataset"], **found}


# -- writing ------------------------------------------------------------------------------------------------


def tables(entries: Json, machine: Json) -> str:
    """The figures to reach, and a table for each use."""
    parts = [_goals(entries), *(_use_table(part, entries) for part in PARTS if part not in ("cost", "endurance"))]
    text = "\n\n".join(part for part in parts if part)
    cpu = f"{machine['cpu']}, {machine['matmul_gflops']:.0f} GFLOP/s on {machine['threads']} thread(s)"
    return f"{text}\n\n{cpu}, torch {machine['torch']}.{_beside(entries)}"


def _beside(entries: Json) -> str:
    """How busy other work kept the machine."""
    cores = [entry["other_cores"] for entry in entries.values() if entry.get("other_cores") is not None]
    if not cores:
        return ""
    return (f" Other work ran beside these measurements, on {min(cores):.1f} to {max(cores):.1f} cores "
            f"({statistics.fmean(cores):.1f} on average), so that their seconds are upper bounds.")  # fmt: skip


def _goals(entries: Json) -> str:
    rows: list[tuple[str, str, bool]] = []
    talk, last = _result(entries, "conversation-40/several"), _result(entries, "endurance/several")
    if talk:
        right = round(talk["recall"] * talk["questions"])
        rows += [
            ("20 facts told over 40 turns, history cleared: at least 70% answered from weights",
             f"{right} of {talk['questions']}", talk["recall"] >= 0.7),
            ("general questions kept: at least 95%", _show(talk["general_kept"], ".0%"),
             (talk["general_kept"] or 0) >= 0.95),
        ]  # fmt: skip
    for key, entry in entries.items():
        if key.startswith("cost/"):
            found = entry["result"]
            threads = f"{found['threads']} thread" + ("s" if found["threads"] > 1 else "")
            rows += [
                (f"a turn of {TURN_TOKENS} tokens adapts in under 3 s ({threads})",
                 f"mean {found['seconds_mean']:.1f} s, worst {found['seconds_worst']:.1f} s; of processor time "
                 f"{found['processor_seconds_mean']:.1f} s, {found['processor_seconds_worst']:.1f} s",
                 found["seconds_worst"] < 3),
                (f"save and load under 1 s each ({threads})",
                 f"{found['save_seconds']:.2f} s, {found['load_seconds']:.2f} s",
                 max(found["save_seconds"], found["load_seconds"]) < 1),
                (f"at most 20 MB a checkpoint ({threads})", f"{found['checkpoint_bytes'] / 1e6:.1f} MB",
                 found["checkpoint_bytes"] <= 20e6),
            ]  # fmt: skip
    if last:
        grown = last["rss_bytes_per_100_turns"] / 1e6
        rows.append(
            (f"{ENDURANCE_TURNS} turns unattended: no divergence, flat memory",
             f"{last['kept']} of {last['count']} kept, {len(last['guard_events'])} guard events, loss "
             f"{last['loss_after_first_quarter']:.2f} in the first quarter and {last['loss_after_last_quarter']:.2f} "
             f"in the last, {last['rss_bytes_start'] / 1e6:.0f} MB held after {SAVE_EVERY} turns and "
             f"{last['rss_bytes_end'] / 1e6:.0f} at the end ({grown:+.1f} MB in 100 turns of the second half; at most "
             f"{last['rss_bytes_most'] / 1e6:.0f}), a checkpoint of {last['checkpoint_bytes'] / 1e6:.1f} MB, "
             f"saved in {last['save_seconds']:.2f} s and loaded in {last['load_seconds']:.2f} s, "
             f"{sum(f['right'] for f in last['facts'])} of {len(last['facts'])} facts answered after it",
             last["kept"] == last["count"] and grown < 5)
        )  # fmt: skip
    if not rows:
        return ""
    lines = ["| to reach | measured | reached |", "|---|---|---|"]
    return "\n".join([*lines, *(f"| {goal} | {found} | {'yes' if ok else 'no'} |" for goal, found, ok in rows)])


def _use_table(part: str, entries: Json) -> str:
    """Rows of a use: recall with its interval, what was kept, seconds, size; of a conversation recall by distance."""
    found = {row: result for row in ROWS if (result := _result(entries, f"{part}/{row}"))}
    if not found:
        return ""
    first = next(iter(found.values()))
    bins = [f"{b['from']}-{b['to']} ago" for b in first.get("by_distance", ())]
    head = [part.replace("-", ", ") + (" turns" if "-" in part else ""), "recall", *bins, "general kept",
            "learn, s", "worst", "answer, s", "kept, MB"]  # fmt: skip
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for result in found.values():
        low, high = result["recall_interval"] or (None, None)
        interval = "" if low is None else f" [{low:.2f}, {high:.2f}]"
        cells = [result.get("label") or result["strategy"], _show(result["recall"], ".2f") + interval,
                 *(f"{b['recall']:.2f}" for b in result.get("by_distance", ())),
                 _show(result["general_kept"], ".0%"), _show(result["learn_seconds"], ".1f"),
                 _show(result.get("turn_seconds_worst"), ".1f"), _show(result["answer_seconds"], ".2f"),
                 f"{result['bytes_kept'] / 1e6:.2f}"]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    counts = f"{first['questions']} questions on {first['dataset']['documents']} documents"
    return "\n".join([*lines, "", f"{counts} ({first['dataset']['tokens']} tokens)."])


def _result(entries: Json, key: str) -> Json | None:
    return entries[key]["result"] if key in entries else None


def _show(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


# -- running --------------------------------------------------------------------------------------------------


def jobs(parts: Sequence[str], rows: Sequence[str], threads: Sequence[int]) -> list[tuple[str, str]]:
    """Part and row of every measurement, in order."""
    of = {"cost": [str(n) for n in threads], "endurance": ["several"]}
    return [(part, row) for part in PARTS if part in parts for row in of.get(part, rows)]


def measure(part: str, row: str, base: BaseModel, again: bool) -> Json:
    """One entry of the file."""
    if part == "cost":
        before = torch.get_num_threads()
        torch.set_num_threads(int(row))
        try:
            return cost(base)
        finally:
            torch.set_num_threads(before)
    if part == "endurance":
        key = digest({"base": base.fingerprint, "turns": ENDURANCE_TURNS, "source": source_digest()})
        folder = data_home() / "results" / f"endurance-{key[:16]}"
        if again:
            shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        return endurance(base, folder)
    return use_case(part, nested_rows([row])[0], base)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default=",".join(PARTS), help=f"some of {', '.join(PARTS)}")
    parser.add_argument("--rows", default=",".join(ROWS), help=f"some of {', '.join(ROWS)}")
    parser.add_argument("--threads", default="1,2", help="numbers of threads to measure cost with")
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--again", action="store_true", help="measure anew what the file holds already")
    parser.add_argument("--out", type=Path, required=True, help="folder for nested.json and the tables")
    arguments = parser.parse_args()
    parts, rows = arguments.parts.split(","), arguments.rows.split(",")
    if unknown := [name for name in parts if name not in PARTS] + [name for name in rows if name not in ROWS]:
        parser.error(f"no part or row {unknown[0]!r}")
    arguments.out.mkdir(parents=True, exist_ok=True)
    file = arguments.out / "nested.json"
    base = BaseModel.load(arguments.model)
    kept: Json = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    if kept and kept["fingerprint"] != base.fingerprint:
        parser.error(f"{file} is of {kept['model']}, not {base.name}; give another --out")
    entries: Json = kept.get("entries", {})
    todo = jobs(parts, rows, [int(n) for n in arguments.threads.split(",")])
    for number, (part, row) in enumerate(todo, start=1):
        name = f"{part}/{row}"
        if name in entries and not arguments.again:
            note(f"{number}/{len(todo)} {name}: in {file.name} already")
            continue
        note(f"{number}/{len(todo)} {name}")
        started = time.perf_counter()
        with OtherWork() as other:
            result = measure(part, row, base, arguments.again)
        machine = machine_facts(base)
        entries[name] = {"seconds": time.perf_counter() - started, "source": source_digest()[:12],
                         "threads": torch.get_num_threads(), "other_cores": other.cores, "result": result}  # fmt: skip
        whole = {"command": "python benchmarks/nested.py --out benchmarks", "model": base.name,
                 "fingerprint": base.fingerprint, "machine": machine, "entries": entries}  # fmt: skip
        file.write_text(json.dumps(whole, indent=1, ensure_ascii=False), encoding="utf-8")
        write_block(arguments.out / "README.md", "nested", tables(entries, machine))
        note(f"  {entries[name]['seconds'] / 60:.1f} min; wrote {file.name} and README.md")
    print(tables(entries, machine_facts(base)))


if __name__ == "__main__":
    main()
