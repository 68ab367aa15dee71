"""The playbook: ids, patches, duplicates, budgets, selection. Nothing here needs a model."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from continual_learning.errors import InputError
from continual_learning.retrieval import Relevance
from continual_learning.strategies.methods.ace import selection
from continual_learning.strategies.methods.ace.config import ACEConfig
from continual_learning.strategies.methods.ace.patch import Operation, apply, apply_all, undo
from continual_learning.strategies.methods.ace.playbook import Entry, Origin, Playbook, difference
from continual_learning.strategies.methods.ace.refine import Similarity, playbook_tokens, prune
from continual_learning.strategies.methods.ace.selection import select


def words(text: str) -> int:
    return len(text.split())


def add(text: str, section: str = "strategies", origin: Origin = Origin()) -> Operation:  # noqa: B008
    return Operation("ADD", (), section, text, origin=origin)


def book(*texts: str, section: str = "strategies") -> Playbook:
    playbook = Playbook()
    for text in texts:
        playbook = apply_all(playbook, [add(text, section)]).playbook
    return playbook


def duplicate(text: str, entries: Any) -> Entry | None:
    return Similarity.default().duplicate(text, entries, 0.85)


def texts(playbook: Playbook) -> list[str]:
    return [entry.text for entry in playbook.entries.values()]


def test_all_five_operations_are_carried_out() -> None:
    first = apply_all(Playbook(), [add("one"), add("two", "facts"), add("three"), add("four")]).playbook
    assert list(first.entries) == ["str-00001", "fct-00002", "str-00003", "str-00004"]
    done = apply(
        first,
        [
            Operation("UPDATE", ("str-00001",), content="uno", origin=Origin("d", "q", 2)),
            Operation("TAG", ("str-00003",), tag="helpful", origin=Origin("d")),
            Operation("TAG", ("str-00004",), tag="harmful", origin=Origin("e")),
            Operation("MERGE", ("str-00003", "str-00004"), content="three and four"),
            Operation("REMOVE", ("fct-00002",)),
        ],
    )
    assert done.rejected == () and len(done.applied) == 5
    assert texts(done.playbook) == ["uno", "three and four"]
    merged = done.playbook.entries["str-00005"]
    assert (merged.helpful, merged.harmful) == (1, 1) and merged.tallies == {"d": (1, 0), "e": (0, 1)}
    assert done.playbook.entries["str-00001"].origins == (Origin(), Origin("d", "q", 2))


@pytest.mark.parametrize(
    ("operation", "reason"),
    [
        (Operation("REWRITE"), "no operation 'REWRITE'"),
        (add(" "), "ADD without content"),
        (add("x", "elsewhere"), "no section 'elsewhere'"),
        (add("x" * 601), "601 characters"),
        (Operation("UPDATE", ("str-00009",), content="x"), "no entry 'str-00009'"),
        (Operation("UPDATE", ("str-00001",), content="one"), "the text that it has"),
        (Operation("UPDATE", (), content="x"), "UPDATE of 0 entries"),
        (Operation("MERGE", ("str-00001",), content="x"), "MERGE of 1 entries"),
        (Operation("MERGE", ("str-00001", "str-00001"), content="x"), "MERGE of 1 entries"),
        (Operation("TAG", ("str-00001",), tag="great"), "tag 'great'"),
    ],
)
def test_what_cannot_be_applied_is_left_out_with_the_reason(operation: Operation, reason: str) -> None:
    playbook = book("one")
    done = apply(playbook, [operation])
    assert done.playbook is playbook and not done.changed
    assert reason in done.rejected[0].reason
    with pytest.raises(InputError, match="nothing was changed"):
        apply_all(playbook, [operation])
    mixed = apply(playbook, [operation, add("a new one")])
    assert texts(mixed.playbook) == ["one", "a new one"]
    assert mixed.playbook.log[-1]["rejected"][0]["reason"] == mixed.rejected[0].reason


def test_an_operation_on_what_an_earlier_one_removed_is_left_out() -> None:
    done = apply(book("one"), [Operation("REMOVE", ("str-00001",)), Operation("TAG", ("str-00001",), tag="helpful")])
    assert len(done.applied) == 1 and "no entry" in done.rejected[0].reason


OPERATIONS = st.builds(
    Operation,
    st.sampled_from(["ADD", "UPDATE", "MERGE", "REMOVE", "TAG", "?"]),
    st.lists(st.sampled_from([f"str-{n:05d}" for n in range(1, 7)]), max_size=3).map(tuple),
    st.sampled_from(["strategies", ""]),
    st.sampled_from(["", "red", "green", "blue birds sing"]),
    st.sampled_from(["helpful", "harmful", "neutral"]),
)


@given(st.lists(st.lists(OPERATIONS, max_size=5), max_size=5))
@settings(max_examples=60, deadline=None)
def test_undoing_everything_leads_back_and_no_id_comes_again(patches: list[list[Operation]]) -> None:
    start = book("first")
    playbook, seen = start, set(start.entries)
    for patch in patches:
        done = apply(playbook, patch, duplicate, used=["str-00001"])
        new = set(done.playbook.entries) - set(playbook.entries)
        assert not new & seen
        seen |= new
        playbook, _ = prune(done.playbook, 3, 40, words)
        assert len(playbook) <= 3 and playbook_tokens(playbook, words) <= 40
        assert Playbook.from_json(json.loads(json.dumps(playbook.to_json()))) == playbook
    while len(playbook.log) > len(start.log):
        playbook = undo(playbook)
    assert playbook.entries == start.entries


def test_undo_of_nothing() -> None:
    with pytest.raises(InputError, match="log is empty"):
        undo(Playbook())


def test_ids_are_never_used_again_after_a_load() -> None:
    earlier = book("one", "two", "three")
    emptied = apply_all(earlier, [Operation("REMOVE", ("str-00003",))]).playbook
    loaded = Playbook.from_json(json.loads(json.dumps(emptied.to_json())))
    assert list(apply_all(loaded, [add("four")]).playbook.entries)[-1] == "str-00004"
    # a file of another memory, shorter than what was here
    other = book("from elsewhere").loaded_over(earlier)
    assert other.next_number == 4
    assert list(apply_all(other, [add("five")]).playbook.entries)[-1] == "str-00004"


def test_a_loaded_entry_does_not_take_the_id_of_another() -> None:
    mine = book("mine")
    theirs = book("theirs")
    moved = replace(theirs.entries["str-00001"], created_at="2020-01-01T00:00:00+00:00")
    loaded = replace(theirs, entries={"str-00001": moved}).loaded_over(mine)
    assert list(loaded.entries) == ["str-00002"] and loaded.next_number == 3
    assert loaded.log == ()  # it speaks of str-00001


@pytest.mark.parametrize(
    "damage",
    [
        lambda d: d.pop("entries"),
        lambda d: d.update(format=2),
        lambda d: d["entries"][0].update(id="7"),
        lambda d: d["entries"][0].update(section="x"),
        lambda d: d["entries"][0].update(text=" "),
        lambda d: d["entries"].append(d["entries"][0]),
        lambda d: d["entries"][0].update(extra=1),
    ],
)
def test_a_file_that_is_no_playbook_is_refused(damage: Any) -> None:
    data = json.loads(json.dumps(book("one").to_json()))
    damage(data)
    with pytest.raises(InputError):
        Playbook.from_json(data, "file.json")


def test_a_stale_number_in_a_file_does_no_harm() -> None:
    data = book("one", "two").to_json() | {"next_number": 1}
    assert Playbook.from_json(data).next_number == 3


def test_no_secret_reaches_the_playbook() -> None:
    texts_in = ["use key sk-abcdefghijklmnop1234", "password: hunter2 opens it", "see https://me:pw@host/x"]
    origin = Origin("d", "What is my password: hunter2?")
    found = json.dumps(apply_all(Playbook(), [add(t, origin=origin) for t in texts_in]).playbook.to_json())
    assert "[secret]" in found and not any(s in found for s in ("abcdefghijkl", "hunter2", "me:pw"))


def test_duplicates_become_one_entry_with_both_origins() -> None:
    first = apply_all(Playbook(), [add("Give the full date of the treaty, not only its year.", origin=Origin("a"))])
    done = apply(first.playbook, [add("Give the treaty's full date, not only the year", origin=Origin("b"))], duplicate)
    assert done.duplicates == ("str-00001",) and len(done.playbook) == 1
    assert [o.document for o in done.playbook.entries["str-00001"].origins] == ["a", "b"]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("The treaty was signed in 1742.", "The treaty was signed in 1743."),
        ("Always trust the table of results.", "Never trust the table of results."),
        ("Comb jellies eat plankton.", "The observatory was opened by a clockmaker."),
    ],
)
def test_what_differs_is_no_duplicate(first: str, second: str) -> None:
    assert Similarity.default()(first, second) < 0.85


def test_pruning_takes_harm_then_disuse_then_age() -> None:
    playbook = book("oldest", "unused", "harmful", "balanced", "new")
    used = {e.id: replace(e, used_step=5) for e in playbook.entries.values() if e.text not in ("unused", "new")}
    entries = {**playbook.entries, **used}
    entries["str-00003"] = replace(entries["str-00003"], tallies={"d": (1, 4)})
    entries["str-00004"] = replace(entries["str-00004"], tallies={"d": (2, 2)})
    playbook = playbook.with_entries(entries)
    order = [prune(playbook, n, 10_000, words)[1] for n in (4, 3, 2, 1)]
    assert order[-1] == ("str-00003", "str-00004", "str-00002", "str-00001")
    assert [len(gone) for gone in order] == [1, 2, 3, 4]
    assert prune(playbook, 5, 10_000, words) == (playbook, ())
    assert len(prune(playbook, 5, 5, words)[0]) == 1  # a line is five words here


def test_what_was_pruned_comes_back_on_undo() -> None:
    playbook = book("one", "two")
    after, gone = prune(apply_all(playbook, [add("three")]).playbook, 2, 1000, words)
    assert gone == ("str-00001",) and undo(after).entries == playbook.entries


def select_ids(playbook: Playbook, question: str, **options: Any) -> list[str]:
    found = select(playbook, question, ACEConfig(**options), Relevance.default(), words)
    return [entry.id for entry, _ in found]


def test_only_relevant_entries_stand_before_a_question() -> None:
    playbook = book("Comb jellies eat plankton, so answer plankton.", "The Treaty of Osk had a tax of salt barrels.")
    assert select_ids(playbook, "What do comb jellies eat with plankton?") == ["str-00001"]
    assert select_ids(playbook, "How much salt tax was in the Treaty of Osk?") == ["str-00002"]
    assert select_ids(playbook, "What is the capital of France?") == []
    assert len(select_ids(playbook, "What is the capital of France?", selection=False)) == 2


def test_an_entry_is_found_by_the_question_that_it_came_from() -> None:
    origin = Origin("d", "When did the Harrow Lane Observatory open?", 1)
    playbook = apply_all(Playbook(), [add("Give the year.", origin=origin)]).playbook
    assert select_ids(playbook, "In what year did the Harrow Lane Observatory open?") == ["str-00001"]


def test_selection_keeps_its_limits_and_leaves_out_what_did_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [f"Comb jellies eat plankton in the harbour number {n}." for n in range(5)]
    playbook = book(*lines)
    harmful = replace(playbook.entries["str-00001"], tallies={"d": (0, 1)})
    playbook = playbook.with_entries({**playbook.entries, "str-00001": harmful})
    question = "Where do comb jellies eat plankton in the harbour?"
    assert select_ids(playbook, question) == ["str-00002", "str-00003", "str-00004"]
    monkeypatch.setattr(selection, "ENTRY_TOKENS", 26)  # 13 words a line
    assert select_ids(playbook, question) == ["str-00002", "str-00003"]


def test_general_entries_hold_for_every_question_within_their_limit() -> None:
    playbook = book("Be brief.", "Copy names exactly.", section="general")
    assert select_ids(playbook, "What is the capital of France?") == ["gen-00001"]


def test_forgetting_a_document_takes_its_entries_counts_and_traces() -> None:
    playbook = apply_all(Playbook(), [add("from a", origin=Origin("doc-a")), add("from b", origin=Origin("doc-b"))])
    tagged = apply(
        playbook.playbook, [Operation("TAG", ("str-00002",), tag="helpful", origin=Origin("doc-a"))]
    ).playbook
    left = tagged.without_document("doc-a")
    assert texts(left) == ["from b"] and left.entries["str-00002"].helpful == 0
    assert "doc-a" not in json.dumps(left.to_json()) and left.next_number == 3


def test_markdown_and_difference() -> None:
    before = book("one", "two")
    after = apply_all(
        before,
        [Operation("TAG", ("str-00001",), tag="helpful"), Operation("REMOVE", ("str-00002",)), add("three", "facts")],
    ).playbook
    assert "- [str-00001] helpful=1 harmful=0 :: one" in after.markdown() and "## facts" in after.markdown()
    found = difference(before, after)
    assert [e["id"] for e in found["added"]] == ["fct-00003"] and [e["id"] for e in found["removed"]] == ["str-00002"]
    assert found["changed"] == {"str-00001": {"helpful": [0, 1]}}
    assert "No entry yet." in Playbook().markdown()
