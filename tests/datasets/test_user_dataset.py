"""A user's own documents and questions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from continual_learning.datasets.base import Dataset, user_dataset
from continual_learning.errors import InputError


def asked(dataset: Dataset) -> dict[str, list[str]]:
    """Questions by file name; those of no document under ''."""
    found = {Path(d.document.source).name: [q.question for q in d.questions] for d in dataset.documents}
    return found | {"": [q.question for q in dataset.shared_questions]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    docs = tmp_path / "docs"
    (docs / "sub").mkdir(parents=True)
    (docs / "alpha.txt").write_text("Alpha is first.")
    (docs / "beta.md").write_text("# Second letter\n\nBeta is second.")
    (docs / "sub" / "alpha.txt").write_text("Another alpha.")
    (docs / "sub" / "rows.jsonl").write_text('{"text": "Row one.", "title": "One"}\n{"text": "Row two."}\n')
    (docs / "picture.png").write_bytes(b"\x89PNG")
    return docs


def qa_file(path: Path, *rows: dict[str, object]) -> Path:
    path.write_text("\n".join(json.dumps({"answer": "a", **row}) for row in rows), "utf-8")
    return path


def test_questions_without_a_document_belong_to_the_only_one(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("Some notes.")
    qa = qa_file(tmp_path / "qa.jsonl", {"question": "one?"}, {"question": "two?", "document": "notes"})
    dataset = user_dataset(tmp_path / "notes.txt", qa)
    assert asked(dataset) == {"notes.txt": ["one?", "two?"], "": []}
    assert (dataset.name, dataset.source, dataset.notes) == ("notes.txt", "notes.txt and qa.jsonl", ())


def test_rows_name_documents_by_file_path_stem_and_title(folder: Path, tmp_path: Path) -> None:
    names = ["beta.md", "BETA", "second letter", "sub/alpha.txt", "sub/rows.jsonl:2", "rows.jsonl:2", "One", None, " "]
    qa = qa_file(tmp_path / "qa.jsonl", *({"question": f"{name}?", "document": name} for name in names))
    dataset = user_dataset(folder, qa)
    assert asked(dataset) == {
        "alpha.txt": ["sub/alpha.txt?"],  # of the two, the one in sub: it comes later
        "beta.md": ["beta.md?", "BETA?", "second letter?"],
        "rows.jsonl:1": ["One?"],
        "rows.jsonl:2": ["sub/rows.jsonl:2?", "rows.jsonl:2?"],
        "": ["None?", "?"],
    }
    first = dataset.documents[0]
    assert (first.document.text, first.questions) == ("Alpha is first.", ())


def test_what_was_skipped_is_said(folder: Path, tmp_path: Path) -> None:
    (folder / "zeta.txt").write_text("")
    (folder / "sub" / "beta.md").write_text("# Second letter\n\nBeta is second.")
    dataset = user_dataset(folder, qa_file(tmp_path / "qa.jsonl", {"question": "q?", "document": "sub/beta.md"}))
    assert len(dataset.notes) == 3
    assert dataset.notes[0] == "sub/beta.md was left out: the same as beta.md"
    assert dataset.notes[1].startswith("picture.png was left out: suffix '.png'")
    assert dataset.notes[2].startswith("zeta.txt was left out: it is empty")
    assert asked(dataset)["beta.md"] == ["q?"]  # by the name of its copy


def test_questions_in_the_folder_are_no_document(folder: Path) -> None:
    qa = qa_file(folder / "qa.jsonl", {"question": "q?", "text": "not to be learned"})
    dataset = user_dataset(folder, qa)
    assert all("qa.jsonl" not in text for text in [*asked(dataset), *dataset.notes])
    table = folder / "qa.csv"
    table.write_text("question,answer\nq?,a\n")
    qa.unlink()
    assert all("qa.csv" not in note for note in user_dataset(folder, table).notes)


def test_a_folder_of_nothing_but_questions_is_refused(tmp_path: Path) -> None:
    qa = qa_file(tmp_path / "qa.jsonl", {"question": "q?", "text": "not to be learned"})
    with pytest.raises(InputError, match="no document"):
        user_dataset(tmp_path, qa)


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ("alpa.txt", ["line 2", "'document'", "'alpa.txt'", "nearest", "'alpha.txt'"]),
        ("Second leter", ["line 2", "nearest", "'beta.md'"]),
        ("alpha", ["line 2", "'document'", "2 documents", "alpha.txt, sub/alpha.txt"]),
        ("rows", ["line 2", "2 documents", "sub/rows.jsonl:1, sub/rows.jsonl:2"]),
        (3, ["line 2", "'document'", "3"]),
        (0, ["line 2", "'document'", "0"]),
    ],
)
def test_a_document_that_is_not_there_names_line_field_and_nearest(
    folder: Path, tmp_path: Path, document: object, words: list[str]
) -> None:
    qa = qa_file(tmp_path / "qa.jsonl", {"question": "q?"}, {"question": "r?", "document": document})
    with pytest.raises(InputError) as caught:
        user_dataset(folder, qa)
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in ["qa.jsonl", *words]), message


def test_csv_and_json_name_documents_too(folder: Path, tmp_path: Path) -> None:
    table, listed = tmp_path / "qa.csv", tmp_path / "qa.json"
    table.write_text("document,question,answer,answer\nbeta.md,q?,second,2nd\n,r?,first,\n")
    listed.write_text(
        '[{"document": "beta.md", "question": "q?", "answer": ["second", "2nd"]},{"question": "r?", "answer": "first"}]'
    )
    assert user_dataset(folder, table).sha256() == user_dataset(folder, listed).sha256()
    assert asked(user_dataset(folder, table))["beta.md"] == ["q?"]
