"""`feedback`: on the last answer of a memory, from another process, without loading the model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from continual_learning.model.base_model import BaseModel

pytestmark = pytest.mark.slow

ASKED = "What do comb jellies eat near Lund?"


def test_correct_list_undo_and_fade(cli: Any, tiny: BaseModel, monkeypatch: pytest.MonkeyPatch) -> None:
    with open("jellies.txt", "w", encoding="utf-8") as file:
        file.write("Comb jellies eat plankton near Lund.")
    assert cli("learn", "jellies.txt", "--memory", "work").code == 0
    missing = cli("feedback", "good", "--memory", "work")
    assert missing.code == 2 and "answered nothing yet" in missing.err
    [answer] = cli("ask", ASKED, "--memory", "work", "--max-new-tokens", 24, "--json").json["answers"]

    with monkeypatch.context() as patch:  # none of these needs the base model
        patch.setattr(
            "continual_learning.model.base_model.BaseModel.load", lambda *_, **__: pytest.fail("the model was loaded")
        )
        given = cli("feedback", "correct", "plankton", "--memory", "work", "--json").json["feedback"]
        assert given["question"] == ASKED and given["answer"] == answer["text"] and given["correction"] == "plankton"
        assert cli("feedback", "bad", "--memory", "work").out.startswith("f2: ")
        listed = cli("feedback", "list", "--memory", "work", "--json").json
        assert [f["id"] for f in listed["feedback"]] == ["f1", "f2"] and listed["half_life_days"] is None
        assert "plankton" in cli("feedback", "list", "--memory", "work").out
        assert cli("feedback", "undo", "--memory", "work", "--json").json["undone"]["id"] == "f2"
        assert cli("feedback", "fade", "30", "--memory", "work", "--json").json == {"half_life_days": 30.0}
        assert "counts half after 30 days" in cli("feedback", "list", "--memory", "work").out
        assert cli("feedback", "fade", "never", "--memory", "work").out.strip() == "feedback does not fade"
        for wrong in (["fade", "soon"], ["fade", "0"], ["undo", "f9"], ["correct", " "]):
            assert cli("feedback", *wrong, "--memory", "work").code == 2

    [again] = cli("ask", ASKED, "--memory", "work", "--max-new-tokens", 24, "--json").json["answers"]
    assert again["text"] == "plankton"
    assert cli("feedback", "undo", "--memory", "work").out.strip() == "f1 is taken back"
    assert "no feedback yet" in cli("feedback", "list", "--memory", "work").out


def test_a_memory_that_is_not_there(cli: Any, tiny: BaseModel) -> None:
    result = cli("feedback", "good", "--memory", "nowhere")
    assert result.code == 2 and "no memory 'nowhere'" in result.err
