"""benchmarks/nested.py: cost, many turns that go on after a stop, and what is written of them."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from continual_learning.memory.store import Store
from continual_learning.model.base_model import BaseModel

pytestmark = pytest.mark.parametrize("script", ["nested"], indirect=True)
SMALL: dict[str, Any] = {
    "periods": (0,), "learning_rates": (1e-3,), "steps": (1,), "replay": (0.5,), "optimizers": ("adamw",),
}  # fmt: skip


def test_cost_is_that_of_turns_of_so_many_tokens(script: ModuleType, tiny_base: BaseModel) -> None:
    found = script.cost(tiny_base, turns=4, tokens=20)
    assert len(found["turns"]) == 4 and all(t["kept"] and 15 <= t["tokens"] <= 25 for t in found["turns"])
    assert found["seconds_mean"] <= found["seconds_worst"] and found["save_seconds"] > 0 < found["load_seconds"]
    assert 0 < found["processor_seconds_mean"] <= found["processor_seconds_worst"]
    assert found["checkpoint_bytes"] > 1000 and "1" in found["seconds_by_levels"]


def test_many_turns_go_on_after_a_stop(
    script: ModuleType, tiny_base: BaseModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script, "SAVE_EVERY", 2)
    monkeypatch.setattr(script, "REPLY_TOKENS", 2)
    monkeypatch.setattr(script, "ANSWER_TOKENS", 2)
    script.endurance(tiny_base, tmp_path, 4, SMALL)
    # as if it was stopped between saving the weights and writing the rows
    Store(tmp_path / "memory").checkpoint("turn-6")
    found = script.endurance(tiny_base, tmp_path, 6, SMALL)
    assert [row["run"] for row in found["turns"]] == [1, 1, 1, 1, 2, 2] and found["restarts"] == 1
    assert len(found["facts"]) == 6 and set(Store(tmp_path / "memory").checkpoints()) == {"turn-6"}
    assert found["count"] == 6 and found["kept"] + len(found["guard_events"]) == 6


def test_the_turns_of_endurance_are_all_different(script: ModuleType) -> None:
    documents = script.endurance_script(script.ENDURANCE_TURNS).documents
    assert len({d.document.id for d in documents}) == len(documents) == 500


def turn(run: int, rss: float, kept: bool = True) -> dict[str, Any]:
    return {"run": run, "kept": kept, "reason": "" if kept else "rose", "loss_after": 1.0 if kept else None,
            "seconds": 2.0, "rss_bytes": rss, "state_bytes": 5}  # fmt: skip


def test_the_slope_of_memory_is_that_of_what_the_longest_run_held(script: ModuleType) -> None:
    # What the allocator keeps for a while, on every other turn, is no growth.
    rows = [turn(1, 9e9), *(turn(2, 1000 + 10 * i + 5000 * (i % 2), i != 3) for i in range(150))]
    figures = script.endurance_figures(rows)
    assert figures["rss_bytes_per_100_turns"] == pytest.approx(1000, rel=0.05)
    assert figures["guard_events"] == [{"turn": 5, "reason": "rose"}] and figures["restarts"] == 1
    assert (figures["rss_bytes_start"], figures["rss_bytes_end"]) == (1260, 2260)
    assert figures["rss_bytes_most"] == 1000 + 1490 + 5000


MACHINE = {"cpu": "a processor", "matmul_gflops": 60.0, "threads": 1, "torch": "2.13"}


def test_tables_say_what_is_reached(script: ModuleType) -> None:
    talk = {"strategy": "nested, several levels", "recall": 0.65, "recall_interval": [0.5, 0.8], "questions": 20,
            "general_kept": 0.96, "learn_seconds": 2.0, "turn_seconds_worst": 4.0, "answer_seconds": 0.5,
            "bytes_kept": 8.5e6, "dataset": {"documents": 40, "tokens": 500},
            "by_distance": [{"from": 0, "to": 9, "recall": 0.7, "questions": 5}]}  # fmt: skip
    cost = {"threads": 2, "seconds_mean": 2.0, "seconds_worst": 2.9, "processor_seconds_mean": 3.0,
            "processor_seconds_worst": 4.0, "save_seconds": 0.1, "load_seconds": 0.2,
            "checkpoint_bytes": 9e6}  # fmt: skip
    text = script.tables({"conversation-40/several": {"result": talk}, "cost/2": {"result": cost}}, MACHINE)
    lines = text.splitlines()
    assert any("70%" in line and "13 of 20" in line and line.endswith("| no |") for line in lines)
    assert any(
        "60 tokens" in line and "worst 2.9 s; of processor time 3.0 s, 4.0 s" in line and line.endswith("| yes |")
        for line in lines
    )
    assert any(line.startswith("| nested, several levels | 0.65 [0.50, 0.80] | 0.70 | 96% |") for line in lines)


def test_tables_say_how_busy_the_machine_was(script: ModuleType) -> None:
    entries = {f"needle/{i}": {"result": {}, "other_cores": cores} for i, cores in enumerate((0.5, None, 1.5))}
    assert "0.5 to 1.5 cores (1.0 on average)" in script.tables(entries, MACHINE)
    assert "Other work" not in script.tables({}, MACHINE)


def test_other_work_is_that_of_other_processes(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    clocks = {"perf_counter": [10.0, 20.0], "process_time": [1.0, 9.0]}
    for name, values in clocks.items():
        monkeypatch.setattr(script.time, name, lambda values=values: values.pop(0))
    busy = [100.0, 113.0]
    monkeypatch.setattr(script, "_busy_seconds", lambda: busy.pop(0))
    with script.OtherWork() as other:
        pass
    assert other.cores == pytest.approx(0.5)


def test_jobs_are_in_order_of_worth(script: ModuleType) -> None:
    found = script.jobs(["endurance", "conversation-40", "cost"], ["frozen", "several"], [1, 2])
    assert found == [("cost", "1"), ("cost", "2"), ("conversation-40", "frozen"), ("conversation-40", "several"),
                     ("endurance", "several")]  # fmt: skip
