"""The reader that ships for the embedded model points at answers in a text that nobody trained it on."""

from __future__ import annotations

import pytest

from continual_learning.model.base_model import BaseModel
from continual_learning.reading.reader.reader import packaged_reader
from continual_learning.reading.spans import Turn

TEXT = (
    "The ferry between Orsel and Tidewick was founded in 1874 by the shipbuilder Marta Quill. The crossing takes "
    "forty minutes. In winter the boat carries mail and coal, and the captain lives in the lighthouse."
)
ASKED = {
    "Who founded the ferry between Orsel and Tidewick?": "Marta Quill",
    "When was the ferry founded?": "1874",
    "How long does the crossing take?": "forty minutes",
    "What does the boat carry in winter?": "mail",
    "Where does the captain live?": "lighthouse",
}


@pytest.mark.model
def test_it_points_at_the_answers() -> None:
    base = BaseModel.load(device="cpu")
    reader = packaged_reader(base)
    assert reader is not None
    found = [one.spans for one in reader.read(base, "The Orsel ferry", TEXT, list(ASKED), 1)]
    right = [gold in spans[0].text for gold, spans in zip(ASKED.values(), found, strict=True)]
    assert sum(right) >= 3, [spans[0].text for spans in found]
    assert all(len(spans[0].text) < 40 and 0 < spans[0].probability <= 1 for spans in found)
    assert reader.facts["curve"]
    turn = Turn("Who founded the ferry between Orsel and Tidewick?", "Marta Quill")
    [alone], [after] = (reader.read(base, "The Orsel ferry", TEXT, ["And when?"], 1, one) for one in (None, turn))
    assert after.said and after.spans[0].text == "1874" and after.unknown < alone.unknown
