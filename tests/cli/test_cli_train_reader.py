"""`train reader` as a command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from conftest import Command

PLACES = ("Lund", "Vienna", "Oslo")


def test_the_command(cli: Command, tiny_llama_dir: Path, tmp_path: Path) -> None:
    data = tmp_path / "places.jsonl"
    rows = [
        {
            "title": place,
            "context": f"In {1900 + number} a builder made the harbour of {place}.",
            "questions": [{"question": f"When was the harbour of {place} made?", "answer": str(1900 + number)}],
        }
        for number, place in enumerate(PLACES)
    ]
    data.write_text("\n".join(map(json.dumps, rows)))
    out = str(tmp_path / "run")
    given = ("train", "reader", str(data), "--model", str(tiny_llama_dir), "--held-out", "1", "--set", "steps=2")
    done = cli(*given, "--out", out, "--json")
    assert done.code == 0, done.err
    facts = done.json
    assert facts["questions"] == 2 and [p["step"] for p in facts["curve"]] == [2] and facts["held_out"]["texts"] == 1
    assert Path(facts["reader"]).stat().st_size == facts["bytes"]
    wrong = cli(*given, "--out", out, "--set", "rnak=3")
    assert wrong.code == 2 and "rank" in wrong.err
    nothing = cli(*given[:-4], "--held-out", "3", "--out", out)
    assert nothing.code == 2 and "none is left" in nothing.err
    # the reader to start from may be in the folder that is overwritten, and a bad one leaves the folder alone
    reader = facts["reader"]
    for start, said in (("packaged", "leave --start out"), (f"{reader}.no", "no such file")):
        refused = cli(*given, "--out", out, "--overwrite", "--start", start)
        assert refused.code == 2 and said in refused.err and Path(reader).exists()
    again = cli(*given, "--out", out, "--overwrite", "--start", reader, "--json")
    assert again.code == 0, again.err
