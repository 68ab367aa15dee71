"""`train start` from the command line, on the tiny model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

OUTER = ("inner_steps=1", "passages_per_step=1", "validation_passages=1", "validate_every=2")
QUICK = tuple(word for setting in OUTER for word in ("--outer", setting))
QUICK += ("--set", "neurons=4")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rows = [
        {
            "title": f"Dog {n}",
            "context": f"The lazy dog number {n} lives in {place}.",
            "questions": [{"question": f"Where does dog {n} live?", "answer": place}],
        }
        for n, place in enumerate(("Lund", "Paris", "Oslo", "Rome"))
    ]
    path = tmp_path / "dogs.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


def test_a_run_is_trained_shown_and_gone_on_with(cli: Any, tiny: Any, data: Path) -> None:
    command = ("train", "start", data, "--out", "run", "--half", "first", *QUICK)
    first = cli(*command, "--steps", "2", "--minutes", "0", "--json")
    assert first.code == 0 and first.json["steps"] == 0 and not first.json["complete"]
    assert "step 0: validation loss" in first.err
    done = cli(*command, "--steps", "2", "--json")
    assert done.code == 0 and done.json["complete"] and done.json["bytes"] < 20_000
    assert [p["step"] for p in done.json["curve"]] == [0, 2] and done.json["passages"] == 1
    shown = cli(*command, "--steps", "2")
    assert shown.out.splitlines()[0].startswith("step  loss before") and "2 of 2 steps" in shown.out
    document = data.parent / "new.txt"
    document.write_text("The lazy dog eats plankton.")
    learned = cli("learn", document, "--strategy", "ttt", "--memory", "m", "--set", f"start={done.json['start']}",
                  "--set", "passes=1", "--set", "guard=false", "--json")  # fmt: skip
    assert learned.code == 0 and learned.json["documents"][0]["accepted"]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--set", "start=x"), "leave it out"),
        (("--outer", "learning_rte=1"), "did you mean 'learning_rate'"),
        (("--outer", "inner_steps=6"), "inner_steps"),
    ],
)
def test_bad_input_is_refused_before_anything_is_made(
    flags: tuple[str, ...], said: str, cli: Any, tiny: Any, data: Path
) -> None:
    done = cli("train", "start", data, "--out", "run", *flags)
    assert done.code == 2 and said in done.err and not Path("run").exists()
