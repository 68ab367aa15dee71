"""The hypernetwork that ships for the embedded model: it is small, it is the default, and it reads documents."""

from __future__ import annotations

import pytest

from continual_learning.doc2lora import load_hypernetwork
from continual_learning.model.base_model import BaseModel
from continual_learning.strategies.methods.doc2lora.generators import missing
from continual_learning.strategies.methods.doc2lora.hub import SHIPPED_BASES, shipped_for
from continual_learning.strategies.methods.doc2lora.training.data import facts
from continual_learning.strategies.methods.doc2lora.training.probe import context_sensitivity


@pytest.mark.parametrize("name", SHIPPED_BASES)
def test_it_is_the_default_and_small(name: str) -> None:
    folder = shipped_for(name)
    assert folder is not None and missing(name, "doc", None) is None
    assert sum(file.stat().st_size for file in folder.iterdir()) < 25_000_000
    assert (folder / "README.md").is_file() and (folder / "curve.json").is_file()
    assert load_hypernetwork(folder).config.base_name == name


def test_no_other_name_gets_it() -> None:
    assert shipped_for("smollm2-360m") is None and shipped_for("../hypernetworks/smollm2-135m") is None


@pytest.mark.model
def test_unseen_facts_are_answered_with_their_own_document(embedded_base: BaseModel) -> None:
    base, folder = embedded_base, shipped_for("smollm2-135m")
    assert folder is not None
    found = context_sensitivity(base, load_hypernetwork(folder), facts("test", 3, 8, 7), recall=True)
    assert found.matched < found.mismatched - 0.5 and found.matched < found.none - 0.5
    assert found.movement > 0.3
    assert found.recall_matched is not None and found.recall_mismatched is not None
    assert found.recall_matched >= 0.8 and found.recall_mismatched <= 0.1
