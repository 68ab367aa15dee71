"""`ace`, and what `doctor` says about its server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from chat_servers import Script, ollama_server

from continual_learning.cli import doctor
from continual_learning.memory.store import Store

pytestmark = pytest.mark.slow

QA = [
    {"question": "What do comb jellies eat near the harbour?", "answer": "plankton"},
    {"question": "What do comb jellies hunt near the harbour?", "answer": "plankton"},
]


@pytest.fixture
def ace(cli: Any, tiny: Any, document: Path) -> Any:
    """`cli`, with an ace memory ``work`` of one document and two entries."""
    assert cli("learn", document, "--memory", "work", "--strategy", "ace").code == 0
    assert cli("ace", "edit", "--text", "Comb jellies eat plankton.", "--section", "facts", "-m", "work").code == 0
    assert cli("ace", "edit", "--text", "Answer in few words.", "-m", "work").code == 0
    return cli


def entries(cli: Any, *arguments: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = cli("ace", "show", "-m", "work", "--json", *arguments).json["playbook"]["entries"]
    return found


def test_show(ace: Any) -> None:
    shown = ace("ace", "show", "-m", "work")
    assert "fct-00001  facts" in shown.out and shown.out.endswith("memory 'work': 2 entries, 2 patches in the log\n")
    assert "- [str-00002] helpful=0 harmful=0 :: Answer" in ace("ace", "show", "-m", "work", "--markdown").out
    assert [e["text"] for e in entries(ace)] == ["Comb jellies eat plankton.", "Answer in few words."]


def test_edit_update_merge_tag_remove_and_undo(ace: Any) -> None:
    assert ace("ace", "edit", "fct-00001", "--text", "They eat plankton.", "-m", "work").code == 0
    assert ace("ace", "edit", "fct-00001", "--tag", "helpful", "-m", "work").code == 0
    merged = ace("ace", "edit", "fct-00001", "str-00002", "--text", "Both.", "-m", "work", "--json").json
    assert merged["operations"][0]["type"] == "MERGE" and merged["entries"] == 1
    assert [(e["id"], e["section"]) for e in entries(ace)] == [("fct-00003", "facts")]
    assert ace("ace", "edit", "fct-00003", "--remove", "-m", "work").code == 0 and entries(ace) == []
    for _ in range(2):
        assert ace("ace", "undo", "-m", "work").code == 0
    assert [e["text"] for e in entries(ace)] == ["They eat plankton.", "Answer in few words."]
    assert ace("memory", "rollback", "work").code == 0 and len(entries(ace)) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("edit",), "expected exactly one of --text, --remove and --tag"),
        (("edit", "--remove"), "no entry is named"),
        (("edit", "str-00009", "--remove"), "no entry 'str-00009'"),
        (("edit", "fct-00001", "--tag", "nice"), "tag 'nice'"),
        (("edit", "--text", "x", "--section", "y"), "no section 'y'"),
        (("save", "book.txt"), "suffix '.txt'"),
        (("save", "no such/book.json"), "cannot be written"),
        (("save", "two words"), "playbook name 'two words' is not allowed"),
        (("load", "nobody"), "playbooks has no nobody.json; it holds nothing"),
        (("load", "nowhere.json"), "cannot be read"),
        (("show", "--version", "nothing"), "nothing"),
        (("diff", "nothing"), "nothing"),
        (("learn", "--qa", "no.jsonl"), "no.jsonl"),
        (("ask", " "), "the question is empty"),
    ],
)
def test_bad_input(ace: Any, arguments: tuple[str, ...], message: str) -> None:
    before = Store.open("work").head
    result = ace("ace", *arguments, "-m", "work")
    assert (result.code, result.out) == (2, "") and message in result.err and result.err.count("\n") == 1
    assert Store.open("work").head == before


def test_a_memory_without_a_playbook(work: Any) -> None:
    result = work("ace", "show", "-m", "work")
    assert result.code == 2 and "made with strategy 'in_context', which has no playbook" in result.err


def test_save_load_and_diff(ace: Any, tmp_path: Path) -> None:
    file = tmp_path / "book.json"
    assert ace("ace", "save", file, "-m", "work", "--json").json["entries"] == 2
    assert "already" in ace("ace", "save", file, "-m", "work").err
    assert ace("ace", "save", tmp_path / "book.md", "-m", "work").code == 0
    assert "# Playbook" in (tmp_path / "book.md").read_text("utf-8")
    assert ace("checkpoint", "save", "two", "-m", "work").code == 0
    assert ace("ace", "edit", "fct-00001", "--remove", "-m", "work").code == 0
    assert ace("ace", "diff", file, "two", "-m", "work").out == "no difference\n"
    assert ace("ace", "diff", "two", "-m", "work").out == "- [fct-00001] Comb jellies eat plankton.\n"
    # loaded into this memory, and into one that it makes; ids go on behind the highest
    assert ace("ace", "load", file, "-m", "work").code == 0 and len(entries(ace)) == 2
    assert ace("ace", "load", file, "-m", "new", "--json").json == {"memory": "new", "entries": 2, "next_number": 3}
    file.write_text(json.dumps({"format": 1}))
    damaged = ace("ace", "load", file, "-m", "work")
    assert damaged.code == 2 and "not a playbook" in damaged.err and len(entries(ace)) == 2


def test_playbooks_are_saved_listed_and_loaded_by_name(ace: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ace("ace", "list").out == "no playbook in playbooks yet; continual-learning ace save NAME saves one there\n"
    assert ace("ace", "save", "two", "-m", "work", "--json").json["file"] == str(Path("playbooks", "two.json"))
    assert ace("ace", "edit", "fct-00001", "--remove", "-m", "work").code == 0
    assert ace("ace", "save", "one", "-m", "work").code == 0
    assert "already" in ace("ace", "save", "one", "-m", "work").err
    Path("playbooks", "other.json").write_text("{}")
    found = ace("ace", "list", "--json").json
    assert [(p["name"], p["entries"]) for p in found["playbooks"]] == [("one", 1), ("other", None), ("two", 2)]
    shown = ace("ace", "list")
    assert shown.out.splitlines()[1].split()[:2] == ["one", "1"] and "not a playbook" in shown.err
    assert ace("ace", "load", "two", "-m", "work").code == 0 and len(entries(ace)) == 2
    assert ace("ace", "diff", "one.json", "-m", "work").out == "+ [fct-00001] Comb jellies eat plankton.\n"
    wrong = ace("ace", "load", "three", "-m", "work")
    assert wrong.code == 2 and "it holds one, other, two" in wrong.err
    # elsewhere: a path, a file of the working folder, another folder
    assert ace("ace", "save", "./here.json", "-m", "work").code == 0 and Path("here.json").is_file()
    assert ace("ace", "load", "here.json", "-m", "work").code == 0
    monkeypatch.setenv("CONTINUAL_LEARNING_STRATEGIES__ACE__PLAYBOOK_DIR", "books")
    assert ace("ace", "save", "two", "-m", "work").code == 0 and Path("books", "two.json").is_file()


def test_learn_in_process_and_evaluate(ace: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A random model cannot reflect; whatever it writes is JSON, and the gate keeps what was there."""
    qa = tmp_path / "qa.jsonl"
    qa.write_text("\n".join(map(json.dumps, QA)))
    for name, value in {"INSIGHT_CHARS": 20, "SHOTS": 0, "ANSWER_TOKENS": 4}.items():
        monkeypatch.setattr(f"continual_learning.strategies.methods.ace.roles.{name}", value)
    head = Store.open("work").head
    result = ace("ace", "learn", "--qa", qa, "-m", "work", "--json", "--set=loops=1")
    assert result.code == 0 and result.json["recall_after"] >= result.json["recall_before"]
    assert result.json["loops"][0]["costs"]["generator"]["calls"] > 0
    if result.json["loops"][0]["kept"] is False:
        assert Store.open("work").head == head
    shown = ace("ace", "learn", "--qa", qa, "-m", "work", "--mode", "evaluate")
    assert shown.code == 0 and shown.out.startswith("2 questions: recall ")
    wrong = ace("ace", "learn", "--qa", qa, "-m", "work", "--self-reflection")
    assert wrong.code == 2 and "expected --mode online and --held-out FILE" in wrong.err


