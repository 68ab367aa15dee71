"""Nested learning in a chat: the cost of a turn, and many turns unattended.

Answers about a conversation, a code base and the like are measured by the protocols `conversation`, `needle`,
`repository` and `transfer`.
"""

from __future__ import annotations

import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
import torch

from continual_learning.app.learning_chat import NestedSession
from continual_learning.datasets.base import Dataset
from continual_learning.datasets.conversation import conversation_dataset
from continual_learning.documents import Document
from continual_learning.documents.shipped import background_texts, unrelated_texts
from continual_learning.evaluation.cache import digest
from continual_learning.evaluation.sequence import measured_code
from continual_learning.io.paths import data_home
from continual_learning.memory.state import State
from continual_learning.memory.store import Store
from continual_learning.model.base_model import BaseModel
from continual_learning.settings.schema import NestedSettings
from continual_learning.strategies.base import make_strategy
from continual_learning.text.chunking import sentences
from continual_learning.text.scoring import contains_answer
from protocols import Bench, note

ANSWER_TOKENS = 24
TURN_TOKENS, COST_TURNS, WARM_UP = 60, 18, 2
FACTS = {20: 10, 40: 20, 100: 24}
ENDURANCE_TURNS, SAVE_EVERY, REPLY_TOKENS, WINDOW = 500, 25, 4, 1
TALK_WORDS = 10

Json = dict[str, Any]


# -- the cost of a turn ----------------------------------------------------------------------------------


def cost(base: BaseModel, turns: int = COST_TURNS, tokens: int = TURN_TOKENS) -> Json:
    """Seconds of adaptation, saving and loading, and the size of a checkpoint, for turns of ``tokens`` tokens."""
    texts = background_texts()  # 30 to 60 words each, so two are long enough
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
    for _ in range(times):  # each into its own store: what is on disk already is not written again
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
    """Facts, as in the conversation, among beginnings of sentences from shipped texts, all different."""
    told = conversation_dataset("report", turns, min(24, turns))
    whole = [s for text in [*background_texts(), *unrelated_texts()] for s in sentences(text)]
    found = [f"{' '.join(s.rstrip('.').split()[:TALK_WORDS])}." for s in whole]
    talk = iter(dict.fromkeys(found))
    documents = [d if d.questions else _said(d, next(talk)) for d in told.documents]
    return Dataset("endurance", told.source, tuple(documents))


def _said(item: Any, text: str) -> Any:
    return type(item)(Document(text, "", item.document.source), ())


def endurance(base: BaseModel, folder: Path, turns: int = ENDURANCE_TURNS, options: Json | None = None) -> Json:
    """A session of ``turns`` turns, saved every few, which a new call resumes; then its facts, without history.

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
         "right": contains_answer(answer.claim, q.answers)}
        for (number, q), answer in zip(asked, answers, strict=True)
    ]  # fmt: skip
    return {**endurance_figures(rows), **checkpoint(base, session.state), "facts": facts, "turns": rows}


def _drop_checkpoints(store: Store, but: str) -> None:
    for name in set(store.checkpoints()) - {but}:
        store.delete_checkpoint(name)
    store.cleanup(keep=1, dry_run=False)


def endurance_figures(rows: Sequence[Json]) -> Json:
    """Means, guard events, and the memory of the longest run without a restart.

    The allocator holds tens of MB for a while that no tensor uses, so the minimum of every few turns counts:
    its slope over the second half, and its value at the beginning of the run once everything was loaded.
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
    """The slope per step, by least squares."""
    return statistics.linear_regression(range(len(values)), values).slope if len(values) > 1 else 0.0


def measure(experiment: Any, bench: Bench) -> tuple[Json, Json, Any]:
    """Measure cost-1 or cost-2 (the number is the threads), or endurance."""
    what, _, threads = experiment.variant.partition("-")
    if what == "cost":
        before = torch.get_num_threads()
        torch.set_num_threads(int(threads))
        try:
            found = cost(bench.base)
        finally:
            torch.set_num_threads(before)
        return found, {}, {"turns": found.pop("turns")}
    code = measured_code("nested")
    key = digest({"base": bench.base.fingerprint, "turns": ENDURANCE_TURNS, "source": code})
    folder = data_home() / "results" / f"endurance-{key[:16]}"
    folder.mkdir(parents=True, exist_ok=True)
    found = endurance(bench.base, folder)
    shutil.rmtree(folder, ignore_errors=True)
    return found, {}, {"turns": found.pop("turns")}


def table(results: Mapping[str, Json]) -> str:
    """The targets and the results as Markdown."""
    names = {"conversation/nested--several": "conversation-40/several", "nested/nested--endurance": "endurance/several"}
    names |= {name: f"cost/{name}" for name in results if "--cost-" in name}
    entries = {names[name]: {"result": result["figures"]} for name, result in results.items() if name in names}
    return _goals(entries)


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


def _result(entries: Json, key: str) -> Json | None:
    return entries[key]["result"] if key in entries else None


def _show(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
