"""`memory` and `checkpoint`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from continual_learning.app.learner import Learner
from continual_learning.cli.output import clean, size
from continual_learning.io.paths import data_home
from continual_learning.memory.store import Store


def titles(memory: str = "work") -> list[str]:
    return [d.title for d in Store.open(memory).load().meta.documents]


def break_head(memory: str) -> None:
    """Truncate the manifest of the current version."""
    store = Store.open(memory)
    assert store.head is not None
    path = store.root / "versions" / f"{store.head.id}.json"
    path.write_bytes(path.read_bytes()[:-20])


def test_list(cli: Any, work: Any, tiny: Any) -> None:
    [row] = work("memory", "list", "--json").json["memories"]
    assert (row["name"], row["strategy"], row["model"]) == ("work", "in_context", tiny.name)
    assert (row["documents"], row["versions"], row["problem"]) == (2, 3, None)
    assert row["bytes"] == Store.open("work").bytes_on_disk()
    header, line = work("memory", "list").out.splitlines()
    assert header.startswith("name") and line.startswith("work  in_context")


def test_list_shows_the_rest_beside_a_damaged_one(work: Any, document: Path) -> None:
    work("learn", document, "--memory", "fine")
    break_head("work")
    result = work("memory", "list", "--json")
    assert result.code == 0
    fine, broken = result.json["memories"]
    assert fine["documents"] == 1 and broken["documents"] is None and "damaged" in broken["problem"]
    assert "damaged" in work("memory", "list").err


def test_list_of_nothing(cli: Any) -> None:
    assert "no memory yet" in cli("memory", "list").out
    assert cli("memory", "list", "--json").json == {"memories": []}


def test_show(work: Any) -> None:
    found = work("memory", "show", "work", "--json").json
    assert [d["title"] for d in found["documents"]] == ["one", "two"]
    assert found["options"]["style"] in ("auto", "chat", "completion")
    assert found["version"] == Store.open("work").history()[0].id
    out = work("memory", "show", "--memory", "work").out
    assert "in_context" in out and found["documents"][0]["id"] in out
    assert work("memory", "show", "work", "--memory", "other").code == 2


def test_history(work: Any) -> None:
    found = work("memory", "history", "work", "--json").json
    assert [v["action"] for v in found["versions"]] == ["learn", "learn", "init"]
    assert found["current"] == found["versions"][0]["id"]
    lines = work("memory", "history", "work").out.splitlines()
    assert lines[1].startswith(f"* {found['current']}") and lines[2].startswith("  0")


@pytest.mark.parametrize("way", ["id", "start", "title"])
def test_forget(work: Any, way: str) -> None:
    document = Store.open("work").load().meta.documents[0]
    named = {"id": document.id, "start": document.id[:12], "title": "one"}[way]
    result = work("memory", "forget", named, "--memory", "work", "--json")
    assert result.json["forgotten"]["id"] == document.id
    assert titles() == ["two"]


def test_forget_needs_to_know_which(work: Any) -> None:
    missing = work("memory", "forget", "three", "--memory", "work")
    assert missing.code == 2 and "'three'" in missing.err and "'one'" in missing.err
    both = work("memory", "forget", "doc-", "--memory", "work")
    assert both.code == 2 and "not one but 2" in both.err
    assert titles() == ["one", "two"]


def test_forget_does_not_load_the_model_for_a_wrong_name(work: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Learner, "open", None)
    assert work("memory", "forget", "three", "--memory", "work").code == 2


def test_rollback_and_back_again(work: Any) -> None:
    newest = Store.open("work").history()[0].id
    assert work("memory", "rollback", "work").code == 0
    assert titles() == ["one"]
    assert work("memory", "rollback", "work", "--to", newest, "--json").json["version"]["documents"] == 2
    assert titles() == ["one", "two"]
    result = work("memory", "rollback", "work", "--to", "000099-abcdef")
    assert result.code == 2 and "000099-abcdef" in result.err


def test_rollback_mends_a_damaged_memory_as_the_error_says(work: Any) -> None:
    break_head("work")
    result = work("memory", "show", "work")
    assert result.code == 1
    assert "continual-learning memory rollback work" in result.err
    assert work("memory", "rollback", "work").code == 0
    assert titles() == ["one"]


def test_clear_can_be_undone(work: Any) -> None:
    assert work("memory", "clear", "work", "--json").json == {"memory": "work", "forgotten": 2}
    assert titles() == []
    assert work("memory", "rollback", "work").code == 0
    assert titles() == ["one", "two"]


def test_delete_asks(work: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    refused = work("memory", "delete", "work")
    assert refused.code == 2 and "--yes" in refused.err
    monkeypatch.setattr(sys, "stdin", Terminal("\n"))
    assert work("memory", "delete", "work", "--json").json["deleted"] is False
    assert work("memory", "delete").code == 2, "the default is not deleted without its name"
    assert Store.list() == ["work"]
    monkeypatch.setattr(sys, "stdin", Terminal("y\n"))
    assert work("memory", "delete", "work").code == 0
    assert Store.list() == []
    missing = work("memory", "delete", "work", "--yes")
    assert missing.code == 2 and "'work'" in missing.err


def test_export_and_import(work: Any, tmp_path: Path) -> None:
    before = Store.open("work").load().digest()
    first = Store.open("work").history()[1].id
    file = tmp_path / "work.zip"
    assert work("memory", "export", file, "--memory", "work", "--json").json["bytes"] == file.stat().st_size
    again = work("memory", "export", file, "--memory", "work")
    assert again.code == 2 and "work.zip" in again.err
    assert work("memory", "export", file, "--memory", "work", "--version", first, "--overwrite").code == 0
    assert work("memory", "import", file, "--memory", "copy").code == 0
    assert titles("copy") == ["one"]
    assert work("memory", "export", file, "--memory", "work", "--overwrite").code == 0
    assert work("memory", "import", file, "--memory", "copy").code == 0
    assert Store.open("copy").load().digest() == before
    file.write_bytes(file.read_bytes()[:-100])
    broken = work("memory", "import", file, "--memory", "other")
    assert broken.code == 1 and Store.list() == ["copy", "work"]


def test_cleanup(work: Any) -> None:
    dry = work("memory", "cleanup", "work", "--keep", "1", "--dry-run", "--json").json
    assert dry["dry_run"] and len(dry["versions"]) == 2
    assert len(Store.open("work").history()) == 3
    assert work("memory", "cleanup", "work", "--keep", "1").code == 0
    assert len(Store.open("work").history()) == 1
    assert work("memory", "cleanup", "work", "--keep", "-1").code == 2


@pytest.mark.parametrize("command", ["show", "history", "rollback", "clear", "cleanup"])
def test_a_memory_that_is_not_there(work: Any, command: str) -> None:
    result = work("memory", command, "wrok")
    assert (result.code, result.out) == (2, "")
    assert "'wrok'" in result.err and "work" in result.err
    assert not (data_home() / "memories" / "wrok").exists()


def test_checkpoints(work: Any, tmp_path: Path) -> None:
    memory = ("--memory", "work")
    assert "no checkpoint" in work("checkpoint", "list", *memory).out
    assert work("checkpoint", "save", "both", *memory).code == 0
    assert work("memory", "rollback", "work").code == 0
    taken = work("checkpoint", "save", "both", *memory)
    assert taken.code == 2 and "'both'" in taken.err
    assert work("checkpoint", "save", "first", *memory, "--json").json["version"]["documents"] == 1
    assert [c["name"] for c in work("checkpoint", "list", *memory, "--json").json["checkpoints"]] == ["both", "first"]
    info = work("checkpoint", "info", "both", *memory, "--json").json
    assert [d["title"] for d in info["documents"]] == ["one", "two"]
    assert "two" in work("checkpoint", "info", "both", *memory).out

    compared = work("checkpoint", "compare", "first", "both", *memory, "--json").json
    assert [d["title"] for d in compared["documents"]["added"]] == ["two"]
    assert "added" in work("checkpoint", "compare", "first", "both", *memory).out
    assert "same weights" in work("checkpoint", "compare", "both", "both", *memory).out

    assert work("checkpoint", "load", "both", *memory).code == 0
    assert titles() == ["one", "two"]
    assert work("checkpoint", "export", "first", tmp_path / "f.zip", *memory).code == 0
    assert work("memory", "import", tmp_path / "f.zip", "--memory", "copy").code == 0
    assert titles("copy") == ["one"]

    dry = work("checkpoint", "cleanup", "--keep", "1", "--dry-run", *memory, "--json").json
    assert dry == {"memory": "work", "deleted": ["both"], "dry_run": True}
    assert work("checkpoint", "cleanup", "--keep", "1", *memory).code == 0
    assert list(Store.open("work").checkpoints()) == ["both", "first"], "a dry run unless told otherwise"
    assert work("checkpoint", "cleanup", "--keep", "1", "--remove", *memory).code == 0
    assert list(Store.open("work").checkpoints()) == ["first"]
    assert work("checkpoint", "delete", "first", *memory).code == 0
    assert not Store.open("work").checkpoints()


@pytest.mark.parametrize(
    "arguments",
    [["load", "x"], ["info", "x"], ["delete", "x"], ["export", "x", "x.zip"], ["compare", "x", "y"]],
    ids=" ".join,
)
def test_a_checkpoint_that_is_not_there(work: Any, arguments: list[str]) -> None:
    result = work("checkpoint", *arguments, "--memory", "work")
    assert (result.code, result.out) == (2, "")
    assert "'x'" in result.err
    assert not Path("x.zip").exists()


@pytest.mark.slow
def test_reading_a_memory_needs_no_torch(work: Any) -> None:
    code = "import sys; from continual_learning.cli.main import main\n"
    code += "for c in sys.argv[1:]: assert main(c.split()) == 0, c\n"
    code += "sys.exit('torch' in sys.modules)"
    commands = ["memory list", "memory show work", "memory history work", "memory cleanup work --keep 1"]
    commands += ["memory export work.zip --memory work", "checkpoint save a --memory work"]
    commands += ["checkpoint list --memory work", "checkpoint info a --memory work", "memory delete work --yes"]
    done = subprocess.run([sys.executable, "-c", code, *commands], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_sizes_and_control_characters() -> None:
    assert [size(n) for n in (0, 999, 1000, 3_140_000, 5 * 10**12)] == ["0 B", "999 B", "1.0 kB", "3.1 MB", "5000.0 GB"]
    assert clean("a\tb\nc\x1b[0m\x9b\x7fd") == "a\tb\nc[0md"