def test_learn_online_with_a_server(ace: Any, tmp_path: Path) -> None:
    """The whole way: command, strategy, the ollama package, a server."""

    def reply(body: dict[str, Any]) -> str:
        prompt = body["messages"][-1]["content"]
        if "key_insight" in prompt:
            return json.dumps({"key_insight": "Look for plankton in it.", "bullet_tags": []})
        if "You keep a playbook" in prompt:
            added = {"type": "ADD", "section": "pitfalls", "content": "Look for plankton in it."}
            return f"Here you are:\n```json\n{json.dumps({'operations': [added]})}\n```"
        return "krill"

    qa = tmp_path / "qa.jsonl"
    qa.write_text(json.dumps(QA[0]))
    with ollama_server(Script(reply)) as url:
        given = ["--set=backend=ollama", f"--set=host={url}"]
        result = ace("ace", "learn", "--qa", qa, "--mode", "online", "-m", "work", "--json", *given)
        assert result.code == 0, result.err
        assert result.json["loops"][0]["costs"]["curator"]["repaired"] == 1
        asked = ace("ace", "ask", QA[0]["question"], "-m", "work", *given)
    assert entries(ace)[-1]["text"] == "Look for plankton in it." and asked.out.startswith("krill\n")
    assert entries(ace)[-1]["origins"][0]["question"] == QA[0]["question"]


def test_ask_shows_what_stood_before_the_question(ace: Any) -> None:
    result = ace("ace", "ask", "What do comb jellies eat, plankton?", "-m", "work", "--max-new-tokens", "3")
    assert result.code == 0 and "Comb jellies (" in result.out


def test_doctor_checks_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    [base] = doctor._strategies()
    assert base.status == "ok" and "base model" in base.detail
    monkeypatch.setenv("CONTINUAL_LEARNING_STRATEGIES__ACE__BACKEND", "ollama")
    with ollama_server(Script(context=4096)) as url:
        monkeypatch.setenv("CONTINUAL_LEARNING_STRATEGIES__ACE__HOST", url)
        found = list(doctor._strategies())
    assert [c.status for c in found] == ["ok", "ok", "fail"]
    assert found[-1].fix == "set strategies.ace.num_ctx to 4096"
    [gone] = doctor._strategies()
    assert (gone.status, gone.fix) == ("fail", "ollama serve")
