"""The data of the uses of nested learning."""

from __future__ import annotations

from pathlib import Path

import pytest

from continual_learning.datasets.conversation import conversation_dataset
from continual_learning.datasets.repository import repository_dataset
from continual_learning.datasets.transfer import transfer_dataset
from continual_learning.errors import DocumentError, InputError


def test_a_conversation_has_its_facts_among_other_talk() -> None:
    dataset = conversation_dataset("report", turns=100, facts=20)
    assert len(dataset.documents) == 100 and len(dataset.questions) == 20
    assert len({d.document.id for d in dataset.documents}) == 100, "a memory holds a text once"
    assert dataset.sha256() == conversation_dataset("report", turns=100, facts=20).sha256()
    assert dataset.sha256() != conversation_dataset("report", turns=100, facts=20, seed=1).sha256()
    told = {d.document.text for d in dataset.documents if d.questions}
    assert not told & {d.document.text for d in conversation_dataset("tune", 24, 24).documents}


def test_every_fact_holds_its_answer() -> None:
    from continual_learning.text.scoring import contains_answer

    for part in ("tune", "report"):
        for item in conversation_dataset(part, 24, 24).documents:
            [qa] = item.questions
            assert contains_answer(item.document.text, qa.answers) and not contains_answer(qa.question, qa.answers)


@pytest.mark.parametrize(("turns", "facts"), [(10, 11), (40, 25), (3, 0)])
def test_more_facts_than_there_are(turns: int, facts: int) -> None:
    with pytest.raises(InputError, match="facts"):
        conversation_dataset("report", turns, facts)
    with pytest.raises(InputError, match="part"):
        conversation_dataset("both", 40, 20)


def test_a_repository_is_its_documented_definitions(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text('class Fox:\n    """A `red` animal. It runs."""\n\ndef _hidden():\n    """No."""\n')
    (tmp_path / "b.py").write_text("x = 1\n")
    [item] = repository_dataset(tmp_path).documents
    assert item.document.text == "Fox is defined in a.py. Fox means: A red animal."
    assert [(q.question, q.answers) for q in item.questions] == [
        ("Where is Fox defined?", ("a.py",)), ("What is the name of: A red animal?", ("Fox",))]  # fmt: skip
    (tmp_path / "c.py").write_text("def (")
    with pytest.raises(DocumentError, match=r"c\.py"):
        repository_dataset(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no Python file"):
        repository_dataset(tmp_path / "empty")


def test_transfer_tests_what_was_not_learned() -> None:
    dataset = transfer_dataset(4, 6)
    assert len(dataset.documents) == 4 and len(dataset.shared_questions) == 6
    texts = " ".join(d.document.text for d in transfer_dataset().documents)
    assert not any(q.question in texts for q in dataset.shared_questions)
    with pytest.raises(InputError, match="examples = 99"):
        transfer_dataset(99, 1)
